"""Reports changes of files, so that a process that waits does not have to look again and again.

On Linux the kernel reports them (inotify). A watch is made for a path and opens no descriptor of
the file: closing one would drop the locks that SQLite holds for this process. Other systems have no
such call (kqueue needs a descriptor), so there is nothing here for them.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_PAUSE_S = 0.01  # between two reports; what changes in the meantime is reported together
_CHANGES = 0x002 | 0x004 | 0x800  # IN_MODIFY, IN_ATTRIB (a removed file has it, too), IN_MOVE_SELF
_BUFFER = 64 * 1024


class FileEvents:
    """Reports, on a thread of its own, that one of some files was written to, moved or removed.

    The report says no more than that, may be about this process's own change, and may come a moment
    before the change can be seen.

    Args:
        paths: The files.
        on_change: Called on the thread after a change, at most every 10 ms.

    Raises:
        OSError: The system has no such reports, or no more of them for this user.
    """

    def __init__(self, paths: Iterable[Path], on_change: Callable[[], None]) -> None:
        if sys.platform != "linux":
            raise OSError(f"{sys.platform} reports no changes of a file that is not open")
        self._on_change = on_change
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._events = _watching(paths)
        try:
            self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        except OSError:
            os.close(self._events)
            raise
        self._open = [self._events, self._stop]
        self._thread = threading.Thread(target=self._run, name="mq9-file-events", daemon=True)
        self._thread.start()

    def listen(self, is_wanted: bool) -> None:
        """Report changes from now on, those since the last report included; or report none."""
        if is_wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def close(self) -> None:
        """End the thread and the watches."""
        self._closing.set()
        self._wanted.set()
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self.abandon()

    def abandon(self) -> None:
        """Close the watches, once; a forked child does so too, and has no thread."""
        while self._open:
            os.close(self._open.pop())

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._events, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while not self._closing.is_set():
            self._wanted.wait()
            poll.poll()
            if not self._wanted.is_set() or self._closing.is_set():
                continue  # the kernel keeps what came, equal ones as one
            os.read(self._events, _BUFFER)
            self._on_change()
            self._closing.wait(_PAUSE_S)


def _watching(paths: Iterable[Path]) -> int:
    """Return a descriptor that becomes readable when one of some files changes."""
    import ctypes  # noqa: PLC0415  # only who waits needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError("the C library has no inotify")
    events: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if events < 0:
        raise _error(ctypes.get_errno())
    for path in paths:
        if libc.inotify_add_watch(events, os.fsencode(path), ctypes.c_uint32(_CHANGES)) < 0:
            error = _error(ctypes.get_errno())
            os.close(events)
            raise error
    return events


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
