"""Several agents on one connection, each with a toolkit of its own."""

import asyncio
import os
import threading

import pytest

from langchain_mq9 import FetchMessagesTool, Mq9Toolkit, Session
from langchain_mq9.session import ToolConnection
from mq9 import InvalidRequest

from .tool_calls import TOOLS, ado, bodies, do, fail, fetch, reached, send, tool


@pytest.fixture
def writer(planner):
    return planner.for_agent("Writer", allow_read=["team.*"])


def test_agents_of_one_connection_have_each_their_own_identity(planner, writer, anyone):
    do(writer, "agent_register", capabilities="Writes")
    send(planner, "a poem, please", "Writer")
    asked = fetch(writer)
    assert reached(asked) == [{"from": "planner", "reply_to": "planner"}]
    send(writer, "Roses", "planner")

    assert reached(fetch(planner)) == [{"from": "Writer", "reply_to": "writer"}]
    assert "not allowed" in fail(planner, "query_messages", mail_address="writer")
    assert "not allowed" in fail(planner, "query_messages", mail_address="team.one")
    assert "does not exist" in fail(writer, "query_messages", mail_address="team.one")
    assert [one["untrusted_name"] for one in do(anyone, "agent_discover")["agents"]] == ["Writer"]


def test_agents_of_one_connection_remember_each_what_they_fetched(planner, writer):
    for toolkit in (planner, writer):
        fetch(toolkit)
    for address in ("planner", "writer"):
        send(planner, address, address)
    fetch(planner)

    assert "you have not fetched 0" in fail(writer, "ack_messages", msg_id=0)
    fetch(writer)
    assert do(writer, "ack_messages", msg_id=0)["mail_address"] == "writer"
    assert do(planner, "ack_messages", msg_id=0)["mail_address"] == "planner"


async def test_there_is_one_connection_and_one_thread(broker):
    made = []

    def make_client():
        made.append(broker.client())
        return made[-1]

    before = set(threading.enumerate())
    connection = ToolConnection(make_client)
    checked = len(made)
    first = Session(agent="planner", connection=connection)
    sessions = [first, *(first.for_agent(f"writer.{number}") for number in range(5))]
    tools = [FetchMessagesTool(session=one) for one in sessions]

    await asyncio.gather(*(one.ainvoke({"wait_seconds": 0}) for one in tools))

    names = [one.name for one in set(threading.enumerate()) - before]
    connection.close()
    assert len(made) == checked + 1
    assert [name for name in names if name.startswith("mq9-tools")] == ["mq9-tools"]


def test_closing_the_second_leaves_the_connection_open(planner, writer):
    fetch(writer)

    with writer:
        pass

    assert "the toolkit is closed" in fail(writer, "query_messages")
    assert do(planner, "query_messages")["messages"] == []
    third = writer.for_agent("third")
    assert do(third, "query_messages")["messages"] == []


@pytest.mark.parametrize("used", [True, False])
async def test_closing_the_first_closes_the_connection_for_both(planner, writer, used):
    if used:
        await ado(writer, "query_messages")

    await planner.aclose()

    assert "the toolkit is closed" in await tool(writer, "query_messages").ainvoke({})
    await writer.aclose()


def test_the_second_keeps_the_limits_of_the_first_and_may_have_fewer_tools(open_toolkit):
    first = open_toolkit("first", lease_ms=5_000, hold=0, max_chars=100)
    second = first.for_agent("second")
    send(second, "x" * 200, "second")
    said = fetch(second)

    assert said["leased_seconds"] == 5
    assert bodies(said) == ["x" * 100]
    assert [one.name for one in second.get_tools()] == list(TOOLS)
    [only] = first.for_agent("third", tools=["send_message"]).get_tools()
    assert only.name == "send_message"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"agent": "翻译"}, "mail_address"),
        ({"agent": "a", "tools": ["no_such"]}, "tools"),
        ({"agent": "a", "allow_send": "team.*"}, "allow_send"),
    ],
)
def test_what_an_agent_cannot_be_is_told_at_once(planner, arguments, named):
    with pytest.raises(InvalidRequest, match=named):
        planner.for_agent(**arguments)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_connects_anew_for_all(tmp_path):
    with Mq9Toolkit(f"sqlite:///{tmp_path / 'mq9.db'}", agent="first") as first:
        second = first.for_agent("second")
        for toolkit in (first, second):
            fetch(toolkit)
        child = os.fork()
        if not child:
            code = 1
            try:
                send(second, "from the child", "first")
                send(first, "from the child", "second")
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bodies(fetch(first)) == bodies(fetch(second)) == ["from the child"]
