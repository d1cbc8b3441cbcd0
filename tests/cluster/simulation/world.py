"""A cluster, its clients and what goes wrong, all decided by a seed."""

import asyncio
import contextlib
import itertools
import random
import shutil
import tempfile
from pathlib import Path

from mq9.cluster import copy_on_disk
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.records import LogRecord, encode
from mq9.engine.commands import Limits
from mq9.errors import Mq9Error
from mq9.protocol import requests

from .clients import STEADY, TIMED, Client
from .history import GROUPS, History
from .process import Process, make_task
from .servers import Servers
from .time import SimulatedClock, SimulatedLoop

STEPS = 1_500  # of one run
_START_MS = 1_700_000_000_400
_BOUND_S = 120  # within which everything is answered when nothing goes wrong any more
_CLOSING_S = 15
_ELECTING_S = 4.0  # at least, that servers take to elect another leader than one that is cut off
_MOST_GATEWAYS = 4


class Snapshots:
    """The newest two snapshots."""

    def __init__(self):
        self._taken = []

    def put(self, snapshot, path):
        """Keep one; return the oldest that is kept once there are two."""
        self._taken = sorted([*self._taken, (snapshot, path)])[-2:]
        return self._taken[0][0] if len(self._taken) > 1 else None

    async def all(self):
        return [snapshot for snapshot, _ in reversed(self._taken)]

    async def fetch(self, snapshot, path):
        shutil.copy(dict(self._taken)[snapshot], path)


class World:
    """One run of the simulation.

    Args:
        seed: Decides everything.
        steps: After how many there is peace.
        directory: For the copies of the state.
        loop: Whose time passes.
        trace: Called with a line for each thing that happens.

    Attributes:
        steps: How many there were: requests, what connections bring, what threads do.
    """

    def __init__(self, seed, steps, directory, loop, trace):
        self.dice = random.Random(seed)
        self.loop = loop
        self._most_steps = steps
        self._directory = directory
        self.steps = 0
        self._tokens = itertools.count(1)
        self._names = itertools.count(1)
        self._trace = trace
        self.history = History(Limits(), STEADY, loop.time, self._note)
        self._clock = SimulatedClock(loop, _START_MS)
        self.servers = Servers(loop, self._clock, self.dice, self.history.stored, self.step)
        self.snapshots = Snapshots()
        self.processes = {}  # by file
        self._older = {}  # copies of files as they once were
        self._errors = []

    def step(self):
        """Count something that happens."""
        self.steps += 1

    def _note(self, text):
        self._trace(f"{self.loop.time():.4f} {text}")

    @property
    def is_working(self):
        """Whether clients go on."""
        return self.steps < self._most_steps

    def token(self):
        """Return what no other call has."""
        return f"c{next(self._tokens)}"

    def process(self):
        """Return a gateway to ask."""
        return self.dice.choice(list(self.processes.values()))

    async def run(self):
        """Let everything go on until there were steps enough, and see that all comes right."""
        self.loop.set_task_factory(make_task)
        self.loop.set_exception_handler(lambda _, context: self._errors.append(context))
        try:
            await self._run()
        finally:
            for process in self.processes.values():
                if process.is_alive:
                    process.kill()
            await asyncio.sleep(1)
        assert not self._errors, self._errors

    async def _run(self):
        for _ in range(self.dice.randint(1, 3)):
            self._add_gateway()
        supervising = asyncio.create_task(self._supervise())
        await self._until_open()
        founder = Client(self, "founder")
        for address in (*STEADY, TIMED):
            create = requests.CreateMailbox(name=address)
            await founder.surely(self.process(), create, address)
            for group in GROUPS:
                fetch = requests.Fetch(group_name=group, consumer="founder")
                await founder.surely(self.process(), fetch, address)
        self.servers.trouble = self.dice.choice((0.0, 0.2, 1.0))
        clients = [Client(self, f"c{number}") for number in range(self.dice.randint(1, 6))]
        working = [asyncio.create_task(client.work()) for client in clients]
        working += [
            asyncio.create_task(self._go_wrong()),
            asyncio.create_task(self._verify_often()),
        ]
        await self._wait_for_steps([*working, supervising])
        self.servers.trouble = 0.0
        async with asyncio.timeout(_BOUND_S):
            await asyncio.gather(*working)
            await self._until_open()
        self._note(f"{self.servers.most_together} records of a gateway at once")
        await asyncio.sleep(100)  # leases are over, and so is what was on its way
        await self._see_peace(founder)
        if supervising.done():
            await supervising

    async def _wait_for_steps(self, tasks):
        while self.is_working:
            await asyncio.sleep(0.5)
            for task in tasks:
                if task.done() and task.exception() is not None:
                    await task
            assert not self._errors, self._errors

    async def _see_peace(self, founder):
        for address in STEADY:
            for group in GROUPS:
                await founder.drain(address, group)
        self.history.compare_delivered()
        await self._see_news(founder)
        verified = await self._verify()
        await asyncio.sleep(1)
        assert verified in self.history.digests
        for process in self.processes.values():
            assert process.backend.sequence == self.history.last
        self.history.finish({process.name for process in self.processes.values()})
        await self._close_all()

    async def _see_news(self, founder):
        """Whoever waits for mail at one gateway hears of what is sent through another."""
        for process in self.processes.values():
            fetch = requests.Fetch(group_name="g", consumer="founder")
            waiting = asyncio.create_task(founder.surely(process, fetch, STEADY[0], wait_s=60))
            await asyncio.sleep(0.1)
            await founder.surely(self.process(), requests.Send(), STEADY[0], b"news")
            fetched = await waiting
            assert len(fetched) == 1
            ack = requests.Ack(
                group_name="g", consumer="founder", msg_id=fetched[0].msg_id, batch=fetched.batch
            )
            await founder.surely(self.process(), ack, STEADY[0])

    async def _close_all(self):
        """Close gateways that are asked just then, with the log there or not."""
        is_down = self.servers.is_down = self.dice.choice((True, False))
        clients = [Client(self, f"last{number}") for number in range(3)]
        asking = [asyncio.create_task(client.burst()) for client in clients]
        asking += [asyncio.create_task(client.look()) for client in clients]
        await asyncio.sleep(self.dice.choice((0, 0.0005, 0.01)))
        accepted = self.history.open_sends()
        async with asyncio.timeout(_CLOSING_S):
            await asyncio.gather(*(process.close() for process in self.processes.values()))
        for process in self.processes.values():
            assert not process.tasks, process.tasks
        await asyncio.gather(*asking)
        if not is_down:
            for asked in accepted:
                is_done = asked.is_cancelled or not isinstance(asked.answer, Mq9Error | None)
                assert is_done, f"{asked.call} was accepted: {asked.answer!r}"

    async def _until_open(self):
        while not all(process.is_serving for process in self.processes.values()):  # noqa: ASYNC110  # it takes no time
            await asyncio.sleep(0.1)

    async def _supervise(self):
        """Start again what has failed."""
        while True:
            await asyncio.sleep(0.5)
            for process in list(self.processes.values()):
                if process.is_alive and process.look():
                    process.kill()
                    self._start(process.path)

    def _add_gateway(self):
        self._start(self._directory / f"{len(self.processes)}.db")

    def _start(self, path):
        wall_ms = _START_MS + self.dice.choice((0, 0, -3_000, 2_000))
        self.processes[path] = Process(self, path, f"gateway{next(self._names)}", wall_ms)
        return self.processes[path]

    async def _go_wrong(self):
        kinds = {
            self._kill: 4,
            self._close: 2,
            self._lose_leader: 3,
            self._cut_off: 2,
            self._set_clock: 2,
            self._publish_something_else: 1,
            self._take_snapshot: 3,
            self._keep_copy: 3,
            self._grow: 1,
        }
        while self.is_working:
            await asyncio.sleep(self.dice.expovariate(1.0))
            if self.servers.trouble:
                [kind] = self.dice.choices(list(kinds), list(kinds.values()))
                self._note(kind.__name__)
                await kind()

    async def _kill(self):
        """Kill a gateway, and start it again on what is left."""
        process = self.process()
        process.kill()
        await asyncio.sleep(self.dice.choice((0.01, 1, 10)))
        path = process.path
        left = self.dice.choice(("all", "all", "older", "nothing"))
        if left != "all":
            copy_on_disk.remove(path)
        if left == "older" and path in self._older:
            shutil.copy(self._older[path], path)
        self._start(path)

    async def _close(self):
        process = self.process()
        if process.is_serving:
            async with asyncio.timeout(_CLOSING_S):
                await process.close()
            self._start(process.path)

    async def _lose_leader(self):
        self.servers.is_down = True
        await asyncio.sleep(self.dice.choice((0.05, 1, 5, 30)))
        self.servers.is_down = False

    async def _cut_off(self):
        """Leave a gateway with a server that was the leader, and that the others do not reach."""
        connection = self.process().connection
        connection.cut_off()
        self.servers.is_down = True
        await asyncio.sleep(self.dice.uniform(_ELECTING_S, 2 * _ELECTING_S))
        self.servers.is_down = False
        await asyncio.sleep(self.dice.choice((0, 1, 8, 30)))
        connection.heal()

    async def _set_clock(self):
        by_ms = self.dice.choice((-60_000, -1_000, 1_000, 10_000))
        clock = self.dice.choice((self._clock, self.process().clock))
        clock.wall_ms += by_ms

    async def _publish_something_else(self):
        """Have what is no record stored in the log, once or several times."""
        for _ in range(self.dice.choice((1, 1, 3))):
            self.servers.store(self.dice.randbytes(self.dice.choice((0, 4, 200))))

    async def _take_snapshot(self):
        """Take one, and purge the log behind the one before."""
        process = self.process()
        if not process.is_serving:
            return
        path = self._directory / f"snapshot{next(self._names)}.db"
        snapshot = await process.backend.copy_to(path)
        oldest = self.snapshots.put(snapshot, path)
        if oldest is not None:
            self.servers.purge(oldest.sequence + 1)

    async def _keep_copy(self):
        """Keep a copy of a file, for when it is found some commits behind."""
        process = self.process()
        if process.is_serving:
            path = process.path.with_suffix(".older")
            path.unlink(missing_ok=True)
            await process.backend.copy_to(path)
            self._older[process.path] = path

    async def _grow(self):
        if len(self.processes) < _MOST_GATEWAYS:
            self._add_gateway()

    async def _verify_often(self):
        while self.is_working:
            await asyncio.sleep(self.dice.expovariate(3.0))
            with contextlib.suppress(Mq9Error):
                await self._verify()

    async def _verify(self):
        """Have every gateway tell the digest of the state that it has then."""
        connection = self.servers.connect()
        try:
            log = JetStreamLog(connection, self._clock)
            record_id = f"operator.{next(self._names)}"
            record = LogRecord("operator", 1, 0, (), "digests")
            return await log.append(encode(record), record_id)
        finally:
            connection.close()


def simulate(seed, steps, trace=lambda _: None):
    """Run the simulation; return how many steps it took.

    Args:
        seed: Decides everything: the same seed and steps, the same run.
        steps: After how many there is peace.
        trace: Called with a line for each thing that happens.

    Raises:
        AssertionError: Something is not as it has to be.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=SimulatedLoop) as runner,
    ):
        world = World(seed, steps, Path(directory), runner.get_loop(), trace)
        runner.run(world.run())
        return world.steps
