"""Calls carried out on a file: by a writer thread, many in one commit, and by several readers."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mq9.clock import SteadyClock
from mq9.concurrency.activity import Work
from mq9.engine.commands import Advance, Call, Outcome, Undo, undo_of
from mq9.engine.limits import Limits
from mq9.engine.mailboxes import Outdated
from mq9.errors import LimitReached, Mq9Error, NotConnected, Unavailable, UnusableFile
from mq9.protocol.request import Request
from mq9.protocol.requests import Fetch, Send
from mq9.storage import store
from mq9.storage.backend import Applying, read, roll_back, set_limits, storage_error
from mq9.storage.database_file import DatabaseFile
from mq9.storage.derived import Derived, LocalChange
from mq9.storage.readers import MAX_STEPS, Readers
from mq9.storage.store import Durability
from mq9.storage.turns import FairQueue

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

NEWS_INTERVAL_S = 0.02  # how often another process's writes are looked for, while somebody waits
_FILE_INTERVAL_S = 0.5  # how often it is looked whether the file is still there
_MOST_QUEUED = 10_000  # from then on only who has nothing queued may add to it
_MOST_TOGETHER = 256  # commands in one commit
_COMMIT_S = 0.005  # of work in one commit, so that what took little is answered soon


@dataclass(slots=True)
class _Ticket:
    """A command in the writer's queue, and who waits for it, if anybody does."""

    call: Call[Any]
    asker: str
    work: Work
    future: asyncio.Future[Outcome[Any]] | None = None
    abandoned: bool = False


class _Done(NamedTuple):
    """A command, and what became of it."""

    ticket: _Ticket
    outcome: Outcome[Any]


# SQLite's connections do not survive a fork, and until they are closed in the child it believes to
# hold their locks. So a fork waits until none of them is at work, and the child closes its copies.
_open_backends: weakref.WeakSet[FileBackend] = weakref.WeakSet()
_paused: list[FileBackend] = []


def _pause_for_fork() -> None:
    for backend in list(_open_backends):
        backend.writing.acquire()
        backend.reading.acquire()
        _paused.append(backend)


def _go_on_after_fork() -> None:
    while _paused:
        backend = _paused.pop()
        backend.reading.release()
        backend.writing.release()


def _let_go_in_child() -> None:
    while _paused:
        _paused.pop().abandon()
    _open_backends.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_pause_for_fork,
        after_in_parent=_go_on_after_fork,
        after_in_child=_let_go_in_child,
    )


class FileBackend:
    """Carries commands out on a writer thread, many in one commit.

    Args:
        path: The database; made if it is missing.
        clock: Tells when things happen.
        limits: What the broker takes; None for what the file says.
        durability: What a reply promises.
        on_news: Called on the writer's thread with the mailbox in which something was taken back,
            and with None after another process wrote to the file.
        derived: What follows the engine's state, if anything does.
        max_read_steps: Steps of SQLite's machine that one read may take.
        timer: Gives the seconds that the thread which asks has had of the processor, to measure
            commands with: what a command waits for is not its asker's doing.

    Attributes:
        writing: Held while the writer is at work.
        reading: Reads; a context in which nobody does.
    """

    def __init__(
        self,
        path: Path,
        clock: SteadyClock,
        limits: Limits | None,
        durability: Durability,
        on_news: Callable[[str | None], None],
        derived: Derived | None = None,
        *,
        max_read_steps: int = MAX_STEPS,
        timer: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._on_news = on_news
        self._derived = derived
        self._timer = timer
        self._writer = store.open_file(path, durability)
        try:
            set_limits(self._writer, clock, limits)
            if derived is not None:
                derived.open(self._writer)
            self.reading = Readers(path, max_read_steps)
            self._file = DatabaseFile(path, self._writer)
        except (OSError, sqlite3.Error) as error:
            self._writer.close()
            raise UnusableFile(f"{path} cannot be opened: {error}") from error
        except BaseException:
            self._writer.close()
            raise
        self._lost: str | None = None  # what became of the file; nothing is done with it any more
        self.writing = threading.Lock()
        _open_backends.add(self)
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._watching = False
        self._closing = False  # nothing more is asked of it
        self._closed = False
        self._stopping = False
        self.failed_ms: int | None = None
        self._accepting = threading.Lock()  # so that nothing is queued after the last
        self._losing = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="mq9-writer", daemon=True)
        self._thread.start()

    async def run(self, call: Call[Request[R]], asker: str = "") -> R:
        """Carry out a command."""
        if self._closing:
            raise NotConnected("the broker is closed")
        return (await self._answer(call, asker)).result()

    async def _answer(
        self, call: Call[Request[R]], asker: str, *, last: bool = False
    ) -> Outcome[R]:
        future: asyncio.Future[Outcome[R]] = asyncio.get_running_loop().create_future()
        ticket = self._enqueue(call, asker, future, last=last)
        try:
            return await future
        except asyncio.CancelledError:
            ticket.abandoned = True
            if not future.cancelled():
                self._undo(ticket, future.result())
            raise

    def _enqueue(
        self,
        call: Call[Request[R]],
        asker: str,
        future: asyncio.Future[Outcome[R]] | None = None,
        *,
        last: bool = False,
    ) -> _Ticket:
        with self._accepting:
            if self._closed:
                raise NotConnected("the broker is closed")
            if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(asker) and not last:
                raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
            ticket = _Ticket(call, asker, self._clock.busy(), future)
            if last:
                self._queue.put_last(ticket)
            else:
                self._queue.put(asker, ticket)
            return ticket

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        if self._closed:
            raise NotConnected("the broker is closed")
        try:
            return await self._read(call)
        except Outdated as outdated:
            advanced = await self._answer(Call(Advance(), outdated.address), "")
            advanced.result()
            return await self._read(call, advanced.now_ms)

    async def _read(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        self._refuse_lost()

        def look(connection: sqlite3.Connection) -> R:
            return read(connection, call, self._clock, at_ms)

        try:
            with self._clock.busy():
                answer = await self.reading.read(look, is_bounded=call.request.is_bounded)
        except sqlite3.Error as error:
            raise storage_error(error) from error
        if (moved := self._file.moved()) is not None:
            self._lose(moved)
        self._refuse_lost()
        return answer

    def _lose(self, problem: str) -> None:
        """Note, once, that the file is not what it was."""
        with self._losing:
            if self._lost is None:
                self._lost = problem
                logger.error(
                    "%s while the broker has it open; requests are refused: put the file back, or "
                    "a copy of it, and restart",
                    problem,
                )

    def _refuse_lost(self) -> None:
        if self._lost is not None:
            raise Unavailable(
                f"the broker lost its file: {self._lost}; whether this request was carried out is "
                "unknown, and nothing is until the file is put back and the broker restarted"
            )

    def watch(self, watching: bool) -> None:
        """Look for what other processes write, or stop looking."""
        started = watching and not self._watching
        self._watching = watching
        if started and not self._closed:
            self._queue.wake()

    async def close(self) -> None:
        """Finish what was accepted, and let go of the file."""
        if self._closed:
            return
        self._closing = True
        try:
            # Behind this all that was accepted is answered, and what reached nobody is taken back.
            await self._answer(Call(LocalChange(lambda _: None)), "", last=True)
        except Mq9Error as error:
            logger.warning("the broker was closed while it could not work: %s", error)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        with self._accepting:
            if self._closed:
                return
            self._closed = True
        thread = ThreadPoolExecutor(1, "mq9-closer")
        ended = thread.submit(self._end)
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(ended))

    def _end(self) -> None:
        """Let the threads end, then close the connections."""
        self.reading.finish()
        self._stopping = True
        self._queue.wake()
        self._thread.join()
        with self.writing, self.reading:
            # Only the writer writes the log into the file, and only when it is closed last.
            is_whole = self._lost is None or self._file.may_be_completed(self._writer)
            if not is_whole:
                self._writer.close()
            self.reading.close_taken()
            self._writer.close()

    def _write(self) -> None:
        """The writer's thread: take what has queued up, commit it together, answer."""
        with self.writing:
            version = self._data_version()
        while not self._stopping or self._queue:
            self._queue.wait(NEWS_INTERVAL_S if self._watching else _FILE_INTERVAL_S)
            with self.writing:
                self._check_file()
                done = self._commit() if self._queue else []
            self._deliver(done)
            if self._watching and self._lost is None and not self._stopping:
                with self.writing:
                    newest = self._data_version()
                if newest != version:
                    version = newest
                    self._on_news(None)

    def _check_file(self) -> None:
        """See whether the file is what it was; else write no more to what lies there now."""
        if self._lost is None and (problem := self._file.problem(self._writer)) is not None:
            self._lose(problem)
        if self._lost is not None and not self._file.may_be_completed(self._writer):
            self._writer.close()  # before the reader, so that the log is not written into the file

    def abandon(self) -> None:
        """In a forked child, close the copies of the parent's connections."""
        self._closed = True
        self.reading.close_taken()
        self._writer.close()

    def _data_version(self) -> int:
        try:
            (version,) = self._writer.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            logger.warning("could not look for other processes' writes: %s", error)
            return -1
        return int(version)

    def _commit(self) -> list[_Done]:
        """Carry out, in one transaction, those whose turn it is; the outcome of each."""
        taken: list[_Ticket] = []
        done: list[_Done] = []
        failure: Mq9Error
        try:
            self._refuse_lost()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                applying = Applying(self._writer, self._clock, self._derived)
                self._file.renew(self._writer)
                spent = 0.0
                while len(taken) < _MOST_TOGETHER:
                    # The first has its turn, however long it may take.
                    ticket = self._take(_COMMIT_S - spent if taken else None)
                    if ticket is None:
                        break
                    taken.append(ticket)
                    begun = self._timer()
                    try:
                        done.append(_Done(ticket, applying.carry_out(ticket.call)))
                    finally:
                        took = self._timer() - begun
                        self._queue.charge(took)
                    spent += took
                applying.finish()
                self._writer.execute("COMMIT")
            except BaseException:
                roll_back(self._writer)
                raise
            self._check_file()  # what was committed to a file that was removed is not success
            self._refuse_lost()
            self.failed_ms = None
        except sqlite3.Error as error:
            self.failed_ms = self._clock.monotonic_ms()
            failure = storage_error(error)
        except Unavailable as error:
            failure = error
        else:
            return done
        failed: Outcome[Any] = Outcome(None, failure, self._clock.now_ms())
        return [_Done(ticket, failed) for ticket in taken or self._take_waiting()]

    def _take(self, most: float | None) -> _Ticket | None:
        """Take the next command that somebody waits for; None if there is none.

        Args:
            most: Leave it if its asker's last one took more seconds.
        """
        while (ticket := self._queue.take(most)) is not None and ticket.abandoned:
            ticket.work.end()
            self._queue.charge(0.0)
        return ticket

    def _take_waiting(self) -> list[_Ticket]:
        """Take what nothing can be done about."""
        taken: list[_Ticket] = []
        while len(taken) < _MOST_TOGETHER and (ticket := self._take(None)) is not None:
            self._queue.charge(0.0)
            taken.append(ticket)
        return taken

    def _deliver(self, done: list[_Done]) -> None:
        """Give outcomes to those who wait for them, all of one event loop by one call."""
        awaited: dict[asyncio.AbstractEventLoop, list[_Done]] = defaultdict(list)
        for one in done:
            ticket, outcome = one
            if ticket.future is None:
                self._tell_of(ticket.call)  # what was taken back is there for others
            elif ticket.abandoned:  # its loop may be about to close
                if outcome.error is None:
                    self._undo(ticket, outcome)
                    self._tell_of(ticket.call)
            else:
                awaited[ticket.future.get_loop()].append(one)
        for loop, ones in awaited.items():
            try:
                loop.call_soon_threadsafe(self._resolve, ones)
            except RuntimeError:  # the loop that asked is closed
                for ticket, outcome in ones:
                    self._undo(ticket, outcome)
        for ticket, _ in done:
            ticket.work.end()

    def _resolve(self, done: list[_Done]) -> None:
        for ticket, outcome in done:
            assert ticket.future is not None  # noqa: S101  # only these are awaited
            if not ticket.future.cancelled():
                ticket.future.set_result(outcome)
            elif outcome.error is None:
                self._undo(ticket, outcome)
                self._tell_of(ticket.call)

    def _tell_of(self, call: Call[Any]) -> None:
        """Tell of what nobody else tells of, since nobody waits for the outcome any more."""
        concerns_mail = isinstance(call.request, Send | Fetch | Undo)
        self._on_news(call.address if concerns_mail else None)

    def _undo(self, ticket: _Ticket, outcome: Outcome[Any]) -> None:
        """Take back a lease that reached nobody; other changes stand, as if a reply were lost."""
        undo = undo_of(ticket.call, outcome.value)
        if undo is not None:
            self.make_undone(undo, ticket.asker)

    def make_undone(self, undo: Call[Undo], asker: str = "") -> None:
        """Take back, soon, a FETCH reply that reached nobody."""
        try:
            self._enqueue(undo, asker)
        except Mq9Error as error:
            logger.warning("a lease that reached nobody was left to run out: %s", error)
