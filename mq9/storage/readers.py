"""Read-only connections: several at once, and no read delays the others for long.

The event loop makes reads that are usually short, since a thread takes longer to wake. A longer
read starts again on a thread. If it still needs much CPU time, it starts again in a queue of long
reads, which have a connection of their own. There it is stopped after a number of SQLite's steps.
Unlike seconds, these do not depend on the load of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mq9.errors import NotConnected
from mq9.storage import store
from mq9.storage.backend import MAX_STEPS, StepLimit, TooLong, stopped_when, too_long

R = TypeVar("R")
MakeThreads = Callable[[int, str], Executor]

_BRIEF_STEPS = 2_000  # that an event loop may take; some tenths of a millisecond
_QUICK_S = 0.02  # of the processor, for a read that is not a long one
_QUICK = 3  # connections for such reads; one more is for long ones


class _Lane:
    """Threads that read, each on a connection."""

    def __init__(self, path: Path, name: str, count: int, make_threads: MakeThreads) -> None:
        self.count = count
        self.free: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        with contextlib.ExitStack() as opened:  # none stays open where another cannot be opened
            for _ in range(count):
                connection = store.open_reader(path)
                opened.callback(connection.close)
                self.free.put(connection)
            self.threads = make_threads(count, name)
            opened.pop_all()

    def close(self) -> None:
        """End the threads, and close the connections, when none is in use."""
        self.threads.shutdown()
        for _ in range(self.count):
            if (connection := self.free.get()) is not None:
                connection.close()

    def read(
        self,
        look: Callable[[sqlite3.Connection], R],
        is_enough: Callable[[], bool],
        *,
        waits: bool = True,
    ) -> R:
        """Look at one state of the database, on this thread; raises TooLong when it is enough.

        Where all connections are in use and it does not wait for one, it raises `queue.Empty`.
        """
        connection = self.free.get(block=waits)
        try:
            if connection is None:
                raise NotConnected("the broker is closed")
            connection.execute("BEGIN")
            try:
                with stopped_when(connection, is_enough):
                    return look(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        finally:
            self.free.put(connection)


class Readers:
    """Reads a file, which the writer has open, on threads of its own.

    As a context, no read is in progress inside, for a fork. ``timer`` returns the CPU seconds of
    the calling thread. ``make_threads`` creates a number of threads with a name.
    """

    def __init__(
        self,
        path: Path,
        most_steps: int = MAX_STEPS,
        *,
        timer: Callable[[], float] = time.thread_time,
        make_threads: MakeThreads = ThreadPoolExecutor,
    ) -> None:
        self._most_steps = most_steps
        self._timer = timer
        self._long = _Lane(path, "mq9-long-reader", 1, make_threads)
        try:
            self._quick = _Lane(path, "mq9-reader", _QUICK, make_threads)
        except BaseException:
            self._long.close()
            raise
        self._pausing = threading.Lock()
        self._taken: list[tuple[_Lane, sqlite3.Connection | None]] = []

    async def read(
        self,
        look: Callable[[sqlite3.Connection], R],
        *,
        is_bounded: bool = True,
        is_brief: bool = False,
    ) -> R:
        """Read one state of the database.

        A bounded read with too many steps is stopped, with TooExpensive. The calling event loop
        makes a short read; a thread makes a longer one.
        """
        try:
            if is_brief:
                await asyncio.sleep(0)  # who asks again and again must not keep out the others
                is_enough = StepLimit(min(_BRIEF_STEPS, self._most_steps))
                with contextlib.suppress(TooLong, queue.Empty):
                    return self._quick.read(look, is_enough, waits=False)
            if is_bounded:
                with contextlib.suppress(TooLong):
                    return await self._run(self._quick, self._look_briefly, look)
            steps = self._most_steps if is_bounded else None
            return await self._run(self._long, self._long.read, look, StepLimit(steps))
        except TooLong:
            raise too_long(self._most_steps) from None

    def _look_briefly(self, look: Callable[[sqlite3.Connection], R]) -> R:
        begun = self._timer()
        is_enough = StepLimit(self._most_steps)
        return self._quick.read(look, lambda: is_enough() or self._timer() - begun > _QUICK_S)

    async def _run(self, lane: _Lane, work: Callable[..., R], *args: object) -> R:
        try:
            ended = lane.threads.submit(work, *args)
        except RuntimeError as error:  # it takes nothing more
            raise NotConnected("the broker is closed") from error
        return await asyncio.wrap_future(ended)

    def acquire(self) -> None:
        """Wait until no read is in progress, and let none begin."""
        self._pausing.acquire()
        for lane in (self._quick, self._long):
            self._taken += [(lane, lane.free.get()) for _ in range(lane.count)]

    def release(self) -> None:
        """Let reads begin again."""
        while self._taken:
            lane, connection = self._taken.pop()
            lane.free.put(connection)
        self._pausing.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def finish(self) -> None:
        """Accept no more reads, and wait for those in progress."""
        self._quick.threads.shutdown()
        self._long.threads.shutdown()

    def close_taken(self) -> None:
        """Close the connections, having acquired them; reads are refused from then on."""
        for number, (lane, connection) in enumerate(self._taken):
            if connection is not None:
                connection.close()
            self._taken[number] = (lane, None)
