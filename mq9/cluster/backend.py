"""Commands appended to a replicated log, and carried out on a copy of the state."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mq9.clock import Clock, SteadyClock, SystemClock, Work, sleep
from mq9.cluster.follower import Follower
from mq9.cluster.log import Last, Log, Logged, Purged
from mq9.cluster.log_clock import LogClock
from mq9.cluster.records import MOST_CALLS, LogRecord, NoRecord, encode
from mq9.cluster.replica import Applied, Replica, Snapshot, State
from mq9.engine import machine
from mq9.engine.codec import UnreadableEntry, encode_call
from mq9.engine.commands import Advance, Call, Limits, Outcome, SetLimits, Undo, undo_of
from mq9.engine.machine import UNCHANGING
from mq9.engine.messages import Outdated
from mq9.errors import LimitReached, Mq9Error, NotConnected, OutcomeUnknown, Unavailable
from mq9.protocol import requests
from mq9.protocol.request import Request
from mq9.storage.backend import MAX_STEPS, LocalChange, TooLong, read, storage_error
from mq9.storage.readers import Readers
from mq9.storage.turns import FairQueue

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

_MOST_QUEUED = 10_000  # from then on only who has nothing queued may add to it
_MOST_HERE = 4  # records that are applied on the event loop; more have been waiting
_MOST_STEPS = 200_000  # of SQLite's machine, for these; some milliseconds
_HEAD_BYTES = 4_096  # of a record beside its calls
_PAUSE_S = 0.25  # after the log could not be read
_LOOK_S = 2.0  # after which it is asked how far it has come, though nobody wants to know
_MOST_DIGESTING = 4  # states at once, each of which is kept until it is digested
_CLOSING_MS = 10_000  # for what was accepted
_BEHIND = (
    "the log no longer has what this gateway has not applied: "
    "started again, it begins with a snapshot"
)
_DAMAGED = "what was appended to the log was damaged on its way; nothing of this was carried out"
_UNKNOWN = "the gateway stopped; the outcome is unknown"


@dataclass(slots=True)
class _Ticket:
    """A command that is to be appended, and who is told what became of it, if anybody is.

    Attributes:
        call: The command.
        encoded: The same as bytes.
        asker: Whose commands it is in order with.
        told: Called with the outcome.
        abandoned: Whether nobody waits any more.
    """

    call: Call[Any]
    encoded: bytes
    asker: str
    told: Callable[[Outcome[Any]], None] | None
    abandoned: bool = False


class _Awaited(NamedTuple):
    """A command that is to be appended, and the future of its outcome."""

    ticket: _Ticket
    outcome: asyncio.Future[Outcome[Any]]


@dataclass(slots=True, eq=False)
class _Look:
    """A command of which it is being looked whether it changes anything.

    Attributes:
        call: The command.
        queued: Where it was queued, so that it comes before a later one of its asker.
    """

    call: Call[Any]
    queued: _Awaited | None = None


class _Appended(NamedTuple):
    """A record that the log may have, and this copy has not applied.

    Attributes:
        tickets: Its commands.
        appending: Appends it.
        begun_ms: When that began, as ``monotonic_ms`` tells.
    """

    tickets: list[_Ticket]
    appending: asyncio.Task[int | None]
    begun_ms: int


class ClusterBackend:
    """Appends commands to a log, and answers when its own copy of the state has applied them.

    What comes meanwhile is appended together, a record at a time, so that the commands of one
    asker are in order. Reads are made on the copy, once it has what the log had when they were
    asked for.

    Args:
        log: The log.
        replica: The copy.
        log_clock: Is told what time it is for the log.
        clock: Tells that, and never goes back.
        on_news: Called with the mailbox in which something has changed, and with None after
            something has that concerns others.
        name: Of this gateway; no other process has it, nor has this one had it before.
        max_record: Bytes that the log takes in one record.
        timers: Measures how long the log is waited for.
        timer: Gives the seconds from some instant, to measure with.
        max_read_steps: Steps of SQLite's machine that one read may take.
        readers: Reads the copy; None for one on threads of its own.
        thread: Works on the copy, on one thread; None for one of its own.

    Attributes:
        log: The log.
        on_appended: Called with the seconds that each append took, with all its tries.
        on_verified: Called with a record by which digests were asked for, and with the digest.
        left_out: How many records of the log were none.
        is_behind: Whether it failed since the log no longer has what it would have applied next.
    """

    def __init__(
        self,
        log: Log,
        replica: Replica,
        log_clock: LogClock,
        clock: SteadyClock,
        on_news: Callable[[str | None], None],
        *,
        name: str,
        max_record: int,
        timers: Clock | None = None,
        timer: Callable[[], float] = time.perf_counter,
        max_read_steps: int = MAX_STEPS,
        readers: Readers | None = None,
        thread: Executor | None = None,
    ) -> None:
        self.log = log
        self._replica = replica
        self._log_clock = log_clock
        self._clock = clock
        clock.catch_up(replica.now_ms)
        self._on_news = on_news
        self._name = name
        self._max_record = max_record - _HEAD_BYTES
        self.on_appended: Callable[[float], None] = lambda _: None
        self.on_verified: Callable[[Applied, str], None] = lambda _, __: None
        self.left_out = 0
        self._left_out = 0  # the last of them
        self.is_behind = False
        self._timer = timer
        self._timers = timers or SystemClock()
        self._follower = Follower(log, self._timers, replica.sequence)
        self._readers = readers or Readers(replica.path, max_read_steps)
        self._thread = thread or ThreadPoolExecutor(1, "mq9-replica")
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._left_over: _Ticket | None = None  # taken from the queue, for the next record
        self._unanswered: Counter[str] = Counter()  # commands of each asker, queued or appended
        self._looking: dict[str, list[_Look]] = {}  # by asker
        self._wanted = asyncio.Event()
        self._numbers = itertools.count(1)
        self._appended: dict[int, _Appended] = {}  # by the number of the record
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by sequence
        self._order = itertools.count()
        self._asking: asyncio.Task[None] | None = None  # how far the log has come
        self._curious: list[asyncio.Future[int]] = []  # who want to know, and are asked for next
        self._digesting: dict[asyncio.Task[None], State] = {}
        self._progress = asyncio.Event()  # in what was accepted
        self._work: Work | None = None  # while anything is
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._failure: Mq9Error | None = None
        self.failed_ms: int | None = None

    async def open(self, limits: Limits | None) -> None:
        """Catch up with the log, and begin to append.

        Args:
            limits: What the broker takes from now on; None for what it took before.

        Raises:
            Unavailable: The log cannot be reached, or not be applied.
        """
        self._loop = asyncio.get_running_loop()
        await self._follower.start()
        self._tasks = [
            asyncio.create_task(self._or_stop(self._apply_all)),
            asyncio.create_task(self._or_stop(self._append_all)),
        ]
        await self._catch_up()
        self._tasks.append(asyncio.create_task(self._look_often()))
        if limits is not None and limits != self._replica.limits:
            await self.run(Call(SetLimits(limits=limits)))

    async def run(self, call: Call[Request[R]], asker: str = "") -> R:
        """Carry out a command."""
        return await self._on_own_loop(self._run(call, asker))

    def begin(self, call: Call[Any], asker: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and tell when that is done."""

        def note(outcome: Outcome[Any]) -> None:
            self._note_answered(asker)
            told(outcome)

        self._enqueue_looks(asker)
        self._enqueue(call, asker, note)
        self._unanswered[asker] += 1

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        return await self._on_own_loop(self._answer_query(call))

    async def _on_own_loop(self, work: Coroutine[Any, Any, R]) -> R:
        """Await work on the event loop that the backend was opened on: others may ask, too."""
        if self._loop is None or asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _run(self, call: Call[Request[R]], asker: str) -> R:
        self._check()
        if isinstance(call.request, LocalChange):
            changed: R = await self._on_thread(self._replica.change, call.request)
            return changed
        if type(call.request) in UNCHANGING and asker not in self._unanswered:
            return (await self._append_unless_answered(call, asker)).result()
        self._enqueue_looks(asker)
        return (await self._append(call, asker)).result()

    async def _answer_query(self, call: Call[Request[R]]) -> R:
        self._check()
        await self._catch_up()
        try:
            return await self._read(call)
        except Outdated as outdated:
            advanced = await self._append(Call(Advance(), outdated.address), "")
            advanced.result()
            return await self._read(call, advanced.now_ms)

    def make_undone(self, undo: Call[Undo], asker: str = "") -> None:
        """Take back, soon, a FETCH reply that reached nobody."""
        try:
            self._enqueue(undo, asker, None)
        except Mq9Error as error:
            logger.warning("a lease that reached nobody was left to run out: %s", error)

    @property
    def failure(self) -> Mq9Error | None:
        """Why it answers nothing any more; None while it does."""
        return self._failure

    @property
    def known(self) -> int:
        """The number of the last record that the log is known to have."""
        return self._follower.known

    @property
    def sequence(self) -> int:
        """The number of the last record of the log that was applied."""
        return self._replica.sequence

    async def copy_to(self, path: Path) -> Snapshot:
        """Copy the state into a new file; return what is in it.

        Raises:
            Unavailable: The storage failed.
        """
        try:
            return await asyncio.to_thread(self._replica.copy_to, path)
        except sqlite3.Error as error:
            raise storage_error(error) from error

    def watch(self, watching: bool) -> None:
        """Nothing has to be looked for: the log tells of every change."""

    async def close(self) -> None:
        """Finish what was accepted, and let go of the copy."""
        if self._closed:
            return
        self._closed = True
        await self._finish()
        self._failure = self._failure or NotConnected("the broker is closed")
        if self._asking is not None:
            self._tasks.append(self._asking)
        for task in self._tasks:
            task.cancel()
        for state in self._digesting.values():
            state.leave()
        await asyncio.gather(*self._tasks, *self._digesting, return_exceptions=True)
        self._fail(self._failure)
        await asyncio.to_thread(self._let_go)

    async def _finish(self) -> None:
        """Wait until what was accepted is answered, as long as one may wait for a log."""
        deadline_ms = self._timers.monotonic_ms() + _CLOSING_MS
        timer = self._timers.call_later(_CLOSING_MS, self._progress.set)
        try:
            while (
                self._failure is None
                and self._has_accepted
                and self._timers.monotonic_ms() < deadline_ms
            ):
                self._progress.clear()
                await self._progress.wait()
        finally:
            timer.cancel()

    @property
    def _has_accepted(self) -> bool:
        """Whether there are commands whose outcome is not known yet."""
        return bool(self._queue or self._left_over or self._appended)

    def _note_progress(self) -> None:
        self._progress.set()
        if self._work is not None and not self._has_accepted:
            self._work.end()
            self._work = None

    def _let_go(self) -> None:
        self._thread.shutdown()
        self._readers.finish()
        with self._readers:
            self._readers.close_taken()
        self._replica.close()

    def _check(self) -> None:
        if self._closed:
            raise NotConnected("the broker is closed")
        self._check_alive()

    async def _append_unless_answered(self, call: Call[Request[R]], asker: str) -> Outcome[R]:
        """Answer a command that changes nothing, and append one that may.

        Where another one of the same asker has come meanwhile, it was appended before that.
        """
        look = _Look(call)
        looking = self._looking.setdefault(asker, [])
        looking.append(look)
        answered: Outcome[R] | None = None
        try:
            answered = await self._answer(call)
            if answered is None:
                self._enqueue_looks(asker, look)
        except Mq9Error:
            if look.queued is None:
                raise
        except asyncio.CancelledError:
            if look.queued is not None:
                self._abandon(look.queued)
            raise
        finally:
            looking.remove(look)
            if not looking:
                del self._looking[asker]
        if look.queued is not None:
            return await self._outcome(look.queued)
        assert answered is not None  # noqa: S101  # else it would have been queued
        return answered

    def _enqueue_looks(self, asker: str, last: _Look | None = None) -> None:
        """Have appended what was to be looked at first, up to a command if one is given."""
        for look in self._looking.get(asker, ()):
            if look.queued is None:
                look.queued = self._enqueue_awaited(look.call, asker)
            if look is last:
                break

    async def _answer(self, call: Call[Request[R]]) -> Outcome[R] | None:
        """Answer a command that changes nothing; None where it is to be appended.

        One that would change this copy as it is gets appended, whatever the log has besides. Only
        that there is nothing to do has to be so with all that the log has, at the present instant.
        """

        def look(connection: sqlite3.Connection) -> Outcome[R] | None:
            return machine.answer(connection, call, at_ms)

        at_ms = 0  # which the copy takes for the instant of its last entry
        with contextlib.suppress(Mq9Error):  # it may be no refusal to who knows the whole log
            if await self._look(look) is None:
                return None
        await self._catch_up()
        at_ms = self._clock.now_ms()
        return await self._look(look)

    async def _read(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        return await self._look(
            lambda connection: read(connection, call, self._clock, at_ms),
            is_bounded=call.request.is_bounded,
        )

    async def _look(self, look: Callable[[sqlite3.Connection], R], *, is_bounded: bool = True) -> R:
        try:
            with self._clock.busy():
                return await self._readers.read(look, is_bounded=is_bounded)
        except sqlite3.Error as error:
            raise storage_error(error) from error

    async def _catch_up(self) -> None:
        """Wait until the copy has what the log had when this was called."""
        self._check_alive()
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._curious.append(told)
        if self._asking is None:
            self._asking = asyncio.create_task(self._or_stop(self._ask))
        with self._clock.busy():
            last = await told
        await self._applied(last)

    async def _look_often(self) -> None:
        """Notice what was not heard of, for those who wait for news."""
        while True:
            await sleep(self._timers, _LOOK_S)
            with contextlib.suppress(Mq9Error):  # there is a next time
                await self._follower.hear_again()
                await self._catch_up()

    async def _ask(self) -> None:
        """Ask for the number of the last record, each time for all who have come to wait for it."""
        # What is told may be from before somebody asked who comes while it is being told.
        while self._curious:
            curious, self._curious = self._curious, []
            try:
                last = await self._last()
            except Mq9Error as error:
                _refuse(curious, error)
            except BaseException:
                self._curious += curious
                raise
            else:
                self._follower.expect(last.sequence)
                for told in curious:
                    if not told.done():
                        told.set_result(last.sequence)
        self._asking = None

    async def _last(self) -> Last:
        asked_ms = self._clock.monotonic_ms()
        last = await self.log.last()
        self._log_clock.follow(last.now_ms, asked_ms)
        return last

    async def _applied(self, sequence: int) -> None:
        """Wait until a record was applied."""
        if self._replica.sequence >= sequence:
            return
        self._check_alive()
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (sequence, next(self._order), future))
        with self._clock.busy():
            await future

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _append(self, call: Call[Request[R]], asker: str) -> Outcome[R]:
        return await self._outcome(self._enqueue_awaited(call, asker))

    def _enqueue_awaited(self, call: Call[Any], asker: str) -> _Awaited:
        """Have a command appended, for whose outcome somebody waits."""
        future: asyncio.Future[Outcome[Any]] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome[Any]) -> None:
            if future.cancelled():
                self._reached_nobody(awaited.ticket, outcome)
            else:
                future.set_result(outcome)

        awaited = _Awaited(self._enqueue(call, asker, told), future)
        self._unanswered[asker] += 1
        future.add_done_callback(lambda _: self._note_answered(asker))
        return awaited

    def _note_answered(self, asker: str) -> None:
        self._unanswered[asker] -= 1
        if not self._unanswered[asker]:
            del self._unanswered[asker]

    async def _outcome(self, awaited: _Awaited) -> Outcome[Any]:
        try:
            return await awaited.outcome
        except asyncio.CancelledError:
            self._abandon(awaited)
            raise

    def _abandon(self, awaited: _Awaited) -> None:
        """Note that nobody waits any more."""
        ticket, outcome = awaited
        ticket.abandoned = True
        if not outcome.cancel() and not outcome.cancelled():
            self._undo(ticket, outcome.result())

    def _enqueue(
        self, call: Call[Any], asker: str, told: Callable[[Outcome[Any]], None] | None
    ) -> _Ticket:
        self._check()
        if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(asker):
            raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
        ticket = _Ticket(call, encode_call(call), asker, told)
        if len(ticket.encoded) > self._max_record:
            raise LimitReached(
                f"payload: the request has {len(ticket.encoded)} bytes, more than the "
                f"{self._max_record} that the cluster's log takes"
            )
        self._queue.put(asker, ticket)
        self._wanted.set()
        # Also for what nobody awaits, as what takes back a lease that reached nobody.
        self._work = self._work or self._clock.busy()
        return ticket

    async def _or_stop(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what nobody waits for; should it fail, the gateway answers nothing any more."""
        try:
            await work()
        except Exception:
            logger.exception("the gateway failed unexpectedly")
            self._stop(Unavailable("the gateway failed; nothing of this request was stored"))

    async def _append_all(self) -> None:
        """Append what is queued, one record after the other."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while tickets := self._take():
                number = next(self._numbers)
                appending = asyncio.create_task(self._append_record(number, tickets))
                begun_ms = self._clock.monotonic_ms()
                self._appended[number] = _Appended(tickets, appending, begun_ms)
                await asyncio.wait([appending])
                if not appending.cancelled():
                    appending.result()
            self._note_progress()

    def _take(self) -> list[_Ticket]:
        """Take from the queue what fits into one record."""
        taken: list[_Ticket] = []
        size = 0
        while len(taken) < MOST_CALLS:
            ticket, self._left_over = self._left_over, None
            if ticket is None:
                ticket = self._queue.take()
                if ticket is None:
                    break
                self._queue.charge(1.0)  # each asker has its turn, whatever it asks for
            if ticket.abandoned:
                continue
            if taken and size + len(ticket.encoded) > self._max_record:
                self._left_over = ticket
                break
            size += len(ticket.encoded) + 5
            taken.append(ticket)
        return taken

    async def _append_record(self, number: int, tickets: list[_Ticket]) -> int | None:
        """Append a record; return its number in the log, if that is known."""
        calls = tuple(ticket.encoded for ticket in tickets)
        # What was seen as due is due when the record is applied, whatever the log's clock does.
        record = LogRecord(self._name, number, self._clock.now_ms(), calls)
        begun = self._timer()
        try:
            sequence = await self.log.append(encode(record), f"{self._name}.{number}")
        except Mq9Error as error:
            self._refuse_appended(number, error)
            return None
        self._follower.expect(sequence)
        self.on_appended(self._timer() - begun)
        if sequence == self._left_out:
            self._refuse_appended(number, Unavailable(_DAMAGED))
        return sequence

    def _refuse_appended(self, number: int, error: Mq9Error) -> None:
        appended = self._appended.pop(number, None)
        if appended is not None:
            self._resolve_failed(appended.tickets, error)

    async def _apply_all(self) -> None:
        """Apply what the log has, and answer those who wait for it."""
        while self._failure is None:
            try:
                records = await self._follower.take()
            except (Purged, Mq9Error) as error:
                await self._note_unread(error)
                continue
            while records and self._failure is None:
                try:
                    applied = await self._apply(records)
                except NoRecord as error:
                    records = await self._leave_out(records, error)
                    continue
                except UnreadableEntry as error:
                    logger.critical("the log cannot be applied: %s", error)
                    self._stop(Unavailable(f"this gateway cannot read the cluster's log: {error}"))
                    return
                except sqlite3.Error as error:
                    self._stop(Unavailable(f"this gateway stopped: {storage_error(error)}"))
                    return
                records = records[len(applied) :]
                self._clock.catch_up(self._replica.now_ms)
                self._deliver(applied)

    async def _note_unread(self, error: Purged | Mq9Error) -> None:
        """Stop, or wait a little before the log is read again."""
        if isinstance(error, Purged):
            self.is_behind = True
            self._stop(Unavailable(_BEHIND))
        else:
            logger.warning("the log cannot be read: %s", error)
            await sleep(self._timers, _PAUSE_S)

    async def _leave_out(self, records: list[Logged], error: NoRecord) -> list[Logged]:
        """Leave out the first of some records, which is none; return what is to be applied next.

        Every gateway does so. What was damaged on its way here is another thing, and is read again:
        one gateway that leaves out what others apply comes to another state.
        """
        first, *others = records
        try:
            found = await self.log.read(first.sequence)
        except (Purged, Mq9Error) as unread:
            await self._note_unread(unread)
            return records
        if not found:
            return records
        if found[0].data != first.data:
            return [found[0], *others]
        logger.error("record %d of the log is none of mq9, and left out: %s", first.sequence, error)
        self._replica.leave_out(first)
        self.left_out += 1
        self._left_out = first.sequence
        for number, one in list(self._appended.items()):
            if one.appending.done() and one.appending.result() == first.sequence:
                self._refuse_appended(number, Unavailable(_DAMAGED))
        self._deliver([])
        return others

    async def _apply(self, records: list[Logged]) -> list[Applied]:
        """Apply the first of some records: here what takes little, on the thread what takes long.

        To hand over to the thread, and back, takes longer than most records do.
        """
        if not self._replica.is_active and len(records) <= _MOST_HERE:
            with contextlib.suppress(TooLong):
                return self._replica.apply(records, _MOST_STEPS, self._calls)
        return await self._on_thread(self._replica.apply, records, None, self._calls)

    def _calls(self, record: LogRecord) -> list[Call[Request[Any]]]:
        """Return the calls of a record; of one that this gateway appended there is no need to read.

        Raises:
            UnreadableEntry: One is damaged, or has in it what this release does not know.
        """
        own = self._appended.get(record.number) if record.gateway == self._name else None
        if own is None:
            return record.read()
        return [ticket.call for ticket in own.tickets]

    def _deliver(self, applied: list[Applied]) -> None:
        for one in applied:
            if one.record.verify is not None:  # none was applied after it yet
                self._digest(one)
            if one.record.gateway == self._name:
                appended = self._appended.pop(one.record.number, None)
                if appended is not None:
                    appended.appending.cancel()  # where the log has not said yet that it has it
                    self._log_clock.follow(one.now_ms, appended.begun_ms)
                self._resolve(None if appended is None else appended.tickets, one)
            else:
                self._tell_of(one)
        while self._waiting and self._waiting[0][0] <= self._replica.sequence:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
        self._note_progress()

    def _digest(self, applied: Applied) -> None:
        """Begin to digest the state as it is."""
        if len(self._digesting) >= _MOST_DIGESTING:
            logger.warning("no digest: %d are being made", _MOST_DIGESTING)
            return
        try:
            state = self._replica.look()
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
            return
        task = asyncio.create_task(self._tell_digest(applied, state))
        self._digesting[task] = state
        task.add_done_callback(self._digesting.pop)

    async def _tell_digest(self, applied: Applied, state: State) -> None:
        try:
            with self._clock.busy():
                digested = await asyncio.to_thread(state.digest)
        except TooLong:
            return  # the gateway is closed
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
        else:
            self.on_verified(applied, digested)
        finally:
            state.leave()

    def _resolve(self, tickets: list[_Ticket] | None, applied: Applied) -> None:
        if tickets is None:  # those who asked were told that it is not known what became of it
            tickets = [_Ticket(call, b"", "", None) for call in applied.calls]
            for ticket, outcome in zip(tickets, applied.outcomes, strict=True):
                self._undo(ticket, outcome)
        for ticket, outcome in zip(tickets, applied.outcomes, strict=True):
            if ticket.abandoned:
                self._reached_nobody(ticket, outcome)
            elif ticket.told is not None:
                ticket.told(outcome)
            else:
                self._tell_of_call(ticket.call, outcome)

    def _reached_nobody(self, ticket: _Ticket, outcome: Outcome[Any]) -> None:
        self._undo(ticket, outcome)
        self._tell_of_call(ticket.call, outcome)

    def _resolve_failed(self, tickets: list[_Ticket], error: Mq9Error) -> None:
        outcome: Outcome[Any] = Outcome(None, error, self._clock.now_ms())
        for ticket in tickets:
            if ticket.told is None:
                self.make_undone(ticket.call, ticket.asker)  # which may be done twice
            elif not ticket.abandoned:
                ticket.told(outcome)

    def _tell_of(self, applied: Applied) -> None:
        """Tell of what another gateway has changed."""
        for call, outcome in zip(applied.calls, applied.outcomes, strict=True):
            self._tell_of_call(call, outcome)

    def _tell_of_call(self, call: Call[Any], outcome: Outcome[Any]) -> None:
        if outcome.error is not None:
            return
        if call.address:
            self._on_news(call.address)
        if isinstance(call.request, requests.Move):
            self._on_news(call.request.to)

    def _undo(self, ticket: _Ticket, outcome: Outcome[Any]) -> None:
        """Take back a lease that reached nobody; other changes stand, as if a reply were lost."""
        undo = undo_of(ticket.call, outcome.value)
        # A reply that was given before may have reached whoever asked again at another gateway.
        if undo is not None and undo.request.copy == 1:
            self.make_undone(undo, ticket.asker)

    def _stop(self, failure: Mq9Error) -> None:
        """Answer nothing any more."""
        self._failure = failure
        self.failed_ms = self._clock.monotonic_ms()
        self._fail(failure)

    def _fail(self, failure: Mq9Error) -> None:
        appended, self._appended = self._appended, {}
        for one in appended.values():  # the log may have them
            one.appending.cancel()
            self._resolve_failed(one.tickets, OutcomeUnknown(_UNKNOWN))
        while tickets := self._take():
            self._resolve_failed(tickets, failure)
        _refuse([future for *_, future in self._waiting], failure)
        self._waiting.clear()
        _refuse(self._curious, failure)
        self._curious.clear()
        self._note_progress()

    async def _on_thread(self, function: Callable[..., R], *args: object) -> R:
        with self._clock.busy():
            return await asyncio.wrap_future(self._thread.submit(function, *args))


def _refuse(waiting: Sequence[asyncio.Future[Any]], error: Mq9Error) -> None:
    """Tell those who still wait that it came to nothing."""
    for future in waiting:
        if not future.done():
            future.set_exception(error)
