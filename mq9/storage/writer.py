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
_PAGES_OF_COMMIT = 7  # that a commit writes to the log, about, beside those that its commands fill
_PAGE_BYTES = 4_096
_ROW_BYTES = 256  # that a message of a batch fills beside its payload, about
_SEND_BYTES = 8_000  # of payload, which take as long as all else about a SEND
_SEND_S = 0.00005  # that a SEND takes, before any was measured

# They may take a commit's time and more, and nobody waits for them.
_LONG = (LocalChange, Sweep)


Told = Callable[[Outcome[Any]], None]


@dataclass(slots=True)
class _Ticket:
    """A command in the queue, and who is told what became of it, if anybody is."""

    call: Call[Any]
    client: str  # whose commands it is in order with
    work: Work  # that the clock waits for
    loop: asyncio.AbstractEventLoop | None = None  # on which somebody is told
    told: Told | None = None  # called there with the outcome
    abandoned: bool = False  # nobody waits any more
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
    """Carries commands out, those that have queued up in one commit.

    A thread does it. Where no reply waits for the disk, the event loop that asks does it itself as
    long as the thread is idle: to hand a command over and its outcome back takes longer than most
    commands do. What would take an event loop long is left to the thread, and so are checkpoints
    and waiting for another process that writes.

    Args:
        connection: The connection that writes; closed by whoever opened it, after ``end``.
        file: Tells whether the file is still the one that was opened.
        checkpoints: Writes most of the log into the file beside the commits.
        clock: Tells when commands happen.
        derived: Follows the engine's state.
        on_news: Called on any thread with the mailbox in which something was taken back, and with
            None after another process wrote to the file.
        timer: Gives the seconds that the thread which asks has had of the processor, to measure
            commands with: what a command waits for is not its client's doing.
        uses_loops: Whether event loops may carry commands out.

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
        self.failed_ms: int | None = None  # when the storage refused what was last written
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
        # The loop that is about to commit what was asked for on it, the last of those that are.
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

        A command whose caller is cancelled is not begun any more, and a lease is taken back.
        """
        future: asyncio.Future[Outcome[R]] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome[R]) -> None:
            if not future.cancelled():
                future.set_result(outcome)
            else:
                self._reached_nobody(ticket)

        ticket = self.begin(call, client, told, last=last)
        try:
            return await future
        except asyncio.CancelledError:
            ticket.abandoned = True
            if not future.cancelled():
                self._undo(ticket)
            raise

    def begin(self, call: Call[Any], client: str, told: Told, *, last: bool = False) -> _Ticket:
        """Have a command carried out, and be told when it is as durable as was promised.

        Args:
            call: What to do.
            client: Whose commands it is to be in order with, and shares its time with.
            told: Called with the outcome, on the event loop that runs now.
            last: Whether all that was accepted goes first.

        Raises:
            NotConnected: The writer is closed.
            LimitReached: Too much is queued.
        """
        loop = asyncio.get_running_loop()
        ticket = self._enqueue(call, client, loop, told, last=last)
        if not self._uses_loops or last or isinstance(call.request, _LONG):
            self._queue.wake()
        elif self._committing is not loop:
            # Behind all that is ready to run now: what that asks for is carried out together.
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
        """Take back, soon, a FETCH reply that reached nobody."""
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
        """Carry out what was accepted, and end the thread."""
        self._stopping = True
        self._queue.wake()
        self._thread.join()
        self._news.close()

    def _run(self) -> None:
        """Take what has queued up, commit it, answer; the thread's function."""
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
        """Commit what has queued up on the event loop that runs, or leave it to the thread."""
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
        except OutcomeUnknown as error:  # to try again would say that nothing was done
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
            if self._queue or self._taken:  # other than what the outcomes make anybody ask for
                self._queue.wake()
            self._tell_outcomes(done, loop)

    def _commit(self) -> list[_Ticket]:
        """Commit what has queued up, on the thread; what has an outcome now."""
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

        It waits for a checkpoint beside the commits, though not until the log is twice as long.
        """
        return self._left <= (-LOG_PAGES if self._checkpoints.is_busy else 0)

    def _note_pages(self, done: list[_Ticket]) -> None:
        """Count what a commit wrote to the log, and have a checkpoint begun when it is time to."""
        before = self._left
        self._left -= _PAGES_OF_COMMIT + sum(one.pages for one in done)
        if self._left <= _LAST_PAGES < before:
            self._checkpoints.begin()

    def _failed(self, failure: Mq9Error) -> list[_Ticket]:
        """Refuse what was taken and could not be carried out."""
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
        """Carry out, in one transaction, those whose turn it is; these have an outcome then.

        When it raises, nothing was changed, or the file is lost; what it took is carried out first
        the next time.

        Args:
            is_patient: Whether it may take long: it waits for other processes, the first has its
                turn however long its client's last one took, and the log is written into the file
                when it is time to.
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
        self._file.refuse_lost(has_written=True)  # what a removed file has taken is no success
        if applying.may_go_on:
            self._applying = applying
        self.failed_ms = None
        self._taken = []
        return done

    def _go_on(self) -> CommandTransaction:
        """Return the last transaction's commands if nobody else has written since, or new ones."""
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
        """Divide the time of what was carried out together among those who asked."""
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
        """Tell outcomes to those who wait for them, all of one event loop by one call.

        ``here`` is the event loop that this runs on, if it is one.
        """
        elsewhere: dict[asyncio.AbstractEventLoop, list[_Ticket]] = {}
        for ticket in done:
            if ticket.loop is None:
                self._on_news(ticket.call.address)  # what was taken back is there for others
            elif ticket.abandoned:  # its loop may be about to close
                self._reached_nobody(ticket)
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
        """Tell an outcome to who waits for it; others are told theirs whatever comes of that."""
        assert ticket.told is not None  # noqa: S101  # who has an event loop is told
        assert ticket.outcome is not None  # noqa: S101  # it was carried out
        try:
            ticket.told(ticket.outcome)
        except Exception:
            logger.critical("the outcome of a request could not be told", exc_info=True)

    def _reached_nobody(self, ticket: _Ticket) -> None:
        """Do for a command what nobody does who does not wait for its outcome any more."""
        if ticket.outcome is not None and ticket.outcome.error is None:
            self._undo(ticket)
            self._tell_of(ticket.call)

    def _tell_of(self, call: Call[Any]) -> None:
        """Tell of what nobody else tells of, since nobody waits for the outcome any more."""
        verb = OF_REQUEST.get(type(call.request))
        wakes = Wakes.EVERYBODY if verb is None else verb.wakes
        if wakes is not Wakes.NOBODY:
            self._on_news(call.address if wakes is Wakes.ITS_GROUPS else None)

    def _undo(self, ticket: _Ticket) -> None:
        """Take back a lease that reached nobody; other changes stand, as if a reply were lost."""
        assert ticket.outcome is not None  # noqa: S101  # it was carried out
        undo = undo_of(ticket.call, ticket.outcome.value)
        if undo is not None:
            self.undo_soon(undo, ticket.client)
