"""Whoever answers a question learns what became of the answer, and a refusal leaves it open."""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from mq9.questions import RECEIPTS, AnswerOutcome, Receipt
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

ACCEPTED = Receipt(outcome=AnswerOutcome.ACCEPTED)


async def give(client, message, body, *, reply_to="receipts", **options):
    """Answer a question, and let the worker deal with that; its receipts so far."""
    await client.send(
        message.reply_to,
        body,
        correlation_id=message.correlation_id,
        reply_to=reply_to,
        **{"sender": "boss", **options},
    )
    await settle(client)
    return await receipts(client, reply_to)


async def receipts(client, reply_to="receipts"):
    found = await client.query(reply_to)
    assert all(one.reply_to is None for one in found)
    return [Receipt.read(one) for one in found]


async def test_an_accepted_answer_has_a_receipt_and_a_second_one_learns_who_gave_it(
    client, first_question
):
    async with first_question() as message:
        assert message.headers[RECEIPTS] == "yes"
        assert await give(client, message, "yes") == [ACCEPTED]
        [told] = await client.query("receipts")
        assert told.json() == {"type": "receipt", "outcome": "accepted"}
        assert (told.correlation_id, told.sender) == (message.correlation_id, "lawyer")

        [told] = await give(client, message, "no", reply_to="other", sender="chief")
        text = "the question has been answered by 'boss'"
        assert told == Receipt(outcome=AnswerOutcome.CLOSED, text=text, by="boss")
        [refusal] = await client.query("other")
        assert refusal.headers["error"] == "rejected"
        assert refusal.json()["reason"] == text


async def test_an_answer_without_a_reply_to_has_no_receipt(client, first_question):
    async with first_question() as message:
        for body in ("yes", "no"):
            await answer(client, message, body)
        assert len(await refusals(client)) == 1
        assert await receipts(client) == []


async def test_an_accepted_answer_has_its_receipt_though_its_node_fails_for_now(
    client, first_question
):
    failures = [ConnectionError("the archive is down")]

    async def fail(_answers):
        if failures:
            raise failures.pop()

    async with first_question(Asking("May I?", act=fail).graph) as message:
        assert await give(client, message, "yes") == [ACCEPTED]
        assert await outcome(client) == []
        await settle(client, 60)
        assert len(await outcome(client)) == 1
        assert await receipts(client) == [ACCEPTED]


class Form(TypedDict):
    stars: int


async def test_an_answer_that_the_graph_refuses_is_refused_and_the_next_one_accepted(client):
    def ask(_state):
        return {"stars": interrupt("How good was it?", response_schema=Form)["stars"]}

    builder = StateGraph(Form)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    async with working(client, builder.compile(checkpointer=InMemorySaver())):
        await begin(client, {"stars": 0})
        [(message, question)] = await asked(client)
        assert question.schema["properties"]["stars"] == {"title": "Stars", "type": "integer"}
        for number, bad in enumerate(({"stars": "many"}, {"stars": "many"}, "five")):
            [*_, told] = await give(client, message, bad)
            assert told.outcome is AnswerOutcome.REFUSED
            [(again, question)] = await asked(client)
            assert again.msg_id > message.msg_id
            for said in (told.text, question.problem):
                assert ("stars: Input should be a valid integer" in said) == (number < 2)
            message = again
        assert await give(client, message, {"stars": 5}, reply_to="other") == [ACCEPTED]
        assert await outcome(client) == [{"stars": 5}]
    assert len(await refusals(client)) == 3


async def test_where_the_agent_may_not_send_a_receipt_the_answer_counts_all_the_same(open_people):
    people = await open_people("lawyer", "boss")
    lawyer, boss = people["lawyer"], people["boss"]
    await boss.mailbox_create(name="boss")
    await boss.mailbox_create(name="boss.own", send_policy="creator")
    await lawyer.mailbox_create(name="asker")
    async with working(lawyer, Asking("May I?").graph):
        await begin(lawyer, sender=None)
        [(message, _)] = await asked(boss)
        await boss.send(
            "lawyer.answers", "yes", correlation_id=message.correlation_id, reply_to="boss.own"
        )
        await settle(lawyer)
        assert len(await outcome(lawyer)) == 1
    assert await refusals(lawyer) == []


async def test_what_is_no_receipt_is_read_as_none(client):
    bodies = ("no JSON", "[]", "{}", '{"type": "receipt"}', '{"type": "error", "code": "x"}')
    for body in bodies:
        await client.send("receipts", body, headers={"error": "x"})
    assert await receipts(client) == [None] * len(bodies)
