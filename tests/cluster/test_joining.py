"""How a gateway begins, while the log is purged behind new snapshots."""

import shutil

import pytest
from calls import call
from memory_log import MemoryLog

from mq9.clock import SteadyClock, SystemClock
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.joining import join
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Replica
from mq9.engine.commands import Limits
from mq9.errors import Unavailable
from mq9.protocol import requests


class Snapshots:
    """The newest snapshot.

    Attributes:
        after_fetch: Called when one was fetched.
    """

    def __init__(self, directory):
        self._directory = directory
        self._taken = None
        self.after_fetch = lambda: None

    async def take(self, backend):
        path = self._directory / "snapshot.db"
        path.unlink(missing_ok=True)
        self._taken = await backend.copy_to(path)
        return self._taken

    async def all(self):
        return [self._taken]

    async def fetch(self, _snapshot, path):
        shutil.copy(self._directory / "snapshot.db", path)
        await self.after_fetch()


class Cluster:
    """A log in memory, a gateway that is there already, and others that begin."""

    def __init__(self, directory):
        self._directory = directory
        self.log = MemoryLog(SystemClock())
        self.snapshots = Snapshots(directory)
        self.begun = 0

    async def begin(self, name):
        def open_file(path):
            return Replica(path, None)

        def make(replica):
            self.begun += 1
            clock = LogClock(SystemClock(), SystemClock().now_ms())
            return ClusterBackend(
                self.log,
                replica,
                clock,
                SteadyClock(clock),
                lambda _: None,
                name=f"{name}{self.begun}",
                max_record=1 << 20,
            )

        path = self._directory / f"{name}.db"
        return await join(path, self.log, self.snapshots, open_file, make, Limits())

    async def purge(self):
        """Append something, take a snapshot, and purge the log up to that."""
        await self.there.run(call(requests.Send, payload=b"m"))
        taken = await self.snapshots.take(self.there)
        self.log.purge(taken.sequence + 1)


@pytest.fixture
async def cluster(tmp_path):
    made = Cluster(tmp_path)
    made.there = await made.begin("there")
    await made.there.run(call(requests.CreateMailbox))
    await made.purge()
    made.begun = 0
    yield made
    await made.there.close()


async def test_one_begins_again_when_the_log_is_purged_meanwhile(cluster):
    async def purge_at_first():
        if cluster.begun < 2:
            await cluster.purge()

    cluster.snapshots.after_fetch = purge_at_first
    backend = await cluster.begin("late")
    assert cluster.begun == 3
    queried = await backend.read(call(requests.Query))
    assert [message.msg_id for message in queried.messages] == [0, 1, 2]
    await backend.close()


async def test_one_gives_up_when_the_log_is_purged_whenever_it_begins(cluster):
    cluster.snapshots.after_fetch = cluster.purge
    with pytest.raises(Unavailable, match="the log no longer has"):
        await cluster.begin("late")
    assert cluster.begun == 5
