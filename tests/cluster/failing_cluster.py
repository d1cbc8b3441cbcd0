"""Gateways in simulated time, on a log in memory that fails as a test says."""

import asyncio
import functools
import itertools

from calls import call
from memory_log import MemoryLog

from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SteadyClock
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Replica
from mq9.engine.commands import Limits
from mq9.errors import OutcomeUnknown, Unavailable
from mq9.protocol import requests
from mq9.storage.readers import Readers

from .simulation.time import SimulatedClock, SimulatedLoop, SimulatedThread

TRYING_S = 20
_START_MS = 1_700_000_000_000


class FailingLog(MemoryLog):
    """A log in memory.

    Attributes:
        is_unreachable: Whether what is appended or asked for does not come there.
        loses_acks: Whether what is appended comes there, and nobody says so.
        is_slow: Whether it takes some time until it has what is appended.
        delay_s: How long it takes until it has what is appended.
        is_late: Whether it has what is appended only after that was given up.
        late_s: How long after.
        is_asked_late: Whether it takes some time until it is asked how far it has come.
        damages: Whether it stores something else than what is appended.
        damages_heard: Whether something else is heard of.
        tells_late: Whether it takes some time until it says that it has what is appended.
        error: The error of each append, or None.
        most_at_once: The most records that were appended at the same time.
    """

    is_unreachable = False
    loses_acks = False
    is_slow = False
    delay_s = 0
    is_late = False
    late_s = 0.5
    is_asked_late = False
    damages = False
    damages_heard = False
    tells_late = False
    error = None
    most_at_once = 0
    _at_once = 0

    async def append(self, data, record_id):
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._append(data, record_id)
        finally:
            self._at_once -= 1

    async def _append(self, data, record_id):
        if self.damages:
            data = b"damaged"
        if self.error is not None:
            raise self.error
        if self.is_late:
            self._late = asyncio.create_task(self._store_late(data, record_id))
            raise OutcomeUnknown("the outcome is unknown")
        is_lost = self.is_unreachable
        if delay_s := 0.5 if self.is_slow else self.delay_s:
            await asyncio.sleep(delay_s)
        sequence = None if is_lost else await super().append(data, record_id)
        if self.tells_late:
            await asyncio.sleep(0.5)
        if is_lost or self.loses_acks:
            await asyncio.sleep(TRYING_S)
            raise OutcomeUnknown("the outcome is unknown")
        return sequence

    async def follow(self, on_logged):
        def hear(logged):
            on_logged(logged._replace(data=b"damaged") if self.damages_heard else logged)

        return await super().follow(hear)

    async def _store_late(self, data, record_id):
        await asyncio.sleep(self.late_s)
        await super().append(data, record_id)

    async def last(self):
        if self.is_asked_late:
            await asyncio.sleep(0.5)
        last = await super().last()
        if self.is_unreachable:
            await asyncio.sleep(TRYING_S)
            raise Unavailable("the log did not answer")
        return last


class Cluster:
    """Gateways on one log, in simulated time.

    Attributes:
        log: The log, whose clock is right.
        backend: A gateway, with the mailbox `box`.
        max_record: The bytes that the log takes at once.
    """

    max_record = 1 << 20

    def __init__(self, directory):
        self.directory = directory
        self._clock = SimulatedClock(asyncio.get_running_loop(), _START_MS)
        self._names = itertools.count(1)
        self.log = FailingLog(self._clock)

    def set_clock(self, seconds):
        """Set the clock of the log forward."""
        self._clock.wall_ms += seconds * 1000

    async def open(self):
        """Open a gateway."""
        log_clock = await self._log_clock(self._clock)
        backend = self._make(log_clock, SteadyClock(log_clock), lambda _: None)
        await backend.open(Limits())
        return backend

    async def open_broker(self, wrong_ms):
        """Open a broker on a gateway, on a machine whose clock is so much ahead."""
        clock = SimulatedClock(asyncio.get_running_loop(), _START_MS + wrong_ms)
        log_clock = await self._log_clock(clock)
        made = []

        def make(steady, on_news):
            made.append(self._make(log_clock, steady, on_news))
            return made[0]

        broker = EmbeddedBroker(make, log_clock)
        await made[0].open(None)
        return broker

    async def _log_clock(self, clock):
        return LogClock(clock, (await self.log.last()).now_ms)

    def _make(self, log_clock, steady, on_news):
        name = f"{next(self._names)}"
        path = self.directory / f"{name}.db"
        return ClusterBackend(
            self.log,
            Replica(path, None),
            log_clock,
            steady,
            on_news,
            name=name,
            max_record=self.max_record,
            timers=self._clock,
            readers=Readers(path, make_threads=_threads),
            thread=_threads(1, "replica"),
        )


def _threads(_count, _name):
    return SimulatedThread(asyncio.get_running_loop(), lambda: 0.001)


def in_simulated_time(test):
    """Run a test where time passes only while everybody waits."""

    async def begin(directory):
        cluster = Cluster(directory)
        cluster.backend = await cluster.open()
        await cluster.backend.run(call(requests.CreateMailbox))
        await test(cluster)
        await cluster.backend.close()

    @functools.wraps(test, assigned=("__name__", "__doc__", "__module__"))
    def run(tmp_path):
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            runner.run(begin(tmp_path))

    del run.__wrapped__  # whose arguments are no fixtures
    return run


async def begun(work):
    """Begin something, and let it come as far as it does at once."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0.1)
    return task


def send(payload=b"m", **fields):
    return call(requests.Send, payload=payload, **fields)


def fetch(consumer="one", **fields):
    return call(requests.Fetch, group_name="g", consumer=consumer, **fields)
