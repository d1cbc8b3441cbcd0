"""A run that cannot go on with its answer: whoever waits is told, and the conversation goes on."""

import orjson
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from mq9.client.error_answers import ErrorAnswer
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

ONE = {"headers": {"conversation": "one"}}
TWICE = {"max_deliveries": 2}


async def told(client):
    """The error answers that the asker got: correlation id, code and reason."""
    found = [(one, ErrorAnswer.read(one)) for one in await client.query("asker")]
    return [(one.correlation_id, error.code, error.reason) for one, error in found if error]


class Failing:
    """Fails on each answer while `fails`; the answer itself is "yes"."""

    def __init__(self):
        self.fails = True

    async def __call__(self, _answers):
        if self.fails:
            raise ConnectionError("the archive is down")


async def give_up(client):
    """Ask and answer, and let the run fail until it is given up."""
    await begin(client, **ONE)
    [(message, _)] = await asked(client)
    await answer(client, message, "yes")
    await begin(client, {"topic": "milk"}, correlation_id="next", **ONE)
    await settle(client, 600)
    await settle(client, 600)
    return message


async def test_who_waits_is_told_and_later_messages_of_the_conversation_go_on(client):
    failing = Failing()
    async with working(client, Asking("May I?", act=failing).graph, **TWICE, expires=3_600):
        message = await give_up(client)
        reason = "the run failed with the answer of boss: ConnectionError"
        assert await told(client) == [("task", "failed", reason)]
        [note, again] = await client.query("boss")
        assert note.json() == {"type": "question_closed", "text": reason, "question": "May I?"}
        assert len(await refusals(client)) == 1

        failing.fails = False
        await answer(client, again, "no")  # to the message that was parked
        [_, good] = await outcome(client)
        assert good["trail"][-3:] == ["read", '"no"', "write"]
        await settle(client, 3_600)
        assert len(await told(client)) == 1
        await client.reply(message, "no", sender="boss")
        await settle(client)
        assert (await refusals(client))[-1] == "it is too late: the question was given up"


async def test_an_answer_whose_workers_die_of_it_is_given_up_as_well(broker, client):
    working_now = []

    async def die(_answers):
        broker.kill(working_now[-1])
        raise ConnectionError("nobody hears of this")

    asking = Asking("May I?", act=die)
    for life in range(12):
        async with broker.client() as doomed, working(doomed, asking.graph, **TWICE):
            working_now.append(doomed)
            if life == 0:
                await begin(client)
                [(message, _)] = await asked(client)
                await client.reply(message, "yes", sender="boss")
            for _ in range(120):  # seconds
                if doomed.is_connected:
                    await client.clock.advance(1)
        if await told(client):
            break
        await client.clock.advance(600)
    assert life > 0
    reason = "the run failed with the answer of boss: its worker died"
    assert await told(client) == [("task", "failed", reason)]
    assert len(await refusals(client)) == 1


class Both(TypedDict, total=False):
    left: str
    right: str


async def test_the_other_questions_of_the_run_are_closed_with_it(client):
    fails = True

    def ask(state, name):
        said = interrupt(f"{name}?")
        if fails and name == "left":
            raise ConnectionError("the archive is down")
        return {name: said}

    builder = StateGraph(Both)
    for name in ("left", "right"):
        builder.add_node(name, lambda state, name=name: ask(state, name))
        builder.add_edge(START, name)
    async with working(client, builder.compile(checkpointer=InMemorySaver()), **TWICE):
        await begin(client, {"left": "?"})
        questions = {question.text: message for message, question in await asked(client)}
        await answer(client, questions["left?"], "yes")
        await settle(client, 600)
        assert [code for _, code, _ in await told(client)] == ["failed"]
        assert await asked(client) == []
        await answer(client, questions["right?"], "yes")
        assert (await refusals(client))[-1] == "it is too late: the question was given up"


async def test_where_the_checkpoint_is_lost_the_asker_is_told(client):
    async with working(client, Asking("May I?").graph):
        await begin(client)
    asking = Asking("May I?")  # with nothing saved
    async with working(client, asking.graph):
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        [(correlation_id, code, reason)] = await told(client)
        assert (correlation_id, code) == ("task", "failed")
        assert reason.startswith("the run that asked is over: ")
        assert await refusals(client) == [reason]
        assert asking.ran == []
        # The conversation goes on.
        await begin(client, correlation_id="next")
        assert len(await asked(client)) == 1


class Renamed(TypedDict, total=False):
    topic: str


def graph_with(node, saver):
    builder = StateGraph(Renamed)
    builder.add_node("first", lambda _: {})
    builder.add_node(node, lambda _: {"topic": interrupt("May I?")})
    builder.add_edge(START, "first")
    builder.add_edge("first", node)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("expires", [None, 3_600])
async def test_where_a_node_was_renamed_the_asker_is_told(client, expires):
    saver = InMemorySaver()
    async with working(client, graph_with("decide", saver), expires=expires):
        await begin(client)
    async with working(client, graph_with("choose", saver), expires=expires):
        if expires is None:
            [(message, _)] = await asked(client)
            await answer(client, message, "yes")
        await settle(client, 3_600)
        [(correlation_id, code, _)] = await told(client)
        assert (correlation_id, code) == ("task", "failed" if expires is None else "expired")


async def test_an_error_answer_of_an_agent_that_was_asked_goes_to_the_node(client):
    await client.mailbox_create(name="notary")
    failed = ErrorAnswer(code="rejected", reason="no such deed", reference="0123456789")

    async def refuse(_answers):
        raise failed.as_error("notary")

    for act in (None, refuse):
        asking = Asking({"type": "question", "to": "notary", "text": "Is it valid?"}, act=act)
        async with working(client, asking.graph):
            await begin(client)
            [*_, message] = await client.query("notary")
            body, headers = failed.value(), {"error": "rejected"}
            await client.reply(message, body, headers=headers, sender="notary")
            await settle(client)
    [taken, refused] = await client.query("asker")
    assert orjson.loads(taken.json()["trail"][1]) == failed.value()
    assert ErrorAnswer.read(refused).reason == (
        "the run failed with the answer of notary: notary rejected the request: no such deed "
        "(reference 0123456789)"
    )
    assert asking.ran == ["read", "ask", "ask"]  # it is not tried again


async def test_an_error_answer_of_a_person_s_agent_leaves_the_question_open(client, first_question):
    async with first_question() as message:
        failed = ErrorAnswer(code="failed", reason="KeyError", reference="0123456789")
        await client.reply(message, failed.value(), headers={"error": "failed"}, id="a")
        await settle(client)
        assert await refusals(client) == ["it is an error answer: KeyError"]
        await answer(client, message, "yes", id="b")
        assert len(await outcome(client)) == 1
