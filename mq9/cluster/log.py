"""A log that every gateway of a cluster appends to and applies.

What was appended has a number, which is one higher than that of what came before it, and an instant
that the log itself gave it. Everybody reads the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from mq9.clock import Clock, DerivedClock

REPLICAS = 3  # on how many servers it is stored, unless there is only one


class Logged(NamedTuple):
    """What was appended to the log.

    Attributes:
        sequence: Its number, from 1 on.
        now_ms: When the log took it, in milliseconds since the Unix epoch.
        data: What was appended.
    """

    sequence: int
    now_ms: int
    data: bytes


class Last(NamedTuple):
    """How far a log has come.

    Attributes:
        sequence: The number of the last record that it has.
        now_ms: What time it was for the log then, in milliseconds since the Unix epoch.
    """

    sequence: int
    now_ms: int


class Purged(Exception):
    """What was to be read is in the log no longer: a snapshot has it."""


class Log(Protocol):
    """A replicated log."""

    async def append(self, data: bytes, record_id: str) -> int:
        """Append a record once, however often it is tried; return its number.

        Args:
            data: The record.
            record_id: By which the log knows it again for two minutes.

        Raises:
            OutcomeUnknown: It is not known whether it was appended.
        """

    async def last(self) -> Last:
        """Return the number of the last record that the log has, and what time it is there.

        Raises:
            Unavailable: Nobody who knows it answers.
        """

    async def first(self) -> int:
        """Return the number of the first record that the log still has.

        Raises:
            Unavailable: Nobody who knows it answers.
        """

    async def read(self, first: int) -> list[Logged]:
        """Return some records from a number on, as far as there are any.

        Raises:
            Purged: The first is in the log no longer.
            Unavailable: The log cannot be read.
        """

    async def follow(self, on_logged: Callable[[Logged], None]) -> int:
        """Be told of what is appended after a record; return the number of that record.

        A record may be left out, so that whoever follows has to read what is missing. Who follows
        again is told so no longer as was asked before.

        Raises:
            Unavailable: The log cannot be reached.
        """


_TICK_MS = 1  # by which an instant in whole milliseconds may be too early


class LogClock(DerivedClock):
    """Tells what time it is for a log, from what that has said and how much has passed since.

    What this machine takes for the time is of no importance.

    Args:
        clock: Measures how much has passed.
        now_ms: What time the log has just said that it is.
    """

    def __init__(self, clock: Clock, now_ms: int) -> None:
        super().__init__(clock)
        self._told = (now_ms, clock.monotonic_ms())

    def now_ms(self) -> int:
        """Return the present instant. It steps back when that of the log has."""
        told_ms, measured_ms = self._told
        return told_ms + self._clock.monotonic_ms() - measured_ms

    def follow(self, told_ms: int, asked_ms: int) -> None:
        """Go by what the log has said.

        Args:
            told_ms: What time it was for the log, at some moment since it was asked.
            asked_ms: When that was, as ``monotonic_ms`` tells.
        """
        measured_ms = self._clock.monotonic_ms()
        latest_ms = told_ms + measured_ms - asked_ms + _TICK_MS
        self._told = (min(max(self.now_ms(), told_ms), latest_ms), measured_ms)
