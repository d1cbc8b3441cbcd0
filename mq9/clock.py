"""Sources of time: the system, or a test that moves it.

Instants are whole milliseconds since the Unix epoch. Durations are measured by a clock that never
steps, even if the wall clock does. Packages below the broker read no clock; other code gets a
``Clock``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from mq9.concurrency.activity import Work

if TYPE_CHECKING:
    from collections.abc import Callable


logger = logging.getLogger("mq9.broker")

__all__ = [
    "Clock",
    "DerivedClock",
    "SteadyClock",
    "SystemClock",
    "Timer",
    "Work",
    "duration",
    "sleep",
    "wait_for_any",
]


DEFAULT_POLL_MS = 30_000

_DAY_MS = 86_400_000
LONGEST_JUMP_MS = 366 * _DAY_MS  # that a file follows by itself
LARGE_JUMP_MS = 30 * _DAY_MS  # which is logged
SETTABLE_MS = 3_600_000  # what an operator sets right is further ahead
_NOTABLE_MS = 60_000  # by which clocks of several machines may differ

_ADVICE = "check this machine's clock, then run `mq9 doctor --set-clock FILE`"
_HELD = (
    "%s: this machine's time is %s after the last change. The broker does not follow it, and goes "
    f"on from that change, so that no TTL ends: {_ADVICE}"
)
_JUMPED = (
    "%s: the time jumped ahead by %s, which may end TTLs and leases: check the machine's clock"
)
_AHEAD = f"%s: the time is %s ahead of this machine's and goes on from there: {_ADVICE}"

# On Linux another clock than the monotonic one runs on while the machine sleeps.
_ASLEEP_TOO: int | None = getattr(time, "CLOCK_BOOTTIME", None)


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
        """Return the present instant. It may step, also back, when the clock is corrected."""

    def monotonic_ms(self) -> int:
        """Return the milliseconds since some fixed instant; never less than before.

        The time that the machine sleeps counts: a lease that ended meanwhile has ended.
        """

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` once on the running event loop after some milliseconds.

        With 0 or less, it is called in the next iteration of the loop.

        Args:
            delay_ms: Milliseconds.
            callback: The function.
            background: Whether nobody waits for the call, as for regular work. A clock that jumps
                for waiting code does not jump for this.
        """

    def busy(self) -> Work:
        """Note work on another thread: time must not jump until it has ended."""


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
        """Return the milliseconds since some fixed instant, those of sleep included."""
        if _ASLEEP_TOO is None:
            return time.monotonic_ns() // 1_000_000
        return time.clock_gettime_ns(_ASLEEP_TOO) // 1_000_000

    def call_later(
        self, delay_ms: int, callback: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``callback`` on the running event loop after some milliseconds."""
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)

    def busy(self) -> Work:
        """Do nothing: this clock never jumps."""
        return Work()


class DerivedClock:
    """A clock that measures durations by another one, and may have other instants."""

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
        """Call ``callback`` on the running event loop after some milliseconds."""
        return self._clock.call_later(delay_ms, callback, background=background)

    def busy(self) -> Work:
        """Note work on another thread: time must not jump until it has ended."""
        return self._clock.busy()


class SteadyClock(DerivedClock):
    """A clock whose instants never go back, also if the wall clock is behind them.

    A wall clock may be set back, and a file may come from a machine whose clock is ahead. Events
    keep their order, so time continues from the last instant, a tenth slower than the steady clock,
    until the wall clock has caught up.

    A wall clock may also be wrong by years, which would end every TTL. So this clock can hold: it
    does not follow a longer jump of the wall clock, and continues from the last instant.
    """

    def __init__(
        self, clock: Clock, *, longest_jump_ms: int | None = None, name: str = "the broker"
    ) -> None:
        super().__init__(clock)
        self._longest_jump_ms = longest_jump_ms
        self._name = name
        # An instant, and the steady clock at that instant.
        self._known = (clock.now_ms(), clock.monotonic_ms())
        self._happened_ms = 0
        self._said = ""  # the last report about the wall clock, so that it is logged once

    def now_ms(self) -> int:
        """Return the present instant, which is never before an earlier one."""
        known_ms, measured_ms = self._known
        wall_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        passed_ms = monotonic_ms - measured_ms
        steady_ms = known_ms + passed_ms * 9 // 10
        if wall_ms < steady_ms:
            return steady_ms
        jump_ms = wall_ms - known_ms - passed_ms
        if self._longest_jump_ms is not None and jump_ms > self._longest_jump_ms:
            self._say(logging.ERROR, _HELD, jump_ms)
            return known_ms + passed_ms
        self._said = ""
        if jump_ms > LARGE_JUMP_MS:
            self._say(logging.WARNING, _JUMPED, jump_ms)
        self._known = (wall_ms, monotonic_ms)
        return wall_ms

    def catch_up(self, instant_ms: int) -> None:
        """Go on from the last instant at which something has happened, if that is ahead.

        Also from the first one, and from one an hour before: an operator has set the time back.
        """
        before_ms, self._happened_ms = self._happened_ms, instant_ms
        if not instant_ms:
            return
        is_start = not before_ms or instant_ms < before_ms - SETTABLE_MS
        if is_start or instant_ms > self.now_ms():
            self._known = (instant_ms, self._clock.monotonic_ms())
        if (ahead_ms := instant_ms - self._clock.now_ms()) > _NOTABLE_MS:
            is_large = ahead_ms > LARGE_JUMP_MS
            self._say(logging.ERROR if is_large else logging.WARNING, _AHEAD, ahead_ms)

    @property
    def offset_ms(self) -> int:
        """Milliseconds by which it is ahead of the wall clock; negative while it holds."""
        return self.now_ms() - self._clock.now_ms()

    def _say(self, level: int, text: str, jump_ms: int) -> None:
        if self._said != text:
            self._said = text
            logger.log(level, text, self._name, duration(jump_ms))


def duration(milliseconds: int) -> str:
    """Return a duration in words, in its largest unit."""
    for unit, size in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000)):
        if milliseconds >= size:
            count = milliseconds // size
            return f"{count:,} {unit}{'s' * (count != 1)}"
    return f"{milliseconds // 1000} s"


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


async def wait_for_any(clock: Clock, seconds: float | None, *futures: asyncio.Future[Any]) -> None:
    """Return when one of some futures is done, or after some seconds; cancel none."""
    if seconds is None:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        return
    timer = asyncio.create_task(sleep(clock, seconds))
    try:
        await asyncio.wait([*futures, timer], return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
