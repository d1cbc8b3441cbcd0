"""The ways to reach a broker, each under a clock that the test moves."""

import asyncio
import gc
import logging
import os
import re
import signal
import socket
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

import coverage
import loopback
import nats
import orjson
import pytest
from direct import client_of
from gateways import Gateways
from hosted import Hosted, TrustingGuard
from nats_server import NatsCluster
from raw import RawClient, publish

from mq9 import Mq9Client
from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.discovery.embeddings import WordLlamaEmbeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.protocol.reserved import Reserved
from mq9.server.server import Server
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.testing import FakeBroker, ManualClock

_MEANINGS = WordLlamaEmbeddings()
_OF_TERMINALS = {one for one in signal.Signals if one.name in {"SIGINT", "SIGHUP"}}


@pytest.fixture(scope="session")
def model():
    """The model that finds by meaning is loaded: brokers wait for one for 4 s, of real time."""
    _MEANINGS.embed_query("loads it")


@pytest.fixture(scope="session", autouse=True)
def _key_of_the_tests():
    """Keep the agents of the tests from making a key for those of this user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MQ9_AGENT_KEY", "the key of the agents in the tests")
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_for_programs():
    """Let programs that tests start heed what a shell in the background or nohup has this ignore.

    A signal that is ignored is ignored by the programs that are started, too; one with a handler
    is not.
    """
    for number in signal.valid_signals() & _OF_TERMINALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Undo what a program that was called in this process did to its log."""
    root, ours = logging.getLogger(), logging.getLogger("mq9")
    before = root.level, ours.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = before[2]


@pytest.fixture(scope="session")
def scale():
    """How large the long tests are: 1 in every run, 10 in `make soak`."""
    return int(os.environ.get("MQ9_TEST_SCALE", "1"))


class Way:
    """One way to reach a broker.

    What it can do is said in `capabilities`; a test may be skipped for want of one, never for the
    kind of way.
    """

    # What it is able to: to ask with any subject, and to meet the same broker each time.
    capabilities = frozenset({"any subject", "one broker"})

    def __init__(self, broker, clock, stack, database, agents=None):
        self.broker = broker
        self.clock = clock
        self._stack = stack
        self._database = database
        self._clients = 0
        self._reserved = None if agents is None else Reserved(agents)

    def configure(self, agents):
        """Configure agents, or with None no longer any, for the clients that connect from now."""
        self._reserved = None if agents is None else Reserved(agents)

    async def client(self, *, agent=None, role=None, **options):
        """Return a connected client, closed with the test."""
        return await self._stack.enter_async_context(await self._make(agent, role, options))

    async def _make(self, agent, role, options):
        self._clients += 1
        session = BrokerSession(f"session.{self._clients}", agent, self._reserved, role=role)
        return client_of(self.broker, session, **options)

    async def begin(self, call):
        """Start a call and return its task, once it waits for the clock or is done."""
        task = asyncio.create_task(call)
        await self.clock.advance(0)
        return task

    def can_say(self, verb, headers):
        """Tell whether such a request can be made at all."""
        return True

    async def ask(self, verb, body=b"", *headers, **who):
        """Send a request as it stands, and return its reply as parsed JSON.

        `body` is bytes as they are, or anything else as JSON; `who` is as for `handle`.
        """
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        reply = await self.handle(f"$mq9.AI.{verb}", payload, headers, **who)
        return None if reply is None else orjson.loads(reply)

    async def handle(
        self,
        subject,
        payload,
        headers,
        *,
        consumer="session.0",
        agent=None,
        role=None,
        wants_reply=True,
    ):
        """Send a request and return the bytes of its reply; None when none is wanted.

        `consumer` names the connection that asks; `agent` and `role`, whom it has authenticated as.
        """
        session = BrokerSession(consumer, agent, self._reserved, role=role)
        reply = await self.broker.handle(
            PublishedRequest(subject, payload, headers, session, wants_reply)
        )
        return reply if wants_reply else None

    def refuse_mailboxes(self):
        """Let the broker's database take no mailbox any more."""
        for database in self._databases():
            database.execute(
                "CREATE TRIGGER refused BEFORE INSERT ON mailboxes"
                " BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
            database.commit()

    def _databases(self):
        return [self._database]

    def state(self):
        """Return all that the broker holds, for comparison, but for what it makes when asked."""
        tables = [
            name
            for (name,) in self._database.execute(
                "SELECT name FROM sqlite_master WHERE type='table'"
            )
            if not name.startswith(("agents_text_", "conversation")) and name != "checkpoints"
        ]
        return {
            name: sorted(map(repr, self._database.execute(f"SELECT * FROM {name}")))  # noqa: S608  # our tables
            for name in tables
        }


class ClusterWay(Way):
    """Two gateways of a cluster, to which requests go in turn."""

    capabilities = frozenset({"any subject"})

    def _databases(self):
        return self.broker.databases

    def state(self):
        """Return all that the gateway holds which has come further, but for how far it has come.

        A request that is refused has its place in the log.
        """
        self._database = self.broker.newest_database
        state = super().state()
        del state["state"]
        return state


class TcpWay(Way):
    """A broker behind a NATS server of ours, on a socket."""

    capabilities = frozenset({"one broker"})

    def __init__(self, broker, clock, stack, database, limits, agents=None):
        super().__init__(broker, clock, stack, database)
        self._guard = TrustingGuard()
        # Its own clock stands still: pings and sweeps are not what these tests are about.
        self._server = Server(
            broker, max_payload=limits.max_payload, guard=self._guard, timers=ManualClock()
        )
        self.configure(agents)
        self._started = False
        self._raw_clients = {}
        self._nats_clients = {}

    def configure(self, agents):
        super().configure(agents)
        self._guard.reserved = self._reserved

    async def _url(self, agent=None, role=None):
        if not self._started:
            self._started = True
            await self._server.start(port=0)
            self._stack.push_async_callback(self._server.close)
        host, port = self._server.address
        user = _user(agent, role)
        shown = f"{quote(user['user'], safe='')}:{user['pass']}@" if user else ""
        return f"nats://{shown}{host}:{port}"

    def can_say(self, verb, headers):
        """A line is a line, and its words are apart by spaces."""
        return (
            verb.isprintable()
            and " " not in verb
            and all(not {"\r", "\n"} & set(value) for _, value in headers)
        )

    async def _make(self, agent, role, options):
        return Mq9Client(await self._url(agent, role), **{"clock": self.clock, **options})

    async def handle(
        self,
        subject,
        payload,
        headers,
        *,
        consumer="session.0",
        agent=None,
        role=None,
        wants_reply=True,
    ):
        await self._url()
        if not wants_reply:
            raw = await self._raw_client(consumer, agent, role)
            await raw.send_all(publish(subject, payload, headers=headers) + b"PING\r\n")
            assert await raw.frame() == ("PONG",)
            return None
        if not _nats_py_can_say(subject, headers):
            raw = await self._raw_client(consumer, agent, role)
            return await raw.ask(subject, payload, headers)
        client = await self._nats_client(consumer, agent, role)
        reply = await client.request(subject, payload, timeout=30, headers=dict(headers) or None)
        return reply.data

    async def _nats_client(self, consumer, agent, role):
        if (consumer, agent, role) not in self._nats_clients:
            client = await nats.connect(await self._url(agent, role), allow_reconnect=False)
            self._nats_clients[consumer, agent, role] = client
            self._stack.push_async_callback(client.close)
        return self._nats_clients[consumer, agent, role]

    async def _raw_client(self, consumer, agent, role):
        if (consumer, agent, role) not in self._raw_clients:
            client = await RawClient.connect(self._server.address, **_user(agent, role))
            self._raw_clients[consumer, agent, role] = client
            self._stack.push_async_callback(client.close)
        return self._raw_clients[consumer, agent, role]


def _user(agent, role):
    """Return the credentials by which `TrustingGuard` knows a client."""
    return {"user": agent or "-", "pass": role or "x"} if agent or role else {}


def _nats_py_can_say(subject, headers):
    """Tell whether nats-py sends this as it stands; it refuses some subjects and mends headers."""
    names = [name.lower() for name, _ in headers]
    return (
        len(set(names)) == len(names)
        and all(re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) for name, _ in headers)
        and all(value and value == value.strip() for _, value in headers)
        and re.fullmatch(r"[!-~]+", subject)
        and all(subject.split("."))
    )


# What a file and a socket add to the code that runs is measured in tests of their own.
@pytest.fixture(
    params=[
        "memory",
        *(pytest.param(one, marks=pytest.mark.unmeasured) for one in ("file", "tcp")),
        pytest.param("cluster", marks=[pytest.mark.unmeasured, pytest.mark.slow]),
    ]
)
def way_name(request):
    return request.param


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory):
    """NATS servers for the log of a cluster, as many as the tests were told; else None."""
    size = int(os.environ.get("MQ9_TEST_NATS_SERVERS", "0"))
    if not size:
        yield None
        return
    with NatsCluster(tmp_path_factory.mktemp("nats"), size) as cluster:
        yield cluster


@pytest.fixture
async def open_way(way_name, request, nats_cluster):
    """Open this way to a broker, with limits and configured agents of the test's choice."""
    async with AsyncExitStack() as stack:

        def open_one(limits=Limits(), agents=None, **options):
            clock = ManualClock(in_transit=loopback.in_transit if way_name == "tcp" else None)
            if way_name == "cluster":
                directory = Path(mkdtemp(dir=request.getfixturevalue("tmp_path")))
                cluster = Gateways(directory, clock, limits, options, nats_cluster)
                stack.push_async_callback(cluster.close)
                return ClusterWay(cluster, clock, stack, None, agents)
            if way_name == "file":
                file = request.getfixturevalue("tmp_path") / "mq9.db"
                broker = EmbeddedBroker.on_file(
                    file, clock, limits=limits, embeddings=_MEANINGS, **options
                )
                database = stack.enter_context(closing(sqlite3.connect(file)))
            else:
                database = store.open_memory()
                broker = EmbeddedBroker(
                    lambda steady, _: InlineBackend(
                        database, steady, limits, AGENT_INDEX, **options
                    ),
                    clock,
                    embeddings=_MEANINGS,
                )
            stack.push_async_callback(broker.close)
            if way_name == "tcp":
                return TcpWay(broker, clock, stack, database, limits, agents)
            return Way(broker, clock, stack, database, agents)

        yield open_one


@pytest.fixture
async def way(open_way):
    return open_way()


@pytest.fixture
def broker(mq9_broker):
    """A fake broker, whose clock jumps when nothing can run."""
    return mq9_broker


@pytest.fixture
def still_broker():
    """A broker whose clock only the test moves, however long the network takes."""
    with FakeBroker(autojump=False) as broker:
        yield broker


@pytest.fixture
async def client(way):
    return await way.client()


@pytest.fixture
async def inbox(client):
    """A mailbox to play with."""
    return await client.mailbox_create(name="inbox")


@pytest.fixture
async def open_hosted():
    """Open servers with options of the test's choice."""
    async with AsyncExitStack() as stack:

        async def open_one(**options):
            hosted = Hosted(stack, **options)
            stack.push_async_callback(hosted.broker.close)
            await hosted.server.start(port=0)
            stack.push_async_callback(hosted.server.close)
            return hosted

        yield open_one


@pytest.fixture
async def hosted(open_hosted):
    return await open_hosted()


@pytest.fixture
def dead_port():
    """A port that refuses connections, and stays so."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Search no garbage in what thousands of tests are made of, neither now nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Begin with the long ones, so that at the end no processor waits for one of them."""
    items.sort(key=lambda item: not (_is_unmeasured(item) and _is_marked(item, "soak", "programs")))


def _is_unmeasured(item):
    return _is_marked(item, "soak", "unmeasured")


def _is_marked(item, *markers):
    return any(map(item.get_closest_marker, markers))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Measure no coverage, which takes half as long again, where other tests run the same code."""
    measuring = coverage.Coverage.current()
    if measuring is None or not _is_unmeasured(item):
        return (yield)
    measuring.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # nor in programs that it starts
        try:
            return (yield)
        finally:
            measuring.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Keep what a test printed fit for UTF-8, in which one process reports to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
