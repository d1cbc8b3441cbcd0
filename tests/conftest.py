"""The ways to reach a broker, each under a clock that the test moves."""

import asyncio
import os
import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from mq9 import Mq9Client
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Request, Session
from mq9.clock import ManualClock
from mq9.engine.commands import Limits
from mq9.transport.direct import DirectTransport


@pytest.fixture(scope="session")
def scale():
    """How large the long tests are: 1 in every run, 10 in `make soak`."""
    return int(os.environ.get("MQ9_TEST_SCALE", "1"))


@dataclass
class Way:
    """One way to reach a broker.

    What it can do is said in `capabilities`; a test may be skipped for want of one, never by
    `name`.
    """

    name: str
    broker: EmbeddedBroker
    clock: ManualClock
    capabilities: frozenset[str]
    _stack: AsyncExitStack
    _file: Path | None = None
    _clients: int = field(default=0)

    async def client(self, *, agent=None, **options):
        """Return a connected client, closed with the test."""
        self._clients += 1

        async def release():
            """The broker outlives its clients."""

        session = Session(f"session.{self._clients}", agent)
        client = Mq9Client(transport=DirectTransport(self.broker, session, release), **options)
        return await self._stack.enter_async_context(client)

    async def begin(self, call):
        """Start a call and return its task, once it waits for the clock or is done."""
        task = asyncio.create_task(call)
        await self.clock.advance(0)
        return task

    async def ask(
        self, verb, body=b"", *headers, consumer="session.0", agent=None, wants_reply=True
    ):
        """Send a request as it stands, and return its reply as parsed JSON.

        `body` is bytes as they are, or anything else as JSON.
        """
        reply = await self.broker.handle(
            Request(
                f"$mq9.AI.{verb}",
                body if isinstance(body, bytes) else orjson.dumps(body),
                headers,
                Session(consumer, agent),
                wants_reply,
            )
        )
        return orjson.loads(reply)

    def state(self):
        """Return all that the broker holds, for comparison."""
        if self._file is None:
            return _rows(self.broker._backend._connection)
        connection = sqlite3.connect(self._file)
        try:
            return _rows(connection)
        finally:
            connection.close()


def _rows(connection):
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        if not name.startswith("agents_text_")
    ]
    return {
        name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}")))  # noqa: S608  # our tables
        for name in tables
    }


def make_broker(name, directory, limits=Limits()):
    """Return a broker of that kind and its clock."""
    if name == "memory":
        clock = ManualClock()
        return EmbeddedBroker.in_memory(clock, limits=limits), clock
    clock = ManualClock(quiet=0.01)
    return EmbeddedBroker.on_file(directory / "mq9.db", clock, limits=limits), clock


@pytest.fixture(params=["memory", "file"])
def way_name(request):
    return request.param


@pytest.fixture
async def open_way(way_name, tmp_path):
    """Open this way to a broker, with limits of the test's choice."""
    async with AsyncExitStack() as stack:

        def open_one(limits=Limits()):
            broker, clock = make_broker(way_name, tmp_path, limits)
            stack.push_async_callback(broker.close)
            file = tmp_path / "mq9.db" if way_name == "file" else None
            return Way(way_name, broker, clock, frozenset({"manual clock"}), stack, file)

        yield open_one


@pytest.fixture
async def way(open_way):
    return open_way()


@pytest.fixture
async def client(way):
    return await way.client()


@pytest.fixture
async def inbox(client):
    """A mailbox to play with."""
    return await client.mailbox_create(name="inbox")
