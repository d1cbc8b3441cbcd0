"""Writes the log into the file beside the commits, on a thread of its own.

A checkpoint that a commit makes keeps everybody waiting until the disk has all of the log. So most
of the log is written before, while commits go on, and that of a commit finds little left. Only
after a commit's own checkpoint SQLite writes to the log from its start again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading

logger = logging.getLogger("mq9.broker")


class Checkpoints:
    """Makes checkpoints that wait for nobody, when told to.

    Args:
        connection: May write, and is used for nothing else. It has to be closed while another
            connection is open: the last one that is closed writes the log into whatever file lies
            there by then.
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
        """Return when none is being made; one that has only been told to begin may begin then."""
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
        except sqlite3.Error as error:  # a commit that makes one tells who asks
            logger.debug("a checkpoint beside the commits failed: %s", error)
