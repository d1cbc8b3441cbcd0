"""Where the time comes from: the system, or a test that moves it.

Instants are whole milliseconds since the Unix epoch. Nothing below the broker reads a clock;
whoever needs the time is handed a ``Clock``.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Make sure that the callback does not run; harmless when it already has."""


class Clock(Protocol):
    """Tells the time and calls back when an instant comes."""

    def now_ms(self) -> int:
        """Return the present instant."""

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, as soon as the time is ``when_ms`` or later."""


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        """Return the present instant."""
        return time.time_ns() // 1_000_000

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running event loop once the instant has come."""
        delay = max(0, when_ms - self.now_ms()) / 1000
        return asyncio.get_running_loop().call_later(delay, callback)


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait until ``seconds`` have passed on ``clock``."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake_from_anywhere() -> None:
        with suppress(RuntimeError):  # the loop is closed, and so nobody waits
            loop.call_soon_threadsafe(wake)

    timer = clock.call_at(clock.now_ms() + round(seconds * 1000), wake_from_anywhere)
    try:
        await woken
    finally:
        timer.cancel()


class _ManualTimer:
    __slots__ = ("callback", "cancelled", "fired", "thread")

    def __init__(self, callback: Callable[[], None], thread: int) -> None:
        self.callback = callback
        self.cancelled = False
        self.fired = False
        self.thread = thread

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """A clock that stands still until a test moves it.

    Args:
        start: The first instant, in seconds since the Unix epoch.
        quiet: Real seconds in which nobody may have read the clock before it goes on; more than 0
            for what works on threads of its own, such as a broker on a file.
        idle_jump: Real seconds, more than 0, after which the clock jumps by itself to the next
            instant that somebody waits for, when nobody has read it for that long; never by
            default. It does so only while an event loop on which somebody waits is running, and
            never during ``advance``.

    Raises:
        TypeError: ``start`` is not a number.
        ValueError: ``start`` is not finite, or ``idle_jump`` not more than 0.
    """

    # After a timer fires, whatever it woke reads the clock as it goes on. When nobody has for this
    # many turns of the event loop, this instant's work is done.
    _QUIET_TURNS = 25
    _MOST_TURNS = 200_000
    _THREAD_PATIENCE_S = 5.0

    def __init__(
        self,
        start: float = 1_800_000_000.0,
        *,
        quiet: float = 0.0,
        idle_jump: float | None = None,
    ) -> None:
        if idle_jump is not None and not idle_jump > 0:
            raise ValueError(f"idle_jump: {idle_jump!r} is not more than 0; use None for never")
        self._quiet = quiet
        self._idle_jump = idle_jump
        self._now_ms = _milliseconds("start", start)
        self._timers: list[tuple[int, int, _ManualTimer]] = []
        self._order = itertools.count()
        self._reads: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._used_at = time.monotonic()
        self._advances = 0

    def now_ms(self) -> int:
        """Return the instant that the test has moved to."""
        with self._lock:
            self._used_at = time.monotonic()
            self._reads[threading.get_ident()] += 1
            return self._now_ms

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` when the test moves the clock to ``when_ms`` or beyond.

        An instant that is not in the future is called back on the next turn of the event loop.
        """
        timer = _ManualTimer(callback, threading.get_ident())
        with self._lock:
            self._used_at = time.monotonic()
            due = when_ms <= self._now_ms
            if not due:
                heapq.heappush(self._timers, (when_ms, next(self._order), timer))
        if due:
            return asyncio.get_running_loop().call_soon(callback)
        if self._idle_jump is not None:
            with suppress(RuntimeError):  # no loop runs here; the jump of any other wakes it too
                self._look_after(asyncio.get_running_loop(), timer, self._idle_jump)
        return timer

    async def advance(self, seconds: float) -> None:
        """Move the clock forward, stopping at every instant at which somebody waits.

        What waits for an instant runs at that instant, in order, and has come to rest before the
        clock goes on.

        Args:
            seconds: How far, at least 0.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative or not finite.
        """
        delta_ms = _milliseconds("seconds", seconds)
        if seconds < 0:
            raise ValueError(f"seconds: {seconds} is negative; use set_back to turn the clock back")
        with self._lock:
            self._advances += 1
            target = self._now_ms + delta_ms
        try:
            await self._rest(Counter())
            while (fired := self._fire_next(target)) is not None:
                await self._rest(fired)
            with self._lock:
                self._now_ms = target
            await self._rest(Counter())
        finally:
            with self._lock:
                self._advances -= 1
                self._used_at = time.monotonic()

    def set_back(self, seconds: float) -> None:
        """Turn the clock back, as a machine's clock is when it was wrong. Wakes nobody.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is not finite.
        """
        delta_ms = _milliseconds("seconds", seconds)
        with self._lock:
            self._now_ms -= delta_ms

    def _fire_next(self, target: int) -> Counter[int] | None:
        """Go to the next instant somebody waits for and wake them; their threads, or None."""
        with self._lock:
            due = self._take_next(target)
            if not due:
                return None
            here = threading.get_ident()
            fired = Counter(timer.thread for timer in due if timer.thread != here)
            for thread in fired:
                fired[thread] += self._reads[thread]
        _call(due)
        return fired

    def _take_next(self, target: int | None) -> list[_ManualTimer]:
        """Go to the next instant somebody waits for, under the lock; whom to wake, if anybody."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        due: list[_ManualTimer] = []
        if not self._timers or (target is not None and self._timers[0][0] > target):
            return due
        instant = self._timers[0][0]
        self._now_ms = max(self._now_ms, instant)
        while self._timers and self._timers[0][0] == instant:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.fired = True
                due.append(timer)
        return due

    def _look_after(
        self, loop: asyncio.AbstractEventLoop, timer: _ManualTimer, seconds: float
    ) -> None:
        """See in some real seconds whether to jump, for the sake of a timer of this loop."""
        loop.call_later(seconds, self._jump_if_idle, loop, timer, loop.time() + seconds)

    def _jump_if_idle(
        self, loop: asyncio.AbstractEventLoop, timer: _ManualTimer, expected: float
    ) -> None:
        idle_jump = self._idle_jump
        if idle_jump is None:
            return
        due: list[_ManualTimer] = []
        with self._lock:
            if timer.cancelled or timer.fired:
                return
            now = time.monotonic()
            left = self._used_at + idle_jump - now
            # A loop that comes late was held up; what it has to run may be about to read the clock.
            if self._advances or loop.time() - expected > idle_jump / 2:
                left = idle_jump
            elif left <= 0:
                due = self._take_next(None)
                self._used_at = now  # who is woken gets as long to read it
                left = idle_jump
            again = not timer.fired
        if again:
            self._look_after(loop, timer, left)
        _call(due)

    async def _rest(self, expected_reads: Counter[int]) -> None:
        """Return when what was woken has come to rest, in this thread and in others."""
        patience = time.monotonic() + self._THREAD_PATIENCE_S
        while any(self._reads[thread] < reads for thread, reads in expected_reads.items()):
            if time.monotonic() > patience:
                break  # the thread that waited is gone
            await asyncio.sleep(0.001)
        quiet = turns = 0
        seen, silent_since = self._total_reads(), time.monotonic()
        while quiet < self._QUIET_TURNS or time.monotonic() - silent_since < self._quiet:
            await asyncio.sleep(0.001 if quiet >= self._QUIET_TURNS else 0)
            quiet, turns = quiet + 1, turns + 1
            if (reads := self._total_reads()) != seen:
                seen, quiet, silent_since = reads, 0, time.monotonic()
            if turns > self._MOST_TURNS:
                raise RuntimeError(
                    "what runs at this instant never waits, so the clock cannot move"
                )

    def _total_reads(self) -> int:
        with self._lock:
            return self._reads.total()


def _call(timers: list[_ManualTimer]) -> None:
    for timer in timers:
        if not timer.cancelled:  # by one that ran just now
            timer.callback()


def _milliseconds(name: str, seconds: float) -> int:
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name}: {seconds!r} is not a number of seconds")
    if not math.isfinite(seconds):
        raise ValueError(f"{name}: {seconds!r} is not a finite number of seconds")
    return round(seconds * 1000)
