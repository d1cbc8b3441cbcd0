"""nats-py is let in, refused, cut off and comes back on ours as on a nats-server."""

import asyncio

import nats
import pytest
from nats.aio.client import Client
from nats_server import NatsServer
from waiting import until

from mq9.clock import SystemClock
from mq9.server.users import User, Users

pytestmark = pytest.mark.programs

GUARDED = "authorization { users: [{user: ada, password: lovelace}] }"


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

    def __init__(self, directory, config):
        self._server = NatsServer(directory, config=config)

    @property
    def port(self):
        return self._server.port

    async def start(self):
        await asyncio.to_thread(self._server.start)

    async def kill(self):
        await asyncio.to_thread(self._server.kill)


@pytest.fixture
async def pair(tmp_path, open_hosted):
    """Start a nats-server and a server of ours, open or for users only."""
    started = []

    async def start(*, guarded=False):
        guard = Users([User("lovelace", "ada")]) if guarded else None
        theirs = Theirs(tmp_path, GUARDED if guarded else "")
        await theirs.start()
        started.append(theirs)
        return theirs, Ours(await open_hosted(clock=SystemClock(), guard=guard))

    yield start
    for server in started:
        await server.kill()


class Events:
    """What happens to a connection of nats-py."""

    def __init__(self):
        self.seen = []

    def note(self, name):
        async def noted(*error):
            self.seen.append((name, *map(str, error)))

        return noted

    @property
    def callbacks(self):
        return {
            "error_cb": self.note("error"),
            "disconnected_cb": self.note("disconnected"),
            "reconnected_cb": self.note("reconnected"),
            "closed_cb": self.note("closed"),
        }


@pytest.mark.parametrize(
    "credentials",
    [
        {"user": "ada", "password": "lovelace"},
        {"user": "ada", "password": "wrong"},
        {"user": "eve", "password": "lovelace"},
        {"token": "lovelace"},
        {},
    ],
)
async def test_who_is_let_in_and_what_the_others_are_told_is_the_same(pair, credentials):
    outcomes = []
    for server in await pair(guarded=True):
        events = Events()
        client = Client()
        try:
            await client.connect(
                f"nats://127.0.0.1:{server.port}",
                allow_reconnect=False,
                error_cb=events.note("error"),
                **credentials,
            )
        except nats.errors.Error as error:
            # What follows may be the end of the connection, or that TCP has been reset.
            outcomes.append((type(error).__name__, str(error), events.seen[:1]))
        else:
            outcomes.append(("let in", client.is_connected, events.seen))
        finally:
            await client.close()
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0][0] == "let in") == (
        credentials.get("password") == "lovelace" and credentials["user"] == "ada"
    )


async def test_a_server_that_comes_back_finds_its_subscriptions_again(pair):
    outcomes = []
    for server in await pair():
        events = Events()
        client = await nats.connect(
            f"nats://127.0.0.1:{server.port}",
            reconnect_time_wait=0.02,
            max_reconnect_attempts=-1,
            **{**events.callbacks, "error_cb": None},
        )
        subscription = await client.subscribe("a.*", queue="q")
        limited = await client.subscribe("b")
        await limited.unsubscribe(limit=2)
        await client.publish("b", b"1")
        await client.flush()
        await client.flush()
        await server.kill()
        await until(lambda seen=events.seen: ("disconnected",) in seen)
        await client.publish("a.b", b"while it was away")
        await server.start()
        await until(lambda seen=events.seen: ("reconnected",) in seen)
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
