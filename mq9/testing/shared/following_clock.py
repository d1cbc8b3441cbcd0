"""The clock of a process that uses another's fake broker: it stands where the owner's does."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mq9.clock import Timer
from mq9.testing.idle import LoopMonitor, lock
from mq9.testing.watched_clock import SHORT_SLEEP_S, WatchedClock


@dataclass(frozen=True, slots=True)
class State:
    """What a process waits for in which nothing can run.

    Attributes:
        seen: How many frames of the owner it has received.
        next_ms: The next instant, of the monotonic clock; None where it waits for none.
        is_awaited: Whether somebody waits for that or a later one, other than in the background.
        soon_s: In how much real time a timer of asyncio comes, where that is soon.
    """

    seen: int
    next_ms: int | None
    is_awaited: bool
    soon_s: float | None


class FollowingClock(WatchedClock):
    """Stands still, tells when nothing can run, and is moved by the owner.

    The main thread counts as running unless it runs an event loop, or waits in a synchronous call.

    Args:
        report: Is called with the state when nothing can run; with None where that never comes.
    """

    def __init__(self, report: Callable[[State | None], None]) -> None:
        super().__init__(0)
        self._report = report
        self._seen = 0
        self._reported: State | None = None
        self._follows = True
        self._owner = threading.main_thread().ident

    def has_seen(self) -> None:
        """Count a frame of the owner."""
        with lock:
            self._seen += 1

    def go_to(self, now_ms: int, monotonic_ms: int) -> None:
        """Go to the instant of the owner's clock, and wake whoever waits for it, in order."""
        with lock:
            self._wall_ms, self._monotonic_ms = now_ms, monotonic_ms
            self._wake_until(monotonic_ms)

    def go_by_itself(self) -> None:
        """Go by real time from now on, since the owner has ended."""
        with lock:
            self._follows = False
            timers, self._timers = self._timers, []
            for instant, _, timer in timers:
                delay_s = max(0, instant - self._monotonic_ms) / 1000
                timer.monitor.call_later(delay_s, timer.run)

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop when the clock has moved so far."""
        if not self._follows:
            return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)
        return super().call_later(delay_ms, callback, background=background)

    def call_on(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        """Call something on an event loop of this process."""
        LoopMonitor.of(loop).call(callback)

    def look(self) -> bool:
        """Report if nothing can run; whether to be asked again soon."""
        with lock:
            if not self._follows:
                return False
            if self._something_can_run() or self._owner_is_at_work():
                return True
            next_ms = self._next_ms()
            instant = None if next_ms == math.inf else int(next_ms)
            state = State(self._seen, instant, self._is_awaited(), self._soon_s())
            if state != self._reported:
                self._reported = state
                self._report(state)
            return False

    def never_idle(self) -> None:
        """Report that an event loop always has something to run."""
        self._report(None)

    def _soon_s(self) -> float | None:
        waits = [one.until_timer for one in self._running_monitors() if one.until_timer is not None]
        soonest = min(waits, default=math.inf)
        return soonest if soonest < SHORT_SLEEP_S else None
