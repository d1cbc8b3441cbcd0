"""What clocks of tests share: timers, and to know whether anything can run in this process."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from mq9.clock import Timer
from mq9.concurrency import activity
from mq9.concurrency.activity import Work
from mq9.testing.idle import LoopMonitor, lock

SHORT_SLEEP_S = 1.0  # of real time


class ManualTimer:
    """A callback that runs on an event loop when the clock has moved so far."""

    __slots__ = ("_callback", "background", "cancelled", "monitor")

    def __init__(
        self, callback: Callable[[], None], monitor: LoopMonitor, *, background: bool
    ) -> None:
        self._callback = callback
        self.monitor = monitor
        self.background = background
        self.cancelled = False

    def cancel(self) -> None:
        """Make sure that the callback does not run."""
        self.cancelled = True

    def run(self) -> None:
        """Call the callback."""
        if not self.cancelled:  # by one that ran just before
            self._callback()


class WatchedClock(ABC):
    """A clock that stands still, and knows whether anything can run.

    That are the event loops that use it, what those have given to threads of the broker and of
    consumers, and who waits in a synchronous call for another thread.

    Args:
        wall_ms: The first instant.
    """

    # Nothing falls asleep under it, and for whoever looks again a day of it has to stop.
    longest_poll_ms = 86_400_000

    def __init__(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = 0
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._order = itertools.count()
        self._monitors: WeakSet[LoopMonitor] = WeakSet()
        self._works: set[Work] = set()
        self._owner: int | None = None
        activity.add_observer(self)

    def now_ms(self) -> int:
        """Return the instant that the clock was moved to."""
        self._follow_running_loop()
        return self._wall_ms

    def monotonic_ms(self) -> int:
        """Return by how many milliseconds the clock has been moved forward."""
        self._follow_running_loop()
        return self._monotonic_ms

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop when the clock has moved so far.

        It does not go on by itself for what is done in the ``background``.
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
        """How many timers have neither been called nor cancelled."""
        with lock:
            return sum(not timer.cancelled for *_, timer in self._timers)

    def busy(self, *, unbounded: bool = False) -> Work:
        """Stand still until the work has ended, but for when its thread waits for another.

        Unbounded work holds up no ``advance``.
        """
        self._follow_running_loop()
        work = Work(self._ended, unbounded=unbounded)
        with lock:
            self._works.add(work)
        return work

    def _ended(self, work: Work) -> None:
        with lock:
            self._works.discard(work)

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the clock stand still while an event loop has something to run.

        Raises:
            TypeError: It is no event loop of asyncio.
        """
        self._follow(loop)

    @abstractmethod
    def look(self) -> bool:
        """See whether nothing can run; whether to be asked again soon."""

    @abstractmethod
    def never_idle(self) -> None:
        """An event loop always has something to run."""

    def _follow_running_loop(self) -> None:
        with suppress(RuntimeError):  # none runs on this thread
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

    def _something_can_run(self, *, but_unbounded: bool = False) -> bool:
        """Tell whether anything can run, unbounded work perhaps left aside."""
        return any(
            not activity.is_blocked(work.thread)
            for work in self._works
            if not (work.unbounded and but_unbounded)
        ) or any(
            not activity.is_blocked(monitor.thread)
            and (not monitor.is_idle or monitor.works_in_threads() or monitor.has_events())
            for monitor in self._running_monitors()
        )

    def _owner_is_at_work(self) -> bool:
        """Tell whether the thread that holds the clock runs something other than an event loop."""
        return not (
            self._owner is None
            or activity.any_blocked()
            or any(monitor.thread == self._owner for monitor in self._running_monitors())
            or all(thread.ident != self._owner for thread in threading.enumerate())
        )

    def _next_ms(self) -> float:
        """Return the next instant at which something happens; infinite when nothing does."""
        with lock:
            while self._timers and self._timers[0][2].cancelled:
                heapq.heappop(self._timers)
            return self._timers[0][0] if self._timers else math.inf

    def _is_awaited(self) -> bool:
        """Tell whether somebody waits for an instant, other than in the background."""
        with lock:
            return any(not (one.cancelled or one.background) for *_, one in self._timers)

    def _wake_until(self, instant: int) -> None:
        """Wake, in order, whoever waits for an instant or for one before it."""
        with lock:
            while self._timers and self._timers[0][0] <= instant:
                timer = heapq.heappop(self._timers)[2]
                if not timer.cancelled:
                    timer.monitor.call(timer.run)
