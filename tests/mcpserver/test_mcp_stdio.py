"""`mq9-mcp` as hosts start it: a process of its own, on the file that all of a user's share."""

import asyncio
import os
import signal
import subprocess
from contextlib import ExitStack

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from programs import MQ9_MCP, TIMEOUT_S, StdioServer
from waiting import until

from mq9 import Mq9Client
from mq9.operations.catalog import ALL

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


@pytest.fixture
def environment(tmp_path):
    """The environment of a user whose home is new."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MQ9_", "COV"))}
    return {**kept, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}


@pytest.fixture
def start(environment):
    """Start servers that can be killed, each with the handshake done."""
    with ExitStack() as stack:

        def begin(*options):
            return stack.enter_context(StdioServer(*options, env=environment)).greet()

        yield begin


def test_two_hosts_write_to_each_other_and_lose_nothing_when_killed(start):
    claude = start("--agent", "Claude-Desktop")
    cursor = start("--agent", "cursor", "--lease", "1")
    claude.do("agent_register", name="Claude-Desktop", capabilities="Writes prose")
    cursor.do("agent_register", name="cursor", capabilities="Writes code")
    found, *_ = claude.do("agent_discover", query="code")["agents"]
    assert found["untrusted_name"] == "cursor"

    # What is sent while the other is killed waits for it.
    cursor.process.kill()
    for number in range(3):
        claude.do("send_message", to=found["mail_address"], content=f"task {number}")
    claude.process.kill()
    cursor = start("--agent", "cursor", "--lease", "1")
    assert cursor.do("whoami")["your_unread"] == "3 unread: call mq9_fetch_messages"

    # What it had taken and not acknowledged when it was killed is delivered again.
    first, *_ = cursor.do("fetch_messages", wait_seconds=0)["messages"]
    cursor.do("ack_messages", msg_id=first["msg_id"])
    cursor.process.kill()
    cursor = start("--agent", "cursor")
    fetched = cursor.do("fetch_messages", wait_seconds=10)
    assert [one["untrusted_content"] for one in fetched["messages"]] == ["task 1", "task 2"]
    assert {one["delivery_count"] for one in fetched["messages"]} == {2}
    assert {one["untrusted_envelope"]["reply_to"] for one in fetched["messages"]} == {
        "claude.desktop"
    }
    cursor.do("ack_messages", msg_id=[one["msg_id"] for one in fetched["messages"]])
    cursor.do("send_message", to="claude.desktop", content="all done")

    claude = start("--agent", "Claude-Desktop")
    [message] = claude.do("fetch_messages", wait_seconds=45)["messages"]
    assert message["untrusted_content"] == "all done"
    assert cursor.do("fetch_messages", wait_seconds=0)["empty"] == "no mail waits"
    assert (claude.end(), cursor.end()) == ([], [])


@pytest.mark.quick
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_waiting_host_is_woken_by_another_process(environment, mode):
    heard = []

    async def hear(progress, total, _message):
        heard.append((progress, total))

    def started(agent):
        return StdioServerParameters(command=str(MQ9_MCP), args=["--agent", agent], env=environment)

    async with Client(started("one"), mode=mode) as one, Client(started("two"), mode=mode) as two:
        for client in (one, two):
            assert len((await client.list_tools()).tools) == len(ALL)
            assert not (await client.call_tool("mq9_whoami", {})).is_error
        given_up = asyncio.create_task(one.call_tool("mq9_fetch_messages", {"wait_seconds": 45}))
        waiting = asyncio.create_task(
            one.call_tool(
                "mq9_fetch_messages",
                {"wait_seconds": 45, "group_name": "other"},
                progress_callback=hear,
            )
        )
        await until(lambda: heard)  # for five seconds
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await two.call_tool("mq9_send_message", {"to": "one", "content": "wake up"})

        [message] = (await waiting).structured_content["messages"]
        assert message["untrusted_content"] == "wake up"
        assert heard == [(5, 45)]
        # The call that was given up took nothing: its group can have the message.
        taken = await one.call_tool("mq9_fetch_messages", {"wait_seconds": 0})
        assert "delivery_count" not in taken.structured_content["messages"][0]


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "closed"])
@pytest.mark.parametrize(
    ("server", "file"),
    [((), "data/mq9/mq9.db"), (("--server", "sqlite:///~/mq9.db"), "mq9.db")],
    ids=["front", "SDK"],
)
async def test_it_ends_at_once_with_nothing_but_messages_and_what_it_held_is_free(
    environment, tmp_path, how, server, file
):
    options = ("--agent", "desk", *server)
    with StdioServer(*options, env=environment, stderr=subprocess.PIPE) as one:
        one.greet().do("send_message", to="desk", content="x")
        taken = one.do("fetch_messages", wait_seconds=0)
        assert taken["leased_seconds"] == 3_600
        waiting = {"wait_seconds": 45}
        one.say("tools/call", "waiting", name="mq9_fetch_messages", arguments=waiting)
        one.do("whoami")
        if how != "closed":  # its input is open
            one.process.send_signal(getattr(signal, how))
            assert one.process.wait(TIMEOUT_S) == 0
        assert all(said["jsonrpc"] == "2.0" for said in one.end())
        assert one.process.stderr.read() == b""

    async with Mq9Client(f"sqlite:///{tmp_path / file}") as client:
        [message] = await client.fetch("desk", group_name="desk", max_wait_ms=0)
    assert message.delivery_count == 2
