"""Detect when an event loop has nothing to run."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from mq9.concurrency import activity
from mq9.concurrency.activity import Work

# One lock for all loops and clocks, so that their views of each other are consistent.
lock = threading.RLock()

_MOST_TURNS = 200_000  # busy turns of a loop in a row that count as endless
_AGAIN_S = 0.002
_SHORT_WORK_S = 1.0  # of real time


class Listener(Protocol):
    """Receives the events of the loops that it follows."""

    def look(self) -> bool:
        """A loop has nothing to run: check the others. Return whether to call again soon."""

    def never_idle(self) -> None:
        """A loop was busy for too many turns in a row."""


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopMonitor] = WeakKeyDictionary()


class LoopMonitor:
    """Watches one asyncio event loop.

    A loop with nothing to run waits in its selector for events from outside. So the monitor first
    asks the selector for events that have arrived. ``of`` returns the monitor of a loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio has no public way to learn that a loop is about to wait.
        selector: Any = getattr(loop, "_selector", None)
        if selector is None:
            raise TypeError(
                f"a manual clock needs an event loop of asyncio, not a {type(loop).__qualname__}"
            )
        self._loop = weakref.ref(loop)
        self._select: Callable[[float | None], list[Any]] = selector.select
        self._listeners: WeakSet[Listener] = WeakSet()
        self._turns = 0
        self.thread: int | None = None
        self.is_idle = False
        self.until_timer: float | None = None
        self._in_threads: dict[Work, float] = {}  # by start time
        selector.select = self._watched_select
        watched: Any = loop
        watched.run_in_executor = self._watched(loop.run_in_executor)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopMonitor:
        """Return the monitor of a loop."""
        with lock:
            monitor = _by_loop.get(loop)
            if monitor is None:
                monitor = _by_loop[loop] = cls(loop)
        with suppress(RuntimeError):  # no loop runs here
            if asyncio.get_running_loop() is loop:
                monitor.thread = threading.get_ident()
        return monitor

    @property
    def is_running(self) -> bool:
        """Whether the loop is running."""
        loop = self._loop()
        return loop is not None and loop.is_running()

    def comes_within(self, seconds: float) -> bool:
        """Return whether the loop waits for an asyncio timer that is due sooner, in real time."""
        return self.is_idle and self.until_timer is not None and self.until_timer < seconds

    def works_in_threads(self) -> bool:
        """Return whether the loop awaits a thread of its executors that started a moment ago.

        A thread that waits in a synchronous call for another thread does not count.
        """
        latest = time.monotonic() - _SHORT_WORK_S
        with lock:
            works = list(self._in_threads.items())
        return any(begun > latest and not activity.is_blocked(work.thread) for work, begun in works)

    def add_listener(self, listener: Listener) -> None:
        """Notify a listener, while it exists, when the loop has nothing to run."""
        with lock:
            self._listeners.add(listener)

    def has_events(self) -> bool:
        """Return whether an outside event has arrived that the loop has not processed yet."""
        try:
            return bool(self._select(0))
        except (OSError, ValueError):  # the loop was closed just now
            return True

    def call(self, callback: Callable[[], object]) -> None:
        """Call a function on the loop. Do nothing if the loop is closed."""
        loop = self._loop()
        with lock:
            if loop is None or loop.is_closed():
                return
            self.is_idle = False
            loop.call_soon_threadsafe(callback)

    def _watched(
        self, run_in_executor: Callable[..., asyncio.Future[Any]]
    ) -> Callable[..., asyncio.Future[Any]]:
        def watched(executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            work = Work()
            with lock:
                self._in_threads[work] = time.monotonic()
            try:
                future = run_in_executor(executor, work.run, function, *args)
            except BaseException:
                self._in_threads.pop(work)
                raise
            future.add_done_callback(lambda _: self._in_threads.pop(work))
            return future

        return watched

    def _watched_select(self, timeout: float | None = None) -> list[Any]:
        self.thread = threading.get_ident()
        events = self._select(0)
        if events or (timeout is not None and timeout <= 0):
            self._turns += 1
            if self._turns == _MOST_TURNS:
                self._turns = 0
                with lock:
                    listeners = list(self._listeners)
                for listener in listeners:
                    listener.never_idle()
            return events
        self._turns = 0
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            with lock:
                self.is_idle = True
                self.until_timer = timeout
                listeners = list(self._listeners)
            # A listener that finds busy threads asks to be called again: the end of a thread
            # causes no event. Call every listener, whatever the first one returns.
            again = True in {listener.look() for listener in listeners}
            if not self.is_idle:  # a listener scheduled work
                return self._select(0)
            if again:
                events = self._select(_AGAIN_S if timeout is None else min(timeout, _AGAIN_S))
            else:
                events = self._select(timeout)
            if ends is not None:
                timeout = max(0.0, ends - time.monotonic())
            if events or not again or timeout == 0.0:
                with lock:
                    self.is_idle = False
                return events
