"""Two gateways on one log, to which requests go in turn."""

import asyncio
import itertools
import secrets
import sqlite3

import nats
from jetstream_log import LogOfTheTest
from memory_log import MemoryLog

from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Replica
from mq9.discovery.embeddings import WordLlamaEmbeddings
from mq9.discovery.index import AGENT_INDEX

_MEANINGS = WordLlamaEmbeddings()


class Gateways:
    """Answers as one broker does.

    Args:
        directory: Where the gateways keep their copies of the state.
        clock: Tells the time.
        limits: What the broker takes.
        options: Further arguments of the backends.
        servers: A cluster of NATS servers that has the log; None for a log in memory.
    """

    def __init__(self, directory, clock, limits, options, servers=None):
        self.clock = clock
        self._servers = servers
        self._stream = f"T{secrets.token_hex(8)}"
        self._connections = []
        self._log = None if servers else MemoryLog(clock)
        self._limits = limits
        self._backends = []
        self._brokers = [self._open(directory, name, options) for name in ("one", "two")]
        self._turns = itertools.cycle(self._brokers)
        self._opening = None
        self.databases = [sqlite3.connect(directory / f"{name}.db") for name in ("one", "two")]

    def _open(self, directory, name, options):
        log_clock = LogClock(self.clock, self.clock.now_ms())

        def make(steady, on_news):
            replica = Replica(directory / f"{name}.db", AGENT_INDEX)
            log = self._log or self._log_on_servers()
            backend = ClusterBackend(
                log, replica, log_clock, steady, on_news, name=name, max_record=8 << 20, **options
            )
            self._backends.append(backend)
            return backend

        return EmbeddedBroker(make, log_clock, embeddings=_MEANINGS)

    def _log_on_servers(self):
        self._connections.append(nats.NATS())
        return LogOfTheTest(self._connections[-1], SystemClock(), self._stream, self.clock)

    async def _begin(self):
        for connection in self._connections:
            await connection.connect(self._servers.urls)
        if self._servers:
            first, *_ = logs = [backend.log for backend in self._backends]
            await first.create(len(self._servers.servers), "test")
            for log in logs:
                await log.open()
        for backend in self._backends:
            await backend.open(self._limits)

    async def _next(self):
        broker = next(self._turns)
        if self._opening is None:
            self._opening = asyncio.create_task(self._begin())
        await asyncio.shield(self._opening)
        return broker

    async def handle(self, request):
        return await (await self._next()).handle(request)

    async def carry_out(self, request):
        return await (await self._next()).carry_out(request)

    async def claim(self, reserved):
        return await (await self._next()).claim(reserved)

    def feed(self, *arguments):
        return next(self._turns).feed(*arguments)

    def stop_waiting(self):
        for broker in self._brokers:
            broker.stop_waiting()

    @property
    def waiting(self):
        return sum(broker.waiting for broker in self._brokers)

    @property
    def newest_database(self):
        """The copy of the state, of the two, that has come further."""
        return max(
            self.databases, key=lambda one: one.execute("SELECT applied FROM state").fetchone()
        )

    async def close(self):
        for broker in self._brokers:
            await broker.close()
        for database in self.databases:
            database.close()
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if self._connections:
            await self._connections[0].jetstream().delete_stream(self._stream)
        for connection in self._connections:
            await connection.close()
