"""An event loop that commits what it asks for, and what it leaves to the writer's thread."""

import asyncio
import sqlite3
import threading

import pytest
from calls import call

from mq9 import Unavailable
from mq9.clock import SteadyClock
from mq9.engine.commands import Limits
from mq9.protocol.requests import CreateMailbox, Query, Send
from mq9.storage.backend import Derived
from mq9.storage.checkpoints import Checkpoints
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import LOG_PAGES, Durability
from mq9.testing import ManualClock

SEND = call(Send, "inbox", payload=b"x" * 300)


class Commits:
    """Sees on which threads commands are committed; may do something in each commit."""

    def __init__(self):
        self.threads = []
        self.during = lambda _connection: None

    def follow(self, connection):
        self.threads.append(threading.current_thread().name)
        self.during(connection)


@pytest.fixture
def commits():
    return Commits()


@pytest.fixture
def make(tmp_path, commits):
    def make(durability=Durability.NORMAL):
        derived = Derived(lambda _: None, commits.follow)
        clock = SteadyClock(ManualClock())
        path = tmp_path / "mq9.db"
        # Commands take no time, so that none is left for the next commit.
        return FileBackend(
            path, clock, Limits(), durability, lambda _: None, derived, timer=lambda: 0.0
        )

    return make


@pytest.fixture
async def backend(make, commits):
    backend = make()
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    commits.threads.clear()
    yield backend
    await backend.close()


async def stored(backend):
    return len((await backend.read(call(Query, "inbox", limit=1_000))).messages)


HERE = threading.main_thread().name


async def test_what_is_asked_for_at_the_same_time_is_committed_together_and_here(backend, commits):
    sent = await asyncio.gather(*(backend.run(SEND) for _ in range(64)))
    assert sent == list(range(64))
    assert commits.threads == [HERE]


async def test_one_by_one_commands_are_committed_here(backend, commits):
    for number in range(10):
        assert await backend.run(SEND) == number
    assert commits.threads == [HERE] * 10


async def test_where_replies_wait_for_the_disk_the_thread_commits(make, commits):
    backend = make(Durability.FULL)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    await asyncio.gather(*(backend.run(SEND) for _ in range(64)))
    assert set(commits.threads) == {"mq9-writer"}
    await backend.close()


async def test_the_loop_goes_on_while_another_process_writes(backend, commits, tmp_path):
    other = sqlite3.connect(tmp_path / "mq9.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sending = asyncio.create_task(backend.run(SEND))
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert not sending.done()
    assert commits.threads == []
    other.execute("ROLLBACK")
    other.close()
    assert await sending == 0
    assert commits.threads == ["mq9-writer"]


async def test_what_takes_long_is_left_to_the_thread_and_carried_out_once(backend, commits):
    def count(connection):
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100000)"
            " SELECT count(*) FROM n"
        ).fetchone()

    commits.during = count
    assert await asyncio.gather(*(backend.run(SEND) for _ in range(3))) == [0, 1, 2]
    assert commits.threads == [HERE, "mq9-writer"]
    assert await stored(backend) == 3


async def test_the_log_is_written_into_the_file_beside_the_commits_and_begun_anew_by_the_thread(
    backend, commits, tmp_path, monkeypatch
):
    log = tmp_path / "mq9.db-wal"
    made_by, longest = [], 0
    make = Checkpoints._make

    def note(checkpoints):
        made_by.append(threading.current_thread().name)
        make(checkpoints)

    monkeypatch.setattr(Checkpoints, "_make", note)
    for _ in range(1_000):
        await backend.run(SEND)
        longest = max(longest, log.stat().st_size)
    # A commit fills some eight pages of a log of LOG_PAGES.
    assert 3 <= len(made_by) <= 10
    assert set(made_by) == {"mq9-checkpoints"}
    assert 3 <= commits.threads.count("mq9-writer") <= 20
    # While a slow disk takes a checkpoint, the log may become twice as long.
    assert longest < 2.2 * LOG_PAGES * 4_096


async def test_commits_go_on_while_a_checkpoint_is_made_until_the_log_is_twice_as_long(
    backend, commits, tmp_path, monkeypatch
):
    begun, released = threading.Event(), threading.Event()

    def hold(_checkpoints):
        begun.set()
        released.wait(60)

    monkeypatch.setattr(Checkpoints, "_make", hold)
    while not begun.is_set():
        await backend.run(SEND)
    commits.threads.clear()
    for _ in range(LOG_PAGES // 8):
        await backend.run(SEND)
    # The thread also comes by twice a second, and commits what it finds.
    assert commits.threads.count(HERE) > LOG_PAGES // 16

    # At last one waits for the checkpoint, behind at most another log.
    sending = asyncio.ensure_future(backend.run(SEND))
    for _ in range(LOG_PAGES):
        done, _ = await asyncio.wait([sending], timeout=0.5)
        if not done:
            break
        sending = asyncio.ensure_future(backend.run(SEND))
    assert not sending.done()
    released.set()
    await sending
    assert commits.threads[-1] == "mq9-writer"
    assert (tmp_path / "mq9.db-wal").stat().st_size < 2.6 * LOG_PAGES * 4_096


def test_ctrl_c_in_a_commit_is_told_to_whoever_asked(make, commits):
    def interrupt(_connection):
        commits.during = lambda _connection: None
        raise KeyboardInterrupt

    async def ask(backend):
        with pytest.raises(Unavailable, match="interrupted; whether this request was carried out"):
            await backend.run(SEND)
        return await backend.run(SEND)

    with asyncio.Runner() as runner:
        backend = runner.run(made(make))
        loop = runner.get_loop()
        commits.during = interrupt
        asking = loop.create_task(ask(backend))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asking)
        assert loop.run_until_complete(asking) == 0
        runner.run(backend.close())


async def made(make):
    backend = make()
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    return backend
