"""A gateway's process: started, asked, and killed at any instant."""

import asyncio
import contextvars

from mq9.broker.asked import BrokerSession
from mq9.broker.batches import SendBatches
from mq9.broker.observer import SILENT
from mq9.broker.waiters import Waiters
from mq9.clock import SteadyClock
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.joining import join
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Replica
from mq9.engine.commands import Limits, PlainSend
from mq9.errors import Mq9Error
from mq9.storage.readers import Readers

from .time import SimulatedClock, SimulatedThread

LIMITS = Limits(max_messages=30, max_payload=100)
_MAX_RECORD = 4_096 + 2_000
_MAX_STEPS = 10_000_000

_running = contextvars.ContextVar("process", default=None)


def make_task(loop, coroutine, **options):
    """Make a task that ends with the process in which it was begun."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = _running.get() if context is None else context.get(_running)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
    return task


class Process:
    """A gateway from its start to its end.

    Args:
        world: The cluster.
        path: The copy of the state.
        name: Of the gateway; of no other one.
        wall_ms: What its clock shows when time begins.

    Attributes:
        tasks: What runs in it.
        steady: Tells what time it is for the log; None until it has opened the copy.
        backend: What answers; None until it has opened the copy.
        batches: SENDs that wait for the same record.
        is_serving: Whether it may be asked.
        is_alive: Whether it was neither killed nor closed.
    """

    def __init__(self, world, path, name, wall_ms):
        self._world = world
        self._loop = world.loop
        self._dice = world.dice
        self.path = path
        self.name = name
        self.clock = SimulatedClock(world.loop, wall_ms)
        self.tasks = {}
        self.connection = world.servers.connect()
        self.waiters = Waiters(lambda _: None)
        self.backend = None
        self.steady = None
        self.is_serving = False
        self.is_alive = True
        self._has_failed = False
        self._threads = []
        self._context = contextvars.copy_context()
        self._context.run(_running.set, self)
        self.spawn(self._open())

    def spawn(self, coroutine):
        """Run something in the process."""
        return self._loop.create_task(coroutine, context=self._context)

    async def _open(self):
        try:
            await self._join()
        except Mq9Error:
            self._has_failed = True

    async def _join(self):
        log = JetStreamLog(self.connection, self.clock)
        log_clock = LogClock(self.clock, (await log.last()).now_ms)
        self.steady = SteadyClock(log_clock)
        await join(
            self.path,
            log,
            self._world.snapshots,
            self._open_file,
            lambda replica: self._make(log, replica, log_clock),
            LIMITS,
        )
        self.is_serving = True

    def _open_file(self, path):
        return Replica(path, None, timer=self._timer)

    def _make(self, log, replica, log_clock):
        self._readers = Readers(
            self.path, _MAX_STEPS, timer=lambda: 0.0, make_threads=self._make_threads
        )
        self.replica = replica
        self.backend = ClusterBackend(
            log,
            replica,
            log_clock,
            self.steady,
            self.waiters.notify,
            name=self.name,
            max_record=_MAX_RECORD,
            timers=self.clock,
            readers=self._readers,
            thread=self._make_threads(1, ""),
        )
        self.backend.on_verified = self._note_digest
        self.batches = SendBatches(self.backend, self.waiters, SILENT)
        return self.backend

    def _note_digest(self, applied, digest):
        self._world.history.note_digest(applied.sequence, digest)

    async def send(self, call, client):
        """Carry out a SEND together with others of its client, as a service does."""
        answered = self._loop.create_future()
        send = PlainSend(call.request, None, call.payload, answered)
        self.batches.begin(BrokerSession(client), call.address, [send], _answer)
        answer = await answered
        if isinstance(answer, Mq9Error):
            raise answer
        return answer

    def look(self):
        """Tell whether it answers nothing, and is to be started again."""
        failure = self.backend.failure if self.is_serving else None
        assert failure is None or self.backend.is_behind, failure
        return self._has_failed or failure is not None

    def _timer(self):
        """Give the seconds from some instant: now and then a commit has taken long."""
        return self._dice.choice((0.0, 0.0, 0.0, 1.0))

    def _make_threads(self, _count, _name):
        self._threads.append(SimulatedThread(self._loop, self._takes))
        return self._threads[-1]

    def _takes(self):
        self._world.step()
        slow = self._world.servers.happens(0.02)
        return self._dice.uniform(0, 0.5) if slow else self._dice.uniform(0, 0.001)

    def kill(self):
        """End at once: what was committed is in the file, and what was sent is on its way."""
        self.is_alive = self.is_serving = False
        self.connection.close()
        for thread in self._threads:
            thread.kill()
        for task in list(self.tasks):
            task.cancel()
        if self.backend is not None:
            with self._readers:
                self._readers.close_taken()
            self.replica.close()

    async def close(self):
        """End as a gateway does that is told to."""
        self.is_serving = self.is_alive = False
        await self.backend.close()
        self.connection.close()


def _answer(sends, answers):
    for send, answer in zip(sends, answers, strict=True):
        if not send.origin.done():
            send.origin.set_result(answer)
