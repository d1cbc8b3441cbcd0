"""`mq9-mcp` as hosts start it: a process of its own, on the file that all of a user's share."""

import asyncio
import json
import os
import signal

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from programs import MQ9_MCP
from waiting import until

from mq9 import Mq9Client
from mq9.operations.catalog import ALL

TIMEOUT_S = 30

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


@pytest.fixture
def environment(tmp_path):
    """The environment of a user whose home is new."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MQ9_", "COV"))}
    return {**kept, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}


class Process:
    """A server that can be killed, spoken to line by line as the older protocol has it."""

    def __init__(self, process):
        self._process = process
        self._numbers = iter(range(1_000_000))

    @classmethod
    async def start(cls, environment, *options):
        process = await asyncio.create_subprocess_exec(
            MQ9_MCP,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=16 * 1024 * 1024,
        )
        one = cls(process)
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        await one.ask("initialize", hello)
        await one.say({"method": "notifications/initialized"})
        return one

    async def say(self, message):
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await self._process.stdin.drain()

    async def ask(self, method, params):
        number = next(self._numbers)
        await self.say({"id": number, "method": method, "params": params})
        while True:
            line = await asyncio.wait_for(self._process.stdout.readline(), TIMEOUT_S)
            assert line, "the server has ended"
            answer = json.loads(line)
            if answer.get("id") == number:
                return answer["result"]

    async def do(self, tool, **arguments):
        result = await self.ask("tools/call", {"name": f"mq9_{tool}", "arguments": arguments})
        assert not result["isError"], result
        return result["structuredContent"]

    async def kill(self):
        self._process.kill()
        await self._process.communicate()

    async def signal(self, *names):
        """Send it signals, its input being open; its exit code."""
        for name in names:
            self._process.send_signal(getattr(signal, name))
        return await asyncio.wait_for(self._process.wait(), TIMEOUT_S)

    async def end(self):
        """Close its input, as a host does; its exit code."""
        self._process.stdin.close()
        return await asyncio.wait_for(self._process.wait(), TIMEOUT_S)


async def test_two_hosts_write_to_each_other_and_lose_nothing_when_killed(environment):
    claude = await Process.start(environment, "--agent", "Claude-Desktop")
    cursor = await Process.start(environment, "--agent", "cursor", "--lease", "1")
    await claude.do("agent_register", name="Claude-Desktop", capabilities="Writes prose")
    await cursor.do("agent_register", name="cursor", capabilities="Writes code")
    found, *_ = (await claude.do("agent_discover", query="code"))["agents"]
    assert found["untrusted_name"] == "cursor"

    # What is sent while the other is killed waits for it.
    await cursor.kill()
    for number in range(3):
        await claude.do(
            "send_message", mail_address=found["mail_address"], content=f"task {number}"
        )
    await claude.kill()
    cursor = await Process.start(environment, "--agent", "cursor", "--lease", "1")
    assert (await cursor.do("whoami"))["unread"] == "3 unread: call mq9_fetch_messages"

    # What it had taken and not acknowledged when it was killed is delivered again.
    first, *_ = (await cursor.do("fetch_messages", wait_seconds=0))["messages"]
    await cursor.do("ack_messages", msg_id=first["msg_id"])
    await cursor.kill()
    cursor = await Process.start(environment, "--agent", "cursor")
    fetched = await cursor.do("fetch_messages", wait_seconds=10)
    assert [one["untrusted_content"] for one in fetched["messages"]] == ["task 1", "task 2"]
    assert {one["delivery_count"] for one in fetched["messages"]} == {2}
    assert {one["untrusted_envelope"]["reply_to"] for one in fetched["messages"]} == {
        "claude.desktop"
    }
    await cursor.do("ack_messages", msg_id=[one["msg_id"] for one in fetched["messages"]])
    await cursor.do("send_message", mail_address="claude.desktop", content="all done")

    claude = await Process.start(environment, "--agent", "Claude-Desktop")
    waiting = asyncio.create_task(claude.do("fetch_messages", wait_seconds=45))
    assert [one["untrusted_content"] for one in (await waiting)["messages"]] == ["all done"]
    assert (await cursor.do("fetch_messages", wait_seconds=0))["empty"] == "3 already acked"
    assert [await claude.end(), await cursor.end()] == [0, 0]


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
        await two.call_tool("mq9_send_message", {"mail_address": "one", "content": "wake up"})

        [message] = (await waiting).structured_content["messages"]
        assert message["untrusted_content"] == "wake up"
        assert heard == [(5, 45)]
        # The call that was given up took nothing: its group can have the message.
        taken = await one.call_tool("mq9_fetch_messages", {"wait_seconds": 0})
        assert "delivery_count" not in taken.structured_content["messages"][0]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_what_a_window_holds_is_free_when_its_host_ends_it(environment, mode):
    window = StdioServerParameters(command=str(MQ9_MCP), args=["--agent", "desk"], env=environment)

    async with Client(window, mode=mode) as other:
        async with Client(window, mode=mode) as one:
            await one.call_tool("mq9_send_message", {"mail_address": "desk", "content": "x"})
            taken = await one.call_tool("mq9_fetch_messages", {"wait_seconds": 0})
            assert taken.structured_content["leased_seconds"] == 300
            waiting = await other.call_tool("mq9_fetch_messages", {"wait_seconds": 0})
            assert "leased by another consumer" in waiting.structured_content["empty"]

        given_back = await other.call_tool("mq9_fetch_messages", {"wait_seconds": 0})
        [message] = given_back.structured_content["messages"]
        assert message["delivery_count"] == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    ("server", "file"),
    [((), "data/mq9/mq9.db"), (("--server", "sqlite:///~/mq9.db"), "mq9.db")],
    ids=["front", "SDK"],
)
async def test_what_it_holds_is_free_when_a_signal_ends_it(
    environment, tmp_path, name, server, file
):
    one = await Process.start(environment, "--agent", "desk", *server)
    await one.do("send_message", mail_address="desk", content="x")
    taken = await one.do("fetch_messages", wait_seconds=0)
    assert taken["leased_seconds"] == 300
    waiting = {"wait_seconds": 45, "new_only": True}
    params = {"name": "mq9_fetch_messages", "arguments": waiting}
    await one.say({"id": "waiting", "method": "tools/call", "params": params})
    await one.do("whoami")

    assert await one.signal(name) == 0

    async with Mq9Client(f"sqlite:///{tmp_path / file}") as client:
        [message] = await client.fetch("desk", group_name="desk", max_wait_ms=0)
    assert message.delivery_count == 2
