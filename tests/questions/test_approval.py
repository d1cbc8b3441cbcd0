"""A worker's graph asks people by mail, and goes on with what they answer."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import interrupt
from typing_extensions import TypedDict

from langchain_mq9 import MailboxWorker
from langchain_mq9.testing import ScriptedModel, call
from mq9 import InvalidRequest
from mq9.questions import MailedQuestion
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working
from tests.questions.reviewed import Agent
from tests.worker.graphs import echo

DAY = 86_400


async def test_a_question_is_mailed_and_its_answer_lets_the_run_go_on(client):
    asking = Asking({"text": "May I?", "n": 1})
    async with working(client, asking.graph) as worker:
        await begin(client, path=["ada"])
        [(message, question)] = await asked(client)
        assert question == MailedQuestion(text="May I?", value={"text": "May I?", "n": 1})
        assert (message.sender, message.reply_to) == ("lawyer", "lawyer.answers")
        assert len(message.correlation_id) >= 32
        assert message.path == ("ada", "lawyer")
        assert await outcome(client) == []
        assert (await client.mailbox_status("lawyer", group_name="lawyer")).group.acked == 1

        await answer(client, message, {"yes": True})
        assert await outcome(client) == [
            {"topic": "tea", "trail": ["read", '{"yes":true}', "write"]}
        ]
        [reply] = await client.query("asker")
        assert (reply.correlation_id, reply.sender) == ("task", "lawyer")
        assert reply.path == ("ada", "lawyer")
        assert asking.ran == ["read", "ask", "ask", "asked", "write"]
        assert (worker.counters.asked, worker.counters.answered) == (1, 1)
    assert await refusals(client) == []


async def test_what_a_person_is_asked_belongs_to_the_conversation_of_the_message(client):
    async with working(client, Asking("May I?").graph):
        await begin(client)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        await outcome(client)

    read = await client.conversation("task")
    by_mailbox = {one.message.mail_address: one.message for one in read.messages}
    assert by_mailbox.keys() == {"lawyer", "boss", "lawyer.answers", "asker"}
    question, reply = by_mailbox["boss"], by_mailbox["lawyer.answers"]
    assert question.headers["conversation"] != question.headers["part-of-conversation"] == "task"
    assert reply.headers["part-of-conversation"] == "task"


async def test_the_mailboxes_of_whoever_is_asked_are_made(client):
    async with working(
        client, Asking("May I?").graph, human="carl", escalate_to="dora", escalate_after=60
    ):
        assert {(await client.mailbox_status(name)).ttl for name in ("carl", "dora")} == {0}


async def test_a_worker_that_was_away_for_longer_than_groups_last_repeats_no_run(client):
    """It is given all messages of the mailbox once more, and may answer those once more."""
    saver = InMemorySaver()
    conversation = {"headers": {"conversation": "one"}}
    async with working(client, Asking("May I?", saver=saver).graph):
        await begin(client, {"topic": "milk"}, correlation_id="first", **conversation)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        await begin(client, **conversation)
    await client.clock.advance(40 * DAY)
    [_, (message, _)] = await asked(client)
    await client.reply(message, "no", sender="boss")
    asking = Asking("May I?", saver=saver)
    async with working(client, asking.graph):
        await settle(client)
        [*_, (last, _)] = await asked(client)
        assert last.msg_id == message.msg_id
    assert asking.ran == ["ask", "asked", "write"]
    trails = {one.correlation_id: one.json()["trail"] for one in await client.query("asker")}
    trail = ["read", '"yes"', "write"]
    assert trails == {"first": trail, "task": [*trail, "read", '"no"', "write"]}


@pytest.mark.parametrize("reply_to", [None, "nobody"])
async def test_a_run_that_nobody_waits_for_asks_and_goes_on_all_the_same(client, reply_to):
    asking = Asking("May I?")
    async with working(client, asking.graph) as worker:
        await begin(client, reply_to=reply_to)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        assert worker.counters.answered == 1
    assert asking.ran[-1] == "write"
    assert await outcome(client) == await refusals(client) == []


async def test_a_graph_that_asks_again_is_answered_again(client):
    asking = Asking("May I?", "Really?", "May I?")
    async with working(client, asking.graph):
        await begin(client)
        for number in range(3):
            questions = await asked(client)
            assert len(questions) == number + 1
            await answer(client, questions[-1][0], str(number))
        assert [question.text for _, question in questions] == ["May I?", "Really?", "May I?"]
        assert await outcome(client) == [{"topic": "tea", "trail": ["read", *"012", "write"]}]
    assert asking.ran.count("read") == asking.ran.count("write") == 1


class Both(TypedDict, total=False):
    left: str
    right: str


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_two_interrupts_of_one_run_are_two_questions_answered_in_any_order(client, order):
    builder = StateGraph(Both)
    for name in ("left", "right"):
        builder.add_node(name, lambda _, name=name: {name: interrupt(f"{name}?")})
        builder.add_edge(START, name)
    async with working(client, builder.compile(checkpointer=InMemorySaver())) as worker:
        await begin(client, {"left": "?"})
        questions = {question.text: message for message, question in await asked(client)}
        assert set(questions) == {"left?", "right?"}
        for number in order:
            assert await outcome(client) == []
            text = ("left?", "right?")[number]
            await answer(client, questions[text], text.upper())
        assert await outcome(client) == [{"left": "LEFT?", "right": "RIGHT?"}]
        assert len(await asked(client)) == 2
        assert (worker.counters.asked, worker.counters.answered) == (2, 2)


DECISIONS = ("approve", "edit", "reject", "respond")
EDIT = {"type": "edit", "edited_action": {"name": "send_email", "args": {"to": "bob"}}}


@pytest.mark.parametrize("how", [{}, {"interrupt_mode": "per_call"}], ids=["at once", "one by one"])
async def test_tool_calls_are_approved_edited_and_rejected_by_mail(client, how):
    agent = Agent(**how)
    async with working(client, agent.graph):
        await begin(client, "Go.")
        found = await asked(client)
        actions = [action for _, question in found for action in question.actions]
        assert {one.name for one in actions} == {"send_email", "drop_table"}
        [send, drop] = sorted(actions, key=lambda one: one.name, reverse=True)
        assert (send.args, send.decisions) == ({"to": "ada"}, DECISIONS)
        assert (drop.args, drop.decisions) == ({"name": "users"}, ("approve", "reject"))
        assert drop.text == "Drop it?"
        if how:
            questions = {question.actions[0].name: one for one, question in found}
            await answer(client, questions["send_email"], EDIT)
            assert agent.done == ["sent to bob"]
            await answer(client, questions["drop_table"], "reject")
        else:
            assert [list(one.schema["properties"]) for one in actions] == [["to"], ["name"]]
            [(message, question)] = found
            assert question.text.endswith("Args: {'to': 'ada'}\n\nDrop it?")
            await answer(client, message, {"decisions": [EDIT, {"type": "reject"}]})
        assert agent.done == ["sent to bob"]
        assert [one.text for one in await client.query("asker")] == ["Done."]


@tool
def pay(amount: int) -> str:
    """Pay, if a person agrees; this is how the Agent Inbox is asked."""
    allowed = {f"allow_{one}": one != "respond" for one in ("accept", "edit", "ignore", "respond")}
    action = {"action": "pay", "args": {"amount": amount}}
    [response] = interrupt([{"action_request": action, "config": allowed, "description": "Pay?"}])
    match response["type"]:
        case "accept":
            return f"paid {amount}"
        case "edit":
            return f"paid {response['args']['args']['amount']}"
        case _:
            return "paid nothing"


@pytest.mark.parametrize(
    ("construct", "decision", "done"),
    [
        (create_agent, "approve", "paid 9"),
        (create_agent, "reject", "paid nothing"),
        (
            create_react_agent,
            {"type": "edit", "args": {"action": "pay", "args": {"amount": 5}}},
            "paid 5",
        ),
    ],
)
async def test_a_tool_asks_in_the_schema_of_the_agent_inbox(client, construct, decision, done):
    model = ScriptedModel(call("pay", amount=9), lambda said: AIMessage(said[-1].text))
    agent = construct(model, [pay], checkpointer=InMemorySaver())
    async with working(client, agent):
        await begin(client, "Pay.")
        [(message, question)] = await asked(client)
        assert question.text == "Pay?"
        await answer(client, message, decision)
        assert [one.text for one in await client.query("asker")] == [done]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Fine!", "send_email: 'Fine!' is not possible here; answer approve or edit"),
        (
            [
                {"type": "edit", "edited_action": {"name": "send_email", "args": {"too": "bob"}}},
                "approve",
            ],
            "send_email: it has no argument 'too' and it lacks the argument 'to'; it takes 'to'",
        ),
        (b"\xff", "an answer is text or JSON, not 1 other bytes"),
    ],
)
async def test_an_answer_that_does_not_fit_is_kept_and_the_person_is_told(client, bad, problem):
    agent = Agent()
    async with working(client, agent.graph) as worker:
        await begin(client, "Go.")
        [(message, question)] = await asked(client)
        await answer(client, message, bad)
        [(again, asked_again)] = await asked(client)  # in the place of the first
        assert again.correlation_id == message.correlation_id
        assert problem in asked_again.problem
        assert asked_again.actions == question.actions
        [reason] = await refusals(client)
        assert reason == f"it does not fit the question: {asked_again.problem}"
        assert agent.done == []
        assert worker.counters.refused == 1

        await answer(client, again, "approve")
        assert sorted(agent.done) == ["dropped users", "sent to ada"]  # at the same time


async def test_a_question_to_somebody_else_is_mailed_as_it_is(client):
    await client.mailbox_create(name="notary")
    asking = Asking(
        {"type": "question", "to": "notary", "text": "Is it valid?"},
        {"type": "question", "to": "Notary", "content": {"clause": 7}},
    )
    async with working(client, asking.graph, human=None):
        await begin(client)
        [message] = await client.query("notary")
        assert (message.text, message.key) == ("Is it valid?", None)
        await answer(client, message, "It is.", sender="notary")
        [_, message] = await client.query("notary")
        assert message.json() == {"clause": 7}
        await answer(client, message, {"valid": False}, sender="notary")
        assert await outcome(client) == [
            {"topic": "tea", "trail": ["read", '"It is."', '{"valid":false}', "write"]}
        ]


async def test_a_person_without_a_mailbox_is_asked_when_it_is_there(client):
    asking = Asking({"type": "question", "to": "owner", "text": "May I?"})
    async with working(client, asking.graph):
        await begin(client)
        await client.mailbox_create(name="owner")
        await settle(client, 60)
        [(message, _)] = await asked(client, "owner")
        await answer(client, message, "yes", sender="owner")
    assert asking.ran == ["read", "ask", "ask", "asked", "write"]


async def test_what_comes_while_the_conversation_waits_is_done_afterwards(client):
    asking = Asking("May I?")
    async with working(client, asking.graph) as worker:
        await begin(client, headers={"conversation": "one"})
        for topic in ("milk", "sugar"):
            body = {"topic": topic}
            await begin(client, body, headers={"conversation": "one"}, correlation_id=topic)
        await begin(client, headers={"conversation": "two"}, correlation_id="other")
        await settle(client, DAY)
        [first, other] = [message for message, _ in await asked(client)]
        assert worker.counters.parked == 2

        await answer(client, first, "yes")
        [_, _, second] = [message for message, _ in await asked(client)]
        await answer(client, second, "for milk")
        await answer(client, (await asked(client))[-1][0], "for sugar")
        await answer(client, other, "no")
    replies = {one.correlation_id: one.json() for one in await client.query("asker")}
    assert replies["task"]["trail"] == ["read", '"yes"', "write"]
    assert replies["milk"]["trail"][3:] == ["read", '"for milk"', "write"]
    assert replies["sugar"]["trail"][6:] == ["read", '"for sugar"', "write"]
    assert replies["other"]["trail"] == ["read", '"no"', "write"]
    assert await refusals(client) == []
    assert asking.ran.count("read") == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"human": "!"}, "name: '!' has no letter"),
        ({"expires": 0}, "expires: 0 is not between 1"),
        ({"escalate_to": "chief"}, "escalate_to: give it with escalate_after, or neither"),
        ({"escalate_after": 5}, "escalate_to: give it with escalate_after, or neither"),
        (
            {"human": None, "escalate_to": "chief", "escalate_after": 5},
            "escalate_to: there is nobody before; give human, too",
        ),
        (
            {"escalate_to": "chief", "escalate_after": 60, "expires": 60},
            "escalate_after: 60 is not less than expires, 60",
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused(client, options, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        async with working(client, Asking("May I?").graph, **options):
            pass


async def test_an_agent_that_is_asked_has_a_conversation_with_each_thread_that_asks(client):
    """Otherwise it would mix up the users of whoever asks."""
    asking = Asking(*({"type": "question", "to": "notary", "text": text} for text in ("a", "b")))
    notary = MailboxWorker(echo(), agent="notary", client=client, progress="mailbox")
    async with working(client, asking.graph), notary:
        for number in range(2):
            await begin(client, correlation_id=str(number), reply_to=None)
        while asking.ran.count("write") < 2:
            await client.clock.advance(0)
        await settle(client)
    answers = [one for one in await client.query("lawyer.answers") if one.correlation_id]
    assert sorted(one.text for one in answers) == ["1: a", "1: a", "3: b", "3: b"]
    assert await refusals(client) == []


async def test_progress_is_told_before_the_question_and_after_the_answer(client):
    async with working(client, Asking("May I?").graph, progress="mailbox") as worker:
        await begin(client)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        assert worker.counters.progress == 3
    [*told, reply] = await client.query("asker")
    assert [one.headers["progress"] for one in told] == ["read", "ask", "write"]
    assert [one.headers["progress-of"] for one in told] == ["task"] * 3
    assert reply.correlation_id == "task"


async def test_a_subgraph_asks_like_its_parent(client):
    inner = StateGraph(Both)
    inner.add_node("left", lambda _: {"left": interrupt("left?")})
    inner.add_edge(START, "left")
    outer = StateGraph(Both)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    async with working(client, outer.compile(checkpointer=InMemorySaver())):
        await begin(client, {"right": "?"})
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        assert await outcome(client) == [{"left": "yes", "right": "?"}]


async def test_an_answer_whose_run_failed_for_good_is_used_when_it_is_moved_back(
    client, first_question
):
    """As mq9 redrive does."""
    failures = [ConnectionError("the archive is down")] * 3

    async def fail(_answers):
        if failures:
            raise failures.pop()

    options = {"max_deliveries": 3, "expires": 120}
    async with first_question(Asking("May I?", act=fail).graph, **options) as message:
        await answer(client, message, "yes")
        await settle(client, 180)  # longer than the question lasts
        [reason] = await refusals(client)
        assert reason.startswith("ConnectionError: the archive is down")
        [dead] = await client.fetch("lawyer.dead", group_name="redrive")
        await dead.move("lawyer.answers")
        await settle(client)
        [failed, good] = await outcome(client)  # the one does not keep the other away
        assert (failed["code"], good["trail"][1]) == ("failed", '"yes"')
