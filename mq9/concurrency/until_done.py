"""Work that the program waits for before it ends, until Ctrl-C."""

from __future__ import annotations

# Executors refuse work once the program is ending. A function registered after this import runs
# before that. Reads of SQLite and name resolution use executors.
import concurrent.futures.thread  # noqa: F401
import sys
import threading
from typing import Protocol


class Background(Protocol):
    """Work that runs in the background until it is stopped."""

    @property
    def is_running(self) -> bool:
        """Whether the work is running in this process."""

    def wait(self, seconds: float) -> None:
        """Wait for the end of the work, at most ``seconds``."""

    def stop(self) -> None:
        """End the work within a bounded time."""


# Maximum length of one wait. CPython checks for signals before it waits, so a signal in between
# does not wake the thread.
_WAIT_S = 0.5

_works: set[Background] = set()
_registered = False


def keep_alive(work: Background) -> None:
    """Keep the program running until some work ends, except after Ctrl-C or an error.

    Non-daemon threads do not fit: while a program waits for them its executors are closed, and it
    keeps waiting after Ctrl-C in the main program.
    """
    global _registered  # noqa: PLW0603  # once in a process
    _works.add(work)
    if not _registered:
        # No public function fits: `atexit` functions run when no thread can be started any more.
        threading._register_atexit(wait_for_all)  # type: ignore[attr-defined]  # noqa: SLF001  # see above
        _registered = True


def let_go(work: Background) -> None:
    """Let the program end without waiting for some work; idempotent."""
    _works.discard(work)


def wait_for_all() -> None:
    """Wait for all work; called on the main thread when the main program has ended."""
    failed = getattr(sys, "last_type", None) is not None  # set by an error of the main program
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
