"""Finds out that another process has written to a database, and decides when to look for that."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mq9.storage.file_events import FileEvents

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


class News:
    """Tells whether another process has written; used by one thread.

    Args:
        connection: The database.
        paths: The files that a commit writes to.
        on_hint: Called on any thread when it is time to look.
        clock: Gives the seconds from some instant.
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
        """Have the system report changes, if it can and anybody waits for them; or not."""
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
        """Tell whether another process has written since the last look."""
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
        """Let nothing be reported any more."""
        if self._events is not None:
            self._events.close()

    def abandon(self) -> None:
        """Let go of what a forked child has from its parent."""
        if self._events is not None:
            self._events.abandon()
