"""The time of the servers that store the log, as a gateway knows it."""

from __future__ import annotations

from mq9.clock import Clock, DerivedClock

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
