"""A run that is resumed makes its tool calls again, and does nothing twice."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from langchain_mq9.testing import ScriptedModel
from mq9 import Mq9Client

from .resumed_graphs import THREAD, calling, opened
from .tool_calls import ado, answer, bodies, do, fail, fetch, ids, result, send, tool

pytestmark = pytest.mark.unmeasured

CHILD = Path(__file__).with_name("resumed_graphs.py")


def run_and_be_killed(directory, *arguments):
    """Run a graph in a process that is killed when its tool has done its work."""
    # What coverage writes does not survive a kill, so none is measured there.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    command = [sys.executable, CHILD, directory, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture
async def mail(tmp_path):
    """A client on the file of the graphs, on which the boss has a mailbox."""
    async with Mq9Client(f"sqlite:///{tmp_path}/mail.db") as client:
        await client.mailbox_create(name="boss")
        yield client


@pytest.mark.programs
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("create_agent", "sync"), ("create_react_agent", "async"), ("ToolNode", "sync")],
)
async def test_what_was_sent_before_a_kill_is_not_sent_again(mail, tmp_path, kind, mode):
    run_and_be_killed(tmp_path, kind, mode, "send_message")
    [sent] = await mail.query("boss")

    async with opened(tmp_path, kind, "Reported.", mode=mode) as invoke:
        state = await invoke(None, THREAD)

    [told] = [one for one in state["messages"] if one.type == "tool"]
    assert '"msg_id":0' in told.content
    assert await mail.query("boss") == [sent]


@pytest.mark.programs
@pytest.mark.parametrize(("kind", "mode"), [("create_agent", "async"), ("ToolNode", "async")])
async def test_nor_is_it_while_a_person_is_asked_beside_it(mail, tmp_path, kind, mode):
    run_and_be_killed(tmp_path, kind, mode, "send_message", "approve")
    [sent] = await mail.query("boss")

    async with opened(tmp_path, kind, "Reported.", mode=mode) as invoke:
        for _ in range(2):  # it is asked again as long as there is no answer
            paused = await invoke(None, THREAD)
            assert paused["__interrupt__"]
        state = await invoke(Command(resume="yes"), THREAD)

    told = [one.content for one in state["messages"] if one.type == "tool"]
    assert len(told) == 2
    assert "approved: yes" in told
    assert await mail.query("boss") == [sent]


def mailboxes(directory):
    with closing(sqlite3.connect(directory / "mail.db")) as database:
        return {address for (address,) in database.execute("SELECT address FROM mailboxes")}


@pytest.mark.quick
@pytest.mark.programs
async def test_a_mailbox_that_was_made_before_a_kill_is_found_again(mail, tmp_path):
    run_and_be_killed(tmp_path, "create_agent", "sync", "create_mailbox")
    before = mailboxes(tmp_path)

    async with opened(tmp_path, "create_agent", "Made.", mode="sync") as invoke:
        state = await invoke(None, THREAD)

    [told] = [one for one in state["messages"] if one.type == "tool"]
    made = told.artifact.mail_address
    assert made in before
    assert mailboxes(tmp_path) == before
    assert (await mail.mailbox_status(made)).ttl == 600


def again(toolkit, name, /, *, step="tools:1", call_id="call-1", thread="t", **arguments):
    """Call a tool as in one step of a graph's run; its result."""
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": step}}
    one = {"type": "tool_call", "id": call_id, "name": name, "args": arguments}
    return tool(toolkit, name).invoke(one, config)


def sent(toolkit, **where):
    said = again(toolkit, "send_message", to="worker", content="x", **where)
    return result(said)["msg_id"]


def test_what_tells_calls_apart(planner, worker, open_toolkit):
    assert sent(planner) == sent(planner) == sent(open_toolkit("planner")) == 0

    assert sent(planner, call_id="call-2") == 1
    assert sent(planner, step="tools:2") == 2
    assert sent(planner, thread="u") == 3
    assert sent(planner, step="") == 4
    assert sent(planner, step="") == 5
    assert sent(worker) == 6


def test_calls_outside_of_threads_are_all_different(planner, worker):
    app = create_agent(ScriptedModel(*[calling("send_message"), "Sent."] * 2), planner.get_tools())
    do(worker, "create_mailbox", name="boss")

    for _ in range(2):
        app.invoke({"messages": [("human", "Report.")]})

    assert len(fetch(worker, mail_address="boss")["messages"]) == 2


async def test_a_node_that_calls_a_tool_itself_sends_each_time(planner, worker):
    send = tool(planner, "send_message")

    async def node(state, config):
        for _ in range(2):
            await send.ainvoke({"mail_address": "worker", "content": "x"}, config)

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    await graph.compile().ainvoke({"messages": []}, {"configurable": {"thread_id": "t"}})

    assert bodies(await ado(worker, "fetch_messages", wait_seconds=0)) == ["x", "x"]


def test_a_call_that_sends_another_text_is_told_that_the_first_stands(planner, worker):
    again(planner, "send_message", to="worker", content="x")

    said = again(planner, "send_message", to="worker", content="y")

    assert said.content == (
        "content: this call has sent worker another text, which stands. "
        "If this is to be sent as well, call again."
    )
    assert bodies(fetch(worker)) == ["x"]


@pytest.mark.parametrize("agent", ["planner", None])
def test_a_mailbox_is_made_once(open_toolkit, agent):
    before, after = open_toolkit(agent), open_toolkit(agent)

    made = [again(one, "create_mailbox", ttl=60).artifact for one in (before, after)]
    named = [again(one, "create_mailbox", name="desk").artifact for one in (before, after)]
    other = again(after, "create_mailbox", step="tools:2").artifact

    assert made[0] == made[1]
    assert named[0] == named[1]
    assert other.mail_address != made[0].mail_address
    told = again(after, "create_mailbox", step="tools:2", name="desk").content
    assert "already exists" in told
    if agent is not None:
        assert fetch(open_toolkit(agent), mail_address="desk")["empty"] == "no mail waits"


def test_a_mailbox_of_somebody_else_is_not_taken_for_the_calls_own(planner, worker):
    again(worker, "create_mailbox", name="desk")

    assert "already exists" in again(planner, "create_mailbox", name="desk").content


def test_what_is_removed_twice_is_removed(planner, worker):
    fetch(planner)
    send(worker, "x")
    gone = {"mail_address": "planner", "msg_id": 0}

    first = again(planner, "delete_message", **gone)

    assert result(again(planner, "delete_message", **gone)) == result(first)
    assert "message not found" in fail(planner, "delete_message", **gone)
    never = again(planner, "delete_message", mail_address="planner", msg_id=7)
    assert "message not found" in never.content


def test_who_registers_twice_is_registered_once(planner):
    for _ in range(2):
        again(planner, "agent_register", capabilities="Plans")

    assert len(do(planner, "agent_discover")["agents"]) == 1


@pytest.mark.parametrize("is_private", [True, False])
def test_what_is_acked_twice_is_acked_even_after_a_restart(open_toolkit, worker, is_private):
    before, after = open_toolkit("planner"), open_toolkit("planner")
    sent(before)
    [question] = fetch(worker)["messages"]
    where = question["untrusted_envelope"]["reply_to"] if is_private else "planner"
    send(worker, "an answer", where)
    assert ids(result(again(before, "fetch_messages", wait_seconds=0))) == [0]

    acked = [again(one, "ack_messages", step="tools:2", msg_id=0) for one in (before, after)]

    assert [result(one)["acked"] for one in acked] == [[0], [0]]
    assert acked[1].artifact.mail_address == where


def test_what_another_thread_has_acked_is_not_acked_by_this_one(open_toolkit, worker):
    before, after = open_toolkit("planner"), open_toolkit("planner")
    fetch(before)
    send(worker, "x")
    again(before, "fetch_messages", wait_seconds=0)
    again(before, "ack_messages", msg_id=0)

    said = again(after, "ack_messages", thread="u", msg_id=0)

    assert said.status == "error"
    assert said.content.startswith("message not found: 0 was delivered to another consumer")
    assert answer(after, "query_messages").status == "success"
