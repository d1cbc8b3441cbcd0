"""Waits for news of a mailbox, and wakes the waiting requests.

A new message is for one consumer of each group, and for every read without a group. So one waiter
of a group is woken and looks. It wakes the next one when it leaves after a find, or without a look.
A waiter joins before it looks, so that no message falls between its look and its wait. A wake may
be
spurious: a woken waiter looks again.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mq9.clock import Clock


class Waiter:
    """One request that looks and waits in turn, on the event loop that made it.

    ``lock`` guards its line and all that wait there.
    """

    def __init__(self, all_waiters: Waiters, lock: threading.Lock, line: _Line) -> None:
        self._loop = asyncio.get_running_loop()
        self._all = all_waiters
        self._lock = lock
        self._line = line
        self._woken = asyncio.Event()
        self.is_woken = False
        self.is_waiting = False
        self.has_news = False  # woken for it, and has not finished to look

    def begin(self) -> None:
        """Note that the waiter is about to look: later messages are news again."""
        with self._lock:
            self.has_news = self.is_woken
            self.is_woken = False
            self._woken.clear()
            if self._line.scout is self:
                self._line.scout = None

    async def wait(
        self,
        clock: Clock,
        timeout_ms: int,
        change_ms: int | None,
        *,
        ends: bool = True,
        delivers: bool = True,
    ) -> None:
        """Return when woken, having found nothing.

        Args:
            clock: Measures the time.
            timeout_ms: In how many milliseconds the waiter is woken in any case.
            change_ms: In how many milliseconds, as it has just seen, there may be something for one
                of the line. It looks again then, unless another has looked since.
            ends: Whether somebody waits for the timeout.
            delivers: Whether the change, or one after it, may be mail.
        """
        with self._lock:
            self._all.begin_to_watch()
            self.has_news = False
            self._line.sentinel = None if change_ms is None else self
        timers = [clock.call_later(timeout_ms, self._end, background=not ends)]
        if change_ms is not None:
            timers.append(clock.call_later(change_ms, self._change, background=not delivers))
        self.is_waiting = True
        try:
            await self._woken.wait()
        finally:
            self.is_waiting = False
            for timer in timers:
                timer.cancel()

    def _end(self) -> None:
        self.wake()

    def _change(self) -> None:
        with self._lock:
            if not self._line.is_group or self._line.sentinel is self:
                self._line.send(self)

    def wake(self) -> bool:
        """Tell the waiter to look again, from whichever thread; False when its loop is closed."""
        if not self.is_woken:
            try:
                self._loop.call_soon_threadsafe(self._woken.set)
            except RuntimeError:
                return False
            self.is_woken = True
        return True


class _Line:
    """Those who wait on one event loop for the same: the mail of one group, or any news."""

    def __init__(self, *, is_group: bool) -> None:
        self.is_group = is_group  # a new message is for one of them only
        self.waiters: dict[Waiter, None] = {}  # in the order of joining
        # The one that was woken and has not begun to look; it looks for all of them.
        self.scout: Waiter | None = None
        # The last to have looked, when it looks again because something is due.
        self.sentinel: Waiter | None = None

    def send(self, waiter: Waiter) -> bool:
        """Wake a waiter to look for all; False when its loop is closed."""
        if not waiter.wake():
            return False
        if self.scout is None:
            self.scout = waiter
        return True

    def news(self) -> None:
        """Wake one of a group, or all others."""
        if not self.is_group:
            self.wake_all()
        elif self.scout is None:
            idle = (one for one in self.waiters if not one.is_woken)
            waiting = (one for one in self.waiters if one.is_waiting and not one.is_woken)
            # A waiter that looks now may be about to leave.
            any(self.send(one) for one in itertools.chain(waiting, idle))

    def wake_all(self) -> None:
        """Wake everybody."""
        for waiter in self.waiters:
            waiter.wake()

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter, and wake another one in its place."""
        del self.waiters[waiter]
        is_missed = waiter.is_woken or waiter.has_news or self.sentinel is waiter
        if self.scout is waiter:
            self.scout = None
        if self.sentinel is waiter:
            self.sentinel = None
        if is_missed and self.is_group:
            self.news()


_Name = tuple[str | None, asyncio.AbstractEventLoop]


class Waiters:
    """The waiters of one broker, by mailbox; usable from several threads.

    Args:
        watch: Called when the first waiter joins, and when the last has left. Changes of other
            processes since its last call count as new at the next start, so no message falls
            between a waiter's look and its wait.
    """

    def __init__(self, watch: Callable[[bool], None]) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._by_address: dict[str, dict[_Name, _Line]] = {}
        self._watches = False

    def begin_to_watch(self) -> None:
        """Have other processes watched, from now on; the lock is held."""
        if not self._watches:
            self._watches = True
            self._watch(True)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(line.waiters) for line in self._lines(None))

    @contextmanager
    def joined(self, address: str, group: str | None) -> Iterator[Waiter]:
        """Be woken by news of a mailbox while inside; ``group`` is None for a read without one."""
        # One that is woken on a loop that somebody blocks must not keep the news from other loops.
        name = (group, asyncio.get_running_loop())
        with self._lock:
            lines = self._by_address.setdefault(address, {})
            line = lines.get(name)
            if line is None:
                line = lines[name] = _Line(is_group=group is not None)
            waiter = Waiter(self, self._lock, line)
            line.waiters[waiter] = None
        try:
            yield waiter
        finally:
            with self._lock:
                line.leave(waiter)
                if not line.waiters:
                    del lines[name]
                if not lines:
                    del self._by_address[address]
                if not self._by_address and self._watches:
                    self._watches = False
                    self._watch(False)

    def notify(self, address: str | None) -> None:
        """Wake one of each group, and all others, of a mailbox; None for every mailbox."""
        if not self._by_address:
            return  # a later waiter finds the message at its first look
        with self._lock:
            for line in self._lines(address):
                line.news()

    def wake(self, address: str) -> None:
        """Wake everybody who waits for news of a mailbox, since it is another one now."""
        with self._lock:
            for line in self._lines(address):
                line.wake_all()

    def wake_all(self) -> None:
        """Wake everybody."""
        with self._lock:
            for line in self._lines(None):
                line.wake_all()

    def _lines(self, address: str | None) -> list[_Line]:
        mailboxes = self._by_address
        found = mailboxes.values() if address is None else [mailboxes.get(address, {})]
        return [line for lines in found for line in lines.values()]
