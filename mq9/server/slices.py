"""Slices of the event loop for clients that want much of it, with time for others between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

SLICE_S = 0.005  # how long one client is attended to while others wait
_BETWEEN_S = 0.002  # for others, who need several turns of the loop for one request


class Slices:
    """Lets those who have used up their slice go on, one at a time.

    Args:
        call_later: Calls a function after so many seconds, on the event loop of them all.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._waiting: deque[Callable[[], None]] = deque()

    def ask(self, go_on: Callable[[], None]) -> None:
        """Have a function called when it is its turn."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._call_later(_BETWEEN_S, self._give)

    def _give(self) -> None:
        go_on = self._waiting.popleft()
        if self._waiting:
            self._call_later(_BETWEEN_S, self._give)
        go_on()
