"""Asking other agents: as a tool, in a node, several at once, and after a crash."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from langchain_mq9 import AskAgentTool, MailboxWorker, Question
from langchain_mq9.testing import ScriptedModel, call
from mq9 import (
    AgentNotFound,
    Forbidden,
    InvalidRequest,
    MailboxNotFound,
    Mq9Client,
    NoReply,
    Reject,
    RequestFailed,
    SyncMq9Client,
)
from mq9.clock import sleep
from mq9.operations import ask as asking

from .gathering_graph import THREAD, WORKERS, gathering
from .tool_calls import fetch, run_in, tool_call

CHILD = Path(__file__).with_name("gathering_graph.py")
ROOT = Path(__file__).parents[2]


class State(TypedDict, total=False):
    topic: str
    answer: object


def asking_graph(ask, checkpointer=None):
    """A graph of one node, which asks and keeps the answer."""
    graph = StateGraph(State)

    async def node(state):
        return {"answer": await ask(state["topic"])}

    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer=checkpointer or InMemorySaver())


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        yield client


@pytest.fixture
async def agents(client):
    """Three agents that answer with their name and the question, and what they were asked."""
    asked = []

    def answering(name):
        async def handle(message):
            asked.append((name, message.text))
            return f"{name} on {message.text}"

        return handle

    for name, capability in zip(WORKERS, ("law", "cooking", "weather"), strict=True):
        await client.agent_register(
            {"name": name, "description": f"Answers questions on {capability}"}
        )
        await client.consume(name, answering(name))
    return asked


@pytest.fixture
def boss(open_toolkit):
    return open_toolkit("boss")


def told(message):
    assert message.status == "success", message.content
    return json.loads(message.content)


async def use(toolkit, mode="wait", config=None, **arguments):
    """Call the tool as an agent does."""
    tool = toolkit.ask_agent_tool(mode)
    return await tool.ainvoke(tool_call("ask_agent", arguments), config)


def test_the_tool_is_given_to_who_asks_for_it(boss):
    assert "ask_agent" not in {one.name for one in boss.get_tools()}
    assert len(boss.get_tools()) == 8
    assert isinstance(boss.ask_agent_tool(), AskAgentTool)
    assert boss.ask_agent_tool().name == "ask_agent"
    with pytest.raises(InvalidRequest, match="mode"):
        boss.ask_agent_tool("never")


async def test_a_model_asks_an_agent_by_its_address(boss, agents):
    said = told(await use(boss, mail_address="ada", content="tea"))

    assert said["answer"]["untrusted_content"] == "ada on tea"
    assert agents == [("ada", "tea")]


async def test_or_by_its_name_where_no_mailbox_has_that_address(boss, client):
    await client.agent_register({"name": "lawyer", "mailbox": "chambers"})
    await client.consume("chambers", lambda message: message.text.upper())

    said = told(await use(boss, mail_address="lawyer", content="tea"))

    assert said["answer"]["untrusted_content"] == "TEA"


@pytest.mark.usefixtures("model")
async def test_or_by_what_it_can_do_and_never_itself(boss, agents, client):
    await client.agent_register({"name": "boss", "description": "Answers questions on cooking"})

    said = told(await use(boss, capability="questions on cooking", content="soup"))

    assert said["answer"]["untrusted_content"] == "bob on soup"
    assert agents == [("bob", "soup")]


async def test_what_it_cannot_do_the_model_is_told(boss, agents):
    refused = [
        await use(boss, content="x"),
        await use(boss, content="x", mail_address="ada", capability="law"),
        await use(boss, mail_address="ada"),
        await use(boss, content="x", mail_address="adda"),
        await use(boss, content="x", mail_address="No Such Agent"),
        await use(boss, question_id="q"),
    ]

    assert {one.status for one in refused} == {"error"}
    for message, text in zip(
        refused,
        [
            "to: say whom",
            "to: say whom",
            "content: say",
            "nearly so are at ada",
            "no agent",
            "thread",
        ],
        strict=True,
    ):
        assert text in message.content
    assert agents == []


async def test_what_it_may_not_send_to_it_may_not_ask(open_toolkit, agents):
    with open_toolkit("boss", allow_send=["team.*"]) as toolkit:
        assert "may send to" in (await use(toolkit, content="x", mail_address="ada")).content
        with pytest.raises(Forbidden):
            await toolkit.aask_agent("x", to="ada")
    assert agents == []


async def test_an_answer_that_is_late_is_waited_for_by_its_id(boss, client):
    await client.mailbox_create(name="ada")
    model = ScriptedModel(
        call("ask_agent", to="ada", content="tea", wait_seconds=5),
        "It does not answer.",
        lambda messages: call(
            "ask_agent", question_id=json.loads(messages[2].content)["question_id"]
        ),
        "Green.",
    )
    app = create_agent(model, [boss.ask_agent_tool()], checkpointer=InMemorySaver())
    state = await app.ainvoke({"messages": [("human", "Which tea?")]}, THREAD)
    assert "no answer within 5 s" in state["messages"][2].content
    [question] = await client.fetch("ada", group_name="ada")
    await question.reply("green")

    state = await app.ainvoke({"messages": [("human", "Wait for it.")]}, THREAD)

    assert told(state["messages"][-2])["answer"]["untrusted_content"] == "green"
    assert len(await client.query("ada")) == 1


async def test_answers_are_no_mail_of_the_thread(boss, agents):
    app = asking_graph(lambda topic: boss.aask_agent(topic, to="ada"))
    await app.ainvoke({"topic": "tea"}, THREAD)

    tool = next(one for one in boss.get_tools() if one.name == "fetch_messages")
    found = tool.invoke(tool_call("fetch_messages", {"wait_seconds": 0}), THREAD)
    assert told(found)["messages"] == []
    assert fetch(boss)["messages"] == []


async def test_a_node_gets_json_as_it_is_and_text_as_text(boss, client):
    answers = iter(['{"tea": "green"}', "green tea", "7"])
    await client.mailbox_create(name="ada")
    await client.consume("ada", lambda _: next(answers))

    assert await boss.aask_agent("1", to="ada") == {"tea": "green"}
    assert await boss.aask_agent({"a": "question"}, to="ada") == "green tea"
    assert await boss.aask_agent("3", to="ada") == 7


async def test_an_agent_that_starts_a_little_later_is_asked_then(boss, broker, client):
    asking = asyncio.create_task(boss.aask_agent("tea", to="late"))
    await sleep(broker.clock, 5)
    await client.mailbox_create(name="late")
    await client.consume("late", lambda message: f"late on {message.text}")

    assert await asking == "late on tea"


async def test_an_agent_that_never_starts_is_an_error_that_names_its_mailbox(boss, broker):
    with pytest.raises(MailboxNotFound, match=r"late does not exist, after 10 s$"):
        await boss.aask_agent("tea", to="late")


async def test_without_a_thread_each_call_is_a_question_and_leaves_nothing(
    boss, agents, broker, client
):
    for _ in range(2):
        assert await boss.aask_agent("tea", to="ada") == "ada on tea"

    assert agents == [("ada", "tea"), ("ada", "tea")]
    [question, again] = await client.query("ada")
    for message in (question, again):
        with pytest.raises(MailboxNotFound):
            await client.mailbox_status(message.reply_to)


def test_from_code_without_an_event_loop(boss, broker):
    with SyncMq9Client(broker.url) as client:
        client.mailbox_create(name="ada")
        with client.consume("ada", lambda message: f"re {message.text}"):
            assert boss.ask_agent("tea", to="ada") == "re tea"
            [answer] = boss.gather([Question("cake", to="ada")])
            assert answer.text == "re cake"


async def test_a_node_that_is_run_again_asks_nobody_twice(boss, agents):
    crashes = iter([True, False])

    async def ask(topic):
        answer = await boss.aask_agent(topic, to="ada")
        if next(crashes):
            raise RuntimeError("crash")
        return answer

    app = asking_graph(ask)
    with pytest.raises(RuntimeError):
        await app.ainvoke({"topic": "tea"}, THREAD)

    assert (await app.ainvoke(None, THREAD))["answer"] == "ada on tea"
    assert agents == [("ada", "tea")]


async def test_the_next_turn_of_the_thread_asks_anew_and_so_does_another_thread(boss, agents):
    app = asking_graph(lambda topic: boss.aask_agent(topic, to="ada"))

    for thread in ("one", "one", "two"):
        await app.ainvoke({"topic": "tea"}, run_in(thread))

    assert agents == [("ada", "tea")] * 3


async def test_the_same_question_twice_in_a_node_is_one_unless_ids_tell_them_apart(boss, agents):
    async def ask(topic):
        both = [await boss.aask_agent(topic, to="ada") for _ in range(2)]
        return both + [await boss.aask_agent(topic, to="ada", id=one) for one in ("a", "b")]

    await asking_graph(ask).ainvoke({"topic": "tea"}, THREAD)

    assert agents == [("ada", "tea")] * 3


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("now_able", ["ada", None])
async def test_who_was_found_by_what_it_can_do_is_the_one_that_is_asked_again(
    boss, agents, client, now_able
):
    crashes = iter([True, False])

    async def ask(topic):
        answer = await boss.aask_agent(topic, capability="questions on cooking")
        if next(crashes):
            for name in WORKERS:
                await client.agent_unregister(name=name)
            if now_able is not None:
                card = {"name": now_able, "description": "Answers questions on cooking"}
                await client.agent_register(card)
            raise RuntimeError("crash")
        return answer

    app = asking_graph(ask)
    with pytest.raises(RuntimeError):
        await app.ainvoke({"topic": "soup"}, THREAD)

    assert (await app.ainvoke(None, THREAD))["answer"] == "bob on soup"
    assert agents == [("bob", "soup")]


@pytest.mark.usefixtures("model")
async def test_when_nobody_can_do_it_that_is_said(boss, agents):
    with pytest.raises(AgentNotFound, match="quantum"):
        await boss.aask_agent("x", capability="quantum chromodynamics on lattices")


async def test_a_question_goes_on_with_the_path_of_the_message_that_the_run_works_on(boss, client):
    await client.mailbox_create(name="ada")
    config = {"configurable": {"mq9_path": ["user", "desk"]}}
    with pytest.raises(NoReply):
        await boss.aask_agent("tea", to="ada", timeout=1, config=config)

    [question] = await client.fetch("ada", group_name="g", max_wait_ms=0)
    assert (question.path, question.sender) == (("user", "desk", "boss"), "boss")


async def test_a_node_may_be_content_with_some_and_late_answers_come_with_the_next_run(
    boss, client
):
    for name in WORKERS:
        await client.mailbox_create(name=name)
    app = gathering(boss, InMemorySaver(), timeout=5)
    with pytest.raises(NoReply, match="0 of 3"):
        await app.ainvoke({"topic": "tea"}, THREAD)
    for name in WORKERS:
        [question] = await client.fetch(name, group_name=name)
        await question.reply(name)

    assert (await app.ainvoke(None, THREAD))["answers"] == list(WORKERS)
    assert [len(await client.query(name)) for name in WORKERS] == [1, 1, 1]


async def test_some_answers_may_do(boss, agents, client):
    await client.mailbox_create(name="idle")
    app = gathering(boss, InMemorySaver(), [*WORKERS, "idle", "nobody"], minimum=3, timeout=5)

    assert len((await app.ainvoke({"topic": "tea"}, THREAD))["answers"]) == 3


async def test_parallel_branches_have_their_own_questions(boss, agents):
    graph = StateGraph(State)

    async def node(_state):
        await boss.aask_agent("tea", to="ada")

    for name in ("left", "right"):
        graph.add_node(name, node)
        graph.add_edge(START, name)
    await graph.compile(checkpointer=InMemorySaver()).ainvoke({"topic": "tea"}, THREAD)

    assert agents == [("ada", "tea")] * 2


async def test_old_answers_are_removed_where_a_thread_has_very_many(
    boss, agents, client, monkeypatch
):
    monkeypatch.setattr(asking, "KEPT_ANSWERS", 3)
    app = asking_graph(lambda topic: boss.aask_agent(topic, to="ada"))
    for number in range(6):
        await app.ainvoke({"topic": str(number)}, THREAD)

    [reply_to] = {message.reply_to for message in await client.query("ada")}
    kept = [message.text for message in await client.query(reply_to)]
    assert kept == [f"ada on {number}" for number in range(2, 6)]


@pytest.mark.parametrize("content", ["May we?", {"may": "we"}])
async def test_a_node_may_interrupt_the_graph_instead_of_waiting(boss, client, content):
    await client.agent_register({"name": "The Lawyer", "mailbox": "chambers"})
    app = asking_graph(lambda _: boss.aask_agent(content, to="The Lawyer", mode="interrupt"))

    state = await app.ainvoke({"topic": "tea"}, THREAD)

    [asked] = state["__interrupt__"]
    kind = "text" if isinstance(content, str) else "content"
    assert asked.value == {"type": "question", "to": "chambers", kind: content}
    await client.agent_unregister(name="The Lawyer")
    state = await app.ainvoke(Command(resume={asked.id: "yes"}), THREAD)
    assert state["answer"] == "yes"
    assert await client.query("chambers") == []


@pytest.mark.parametrize(
    ("answer", "content"), [("y\u202ees", "y<U+202E>es"), ({"ok": 1}, '{"ok":1}')]
)
async def test_so_may_the_tool(boss, agents, answer, content):
    model = ScriptedModel(call("ask_agent", to="ada", content="tea"), "Done.")
    app = create_agent(model, [boss.ask_agent_tool("interrupt")], checkpointer=InMemorySaver())

    state = await app.ainvoke({"messages": [("human", "Ask.")]}, THREAD)

    [asked] = state["__interrupt__"]
    assert asked.value == {"type": "question", "to": "ada", "text": "tea"}
    state = await app.ainvoke(Command(resume=answer), THREAD)
    assert json.loads(state["messages"][2].content)["untrusted_content"] == content
    assert agents == []


async def test_a_worker_mails_what_its_graph_asks_and_goes_on_with_the_answer(boss, agents, client):
    app = asking_graph(lambda topic: boss.aask_agent(topic, to="ada", mode="interrupt"))
    async with MailboxWorker(app, agent="desk", client=client):
        answer = await client.request("desk", {"topic": "tea"})

    assert answer.json()["answer"] == "ada on tea"
    assert agents == [("ada", "tea")]


# Error answers


async def refuse(message):
    raise Reject("not my field")


@pytest.fixture
async def refusing(client):
    await client.mailbox_create(name="zoe")
    await client.consume("zoe", refuse)


@pytest.mark.usefixtures("refusing")
async def test_a_node_that_waits_learns_at_once_that_its_question_was_refused(boss, client):
    before = client.clock.now_ms()
    with pytest.raises(RequestFailed, match="zoe rejected the request: not my field") as raised:
        await boss.aask_agent("tea", to="zoe", timeout=600)
    assert raised.value.failure == "rejected"
    assert client.clock.now_ms() - before < 60_000


@pytest.mark.usefixtures("refusing")
async def test_a_node_that_interrupted_the_graph_learns_it_too(boss, client):
    async def ask(topic):
        try:
            return await boss.aask_agent(topic, to="zoe", mode="interrupt")
        except RequestFailed as error:
            return f"{error.failure}: {error.reason}"

    async with MailboxWorker(asking_graph(ask), agent="desk", client=client):
        answer = await client.request("desk", {"topic": "tea"}, timeout=600)
    assert answer.json()["answer"] == "rejected: not my field"


@pytest.mark.usefixtures("refusing")
async def test_a_model_learns_it_in_both_modes(boss):
    said = await use(boss, mail_address="zoe", content="tea")
    assert said.status == "error"
    assert "zoe rejected the request: not my field" in said.content
    model = ScriptedModel(call("ask_agent", to="zoe", content="tea"), "Done.")
    app = create_agent(model, [boss.ask_agent_tool("interrupt")], checkpointer=InMemorySaver())
    await app.ainvoke({"messages": [("human", "Ask.")]}, THREAD)
    failed = {"type": "error", "code": "rejected", "reason": "not my field", "reference": "r"}
    state = await app.ainvoke(Command(resume=failed), THREAD)
    said = state["messages"][2]
    assert said.status == "error"
    assert "zoe rejected the request: not my field" in said.content


@pytest.mark.programs
async def test_a_killed_supervisor_gets_each_answer_once_and_asks_nobody_twice(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "tests.tools.gathering_graph", tmp_path],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    async with Mq9Client(f"sqlite:///{tmp_path}/mail.db") as client:
        for name in WORKERS:
            await client.mailbox_create(name=name)
        for name in WORKERS[:2]:
            with start() as supervisor:
                [question] = await client.fetch(name, group_name=name, max_wait_ms=30_000)
                await client.fetch("eve", max_wait_ms=30_000)  # it has asked everybody
                await question.reply(f"from-{name}")
                await question.ack()
                supervisor.send_signal(signal.SIGKILL)
        with start() as supervisor:
            [question] = await client.fetch("eve", group_name="eve", max_wait_ms=30_000)
            await question.reply("from-eve")
            printed = await asyncio.to_thread(supervisor.stdout.read)

        assert printed == "from-ada from-bob from-eve"
        assert [len(await client.query(name)) for name in WORKERS] == [1, 1, 1]
