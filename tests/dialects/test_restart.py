"""Subscriptions across the end of a server, on the file that the next one opens."""

import asyncio
import signal
from contextlib import AsyncExitStack

import orjson
import pytest
from raw import RawClient
from serving import Serving

from .hearing import PONG, ROOT

pytestmark = pytest.mark.programs

BOX = f"{ROOT}MAILBOX.MSG.box"
STORED = [str(number) for number in range(150)]


class Served:
    """A server that may be started again, and clients that are closed with the test."""

    def __init__(self, serving, stack):
        self._serving = serving
        self._stack = stack

    async def restart(self, how):
        """End it by a signal, and start it again."""
        self._serving.stop(how)
        await self._serving.ended()
        await asyncio.to_thread(self._serving.start)

    async def connected(self):
        """Return a client."""
        client = await RawClient.connect(("127.0.0.1", self._serving.port))
        return await self._stack.enter_async_context(client)

    async def subscribed(self, queue=""):
        """Return a client that is subscribed to the mailbox."""
        client = await self.connected()
        client.send(f"SUB {BOX} {queue} 1\r\n".encode())
        return client


@pytest.fixture
async def served(tmp_path):
    async with (
        AsyncExitStack() as stack,
        Serving(tmp_path, "--data", str(tmp_path / "mq9.db")) as serving,
    ):
        yield Served(serving, stack)


async def ask(client, verb, body=b""):
    reply = orjson.loads(await client.ask(ROOT + verb, body))
    assert reply["error"] == "", reply
    return reply


async def begun(served):
    """Return a client, after it has made the mailbox and sent what is stored."""
    client = await served.connected()
    await ask(client, "MAILBOX.CREATE", b'{"public":true,"name":"box"}')
    for body in STORED:
        await ask(client, "MAILBOX.MSG.box", body.encode())
    return client


async def bodies(client, count):
    return [(await client.frame(30))[3].decode() for _ in range(count)]


async def confirmed(asker, member, queue):
    """Let a member read on, and return when its group has no leases."""
    body = orjson.dumps({"group_name": queue})
    async with asyncio.timeout(30):
        while (await ask(asker, "MAILBOX.STATUS.box", body))["group"]["leased"]:
            member.send(b"PING\r\n")
            assert await member.frame() == ("PONG",)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_what_is_stored_comes_again_and_to_a_group_only_what_it_has_not_had(served, how):
    asker = await begun(served)
    alone, member = await served.subscribed(), await served.subscribed("workers")
    assert await bodies(alone, 150) == STORED
    assert await bodies(member, 150) == STORED
    await confirmed(asker, member, "workers")

    await served.restart(how)

    asker = await served.connected()
    alone, member = await served.subscribed(), await served.subscribed("workers")
    assert await bodies(alone, 150) == STORED
    await ask(asker, "MAILBOX.MSG.box", b"new")
    assert await bodies(alone, 1) == ["new"]
    assert await bodies(member, 1) == ["new"]  # the first that it is sent
    await confirmed(asker, member, "workers")
    member.send(b"PING\r\n")
    assert await member.frame() == PONG


async def test_what_a_group_was_not_sent_is_there_after_the_server_was_killed(served):
    await begun(served)
    member = await served.subscribed("workers")
    heard = await bodies(member, 20)

    await served.restart(signal.SIGKILL)

    heard += [frame[3].decode() for frame in await member.ended() if frame[0] == "HMSG"]
    assert heard == STORED[: len(heard)]
    asker = await served.connected()
    status = await ask(asker, "MAILBOX.STATUS.box", b'{"group_name":"workers"}')
    group = status["group"]
    leased = sum(lease["count"] for lease in group["leased"])
    assert group["acked"] <= len(heard)  # and what is leased comes again
    assert group["acked"] + leased + group["pending"]["normal"] == 150
