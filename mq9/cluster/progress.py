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
from mq9.errors import Mq9Error

_LOOK_S = 2.0  # after which the log is asked how far it has come, though nobody wants to know


class Progress:
    """Has those wait who have to see what the log had when they came."""

    def __init__(
        self,
        log: JetStreamLog,
        replica: Replica,
        log_clock: LogClock,
        clock: SteadyClock,
        timers: Clock,
        guarded: Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]],
    ) -> None:
        self._log = log
        self._replica = replica
        self._log_clock = log_clock
        self._clock = clock
        self._timers = timers
        self._guarded = guarded
        self.follower = Follower(log, timers, replica.sequence)
        self.asking: asyncio.Task[None] | None = None  # for the last record's number
        self.heard_ms = clock.monotonic_ms()  # when the leader of the log answered last
        self.failure: Mq9Error | None = None  # why nothing is answered any more
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by sequence
        self._order = itertools.count()
        self._curious: list[asyncio.Future[int]] = []  # who want to know, and are asked for next

    def check(self) -> None:
        """Raise why nothing is answered any more, if so it is."""
        if self.failure is not None:
            raise self.failure

    async def catch_up(self) -> None:
        """Wait until the copy has what the log had when this was called."""
        self.check()
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._curious.append(told)
        if self.asking is None:
            self.asking = asyncio.create_task(self._guarded(self._ask))
        with self._clock.busy():
            last = await told
        if self._replica.sequence >= last:
            return
        self.check()
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (last, next(self._order), future))
        with self._clock.busy():
            await future

    async def look_often(self) -> None:
        """Notice what was not heard of, for those who wait for news."""
        while True:
            await sleep(self._timers, _LOOK_S)
            with contextlib.suppress(Mq9Error):  # there is a next time
                await self.follower.hear_again()
                await self.catch_up()

    def note_applied(self) -> None:
        """Wake those who have waited for what the copy has now."""
        while self._waiting and self._waiting[0][0] <= self._replica.sequence:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def fail(self, failure: Mq9Error) -> None:
        """Tell those who still wait that it came to nothing."""
        _refuse([future for *_, future in self._waiting], failure)
        self._waiting.clear()
        _refuse(self._curious, failure)
        self._curious.clear()

    async def _ask(self) -> None:
        """Ask for the number of the last record, each time for all who have come to wait for it."""
        # What is told may be from before somebody asked who comes while it is being told.
        while self._curious:
            curious, self._curious = self._curious, []
            try:
                asked_ms = self._clock.monotonic_ms()
                last = await self._log.last()
                self._log_clock.follow(last.now_ms, asked_ms)
                self.heard_ms = self._clock.monotonic_ms()
            except Mq9Error as error:
                _refuse(curious, error)
            except BaseException:
                self._curious += curious
                raise
            else:
                self.follower.expect(last.sequence)
                for told in curious:
                    if not told.done():
                        told.set_result(last.sequence)
        self.asking = None


def _refuse(waiting: Sequence[asyncio.Future[Any]], error: Mq9Error) -> None:
    """Tell those who still wait that it came to nothing."""
    for future in waiting:
        if not future.done():
            future.set_exception(error)


_MOST_HELD = 4_096  # records that were heard of and not taken yet; others are read again
_MOST_HELD_BYTES = 32 * 1024 * 1024
_GRACE_MS = 20  # for a record that the log has and that was not heard of yet


class Follower:
    """Gives the records of a log in order, those that it did not hear of by reading them."""

    def __init__(self, log: JetStreamLog, clock: Clock, after: int) -> None:
        self._log = log
        self._clock = clock
        self._next = after + 1  # to be held next
        self._known = after  # the log has records up to here, at least
        self._read = 0  # the last record that had to be read
        self._heard = 0  # the last one that was heard of
        self._held: deque[Logged] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Hear of what is appended from now on."""
        self._heard = max(await self._log.follow(self.offer), self._heard)

    async def hear_again(self) -> None:
        """Follow the log anew where records had to be read and were never heard of."""
        if self._read > self._heard:
            await self.start()

    @property
    def known(self) -> int:
        """The number of the last record that it knows the log to have."""
        return self._known

    def expect(self, sequence: int) -> None:
        """Tell that the log has records up to a number."""
        if sequence > self._known:
            self._known = sequence
            self._changed.set()

    def offer(self, logged: Logged) -> None:
        """Take a record that was heard of, if it is the next one and there is room for it."""
        self._heard = max(self._heard, logged.sequence)
        has_room = len(self._held) < _MOST_HELD and self._held_bytes < _MOST_HELD_BYTES
        if logged.sequence == self._next and has_room:
            self._hold(logged)
        self.expect(logged.sequence)

    async def take(self) -> list[Logged]:
        """Return the next records, one at least."""
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
        """Wait for a record, so long at most."""
        timer = self._clock.call_later(milliseconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
