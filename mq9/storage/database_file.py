"""Notices when an open database file is removed, replaced or overwritten.

SQLite would continue with its descriptors, and report success for commits into a removed file. Only
metadata is read here: if other code opened and closed the file, the locks of this process would be
dropped. A connection of SQLite reads the content.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

from mq9.errors import BrokerFailed, OutcomeUnknown
from mq9.storage.store import LOG_BYTES, MOST_BYTES

logger = logging.getLogger("mq9.broker")

_RIGHTS = 0o600  # the rights that the owner must keep
# To read a page that another process may be writing, which may wait for a busy disk. An alarm stops
# the broker until an operator acts, so a real one may take a fifth of a second.
_ATTEMPTS = 20
_PAUSE_S = 0.01  # between two of them
_CONCLUSIVE_NS = 1_000_000_000  # a change so recent may hide a second one: timestamps are coarse
_AGAIN_S = 0.1  # after which such a file is looked into again


class DatabaseFile:
    """The files of one open database, as they were when it was opened.

    The database holds a random token, which is renewed after each checkpoint. The main file must
    hold that token or, until the next checkpoint, the former one. Another database, or an older
    copy of this one, holds neither.

    Files that are ``lost`` are not used again; the attribute is the reason. The connections here
    may write, and are used by one thread at a time.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, is_shared: bool = True
    ) -> None:
        real = os.path.realpath(path)  # where SQLite keeps what belongs to a symbolic link
        connection.execute("SELECT 1 FROM checkpoints").fetchone()  # this creates the log
        self._main = path
        self._log = Path(f"{real}-wal")
        # Without other processes the index of the log is in memory.
        self._paths = (path, self._log, *([Path(f"{real}-shm")] if is_shared else []))
        self.watched = (Path(real), self._log)  # every commit and checkpoint writes to one of them
        self._opened = [one.stat() for one in self._paths]
        # Of each file its path, its inode and device, and the rights that it must keep.
        self._expected = [
            (str(path), (status.st_ino, status.st_dev), status.st_mode & _RIGHTS)
            for path, status in zip(self._paths, self._opened, strict=True)
        ]
        self._log_size = 0
        self._is_cut = False
        self._stamp: tuple[int, ...] | None = None
        self._is_conclusive = False
        self._seen = _token_in(path)
        self._renewed: bytes | None = None  # what stood in the main file when it was renewed last
        if self._seen is None:  # a new file: its content is still in the log
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._seen = _token_in(path)
        self._checked_at = time.monotonic()
        self.lost: str | None = None
        self._losing = threading.Lock()

    def look(self) -> None:
        """Check that the files at their paths are the same. Thread-safe.

        Other checks are not possible from any thread. It takes three calls of ``stat``.
        """
        found = self._look()
        if isinstance(found, str):
            self._lose(found)

    def look_closely(self, connection: sqlite3.Connection) -> None:
        """Check, outside a transaction, that the files and their content are the same.

        If a later close would write the log into another file, the connection is closed now.
        """
        if self.lost is None and (problem := self._problem(connection)) is not None:
            self._lose(problem)
        if self.lost is not None and not self.may_be_completed(connection):
            connection.close()  # before the readers', so that the log is not written into the file

    def refuse_lost(self, *, has_written: bool = False) -> None:
        """Refuse to continue with lost files, which may have got a commit."""
        if self.lost is None:
            return
        lost = f"the broker lost its file: {self.lost}"
        until = "nothing is stored until the file is back and the broker restarted"
        if has_written:
            raise OutcomeUnknown(f"{lost}; the outcome of this request is unknown, and {until}")
        raise BrokerFailed(f"{lost}; {until}")

    def _lose(self, problem: str) -> None:
        with self._losing:
            if self.lost is None:
                self.lost = problem
                logger.error(
                    "%s while the broker has it open; requests are refused: put the file back, or "
                    "a copy of it, and restart",
                    problem,
                )

    def _look(self) -> str | list[os.stat_result]:
        """Return the status of the files, in the order of their paths; or what became of one."""
        found = []
        for path, identity, rights in self._expected:
            try:
                status = os.stat(path)  # noqa: PTH116  # a Path takes as long as the call
            except FileNotFoundError:
                return f"{path} is not there any more"
            except OSError as error:
                return f"{path} cannot be reached: {error.strerror}"
            mode, inode, device = status[:3]  # to ask for them by name takes three times as long
            if (inode, device) != identity:
                return f"{path} is another file now"
            if rights & ~mode:
                return f"{path} may no longer be read and written"
            found.append(status)
        return found

    def may_be_completed(self, connection: sqlite3.Connection) -> bool:
        """Return whether the last close may write the log into the main file.

        It may if only the log was removed, so that its content is kept. It may not if the main file
        is another one, or if the log is not complete.
        """
        try:
            for path, opened in zip(self._paths, self._opened, strict=True):
                is_there = path == self._main or path.exists()
                if is_there and not os.path.samestat(path.stat(), opened):
                    return False
            return not self._is_cut and self._overwritten(connection, self._main.stat()) is None
        except (OSError, sqlite3.Error):
            return False

    def _problem(self, connection: sqlite3.Connection) -> str | None:
        """Return how the files or their content have changed; None if they have not."""
        found = self._look()
        if isinstance(found, str):
            return found
        main, log, *_ = found
        try:
            return self._overwritten(connection, main) or self._cut_log(connection, log.st_size)
        except FileNotFoundError as error:
            return f"{error.filename} is not there any more"
        except (OSError, sqlite3.Error) as error:
            return f"{self._main} cannot be read: {error}"

    def renew(self, connection: sqlite3.Connection) -> None:
        """Write a new token, where the last one has reached the main file; in a transaction.

        `note_renewed` has to be called when that is committed.
        """
        if self._seen is not None and self._seen == self._renewed:
            return
        connection.execute(
            "UPDATE checkpoints SET previous=token, token=randomblob(16) WHERE token=?",
            (self._seen,),
        )

    def note_renewed(self) -> None:
        """Note that a transaction in which `renew` was called is committed."""
        self._renewed = self._seen

    def _cut_log(self, connection: sqlite3.Connection, size: int) -> str | None:
        """Tell of a log that is shorter than what SQLite has written to it."""
        # SQLite cuts a log that it starts again to LOG_BYTES; other programs may cut it to nothing,
        # once all of it stands in the main file.
        if size < min(self._log_size, LOG_BYTES):
            # What SQLite believes to stand in an empty log; this raises where that is wanted.
            checkpoint = "PRAGMA wal_checkpoint(PASSIVE)"
            self._is_cut = size > 0 or connection.execute(checkpoint).fetchone()[1] != 0
        self._log_size = size
        return f"{self._log} was cut off" if self._is_cut else None

    def _overwritten(self, connection: sqlite3.Connection, status: os.stat_result) -> str | None:
        """Tell of a main file that something other than a checkpoint has written to."""
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        now = time.monotonic()
        if stamp == self._stamp and (self._is_conclusive or now - self._checked_at < _AGAIN_S):
            return None
        found_instead = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            try:
                found = _token_in(self._main)
            except sqlite3.DatabaseError as error:
                found_instead = f" and cannot be read ({error})"
                continue
            found_instead = " by another database or an older copy"
            token, previous = connection.execute(
                "SELECT token, previous FROM checkpoints"
            ).fetchone()
            is_previous = found == previous and self._seen != token
            if found == token or is_previous or found is self._seen is None:
                break
        else:
            return f"{self._main} was overwritten{found_instead}"
        self._seen = found
        self._stamp = stamp
        self._checked_at = now
        age_ns = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns)
        self._is_conclusive = age_ns > _CONCLUSIVE_NS
        return None


def _token_in(path: Path) -> bytes | None:
    """Return the token in the main file, without its log; None if it has none yet."""
    # SQLite closes a descriptor only when this process holds no lock on the file.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    try:
        # A checkpoint that a full disk has ended writes the new length and not all of the pages;
        # SQLite then refuses the file without its log, unless it may be damaged.
        connection.execute("PRAGMA writable_schema=ON")
        row = connection.execute("SELECT token FROM checkpoints").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    finally:
        connection.close()
    return None if row is None else bytes(row[0])
