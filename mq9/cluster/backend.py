"""A backend that appends commands to a replicated log, and applies them to a copy of the state."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mq9.broker.asked import known_error
from mq9.clock import Clock, SteadyClock, SystemClock, Work, sleep
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import LogClock, Logged, Purged, Replaced
from mq9.cluster.progress import Progress
from mq9.cluster.records import DEADLINE_MS, LogRecord, NoRecord, encode
from mq9.cluster.replica import Applied, Digests, Replica, Snapshot
from mq9.cluster.room import Room
from mq9.cluster.unappended import (
    Appended,
    Awaited,
    Ticket,
    Unappended,
    Undecided,
    clients_of,
)
from mq9.engine import machine
from mq9.engine.codec import UnreadableEntry
from mq9.engine.commands import (
    Advance,
    Call,
    Limits,
    Outcome,
    SetLimits,
    Undo,
    changed_addresses,
    undo_of,
)
from mq9.engine.machine import UNCHANGING
from mq9.engine.messages import Outdated
from mq9.errors import LimitReached, Mq9Error, NotConnected, OutcomeUnknown, Unavailable
from mq9.protocol.body import Request
from mq9.storage.backend import MAX_STEPS, LocalChange, TooLong, advanced_at, read, storage_error
from mq9.storage.readers import Readers

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

_MOST_APPENDING = 4  # records that the log has not confirmed
_PATIENCE_MS = 10  # for the confirmation of a record, before another one is begun
_MOST_HERE = 4  # most records that are applied on the event loop
_MOST_STEPS = 200_000  # steps of SQLite for these, some milliseconds
_PAUSE_S = 0.25  # before the next try to read the log, or to append when it is full
_CLOSING_MS = 10_000  # for the accepted commands
_OWN_DEADLINE_MS = 20_000  # of the commands for which no client waits
_LEAST_MS = 500  # until the deadline, for a command to be appended
_BEHIND = (
    "the log no longer has records that this gateway lacks: "
    "started again, it begins with a snapshot"
)
REPLACED = (
    "the log of this gateway was removed, and another one has its name; its requests are refused: "
    "stop all gateways, and see the guide to clusters"
)
_DAMAGED = "the record was damaged on its way to the log; the request was not carried out"
_LATE = "the request did not reach the cluster's log in time, and was not carried out; try again"
_UNKNOWN = "the gateway stopped; the outcome is unknown"


class ClusterBackend:
    """Appends commands to a log, and answers when its own copy of the state has applied them.

    Commands that arrive during an append go together into the next record. While the log is slow,
    several records are appended at the same time, but only one with commands of the same client, so
    the commands of a client stay in order. A read waits until the copy has all records that the log
    had at the request.
    """

    def __init__(
        self,
        log: JetStreamLog,
        replica: Replica,
        log_clock: LogClock,
        clock: SteadyClock,
        on_news: Callable[[str | None], None],
        *,
        name: str,
        max_record: int,
        timers: Clock | None = None,
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
        self.on_appended: Callable[[float], None] = lambda _: None  # with the seconds of all tries
        # Called with the record that requested digests, and with the digest.
        self.on_verified: Callable[[Applied, str], None] = lambda _, __: None
        self.closing_ms = _CLOSING_MS  # how long ``close`` waits for the accepted commands
        # Returns the earliest instant, of `monotonic_ms`, at which a request that is read now was
        # sent here.
        self.sent_ms: Callable[[], int] = clock.monotonic_ms
        self.late = 0  # records of this gateway that were skipped, as they came late
        self.left_out = 0  # damaged records, not applied
        self._settled = replica.sequence  # the last record whose clients have their outcomes
        self.is_behind = False  # whether the log was trimmed beyond the applied records
        self._timers = timers or SystemClock()
        self.room = Room(max_record)
        self._progress = Progress(
            log, replica, log_clock, clock, self._timers, self.room, self._or_stop
        )
        self._readers = readers or Readers(replica.path, max_read_steps)
        self._thread = thread or ThreadPoolExecutor(1, "mq9-replica")
        self._queue = Unappended(max_record)
        self._unanswered: Counter[str] = Counter()  # commands of each client, queued or appended
        self._looking: dict[str, list[Undecided]] = {}  # by client
        self._wanted = asyncio.Event()
        self._numbers = itertools.count(1)
        self._appended: dict[int, Appended] = {}  # by the number of the record
        self._appending: dict[int, Appended] = {}  # those that are not confirmed, in order
        self._digests = Digests(replica, clock)
        self._resolved = asyncio.Event()  # set when an accepted command has its outcome
        self._work: Work | None = None  # while there are accepted commands
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.failed_ms: int | None = None

    takes_batches = True

    async def open(self, limits: Limits | None) -> None:
        """Catch up with the log, and start to append."""
        self._loop = asyncio.get_running_loop()
        await self._progress.follower.start()
        self._tasks = [
            asyncio.create_task(self._or_stop(self._apply_all)),
            asyncio.create_task(self._or_stop(self._append_all)),
        ]
        await self._progress.catch_up()
        self._tasks.append(asyncio.create_task(self._progress.look_often()))
        if limits is not None and limits != self._replica.limits:
            await self.run(Call(SetLimits(limits=limits)))

    async def run(self, call: Call[Request[R]], client: str = "") -> R:
        """Carry out a command."""
        return await self._on_own_loop(self._run(call, client))

    def begin(self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and call a function with its outcome."""
        own, here = self._loop, asyncio.get_running_loop()
        if own is None or own is here:
            self._begin(call, client, told)
            return

        def tell(outcome: Outcome[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits on an event loop that is closed
                here.call_soon_threadsafe(told, outcome)

        def begin() -> None:
            try:
                self._begin(call, client, tell)
            except Exception as error:  # noqa: BLE001  # it is logged
                failure = known_error(type(call.request).__name__, error)
                tell(Outcome(None, failure, self._clock.now_ms()))

        own.call_soon_threadsafe(begin)

    def _begin(self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None]) -> None:
        def note(outcome: Outcome[Any]) -> None:
            self._note_answered(client)
            told(outcome)

        self.room.check(call.request)
        self._enqueue_looks(client)
        self._enqueue(call, client, note)
        self._unanswered[client] += 1

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        return await self._on_own_loop(self._answer_query(call))

    async def _on_own_loop(self, work: Coroutine[Any, Any, R]) -> R:
        """Await work on the event loop of the backend; callers may have another one."""
        if self._loop is None or asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _run(self, call: Call[Request[R]], client: str) -> R:
        self._check()
        if isinstance(call.request, LocalChange):
            changed: R = await self._on_thread(self._replica.change, call.request)
            return changed
        self.room.check(call.request)
        if type(call.request) in UNCHANGING and client not in self._unanswered:
            return (await self._append_unless_answered(call, client)).result()
        self._enqueue_looks(client)
        return (await self._append(call, client)).result()

    async def _answer_query(self, call: Call[Request[R]]) -> R:
        self._check()
        await self._progress.catch_up()
        at_ms = None
        while True:
            try:
                return await self._read(call, at_ms)
            except Outdated as outdated:
                for address in outdated.addresses:
                    at_ms = advanced_at(await self._append(Call(Advance(), address), ""))

    def undo_soon(self, undo: Call[Undo], client: str = "") -> None:
        """Take back, soon, the leases of a FETCH whose reply reached no client."""
        try:
            self._enqueue(undo, client, None)
        except Mq9Error as error:
            logger.warning("a lease that reached no client ends after its time: %s", error)

    @property
    def failure(self) -> Mq9Error | None:
        """The failure after which it answers nothing; None while it works."""
        return self._progress.failure

    @property
    def silent_s(self) -> float:
        """Seconds since the leader of the log answered last."""
        return (self._clock.monotonic_ms() - self._progress.heard_ms) / 1000

    @property
    def known(self) -> int:
        """The number of the last known record of the log."""
        return self._progress.follower.known

    @property
    def sequence(self) -> int:
        """The number of the last applied record of the log."""
        return self._replica.sequence

    @property
    def changed(self) -> int:
        """The number of the last applied record that has commands; a snapshot has its number."""
        return self._replica.changed

    async def copy_to(self, path: Path) -> Snapshot:
        """Copy the state into a new file; return its snapshot."""
        try:
            return await asyncio.to_thread(self._replica.copy_to, path)
        except sqlite3.Error as error:
            raise storage_error(error) from error

    def watch(self, watching: bool) -> None:
        """Nothing has to be looked for: the log tells of every change."""

    async def close(self) -> None:
        """Finish the accepted commands, and close the copy."""
        if self._closed:
            return
        self._closed = True
        await self._finish()
        self._progress.failure = self._progress.failure or NotConnected("the broker is closed")
        if self._progress.asking is not None:
            self._tasks.append(self._progress.asking)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._digests.leave(), return_exceptions=True)
        self._fail(self._progress.failure)
        await asyncio.to_thread(self._let_go)

    async def _finish(self) -> None:
        """Wait until the accepted commands have outcomes, for ``closing_ms`` at most."""
        deadline_ms = self._timers.monotonic_ms() + self.closing_ms
        timer = self._timers.call_later(self.closing_ms, self._resolved.set)
        try:
            while (
                self._progress.failure is None
                and self._has_accepted
                and self._timers.monotonic_ms() < deadline_ms
            ):
                self._resolved.clear()
                await self._resolved.wait()
        finally:
            timer.cancel()

    @property
    def _has_accepted(self) -> bool:
        """Whether there are accepted commands without an outcome."""
        return bool(self._queue or self._appended)

    def _note_resolved(self) -> None:
        self._resolved.set()
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
        self._progress.check()

    async def _append_unless_answered(self, call: Call[Request[R]], client: str) -> Outcome[R]:
        """Answer a command that changes nothing; append one that may change something.

        If another command of the same client arrives in the meantime, this one is appended first.
        """
        look = Undecided(call, self._until_ms(client))
        looking = self._looking.setdefault(client, [])
        looking.append(look)
        answered: Outcome[R] | None = None
        try:
            answered = await self._answer(call)
            if answered is None:
                self._enqueue_looks(client, look)
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
                del self._looking[client]
        if look.queued is not None:
            return await self._outcome(look.queued)
        assert answered is not None  # noqa: S101  # else it would have been queued
        return answered

    def _enqueue_looks(self, client: str, last: Undecided | None = None) -> None:
        """Enqueue the commands that are being looked at, up to the last one if it is given."""
        for look in self._looking.get(client, ()):
            if look.queued is None:
                look.queued = self._enqueue_awaited(look.call, client, look.until_ms)
            if look is last:
                break

    async def _answer(self, call: Call[Request[R]]) -> Outcome[R] | None:
        """Answer a command that changes nothing; None if it must be appended.

        A command that would change this copy is appended at once. That a command changes nothing is
        checked again when the copy has all records of the log, at the present instant.
        """

        def look(connection: sqlite3.Connection) -> Outcome[R] | None:
            return machine.answer(connection, call, at_ms)

        at_ms = 0  # 0: the instant of the last entry of the copy
        with contextlib.suppress(Mq9Error):  # later records may change a refusal
            if await self._look(look, is_brief=True) is None:
                return None
        await self._progress.catch_up()
        at_ms = self._clock.now_ms()
        return await self._look(look, is_brief=True)

    async def _read(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        return await self._look(
            lambda connection: read(connection, call, self._clock, at_ms),
            is_bounded=call.request.is_bounded,
            is_brief=call.request.is_brief,
        )

    async def _look(
        self,
        look: Callable[[sqlite3.Connection], R],
        *,
        is_bounded: bool = True,
        is_brief: bool = False,
    ) -> R:
        try:
            with self._clock.busy():
                return await self._readers.read(look, is_bounded=is_bounded, is_brief=is_brief)
        except sqlite3.Error as error:
            raise storage_error(error) from error

    async def _append(self, call: Call[Request[R]], client: str) -> Outcome[R]:
        return await self._outcome(self._enqueue_awaited(call, client))

    def _enqueue_awaited(
        self, call: Call[Any], client: str, until_ms: int | None = None
    ) -> Awaited:
        """Enqueue a command for whose outcome a client waits."""
        future: asyncio.Future[Outcome[Any]] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome[Any]) -> None:
            if future.cancelled():
                self._note_lost(awaited.ticket, outcome)
            else:
                future.set_result(outcome)

        awaited = Awaited(self._enqueue(call, client, told, until_ms), future)
        self._unanswered[client] += 1
        future.add_done_callback(lambda _: self._note_answered(client))
        return awaited

    def _note_answered(self, client: str) -> None:
        self._unanswered[client] -= 1
        if not self._unanswered[client]:
            del self._unanswered[client]

    async def _outcome(self, awaited: Awaited) -> Outcome[Any]:
        try:
            return await awaited.outcome
        except asyncio.CancelledError:
            self._abandon(awaited)
            raise

    def _abandon(self, awaited: Awaited) -> None:
        """Note that the client no longer waits."""
        ticket, outcome = awaited
        ticket.abandoned = True
        if not outcome.cancel() and not outcome.cancelled():
            self._undo(ticket, outcome.result())

    def _until_ms(self, client: str) -> int:
        """Return when a command that is begun now has an effect at the latest."""
        if client:
            return self.sent_ms() + DEADLINE_MS
        return self._clock.monotonic_ms() + _OWN_DEADLINE_MS

    def _enqueue(
        self,
        call: Call[Any],
        client: str,
        told: Callable[[Outcome[Any]], None] | None,
        until_ms: int | None = None,
    ) -> Ticket:
        self._check()
        if until_ms is None:
            until_ms = self._until_ms("" if told is None else client)
        ticket = self._queue.put(call, client, told, until_ms)
        self._wanted.set()
        # Also for commands without a waiting client, such as those that take back a lease.
        self._work = self._work or self._clock.busy()
        return ticket

    async def _or_stop(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do work of the gateway itself; if it fails, the gateway answers nothing more."""
        try:
            await work()
        except Replaced:
            logger.critical(REPLACED)
            self._stop(Unavailable(REPLACED))
        except Exception:
            logger.exception("the gateway failed unexpectedly")
            self._stop(Unavailable("the gateway failed; nothing of this request was stored"))

    async def _append_all(self) -> None:
        """Append the queued commands."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._may_append and (taken := self._queue.take()):
                tickets = self._refuse_late(taken)
                if not tickets:
                    continue
                number = next(self._numbers)
                record = Appended(number, tickets, self._clock.monotonic_ms())
                appending = asyncio.create_task(self._or_stop(partial(self._append_record, record)))
                appending.add_done_callback(partial(self._end_appending, record))
                record.appending = appending
                self._appended[number] = self._appending[number] = record
                # The clock counts whole milliseconds.
                self._timers.call_later(_PATIENCE_MS + 1, self._append_more)
            self._note_resolved()

    def _refuse_late(self, taken: list[Ticket]) -> list[Ticket]:
        """Refuse commands whose deadline is near; return the others."""
        least_ms = self._clock.monotonic_ms() + _LEAST_MS
        tickets = [one for one in taken if one.until_ms >= least_ms]
        if len(tickets) < len(taken):
            late = [one for one in taken if one.until_ms < least_ms]
            kept = clients_of(tickets)
            self._queue.release([one for one in clients_of(late) if one not in kept])
            self._resolve_failed(late, Unavailable(_LATE))
        return tickets

    @property
    def _may_append(self) -> bool:
        """Whether the log is idle, or so slow that few commands should wait for it.

        Fewer and longer records cost all gateways and servers less.
        """
        if not self._appending:
            return True
        newest = self._appending[next(reversed(self._appending))]
        waited_ms = self._clock.monotonic_ms() - newest.begun_ms
        return len(self._appending) < _MOST_APPENDING and waited_ms >= _PATIENCE_MS

    def _append_more(self) -> None:
        if self._queue:
            self._wanted.set()

    def _end_appending(self, record: Appended, _: asyncio.Task[None]) -> None:
        del self._appending[record.number]
        self._queue.release(record.clients)
        self._append_more()

    async def _append_record(self, appended: Appended) -> None:
        number = appended.number
        # Timers that are due now are due when the record is applied, even if the log's clock steps.
        now_ms = self._clock.now_ms()
        left_ms = appended.until_ms - self._clock.monotonic_ms()
        deadlines_ms = (self._log_clock.now_ms() + left_ms, now_ms + left_ms)
        record = LogRecord(self._name, number, now_ms, appended.calls, deadlines_ms=deadlines_ms)
        begun = time.perf_counter()
        try:
            sequence = await self.log.append(encode(record), f"{self._name}.{number}")
        except Mq9Error as error:
            self._refuse_appended(appended, error)
            if isinstance(error, LimitReached):
                self.room.note_refusal(str(error))
                await sleep(self._timers, _PAUSE_S)  # undone leases are appended again
            return
        appended.sequence = sequence
        self._progress.follower.expect(sequence)
        self.on_appended(time.perf_counter() - begun)
        if sequence <= self._settled:  # applied, or left out and still without an outcome
            self._refuse_appended(appended, Unavailable(_DAMAGED))

    def _refuse_appended(self, appended: Appended, error: Mq9Error) -> None:
        if self._appended.pop(appended.number, None) is not None:
            self._resolve_failed(appended.tickets, error)

    async def _apply_all(self) -> None:
        """Apply the records of the log, and answer their clients."""
        while self._progress.failure is None:
            try:
                records = await self._progress.follower.take()
            except (Purged, Mq9Error) as error:
                await self._note_unread(error)
                continue
            while records and self._progress.failure is None:
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
                for logged in records[: len(applied)]:
                    self.room.note_record(logged.sequence, len(logged.data))
                records = records[len(applied) :]
                self._clock.catch_up(self._replica.now_ms)
                self._deliver(applied)

    async def _note_unread(self, error: Purged | Mq9Error) -> None:
        """Stop, or wait a little before the next read of the log."""
        if isinstance(error, Purged):
            self.is_behind = True
            self._stop(Unavailable(_BEHIND))
        else:
            logger.warning("the log cannot be read: %s", error)
            await sleep(self._timers, _PAUSE_S)

    async def _leave_out(self, records: list[Logged], error: NoRecord) -> list[Logged]:
        """Skip the first entry, which is not a record; return the entries to apply next.

        Every gateway skips it. An entry that was damaged on its way here is read again: a gateway
        that skips a record of the others gets another state.
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
        self._settled = first.sequence
        for one in list(self._appended.values()):
            if one.sequence == first.sequence:
                self._refuse_appended(one, Unavailable(_DAMAGED))
        self._deliver([])
        return others

    async def _apply(self, records: list[Logged]) -> list[Applied]:
        """Apply the first of some records: quick ones here, slow ones on the thread.

        The way to the thread and back takes longer than most records.
        """
        if not self._replica.is_active and len(records) <= _MOST_HERE:
            with contextlib.suppress(TooLong):
                return self._replica.apply(records, _MOST_STEPS, self._calls)
        return await self._on_thread(self._replica.apply, records, None, self._calls)

    def _calls(self, record: LogRecord) -> list[Call[Request[Any]]]:
        """Return the calls of a record; those of this gateway are not decoded."""
        own = self._appended.get(record.number) if record.gateway == self._name else None
        if own is None:
            return record.read()
        return [ticket.call for ticket in own.tickets]

    def _deliver(self, applied: list[Applied]) -> None:
        for one in applied:
            if one.record.verify is not None:  # it is the last one applied so far
                self._digests.begin(one, self.on_verified)
            if one.record.gateway == self._name:
                appended = self._appended.pop(one.record.number, None)
                if appended is not None:
                    self._stop_appending(appended)
                    self._log_clock.follow(one.now_ms, appended.begun_ms)
                if one.is_late:
                    self.late += 1
                    self._resolve_failed(
                        [] if appended is None else appended.tickets, Unavailable(_LATE)
                    )
                else:
                    self._resolve(None if appended is None else appended.tickets, one)
            else:
                for call, outcome in zip(one.calls, one.outcomes, strict=True):
                    self._wake(call, outcome)
            self._settled = one.sequence
        self._progress.note_applied()
        self._note_resolved()

    def _resolve(self, tickets: list[Ticket] | None, applied: Applied) -> None:
        if tickets is None:  # their clients got OutcomeUnknown before
            tickets = [Ticket(call, "", None, [], 0) for call in applied.calls]
            for ticket, outcome in zip(tickets, applied.outcomes, strict=True):
                self._undo(ticket, outcome)
        for ticket, outcome in zip(tickets, applied.outcomes, strict=True):
            if ticket.abandoned:
                self._note_lost(ticket, outcome)
            elif ticket.told is not None:
                ticket.told(outcome)
            else:
                self._wake(ticket.call, outcome)

    def _note_lost(self, ticket: Ticket, outcome: Outcome[Any]) -> None:
        """Note an outcome for which no client waits."""
        self._undo(ticket, outcome)
        self._wake(ticket.call, outcome)

    def _resolve_failed(self, tickets: list[Ticket], error: Mq9Error) -> None:
        outcome: Outcome[Any] = Outcome(None, error, self._clock.now_ms())
        for ticket in tickets:
            if ticket.told is None:
                self.undo_soon(ticket.call, ticket.client)  # idempotent
            elif not ticket.abandoned:
                ticket.told(outcome)

    def _wake(self, call: Call[Any], outcome: Outcome[Any]) -> None:
        """Wake clients that wait for mail of the changed mailboxes."""
        if outcome.error is not None:
            return
        if call.address:
            self._on_news(call.address)
        for address in changed_addresses(call, outcome.value):
            self._on_news(address)

    def _undo(self, ticket: Ticket, outcome: Outcome[Any]) -> None:
        """Take back a lease that reached no client; other changes stay, as after a lost reply."""
        undo = undo_of(ticket.call, outcome.value)
        # An earlier reply may have reached the client through another gateway.
        if undo is not None and undo.request.copy == 1:
            self.undo_soon(undo, ticket.client)

    def stop(self, failure: Mq9Error) -> None:
        """Answer nothing more, as the log can no longer be reached; without effect once closed."""
        if not self._closed and self.failure is None:
            self._stop(failure)

    def _stop(self, failure: Mq9Error) -> None:
        """Answer nothing more."""
        self._progress.failure = failure
        self.failed_ms = self._clock.monotonic_ms()
        self._fail(failure)

    def _stop_appending(self, record: Appended) -> None:
        """Stop to append a record, if the log has not confirmed it yet."""
        if record.appending is not None:
            record.appending.cancel()

    def _fail(self, failure: Mq9Error) -> None:
        appended, self._appended = self._appended, {}
        for one in appended.values():  # the log may have them
            self._stop_appending(one)
            self._queue.release(one.clients)
            self._resolve_failed(one.tickets, OutcomeUnknown(_UNKNOWN))
        while tickets := self._queue.take():
            self._queue.release(clients_of(tickets))
            self._resolve_failed(tickets, failure)
        self._progress.fail(failure)
        self._note_resolved()

    async def _on_thread(self, function: Callable[..., R], *args: object) -> R:
        with self._clock.busy():
            return await asyncio.wrap_future(self._thread.submit(function, *args))
