"""What a log has, one record after the other, none left out."""

from __future__ import annotations

import asyncio
from collections import deque

from mq9.clock import Clock
from mq9.cluster.log import Log, Logged

_MOST_HELD = 4_096  # records that were heard of and not taken yet; others are read again
_MOST_HELD_BYTES = 32 * 1024 * 1024
_GRACE_MS = 20  # for a record that the log has and that was not heard of yet


class Follower:
    """Gives the records of a log in order: those that it hears of, and those that it has to read.

    Args:
        log: The log.
        clock: Measures how long to wait for what is about to be heard of.
        after: The number of the last record that is known already.
    """

    def __init__(self, log: Log, clock: Clock, after: int) -> None:
        self._log = log
        self._clock = clock
        self._next = after + 1  # to be held next
        self._known = after  # the log has records up to here, at least
        self._read = 0  # the last record that had to be read
        self._heard = 0  # the last one that was heard of
        self._held: deque[Logged] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Hear of what is appended from now on.

        Raises:
            Unavailable: The log cannot be reached.
        """
        self._heard = max(await self._log.follow(self.offer), self._heard)

    async def hear_again(self) -> None:
        """Follow the log anew where records had to be read and were never heard of.

        Raises:
            Unavailable: The log cannot be reached.
        """
        if self._read > self._heard:
            await self.start()

    @property
    def known(self) -> int:
        """The number of the last record that it knows the log to have."""
        return self._known

    def expect(self, sequence: int) -> None:
        """Tell that the log has records up to a number."""
        if sequence > self._known:
            self._known = sequence
            self._changed.set()

    def offer(self, logged: Logged) -> None:
        """Take a record that was heard of, if it is the next one and there is room for it."""
        self._heard = max(self._heard, logged.sequence)
        has_room = len(self._held) < _MOST_HELD and self._held_bytes < _MOST_HELD_BYTES
        if logged.sequence == self._next and has_room:
            self._hold(logged)
        self.expect(logged.sequence)

    async def take(self) -> list[Logged]:
        """Return the next records, one at least.

        Raises:
            Purged: They are in the log no longer.
            Unavailable: The log cannot be read.
        """
        while not self._held:
            self._changed.clear()
            if self._known >= self._next:
                await self._wait(_GRACE_MS)
                if not self._held:
                    for logged in await self._log.read(self._next):
                        if logged.sequence == self._next:
                            self._hold(logged)
                            self._read = logged.sequence
            else:
                await self._changed.wait()
        taken, self._held, self._held_bytes = list(self._held), deque(), 0
        return taken

    def _hold(self, logged: Logged) -> None:
        self._held.append(logged)
        self._held_bytes += len(logged.data)
        self._next = logged.sequence + 1
        self._changed.set()

    async def _wait(self, milliseconds: int) -> None:
        """Wait for a record, so long at most."""
        timer = self._clock.call_later(milliseconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
