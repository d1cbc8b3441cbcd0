"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from mq9.clock import Timer
from mq9.concurrency import activity
from mq9.concurrency.activity import Work
from mq9.testing.idle import LoopMonitor, lock

_SHORT_SLEEP_S = 1.0  # of real time


class ManualTimer:
    """A callback that runs on an event loop when the clock reaches an instant."""

    __slots__ = ("_callback", "background", "cancelled", "monitor")

    def __init__(
        self, callback: Callable[[], None], monitor: LoopMonitor, *, background: bool
    ) -> None:
        self._callback = callback
        self.monitor = monitor
        self.background = background
        self.cancelled = False

    def cancel(self) -> None:
        """Prevent the callback from running."""
        self.cancelled = True

    def run(self) -> None:
        """Call the callback."""
        if not self.cancelled:  # a timer of the same instant may have cancelled it
            self._callback()


class _Rest:
    """An ``advance`` that waits until nothing can run."""

    def __init__(self, monitor: LoopMonitor) -> None:
        self._future = asyncio.get_running_loop().create_future()
        self._monitor = monitor

    def end(self, error: Exception | None = None) -> None:
        def resolve() -> None:
            if self._future.done():
                return
            if error is None:
                self._future.set_result(None)
            else:
                self._future.set_exception(error)

        self._monitor.call(resolve)

    async def wait(self) -> None:
        await self._future


class ManualClock:
    """A clock that moves when a test moves it or, with ``autojump``, when no code can run.

    It knows the event loops that use it, and their work on threads of the broker and of consumers.
    It also knows which threads wait in a synchronous call for another one. The test's own threads
    do not stop it.

    Args:
        start: The first instant, in seconds since the Unix epoch. Default: 1 800 000 000.
        autojump: Whether the clock jumps to the next awaited instant when no code can run. An
            asyncio timer that is due sooner stops the clock during the timer's last second, so a
            test may sleep for a moment. The clock treats a longer timer as a timeout. Default:
            False.
        in_transit: Function that returns whether data is on its way to an event loop that cannot
            see it yet. While it returns True, the clock waits. Default: none.

    Raises:
        TypeError: ``start`` is not a number.
        ValueError: ``start`` is not finite.
    """

    # Nothing sleeps under it. A monitor that polls must end within a day.
    longest_poll_ms = 86_400_000

    def __init__(
        self,
        start: float = 1_800_000_000.0,
        *,
        autojump: bool = False,
        in_transit: Callable[[], bool] | None = None,
    ) -> None:
        self._wall_ms = _milliseconds("start", start)
        self._monotonic_ms = 0
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._order = itertools.count()
        self._monitors: WeakSet[LoopMonitor] = WeakSet()
        self._works: set[Work] = set()
        self._owner: int | None = None
        self._autojump = autojump
        self._in_transit = in_transit
        self._resting: deque[_Rest] = deque()
        self._advancing = 0
        activity.add_observer(self)

    def now_ms(self) -> int:
        """Return the instant of the clock, in milliseconds since the Unix epoch."""
        self._follow_running_loop()
        return self._wall_ms

    def monotonic_ms(self) -> int:
        """Return the number of milliseconds that the clock has moved forward."""
        self._follow_running_loop()
        return self._monotonic_ms

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop after ``delay_ms``.

        Args:
            delay_ms: Milliseconds from now.
            callback: Function without arguments.
            background: Whether the clock does not jump by itself for this call. Default: False.
        """
        loop = asyncio.get_running_loop()
        monitor = self._follow(loop)
        if delay_ms <= 0:
            return loop.call_soon(callback)
        timer = ManualTimer(callback, monitor, background=background)
        with lock:
            heapq.heappush(self._timers, (self._monotonic_ms + delay_ms, next(self._order), timer))
        return timer

    @property
    def pending_timers(self) -> int:
        """Number of timers that were neither called nor cancelled yet."""
        with lock:
            return sum(not timer.cancelled for *_, timer in self._timers)

    def busy(self) -> Work:
        """Stop the clock until the work ends, except while its thread waits for another one.

        A function on a thread does not stop an ``advance``.
        """
        self._follow_running_loop()
        work = Work(self._ended)
        with lock:
            self._works.add(work)
        return work

    def _ended(self, work: Work) -> None:
        with lock:
            self._works.discard(work)

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop the clock while an event loop has something to run.

        Args:
            loop: The event loop.

        Raises:
            TypeError: ``loop`` is not an asyncio event loop.
        """
        self._follow(loop)

    async def advance(self, seconds: float) -> None:
        """Move the clock forward, and stop at each awaited instant.

        At each instant, the waiting code runs in order until it has nothing left to run. Then the
        clock moves on. In a test without an event loop, call ``asyncio.run(clock.advance(60))``.

        Args:
            seconds: Seconds to move forward, at least 0.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative or not finite.
            RuntimeError: Code runs endlessly without waiting.

        Example:
            ```python
            await clock.advance(60)
            ```
        """
        delta_ms = _milliseconds("seconds", seconds)
        if seconds < 0:
            raise ValueError(f"seconds: {seconds} is negative; use set_back to turn the clock back")
        with lock:
            self._advancing += 1
            target_ms = self._monotonic_ms + delta_ms
        try:
            await self._rest()
            while self._next_ms() <= target_ms:
                self._go_to_next()
                await self._rest()
            with lock:
                self._go_to(max(self._monotonic_ms, target_ms))
            await self._rest()
        finally:
            with lock:
                self._advancing -= 1

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, as a time correction does. This wakes no waiting code.

        Durations, such as the time of a wait, do not change.

        Args:
            seconds: Seconds to go back.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is not finite.
        """
        delta_ms = _milliseconds("seconds", seconds)
        with lock:
            self._wall_ms -= delta_ms

    def hold_for_this_thread(self) -> None:
        """Prevent jumps while this thread runs code other than an event loop.

        The clock may jump while this or another thread waits in a synchronous call for other work.
        """
        self._owner = threading.get_ident()

    def look(self) -> bool:
        """Continue an ``advance``, or jump, if nothing can run. Return whether to call again."""
        with lock:
            jumps = self._autojump and not self._advancing and self._is_awaited()
            if not self._resting and not jumps:
                return False
            if not self._something_can_run(but_functions=bool(self._resting)):
                if self._resting:
                    self._resting.popleft().end()
                elif self._may_jump():
                    self._go_to_next()
            return True

    def never_idle(self) -> None:
        """Stop waiting for an event loop that is always busy."""
        with lock:
            if self._resting:
                self._resting.popleft().end(
                    RuntimeError("what runs at this instant never waits, so the clock cannot move")
                )

    async def _rest(self) -> None:
        """Wait until nothing can run."""
        rest = _Rest(self._follow(asyncio.get_running_loop()))
        with lock:
            self._resting.append(rest)
        try:
            await rest.wait()
        finally:
            with lock:
                if rest in self._resting:
                    self._resting.remove(rest)

    def _something_can_run(self, *, but_functions: bool = False) -> bool:
        """Return whether code can run, with or without the user's functions on threads."""
        return (
            any(
                not activity.is_blocked(work.thread)
                for work in self._works
                if work.thread is None or not but_functions
            )
            or any(
                not activity.is_blocked(monitor.thread)
                and (not monitor.is_idle or monitor.works_in_threads() or monitor.has_events())
                for monitor in self._running_monitors()
            )
            or (self._in_transit is not None and self._in_transit())
        )

    def _may_jump(self) -> bool:
        """Return whether neither the owner's thread nor an asyncio timer comes first."""
        delay_s = (self._next_ms() - self._monotonic_ms) / 1000
        soon_s = min(delay_s, _SHORT_SLEEP_S)
        return not (
            any(monitor.comes_within(soon_s) for monitor in self._running_monitors())
            or self._owner_is_at_work()
        )

    def _go_to_next(self) -> None:
        """Go to the next awaited instant, and wake its timers in order."""
        with lock:
            instant = round(self._next_ms())
            self._go_to(instant)
            while self._timers and self._timers[0][0] <= instant:
                timer = heapq.heappop(self._timers)[2]
                if not timer.cancelled:
                    timer.monitor.call(timer.run)

    def _go_to(self, monotonic_ms: int) -> None:
        self._wall_ms += monotonic_ms - self._monotonic_ms
        self._monotonic_ms = monotonic_ms

    def _follow_running_loop(self) -> None:
        with suppress(RuntimeError):  # no loop runs on this thread
            self._follow(asyncio.get_running_loop())

    def _follow(self, loop: asyncio.AbstractEventLoop) -> LoopMonitor:
        monitor = LoopMonitor.of(loop)
        if monitor not in self._monitors:
            with lock:
                self._monitors.add(monitor)
                monitor.add_listener(self)
        return monitor

    def _running_monitors(self) -> list[LoopMonitor]:
        return [monitor for monitor in self._monitors if monitor.is_running]

    def _owner_is_at_work(self) -> bool:
        """Return whether the owner's thread runs code other than an event loop."""
        return not (
            self._owner is None
            or activity.any_blocked()
            or any(monitor.thread == self._owner for monitor in self._running_monitors())
            or all(thread.ident != self._owner for thread in threading.enumerate())
        )

    def _next_ms(self) -> float:
        """Return the next awaited instant. Infinite if there is none."""
        with lock:
            while self._timers and self._timers[0][2].cancelled:
                heapq.heappop(self._timers)
            return self._timers[0][0] if self._timers else math.inf

    def _is_awaited(self) -> bool:
        """Return whether code waits for an instant, not counting background timers."""
        with lock:
            return any(not (one.cancelled or one.background) for *_, one in self._timers)


def _milliseconds(name: str, seconds: float) -> int:
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name}: {seconds!r} is not a number of seconds")
    if not math.isfinite(seconds):
        raise ValueError(f"{name}: {seconds!r} is not a finite number of seconds")
    return round(seconds * 1000)
