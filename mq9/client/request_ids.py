"""Ids by which a broker knows a request that is repeated."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable


class RequestIds:
    """Makes ids that no other client makes, in a forked child neither.

    Each is a random beginning and a number: 24 hexadecimal digits. Whoever knows one can tell the
    next, so they are for the broker alone. Being random throughout would cost each a system call,
    at which a thread that writes may take the interpreter.

    Args:
        randomness: Returns that many unpredictable bytes.
    """

    def __init__(self, randomness: Callable[[int], bytes]) -> None:
        self._randomness = randomness
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._beginning = self._randomness(8).hex()
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return another id."""
        if self._process != os.getpid():
            self._begin()
        return f"{self._beginning}{next(self._numbers):08x}"
