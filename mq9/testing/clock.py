"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from mq9.testing.idle import LoopMonitor, lock
from mq9.testing.watched_clock import SHORT_SLEEP_S, WatchedClock


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


class Follower(Protocol):
    """Another process, whose clock follows this one."""

    def moved(self) -> None:
        """The clock has moved."""

    def comes_within(self, seconds: float) -> bool:
        """Tell whether it waits for a timer of asyncio that runs in less real time."""


class ManualClock(WatchedClock):
    """A clock that stands still until a test moves it, or until it has to go on.

    It knows what can run: the event loops that use it, what those have given to threads of the
    broker and of consumers, and who waits in a synchronous call for another thread. Threads of the
    test's own hold nothing up.

    Args:
        start: The first instant, in seconds since the Unix epoch.
        autojump: Whether the clock goes by itself to the next instant that somebody waits for, as
            soon as nothing can run before. A timer of asyncio that comes before that instant holds
            it for its last second: so a test may sleep for a moment. A longer one is taken for a
            timeout.
        in_transit: Tells whether something was sent to an event loop that cannot be seen
            there yet; until it says no, something can run.

    Raises:
        TypeError: ``start`` is not a number.
        ValueError: ``start`` is not finite.
    """

    def __init__(
        self,
        start: float = 1_800_000_000.0,
        *,
        autojump: bool = False,
        in_transit: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(_milliseconds("start", start))
        self._autojump = autojump
        self._in_transit = in_transit
        self._resting: deque[_Rest] = deque()
        self._advancing = 0
        self._followers: set[Follower] = set()

    async def advance(self, seconds: float) -> None:
        """Move the clock forward, stopping at every instant at which somebody waits.

        What waits for an instant runs at that instant, in order, and has nothing left to run before
        the clock goes on. A test without an event loop calls ``asyncio.run(clock.advance(60))``.

        Args:
            seconds: How far, at least 0.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative or not finite.
            RuntimeError: Something goes on for ever without waiting for anything.
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
        """Turn the wall clock back, as a machine's is when it was wrong. Wakes nobody.

        What is measured, such as how long somebody has waited, is not changed by it.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is not finite.
        """
        delta_ms = _milliseconds("seconds", seconds)
        with lock:
            self._wall_ms -= delta_ms
            self._tell_followers()

    def hold_for_this_thread(self) -> None:
        """Do not jump while this thread runs something other than an event loop.

        Unless it, or another thread, waits in a synchronous call for what is done elsewhere.
        """
        self._owner = threading.get_ident()

    def add_follower(self, follower: Follower) -> None:
        """Tell another process of each move."""
        with lock:
            self._followers.add(follower)

    def remove_follower(self, follower: Follower) -> None:
        """Tell it no more."""
        with lock:
            self._followers.discard(follower)

    def look(self) -> bool:
        """Let an ``advance`` go on, or jump, if nothing can run; whether that may come to pass."""
        with lock:
            jumps = self._autojump and not self._advancing and self._is_awaited()
            if not self._resting and not jumps:
                return False
            if not self._something_can_run(but_unbounded=bool(self._resting)):
                if self._resting:
                    self._resting.popleft().end()
                elif self._may_jump():
                    self._go_to_next()
            return True

    def never_idle(self) -> None:
        """Give up waiting for an event loop that always has something to run."""
        with lock:
            if self._resting:
                self._resting.popleft().end(
                    RuntimeError("what runs at this instant never waits, so the clock cannot move")
                )

    async def _rest(self) -> None:
        """Return when nothing can run."""
        rest = _Rest(self._follow(asyncio.get_running_loop()))
        with lock:
            self._resting.append(rest)
        try:
            await rest.wait()
        finally:
            with lock:
                if rest in self._resting:
                    self._resting.remove(rest)

    def _something_can_run(self, *, but_unbounded: bool = False) -> bool:
        return super()._something_can_run(but_unbounded=but_unbounded) or (
            self._in_transit is not None and self._in_transit()
        )

    def _may_jump(self) -> bool:
        """Tell whether neither the owner's thread nor a timer of asyncio comes first."""
        delay_s = (self._next_ms() - self._monotonic_ms) / 1000
        soon_s = min(delay_s, SHORT_SLEEP_S)
        return not (
            any(monitor.comes_within(soon_s) for monitor in self._running_monitors())
            or any(follower.comes_within(soon_s) for follower in self._followers)
            or self._owner_is_at_work()
        )

    def _go_to_next(self) -> None:
        """Go to the next instant that somebody waits for, and wake them in order."""
        with lock:
            instant = round(self._next_ms())
            self._go_to(instant)
            self._wake_until(instant)

    def _go_to(self, monotonic_ms: int) -> None:
        if monotonic_ms != self._monotonic_ms:
            self._wall_ms += monotonic_ms - self._monotonic_ms
            self._monotonic_ms = monotonic_ms
            self._tell_followers()

    def _tell_followers(self) -> None:
        for follower in self._followers:
            follower.moved()


def _milliseconds(name: str, seconds: float) -> int:
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name}: {seconds!r} is not a number of seconds")
    if not math.isfinite(seconds):
        raise ValueError(f"{name}: {seconds!r} is not a finite number of seconds")
    return round(seconds * 1000)
