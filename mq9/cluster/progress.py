"""Progress of the log, and of this gateway's copy of the state."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mq9.clock import Clock, SteadyClock, sleep
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import LogClock, Logged
from mq9.cluster.replica import Replica
from mq9.cluster.room import Room
from mq9.errors import Mq9Error

_LOOK_S = 2.0  # between two looks at the end of the log


class Progress:
    """Lets readers wait until the copy has all records that the log had at their request."""

    def __init__(
        self,
        log: JetStreamLog,
        replica: Replica,
        log_clock: LogClock,
        clock: SteadyClock,
        timers: Clock,
        room: Room,
        guarded: Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]],
    ) -> None:
        self._log = log
        self._replica = replica
        self._log_clock = log_clock
        self._clock = clock
        self._timers = timers
        self._room = room
        self._guarded = guarded
        self.follower = Follower(log, timers, replica.sequence)
        self.asking: asyncio.Task[None] | None = None  # asks for the number of the last record
        self.heard_ms = clock.monotonic_ms()  # when the leader of the log answered last
        self.failure: Mq9Error | None = None  # why it answers nothing
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by sequence
        self._order = itertools.count()
        self._curious: list[
            asyncio.Future[int]
        ] = []  # readers for whom the next question to the log is

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise self.failure

    async def catch_up(self) -> None:
        """Wait until the copy has all records that the log has at the call."""
        self.check()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._curious.append(answer)
        if self.asking is None:
            self.asking = asyncio.create_task(self._guarded(self._ask))
        with self._clock.busy():
            last = await answer
        if self._replica.sequence >= last:
            return
        self.check()
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (last, next(self._order), future))
        with self._clock.busy():
            await future

    async def look_often(self) -> None:
        """Look for records that were not delivered, for clients that wait for mail.

        Also look for the room of the log.
        """
        while self.failure is None:
            await sleep(self._timers, _LOOK_S)
            with contextlib.suppress(Mq9Error):  # the next look may succeed
                await self.follower.hear_again()
                await self.catch_up()
                self._room.try_again()
                self._room.note_account(await self._log.account(), self._replica.size())

    def note_applied(self) -> None:
        """Wake the readers whose records the copy has now."""
        while self._waiting and self._waiting[0][0] <= self._replica.sequence:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def fail(self, failure: Mq9Error) -> None:
        """Fail all readers that wait."""
        _refuse([future for *_, future in self._waiting], failure)
        self._waiting.clear()
        _refuse(self._curious, failure)
        self._curious.clear()

    async def _ask(self) -> None:
        """Ask for the number of the last record, for all readers that wait."""
        # An answer on its way may be older than the request of a new reader.
        while self._curious:
            curious, self._curious = self._curious, []
            try:
                asked_ms = self._clock.monotonic_ms()
                last = await self._log.last()
                self._log_clock.follow(last.now_ms, asked_ms)
                self.heard_ms = self._clock.monotonic_ms()
                self._room.note(last)
            except Mq9Error as error:
                _refuse(curious, error)
            except BaseException:
                self._curious += curious
                raise
            else:
                self.follower.expect(last.sequence)
                for one in curious:
                    if not one.done():
                        one.set_result(last.sequence)
        self.asking = None


def _refuse(waiting: Sequence[asyncio.Future[Any]], error: Mq9Error) -> None:
    """Fail the futures that are not done."""
    for future in waiting:
        if not future.done():
            future.set_exception(error)


_MOST_HELD = 4_096  # delivered records that were not taken yet; others are read again
_MOST_HELD_BYTES = 32 * 1024 * 1024
_GRACE_MS = 20  # for a record of the log that was not delivered yet


class Follower:
    """Returns the records of a log in order; reads those that were not delivered."""

    def __init__(self, log: JetStreamLog, clock: Clock, after: int) -> None:
        self._log = log
        self._clock = clock
        self._next = after + 1  # the number of the next record to hold
        self._known = after  # the log has records up to here, at least
        self._read = 0  # the last record that was read
        self._heard = 0  # the last record that was delivered
        self._held: deque[Logged] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Have new records delivered from now on."""
        self._heard = max(await self._log.follow(self.offer), self._heard)

    async def hear_again(self) -> None:
        """Follow the log again if records were read and never delivered."""
        if self._read > self._heard:
            await self.start()

    @property
    def known(self) -> int:
        """The number of the last known record of the log."""
        return self._known

    def expect(self, sequence: int) -> None:
        """Note that the log has records up to a number."""
        if sequence > self._known:
            self._known = sequence
            self._changed.set()

    def offer(self, logged: Logged) -> None:
        """Hold a delivered record, if it is the next one and there is room."""
        self._heard = max(self._heard, logged.sequence)
        has_room = len(self._held) < _MOST_HELD and self._held_bytes < _MOST_HELD_BYTES
        if logged.sequence == self._next and has_room:
            self._hold(logged)
        self.expect(logged.sequence)

    async def take(self) -> list[Logged]:
        """Return the next records, at least one."""
        while not self._held:
            self._changed.clear()
            if self._known >= self._next:
                await self._wait(_GRACE_MS)
                if not self._held:
                    for logged in await self._log.read(self._next):
                        if logged.sequence == self._next:
                            self._hold(logged)
                            self._read = logged.sequence
            else:
                await self._changed.wait()
        taken, self._held, self._held_bytes = list(self._held), deque(), 0
        return taken

    def _hold(self, logged: Logged) -> None:
        self._held.append(logged)
        self._held_bytes += len(logged.data)
        self._next = logged.sequence + 1
        self._changed.set()

    async def _wait(self, milliseconds: int) -> None:
        """Wait for a record, for at most so many milliseconds."""
        timer = self._clock.call_later(milliseconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
