"""Finds out that another process has written to a database, and decides when to look for that."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

logger = logging.getLogger("mq9.broker")
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOSPC}
_ADVICE = (
    "; raise fs.inotify.max_user_instances or fs.inotify.max_user_watches, or the limit of open "
    "files, and restart"
)
# Where the system reports changes. A report may come before SQLite shows the commit, so there are
# further looks after it, each after twice the time.
FALLBACK_S = 1.0  # and a look now and then without any report
_FIRST_LOOK_S = 0.002
_SETTLED_S = 0.25  # the last of them
# Elsewhere: the longer nothing has come, the more slowly.
_QUICKEST_S = 0.02
_SLOWEST_S = 0.25
_SHARE = 0.1  # of the time since something came
_PAUSE_S = 0.01  # between two reports; what changes in the meantime is reported together
_CHANGES = 0x002 | 0x004 | 0x800  # IN_MODIFY, IN_ATTRIB (a removed file has it, too), IN_MOVE_SELF
_BUFFER = 64 * 1024


class News:
    """Tells whether another process has written; used by one thread.

    A commit writes to ``paths``. ``on_hint`` is called on any thread when it is time to look.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        paths: Iterable[Path],
        on_hint: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._paths = paths
        self._on_hint = on_hint
        self._clock = clock
        self._events: FileEvents | None = None
        self._was_begun = False
        self._is_wanted = False
        self._version = -1
        self._hinted = clock()  # when there was last a reason to look soon

    def listen(self, is_wanted: bool) -> None:
        """Start or stop the reports of the system, as clients wait for changes."""
        if is_wanted and not self._was_begun:
            self._was_begun = True
            self._begin()
        if self._events is not None:
            self._events.listen(is_wanted)
        elif is_wanted and not self._is_wanted:
            self._hinted = self._clock()
        self._is_wanted = is_wanted

    def _begin(self) -> None:
        try:
            self._events = FileEvents(self._paths, self._hint)
        except OSError as error:
            is_unexpected = error.errno is not None  # else no such system has these reports
            logger.log(
                logging.WARNING if is_unexpected else logging.DEBUG,
                "the system does not report changes of the file (%s), so the broker looks for them "
                "4 to 50 times a second while somebody waits%s",
                error.strerror or error,
                _ADVICE if error.errno in _EXHAUSTED else "",
            )

    def _hint(self) -> None:
        self._hinted = self._clock()
        self._on_hint()

    def interval_s(self) -> float:
        """Return after how many seconds to look again, unless there is a hint before."""
        idle = self._clock() - self._hinted
        if self._events is None:
            return min(max(idle * _SHARE, _QUICKEST_S), _SLOWEST_S)
        return max(idle, _FIRST_LOOK_S) if idle < _SETTLED_S else FALLBACK_S

    def look(self) -> bool:
        """Return whether another process has written since the last look."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            logger.warning("could not look for other processes' writes: %s", error)
            return False
        if version == self._version:
            return False
        self._version = version
        if self._events is None:
            self._hinted = self._clock()
        return True

    def close(self) -> None:
        """Stop all reports."""
        if self._events is not None:
            self._events.close()

    def abandon(self) -> None:
        """Close the descriptors that a forked child has from its parent."""
        if self._events is not None:
            self._events.abandon()


class FileEvents:
    """Reports, on a thread of its own, that one of some files was written, moved or removed.

    A report does not name the change. It may be about a change of this process, and may arrive
    shortly before the change is visible. There is at most one report in 10 ms. OSError is raised if
    the system has no such reports, or no more for this user.
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
                continue  # the kernel merges equal events
            os.read(self._events, _BUFFER)
            self._on_change()
            self._closing.wait(_PAUSE_S)


def _watching(paths: Iterable[Path]) -> int:
    """Return a descriptor that becomes readable when one of some files changes."""
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
