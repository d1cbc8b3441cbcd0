"""nats-py is cut off and comes back on ours as on a nats-server."""

import asyncio

import nats
import pytest
from nats_server import NatsServer
from waiting import until

from mq9.clock import SystemClock

pytestmark = pytest.mark.programs


class Ours:
    """A server of ours that keeps its port when it is started again."""

    def __init__(self, hosted):
        self._server = hosted.server
        self.port = hosted.server.address[1]

    async def start(self):
        await self._server.start(port=self.port)

    async def kill(self):
        await self._server.close()


class Theirs:
    """A nats-server that keeps its port when it is started again."""

    def __init__(self, directory):
        self._server = NatsServer(directory)

    @property
    def port(self):
        return self._server.port

    async def start(self):
        await asyncio.to_thread(self._server.start)

    async def kill(self):
        await asyncio.to_thread(self._server.kill)


@pytest.fixture
async def pair(tmp_path, open_hosted):
    """A nats-server and a server of ours."""
    theirs = Theirs(tmp_path)
    await theirs.start()
    yield theirs, Ours(await open_hosted(clock=SystemClock()))
    await theirs.kill()


class Events:
    """What happens to a connection of nats-py."""

    def __init__(self):
        self.seen = []

    def note(self, name):
        async def noted():
            self.seen.append(name)

        return noted

    @property
    def callbacks(self):
        names = ("disconnected", "reconnected", "closed")
        return {f"{name}_cb": self.note(name) for name in names}


async def test_a_server_that_comes_back_finds_its_subscriptions_again(pair):
    outcomes = []
    for server in pair:
        events = Events()
        client = await nats.connect(
            f"nats://127.0.0.1:{server.port}",
            reconnect_time_wait=0.02,
            max_reconnect_attempts=-1,
            **events.callbacks,
        )
        subscription = await client.subscribe("a.*", queue="q")
        limited = await client.subscribe("b")
        await limited.unsubscribe(limit=2)
        await client.publish("b", b"1")
        await client.flush()
        await client.flush()
        await server.kill()
        await until(lambda seen=events.seen: "disconnected" in seen)
        await client.publish("a.b", b"while it was away")
        await server.start()
        await until(lambda seen=events.seen: "reconnected" in seen)
        for number in range(3):
            await client.publish("b", b"%d" % number)
        heard = (await subscription.next_msg(timeout=20)).data
        await client.flush()
        await client.flush()
        outcomes.append((heard, limited.pending_msgs, client.is_connected))
        await client.close()
        outcomes[-1] += (events.seen,)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == b"while it was away"
