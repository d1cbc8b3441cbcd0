"""Connections that only read: short reads pass long ones, and the longest are stopped."""

import asyncio
import itertools
import sqlite3
import threading

import pytest

from mq9 import NotConnected, Unavailable
from mq9.storage import store
from mq9.storage.readers import Readers

COUNT = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?) SELECT max(i) FROM n"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mq9.db"
    connection = store.open_file(path)
    yield path
    connection.close()


@pytest.fixture
def open_readers(path):
    """Make readers for which anything is long that is looked at once while it runs."""
    opened = []

    def open_one(most_steps=10**9):
        opened.append(Readers(path, most_steps, timer=itertools.count().__next__))
        return opened[-1]

    yield open_one
    for readers in opened:
        readers.finish()
        with readers:
            readers.close_taken()


def count_to(number):
    return lambda connection: connection.execute(COUNT, (number,)).fetchone()[0]


async def test_short_reads_pass_long_ones_which_wait_for_each_other(open_readers):
    readers = open_readers()
    begun, go_on = threading.Event(), threading.Event()

    def long(connection):
        counted = count_to(100_000)(connection)
        begun.set()
        assert go_on.wait(30)
        return counted

    waiting = [asyncio.create_task(readers.read(long)) for _ in range(5)]
    await asyncio.to_thread(begun.wait, 30)
    for number in range(1, 20):
        assert await readers.read(count_to(number)) == number
    assert not any(task.done() for task in waiting)
    go_on.set()
    assert await asyncio.gather(*waiting) == [100_000] * 5


async def test_several_short_reads_are_at_work_at_once(open_readers):
    readers = open_readers()
    together = threading.Barrier(3)
    await asyncio.gather(*[readers.read(lambda _: together.wait(30)) for _ in range(3)])


async def test_a_read_of_too_many_steps_is_stopped_and_the_connection_goes_on(open_readers):
    readers = open_readers(most_steps=500_000)
    for _ in range(2):
        with pytest.raises(Unavailable, match="more than 500000 steps"):
            await readers.read(count_to(1_000_000))
    assert await readers.read(count_to(10_000)) == 10_000


async def test_what_is_not_bounded_is_not_stopped(open_readers):
    readers = open_readers(most_steps=10_000)
    assert await readers.read(count_to(100_000), is_bounded=False) == 100_000


async def test_what_is_brief_is_read_by_the_event_loop(open_readers):
    readers = open_readers()
    here = threading.current_thread()
    assert await readers.read(lambda _: threading.current_thread(), is_brief=True) is here
    assert await readers.read(lambda _: threading.current_thread()) is not here


async def test_who_reads_again_and_again_lets_others_have_their_turn(open_readers):
    readers, turns = open_readers(), []

    async def other():
        for turn in range(10):
            turns.append(turn)
            await asyncio.sleep(0)

    others = asyncio.create_task(other())
    for _ in range(20):
        await readers.read(count_to(1), is_brief=True)
    assert len(turns) == 10
    await others


async def test_what_turns_out_longer_is_read_by_a_thread(open_readers):
    readers, threads = open_readers(), []

    def count(connection):
        threads.append(threading.current_thread())
        return count_to(100_000)(connection)

    assert await readers.read(count, is_brief=True) == 100_000
    here, *others = threads
    assert here is threading.current_thread()
    assert here not in others
    assert others


@pytest.mark.parametrize("is_brief", [False, True])
async def test_nobody_reads_while_they_are_held(open_readers, is_brief):
    readers, others = open_readers(), open_readers()
    with readers:
        reading = asyncio.create_task(readers.read(count_to(1), is_brief=is_brief))
        for _ in range(20):
            assert await others.read(count_to(1)) == 1
        assert not reading.done()
    assert await reading == 1


async def test_what_was_begun_ends_and_nothing_begins_when_they_are_closed(path):
    readers = Readers(path, 10**9)
    reading = asyncio.create_task(readers.read(count_to(10_000)))
    await asyncio.sleep(0)
    await asyncio.to_thread(readers.finish)
    with readers:
        readers.close_taken()
    assert await reading == 10_000
    for is_brief in (False, True):
        with pytest.raises(NotConnected):
            await readers.read(count_to(1), is_brief=is_brief)


@pytest.mark.parametrize("opened_before", [0, 1, 3])
def test_no_connection_stays_open_where_another_cannot_be_opened(path, monkeypatch, opened_before):
    opened, open_reader = [], store.open_reader

    def failing(path):
        if len(opened) == opened_before:
            raise OSError("too many open files")
        opened.append(open_reader(path))
        return opened[-1]

    monkeypatch.setattr(store, "open_reader", failing)
    with pytest.raises(OSError, match="too many open files"):
        Readers(path)
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
