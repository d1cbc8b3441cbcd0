"""Work that the program waits for before it ends, until Ctrl-C."""

from __future__ import annotations

# Executors refuse work once the program is ending; what is registered after they are, is called
# before that. SQLite is read, and names of hosts are resolved, by executors.
import concurrent.futures.thread  # noqa: F401
import sys
import threading
from typing import Protocol


class Background(Protocol):
    """Goes on in the background until it is stopped."""

    @property
    def is_running(self) -> bool:
        """Whether it goes on, in this process."""

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or after some time."""

    def stop(self) -> None:
        """End it, within a bounded time."""


# A signal that comes just before a thread begins to wait does not wake it: CPython has then looked
# for signals already. So it does not wait for long at a time.
_WAIT_S = 0.5

_works: set[Background] = set()
_registered = False


def keep_alive(work: Background) -> None:
    """Let the program not end before some work has, unless by Ctrl-C or an error.

    Threads that are no daemons would do so, too. But while a program waits for those its executors
    are gone, and after Ctrl-C in the main program it still waits.
    """
    global _registered  # noqa: PLW0603  # once in a process
    _works.add(work)
    if not _registered:
        # There is no public function: those of `atexit` are called when no thread can be started.
        threading._register_atexit(wait_for_all)  # type: ignore[attr-defined]  # noqa: SLF001  # see above
        _registered = True


def let_go(work: Background) -> None:
    """Let the program end without some work; harmless when repeated."""
    _works.discard(work)


def wait_for_all() -> None:
    """Wait for all work; called on the main thread when it has nothing left to do."""
    failed = getattr(sys, "last_type", None) is not None  # set by what the main program raised
    try:
        while not failed and (work := _running()):
            work.wait(_WAIT_S)
    except KeyboardInterrupt:
        pass
    while work := _running():
        work.stop()
        let_go(work)


def _running() -> Background | None:
    return next((one for one in list(_works) if one.is_running), None)
