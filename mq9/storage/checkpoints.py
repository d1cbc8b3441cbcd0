"""Writes the log into the file on a thread of its own, while commits continue.

During a checkpoint of a commit, all clients wait until the disk has the whole log. So this thread
writes most of the log before, and the checkpoint of a commit is short. SQLite starts the log again
only after a checkpoint of a commit.
"""

from __future__ import annotations

import logging
import sqlite3
import threading

logger = logging.getLogger("mq9.broker")


class Checkpoints:
    """Makes checkpoints on request, which wait for no other connection.

    Args:
        connection: A connection that may write, for this use only. Close it while another
            connection is open: the last close writes the log into the file at that path, whichever
            file that is then.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.active = threading.Lock()  # held while one is made
        self._connection = connection
        self._wanted = threading.Event()
        self._is_ending = False
        self._thread: threading.Thread | None = None  # from the first on

    @property
    def is_busy(self) -> bool:
        """Whether one is being made, or is about to be."""
        return self._wanted.is_set() or self.active.locked()

    def begin(self) -> None:
        """Have one made soon; called by one thread at a time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mq9-checkpoints", daemon=True)
            self._thread.start()
        self._wanted.set()

    def wait(self) -> None:
        """Return when no checkpoint runs; a requested one may begin then."""
        with self.active:
            pass

    def end(self) -> None:
        """End the thread, and close the connection."""
        self._is_ending = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    def abandon(self) -> None:
        """In a forked child, close the copy of the parent's connection."""
        self._connection.close()

    def _run(self) -> None:
        while not self._is_ending:
            self._wanted.wait()
            if not self._is_ending:
                with self.active:
                    self._make()
                    self._wanted.clear()

    def _make(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:  # the checkpoint of a commit reports the error
            logger.debug("a checkpoint beside the commits failed: %s", error)
