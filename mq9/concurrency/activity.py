"""Work of other threads, for a manual clock that must not run ahead of them.

Outside tests no such clock exists, and this module costs nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakSet

R = TypeVar("R")

_lock = threading.Lock()
_blocked: dict[int, Future[Any]] = {}  # by thread


class ThreadObserver(Protocol):
    """Receiver of the start of waits for other threads."""

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take an event loop into account."""

    def look(self) -> bool:
        """Return whether anything can still run."""


_observers: WeakSet[ThreadObserver] = WeakSet()


class Work:
    """Work that was given to another thread; a context manager that ends it.

    Args:
        on_end: Called once, with the work, when it has ended.

    Attributes:
        thread: The thread of a function that ``run`` calls, which may take any time; None for work
            of the broker, which ends soon.
    """

    __slots__ = ("_on_end", "thread")

    def __init__(self, on_end: Callable[[Work], None] | None = None) -> None:
        self._on_end = on_end
        self.thread: int | None = None

    def run(self, function: Callable[..., R], *args: object) -> R:
        """Call a function, noting that this thread does the work."""
        self.thread = threading.get_ident()
        return function(*args)

    def end(self) -> None:
        """Note that the work is done; idempotent."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()


@contextmanager
def blocking(until: Future[Any]) -> Iterator[None]:
    """Note that this thread waits for an event loop on another thread, inside the block."""
    thread = threading.get_ident()
    with _lock:
        outer = _blocked.get(thread)
        _blocked[thread] = until
    try:
        for observer in _known():
            observer.look()
        yield
    finally:
        with _lock:
            if outer is None:
                del _blocked[thread]
            else:
                _blocked[thread] = outer


def announce_work(loop: asyncio.AbstractEventLoop) -> None:
    """Note that an event loop is about to get work, and that the current one gives it."""
    for observer in _known():
        observer.follow(loop)
        with suppress(RuntimeError):  # no loop runs here
            observer.follow(asyncio.get_running_loop())


def add_observer(observer: ThreadObserver) -> None:
    """Report the work of threads and loops to an observer, as long as it exists."""
    with _lock:
        _observers.add(observer)


def is_blocked(thread: int | None) -> bool:
    """Return whether a thread waits for unfinished work."""
    with _lock:
        until = None if thread is None else _blocked.get(thread)
        return until is not None and not until.done()


def any_blocked() -> bool:
    """Return whether any thread waits for unfinished work."""
    with _lock:
        return any(not until.done() for until in _blocked.values())


def _known() -> list[ThreadObserver]:
    with _lock:
        return list(_observers)
