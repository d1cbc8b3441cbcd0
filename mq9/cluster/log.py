"""A log that every gateway of a cluster appends to and applies.

What was appended has a number, which is one higher than that of what came before it, and an instant
that the log itself gave it. Everybody reads the same, in the same order.
"""

from __future__ import annotations

from typing import NamedTuple

from mq9.clock import Clock, DerivedClock

REPLICAS = 3  # on how many servers it is stored, unless there is only one


class Logged(NamedTuple):
    """An entry of the log."""

    sequence: int  # from 1 on
    now_ms: int
    data: bytes


class Last(NamedTuple):
    """The last entry of a log."""

    sequence: int
    now_ms: int


class Purged(Exception):
    """The wanted entries were purged from the log: a snapshot has them."""


class Replaced(Exception):
    """The log was removed, and another one has its name."""


_TICK_MS = 1  # by which an instant in whole milliseconds may be too early


class LogClock(DerivedClock):
    """Tells what time it is for a log, from what that has said and how much has passed since.

    What this machine takes for the time is of no importance.
    """

    def __init__(self, clock: Clock, now_ms: int) -> None:
        super().__init__(clock)
        self._told = (now_ms, clock.monotonic_ms())

    def now_ms(self) -> int:
        """Return the present instant. It steps back when that of the log has."""
        told_ms, measured_ms = self._told
        return told_ms + self._clock.monotonic_ms() - measured_ms

    def follow(self, told_ms: int, asked_ms: int) -> None:
        """Follow an instant that the log told after it was asked, at monotonic ``asked_ms``."""
        measured_ms = self._clock.monotonic_ms()
        latest_ms = told_ms + measured_ms - asked_ms + _TICK_MS
        self._told = (min(max(self.now_ms(), told_ms), latest_ms), measured_ms)
