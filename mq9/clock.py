"""Where the time comes from: the system, or a test that moves it.

Instants are whole milliseconds since the Unix epoch. How long something takes is measured by a
clock that never steps, whatever becomes of the wall clock meanwhile. Nothing below the broker reads
a clock; whoever needs the time is given a ``Clock``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from mq9.concurrency.activity import Work

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Clock", "DerivedClock", "SteadyClock", "SystemClock", "Timer", "Work", "sleep"]


DEFAULT_POLL_MS = 30_000


class Timer(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Make sure that the callback does not run; harmless when it already has."""


class Clock(Protocol):
    """Tells the time, measures it, and calls back when some has passed."""

    @property
    def longest_poll_ms(self) -> int:
        """For how many milliseconds one may wait for news without looking again."""

    def now_ms(self) -> int:
        """Return the present instant. It may step, back as well, when the clock is corrected."""

    def monotonic_ms(self) -> int:
        """Return the milliseconds since some fixed instant; never less than before."""

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` once on the running event loop when so many milliseconds have passed.

        Nothing, or less, has passed on the next turn of the loop.

        Args:
            delay_ms: How many milliseconds.
            callback: What to call.
            background: Whether nobody waits for it, as for what is done again and again. Time that
                goes on by itself for those who wait does not go on for this.
        """

    def busy(self, *, unbounded: bool = False) -> Work:
        """Begin work on another thread, of which time must not run ahead until it has ended.

        Args:
            unbounded: Whether the work may take any time, such as that of a user's function. Time
                that is moved on purpose then does not wait for it.
        """


class SystemClock:
    """The machine's clocks."""

    @property
    def longest_poll_ms(self) -> int:
        """Half a minute: a network or the machine may have fallen asleep meanwhile."""
        return DEFAULT_POLL_MS

    def now_ms(self) -> int:
        """Return the present instant."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return the milliseconds since some fixed instant."""
        return time.monotonic_ns() // 1_000_000

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop when so many milliseconds have passed."""
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)

    def busy(self, *, unbounded: bool = False) -> Work:
        """Do nothing: this clock goes on whatever happens."""
        return Work(unbounded=unbounded)


class DerivedClock:
    """A clock that measures time as another one does, and may tell other instants.

    Args:
        clock: The clock behind it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def longest_poll_ms(self) -> int:
        """For how many milliseconds one may wait for news without looking again."""
        return self._clock.longest_poll_ms

    def monotonic_ms(self) -> int:
        """Return the milliseconds since some fixed instant."""
        return self._clock.monotonic_ms()

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop when so many milliseconds have passed."""
        return self._clock.call_later(delay_ms, callback, background=background)

    def busy(self, *, unbounded: bool = False) -> Work:
        """Begin work on another thread, of which time must not run ahead until it has ended."""
        return self._clock.busy(unbounded=unbounded)


class SteadyClock(DerivedClock):
    """A clock whose instants never go back, and go on where the wall clock is behind them.

    A wall clock may be set back, and a file may come from a machine whose clock is ahead. Nothing
    happens before what has happened already. So time goes on from there, a tenth slower than the
    clock that never steps, until the wall clock has caught up.

    Args:
        clock: The clock behind it.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        # An instant, and what the clock that never steps said then.
        self._known = (clock.now_ms(), clock.monotonic_ms())

    def now_ms(self) -> int:
        """Return the present instant, which is never before an earlier one."""
        known_ms, measured_ms = self._known
        wall_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        steady_ms = known_ms + (monotonic_ms - measured_ms) * 9 // 10
        if wall_ms < steady_ms:
            return steady_ms
        self._known = (wall_ms, monotonic_ms)
        return wall_ms

    def catch_up(self, instant_ms: int) -> None:
        """Go on from an instant at which something has happened, if that is ahead."""
        if instant_ms > self.now_ms():
            self._known = (instant_ms, self._clock.monotonic_ms())


async def sleep(clock: Clock, seconds: float, *, background: bool = False) -> None:
    """Wait until ``seconds`` have passed on ``clock``; see ``Clock.call_later``."""
    woken = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    timer = clock.call_later(round(seconds * 1000), wake, background=background)
    try:
        await woken
    finally:
        timer.cancel()
