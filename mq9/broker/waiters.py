"""Who waits for news of a mailbox, and how they are woken.

A waiter registers before it looks, so that nothing falls between looking and waiting. A wake may be
spurious: whoever is woken looks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mq9.clock import Clock


class Waiter:
    """One request that waits; it belongs to the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] = self._loop.create_future()
        self.is_woken = False

    def wake(self) -> None:
        """Tell the waiter to look again, from whichever thread; once is enough."""
        if self.is_woken:
            return
        self.is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            return  # its loop is closed, and so nobody waits

    def _resolve(self) -> None:
        if not self._news.done():
            self._news.set_result(None)

    async def wait(self, clock: Clock, until_ms: int) -> None:
        """Return at the next wake, or when the clock reaches ``until_ms``."""
        timer = clock.call_at(until_ms, self.wake)
        try:
            await self._news
        finally:
            timer.cancel()


class Waiters:
    """The waiters of one broker, by mailbox; usable from several threads.

    Args:
        watch: Told when the first begins to wait and when the last has gone.
    """

    def __init__(self, watch: Callable[[bool], None]) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._by_address: dict[str, set[Waiter]] = {}

    @contextmanager
    def joined(self, address: str) -> Iterator[Waiter]:
        """Be woken by news of a mailbox while inside."""
        waiter = Waiter()
        with self._lock:
            first = not self._by_address
            self._by_address.setdefault(address, set()).add(waiter)
            if first:
                self._watch(True)
        try:
            yield waiter
        finally:
            with self._lock:
                those = self._by_address[address]
                those.discard(waiter)
                if not those:
                    del self._by_address[address]
                if not self._by_address:
                    self._watch(False)

    def notify(self, address: str) -> None:
        """Wake whoever waits for news of a mailbox."""
        with self._lock:
            those = list(self._by_address.get(address, ()))
        for waiter in those:
            waiter.wake()

    def notify_all(self) -> None:
        """Wake everybody."""
        with self._lock:
            those = [waiter for waiters in self._by_address.values() for waiter in waiters]
        for waiter in those:
            waiter.wake()
