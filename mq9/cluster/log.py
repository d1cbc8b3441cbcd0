"""A log that every gateway of a cluster appends to and applies.

The log gives each record a number, one higher than that of the former record, and an instant. All
gateways read the same records in the same order.
"""

from __future__ import annotations

from typing import NamedTuple

from mq9.clock import Clock, DerivedClock

REPLICAS = 3  # servers that store it, unless there is only one


class Logged(NamedTuple):
    """An entry of the log."""

    sequence: int  # from 1 on
    now_ms: int
    data: bytes


class Last(NamedTuple):
    """The last entry of a log, the time of the log, and its size."""

    sequence: int
    now_ms: int
    first: int = 1  # the number of the first entry that is not trimmed
    first_ms: int = 0  # the instant of that entry; 0 without entries
    bytes: int = 0
    max_bytes: int | None = None  # None: no limit of its own

    @property
    def records(self) -> int:
        """The number of entries that are not trimmed."""
        return self.sequence - self.first + 1


class Account(NamedTuple):
    """The storage of the JetStream account of a log."""

    used: int  # bytes
    most: int | None  # bytes; None: no limit of its own
    replicas: int = 1  # servers that store the log, each of which counts


class Purged(Exception):
    """The wanted entries were purged from the log: a snapshot has them."""


class Replaced(Exception):
    """The log was removed, and another one has its name."""


_TICK_MS = 1  # the error of an instant in whole milliseconds


class LogClock(DerivedClock):
    """The time of a log: its last reported instant, and the time that has passed since.

    The time of this machine does not matter.
    """

    def __init__(self, clock: Clock, now_ms: int) -> None:
        super().__init__(clock)
        self._reported = (now_ms, clock.monotonic_ms())

    def now_ms(self) -> int:
        """Return the present instant. It steps back if that of the log does."""
        reported_ms, measured_ms = self._reported
        return reported_ms + self._clock.monotonic_ms() - measured_ms

    def follow(self, reported_ms: int, asked_ms: int) -> None:
        """Follow an instant that the log reported after a request at monotonic ``asked_ms``."""
        measured_ms = self._clock.monotonic_ms()
        latest_ms = reported_ms + measured_ms - asked_ms + _TICK_MS
        self._reported = (min(max(self.now_ms(), reported_ms), latest_ms), measured_ms)
