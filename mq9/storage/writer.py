"""Commands carried out on a file, many in one commit, on a thread or where they are asked for."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mq9.clock import SteadyClock
from mq9.concurrency.activity import Work
from mq9.engine.commands import Call, Outcome, SendBatch, Sweep, Undo, undo_of
from mq9.errors import (
    BrokerFailed,
    LimitReached,
    Mq9Error,
    NotConnected,
    OutcomeUnknown,
    Unavailable,
)
from mq9.protocol.body import Request
from mq9.protocol.verbs import OF_REQUEST, Wakes
from mq9.storage import store
from mq9.storage.backend import (
    STEPS_BETWEEN_LOOKS,
    CommandTransaction,
    Derived,
    LocalChange,
    StepLimit,
    storage_error,
)
from mq9.storage.checkpoints import Checkpoints
from mq9.storage.database_file import DatabaseFile
from mq9.storage.news import News
from mq9.storage.store import LOG_PAGES
from mq9.storage.turns import FairQueue

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

_FILE_INTERVAL_S = 0.5  # how often it is looked whether the file is still there
_MOST_QUEUED = 10_000  # from then on only who has nothing queued may add to it
_MOST_TOGETHER = 256  # commands in one commit
_COMMIT_S = 0.003  # of work in one commit, so that what took little is answered soon
_MOST_STEPS = 200_000  # of SQLite's machine in a commit on an event loop; some milliseconds
_LAST_PAGES = 200  # of the log, which are left to a commit's checkpoint
_PAGES_OF_COMMIT = 7  # pages of the log for a commit itself, about
_PAGE_BYTES = 4_096
_ROW_BYTES = 256  # of a message in a batch without its payload, about
_SEND_BYTES = 8_000  # of payload, which take as long as all else about a SEND
_SEND_S = 0.00005  # that a SEND takes, before any was measured

# They may take longer than a commit, and no client waits for them.
_LONG = (LocalChange, Sweep)


Told = Callable[[Outcome[Any]], None]


@dataclass(slots=True)
class _Ticket:
    """A command in the queue, and the function that gets its outcome."""

    call: Call[Any]
    client: str  # whose commands it is in order with
    work: Work  # that the clock waits for
    loop: asyncio.AbstractEventLoop | None = None  # on which the outcome is reported
    told: Told | None = None  # called there with the outcome
    abandoned: bool = False  # the client no longer waits
    outcome: Outcome[Any] | None = None  # once it was carried out

    @property
    def count(self) -> int:
        """The number of commands in it."""
        request = self.call.request
        return len(request.sends) if isinstance(request, SendBatch) else 1

    @property
    def weight(self) -> int:
        """Its share of the time of a run."""
        request = self.call.request
        if isinstance(request, SendBatch):
            return request.payload_bytes + _SEND_BYTES * request.added
        return 1

    @property
    def pages(self) -> int:
        """About how many pages it fills."""
        request = self.call.request
        if isinstance(request, SendBatch):
            return 1 + (request.payload_bytes + _ROW_BYTES * len(request.sends)) // _PAGE_BYTES
        return 1 + len(self.call.payload) // _PAGE_BYTES


class Writer:
    """Carries out commands; all queued ones go into one commit.

    A thread does this. If replies do not wait for the disk, the calling event loop does it itself
    while the thread is idle: the way to the thread and back takes longer than most commands. The
    thread takes long commands, checkpoints, and the wait for another process that writes.

    Args:
        connection: The connection that writes. Its owner closes it after ``end``.
        file: Checks that the file is still the opened one.
        checkpoints: Writes most of the log into the file in the meantime.
        clock: The time of the commands.
        derived: Keeps the derived tables.
        on_news: Called on any thread: with a mailbox in which a lease was taken back, and with None
            after another process wrote to the file.
        timer: Returns the CPU seconds of the calling thread. Waiting is not charged to a client.
        uses_loops: Whether event loops may carry out commands.

    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: DatabaseFile,
        checkpoints: Checkpoints,
        clock: SteadyClock,
        derived: Derived | None,
        on_news: Callable[[str | None], None],
        timer: Callable[[], float],
        *,
        uses_loops: bool,
    ) -> None:
        self.active = threading.Lock()  # held while commands are carried out
        self.failed_ms: int | None = None  # when the storage refused the last write
        self._connection = connection
        self._file = file
        self._checkpoints = checkpoints
        self._clock = clock
        self._derived = derived
        self._on_news = on_news
        self._timer = timer
        self._uses_loops = uses_loops
        self._is_patient = True  # how the connection is set: as the thread needs it
        self._left = LOG_PAGES  # pages, until the thread makes a checkpoint
        self._steps = StepLimit(_MOST_STEPS)
        self._applying: CommandTransaction | None = None  # of the last commit
        self._version = -1  # of the database as of then; it changes when others write
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._taken: list[_Ticket] = []  # from the queue, and not yet carried out
        # The last event loop that is about to commit its own commands.
        self._committing: asyncio.AbstractEventLoop | None = None
        self._send_s = _SEND_S  # that a SEND of a batch took in the last commit
        self._watching = False
        self._news = News(connection, file.watched, self._queue.wake)
        self._closed = False
        self._stopping = False
        self._accepting = threading.Lock()  # so that nothing is queued after the last
        self._thread = threading.Thread(target=self._run, name="mq9-writer", daemon=True)
        self._thread.start()

    async def carry_out(
        self, call: Call[Request[R]], client: str = "", *, last: bool = False
    ) -> Outcome[R]:
        """Carry out a command as `begin` does, and return when ``told`` would be called.

        A command whose caller is cancelled does not begin; a lease is taken back.
        """
        future: asyncio.Future[Outcome[R]] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome[R]) -> None:
            if not future.cancelled():
                future.set_result(outcome)
            else:
                self._note_lost(ticket)

        ticket = self.begin(call, client, told, last=last)
        try:
            return await future
        except asyncio.CancelledError:
            ticket.abandoned = True
            if not future.cancelled():
                self._undo(ticket)
            raise

    def begin(self, call: Call[Any], client: str, told: Told, *, last: bool = False) -> _Ticket:
        """Enqueue a command; a function is called when it is as durable as promised.

        Args:
            call: The command.
            client: The client whose commands stay in order and share its time.
            told: Called with the outcome, on the running event loop.
            last: Whether it goes after all accepted commands.

        Raises:
            NotConnected: The writer is closed.
            LimitReached: Too much is queued.
        """
        loop = asyncio.get_running_loop()
        ticket = self._enqueue(call, client, loop, told, last=last)
        if not self._uses_loops or last or isinstance(call.request, _LONG):
            self._queue.wake()
        elif self._committing is not loop:
            # After all ready callbacks, so that their commands go into the same commit.
            self._committing = loop
            loop.call_soon(self._commit_here, loop)
        return ticket

    def _enqueue(
        self,
        call: Call[Any],
        client: str,
        loop: asyncio.AbstractEventLoop | None = None,
        told: Told | None = None,
        *,
        last: bool = False,
    ) -> _Ticket:
        with self._accepting:
            if self._closed:
                raise NotConnected("the broker is closed")
            if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(client) and not last:
                raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
            ticket = _Ticket(call, client, self._clock.busy(), loop, told)
            if last:
                self._queue.put_last(ticket)
            else:
                self._queue.put(client, ticket)
            return ticket

    def undo_soon(self, undo: Call[Undo], client: str = "") -> None:
        """Take back, soon, the leases of a FETCH whose reply reached no client."""
        try:
            self._enqueue(undo, client)
        except Mq9Error as error:
            logger.warning("a lease that reached nobody was left to run out: %s", error)
        else:
            self._queue.wake()

    def watch(self, watching: bool) -> None:
        """Look for what other processes write, or stop looking."""
        started = watching and not self._watching
        self._watching = watching
        if started and not self._closed:
            self._queue.wake()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more commands."""
        return self._closed

    def refuse_more(self) -> bool:
        """Take no more commands; whether any were taken until now."""
        with self._accepting:
            was_open, self._closed = not self._closed, True
            return was_open

    def abandon(self) -> None:
        """Take no more commands, in a forked child; its copy of a lock may be locked for good."""
        self._closed = True
        self._news.abandon()

    def end(self) -> None:
        """Carry out the accepted commands, and end the thread."""
        self._stopping = True
        self._queue.wake()
        self._thread.join()
        self._news.close()

    def _run(self) -> None:
        """Commit queued commands and report their outcomes; the function of the thread."""
        with self.active:
            self._news.look()
        while not self._stopping or self._queue or self._taken:
            self._queue.wait(self._news.interval_s() if self._watching else _FILE_INTERVAL_S)
            with self.active:
                self._file.look_closely(self._connection)
                done = self._commit() if self._queue or self._taken else []
            self._tell_outcomes(done)
            with self.active:
                self._news.listen(self._watching)
                is_looking = self._watching and self._file.lost is None and not self._stopping
                is_new = is_looking and self._news.look()
            if is_new:
                self._on_news(None)

    def _commit_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit queued commands on the running event loop, or leave them to the thread."""
        if self._committing is loop:
            self._committing = None
        if not self._queue:
            return  # another loop, or the thread, has taken it
        if self._is_log_long or not self.active.acquire(blocking=False):
            self._queue.wake()
            return
        done: list[_Ticket] = []
        self._steps.left = _MOST_STEPS
        try:
            done = self._transact(is_patient=False)
        except OutcomeUnknown as error:  # another try would report that nothing was done
            done = self._failed(error)
        except Exception:  # noqa: BLE001, S110  # the thread tries again, and says what is wrong
            pass  # nothing was changed
        except BaseException:  # Ctrl-C, on the main thread
            told = "the broker was interrupted; whether this request was carried out is unknown"
            done = self._failed(OutcomeUnknown(told))
            raise
        finally:
            self._note_pages(done)
            self.active.release()
            if self._queue or self._taken:  # not counting commands that the outcomes cause
                self._queue.wake()
            self._tell_outcomes(done, loop)

    def _commit(self) -> list[_Ticket]:
        """Commit queued commands on the thread; return those with an outcome."""
        if self._is_log_long:
            self._checkpoints.wait()  # else this commit would make none
            self._left = LOG_PAGES
        failure: Mq9Error
        try:
            done = self._transact(is_patient=True)
        except sqlite3.Error as error:
            self.failed_ms = self._clock.monotonic_ms()
            failure = storage_error(error)
        except Unavailable as error:
            failure = error
        except Exception:
            # A mistake of ours, which must not end the thread: everybody would wait for ever.
            logger.exception("the writer failed unexpectedly")
            failure = BrokerFailed("the broker failed; nothing of this request was stored")
        else:
            self._note_pages(done)
            return done
        if not self._taken:  # nothing can be done about what waits
            self._taken = self._take_waiting()
        return self._failed(failure)

    @property
    def _is_log_long(self) -> bool:
        """Whether a commit has to write the rest of the log into the file, which the thread does.

        It waits for the other checkpoint thread, until the log is twice as long.
        """
        return self._left <= (-LOG_PAGES if self._checkpoints.is_busy else 0)

    def _note_pages(self, done: list[_Ticket]) -> None:
        """Count the pages of a commit, and begin a checkpoint when one is due."""
        before = self._left
        self._left -= _PAGES_OF_COMMIT + sum(one.pages for one in done)
        if self._left <= _LAST_PAGES < before:
            self._checkpoints.begin()

    def _failed(self, failure: Mq9Error) -> list[_Ticket]:
        """Fail the commands that could not be carried out."""
        taken, self._taken = self._taken, []
        outcome: Outcome[Any] = Outcome(None, failure, self._clock.now_ms())
        for ticket in taken:
            ticket.outcome = outcome
        return taken

    def _set_patient(self, is_patient: bool) -> None:
        """Let commits wait for another process's, and write the log into the file; or not."""
        if is_patient != self._is_patient:
            store.set_patient(self._connection, is_patient)
            handler = None if is_patient else self._steps
            self._connection.set_progress_handler(handler, STEPS_BETWEEN_LOOKS)
            self._is_patient = is_patient

    def _transact(self, *, is_patient: bool) -> list[_Ticket]:
        """Carry out the next commands in one transaction; return them with their outcomes.

        If it raises, nothing was changed, or the file is lost. The taken commands come first the
        next time.

        Args:
            is_patient: Whether it may take long: wait for other processes, take a command whose
                client's last one was slow, and write the log into the file.
        """
        self._file.look_closely(self._connection)
        self._file.refuse_lost()
        self._set_patient(is_patient)
        with store.transaction(self._connection):
            applying = self._go_on()
            self._file.renew(self._connection)
            done = self._carry_out(applying, is_patient=is_patient)
            applying.finish()
        self._file.note_renewed()
        self._file.look_closely(self._connection)
        self._file.refuse_lost(has_written=True)  # a commit into a removed file is lost
        if applying.may_go_on:
            self._applying = applying
        self.failed_ms = None
        self._taken = []
        return done

    def _go_on(self) -> CommandTransaction:
        """Return the state of the last transaction, or a new one if others have written since."""
        applying, self._applying = self._applying, None  # until the commit
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if applying is None or version != self._version:
            applying = CommandTransaction(self._connection, self._clock, self._derived)
            self._version = version
        else:
            applying.catch_up()
        return applying

    def _carry_out(self, applying: CommandTransaction, *, is_patient: bool) -> list[_Ticket]:
        """Carry out those whose turn it is, in a transaction; see `_transact`."""
        done: list[_Ticket] = []
        again = deque(self._taken)
        begun = before = self._timer()
        count = 0  # commands
        while count < _MOST_TOGETHER or again:
            left = None if is_patient and not count else _COMMIT_S - (before - begun)
            run = self._take_run(again, _MOST_TOGETHER - count, left)
            if not run:
                break
            try:
                if isinstance(run[0].call.request, SendBatch):
                    self._send(applying, run)
                else:
                    run[0].outcome = applying.carry_out(run[0].call)
            finally:
                now = self._timer()
                self._charge(run, now - before)
                before = now
            done += run
            count += sum(one.count for one in run)
        return done

    def _take_run(self, again: deque[_Ticket], most: int, left_s: float | None) -> list[_Ticket]:
        """Take the next command, or the batches of SENDs that come before any other command.

        Args:
            again: Taken before, and carried out first.
            most: SENDs beyond which no other batch is taken.
            left_s: Seconds that the commands may take; see `FairQueue.take`.
        """
        run: list[_Ticket] = []
        sends = 0
        while not run or sends < most:
            if again:
                ticket: _Ticket | None = again.popleft()
            else:
                ticket = self._take(None if left_s is None else left_s - sends * self._send_s)
                if ticket is not None:
                    self._taken.append(ticket)
            if ticket is None:
                break
            if isinstance(ticket.call.request, SendBatch):
                ticket.call.request.close()
                run.append(ticket)
                sends += ticket.count
            elif run:
                again.appendleft(ticket)
                break
            else:
                return [ticket]
        return run

    def _send(self, applying: CommandTransaction, run: list[_Ticket]) -> None:
        answers = applying.carry_out_sends([one.call for one in run])
        now_ms = self._clock.now_ms()
        for ticket, of_batch in zip(run, answers, strict=True):
            ticket.outcome = Outcome(of_batch, None, now_ms)

    def _charge(self, run: list[_Ticket], seconds: float) -> None:
        """Divide the time of a commit among the clients of its commands."""
        weights = [one.weight for one in run]
        total = sum(weights)
        for ticket, weight in zip(run, weights, strict=True):
            self._queue.charge(ticket.client, seconds * weight / total)
        if isinstance(run[0].call.request, SendBatch):
            self._send_s = seconds / max(sum(one.count for one in run), 1)

    def _take(self, most: float | None) -> _Ticket | None:
        """Take the next command that somebody waits for; ``most`` as for `FairQueue.take`."""
        while (ticket := self._queue.take(most)) is not None and ticket.abandoned:
            ticket.work.end()
            self._queue.charge(ticket.client, 0.0)
        return ticket

    def _take_waiting(self) -> list[_Ticket]:
        """Take what nothing can be done about."""
        taken: list[_Ticket] = []
        while len(taken) < _MOST_TOGETHER and (ticket := self._take(None)) is not None:
            self._queue.charge(ticket.client, 0.0)
            taken.append(ticket)
        return taken

    def _tell_outcomes(
        self, done: list[_Ticket], here: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Report outcomes, all of one event loop by one call.

        ``here`` is the running event loop, if there is one.
        """
        elsewhere: dict[asyncio.AbstractEventLoop, list[_Ticket]] = {}
        for ticket in done:
            if ticket.loop is None:
                self._on_news(ticket.call.address)  # others can fetch the message now
            elif ticket.abandoned:  # its loop may be about to close
                self._note_lost(ticket)
            elif ticket.loop is here:
                self._tell(ticket)
            else:
                elsewhere.setdefault(ticket.loop, []).append(ticket)
        for loop, ones in elsewhere.items():
            try:
                loop.call_soon_threadsafe(self._tell_all, ones)
            except RuntimeError:  # the loop that asked is closed
                for ticket in ones:
                    self._undo(ticket)
        for ticket in done:
            ticket.work.end()

    def _tell_all(self, done: list[_Ticket]) -> None:
        for ticket in done:
            self._tell(ticket)

    def _tell(self, ticket: _Ticket) -> None:
        """Report an outcome; an error here does not affect the others."""
        assert ticket.told is not None  # noqa: S101  # who has an event loop is told
        assert ticket.outcome is not None  # noqa: S101  # it was carried out
        try:
            ticket.told(ticket.outcome)
        except Exception:
            logger.critical("the outcome of a request could not be told", exc_info=True)

    def _note_lost(self, ticket: _Ticket) -> None:
        """Handle the outcome of a command whose client no longer waits."""
        if ticket.outcome is not None and ticket.outcome.error is None:
            self._undo(ticket)
            self._wake_waiters(ticket.call)

    def _wake_waiters(self, call: Call[Any]) -> None:
        """Wake clients that wait for mail of the changed mailboxes."""
        verb = OF_REQUEST.get(type(call.request))
        wakes = Wakes.EVERYBODY if verb is None else verb.wakes
        if wakes is not Wakes.NOBODY:
            self._on_news(call.address if wakes is Wakes.ITS_GROUPS else None)

    def _undo(self, ticket: _Ticket) -> None:
        """Take back a lease that reached no client; other changes stay, as after a lost reply."""
        assert ticket.outcome is not None  # noqa: S101  # it was carried out
        undo = undo_of(ticket.call, ticket.outcome.value)
        if undo is not None:
            self.undo_soon(undo, ticket.client)
