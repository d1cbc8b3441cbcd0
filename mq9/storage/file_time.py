"""How far the time of a file is from a machine's, and setting it right."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mq9.clock import LONGEST_JUMP_MS, SETTABLE_MS
from mq9.engine.state import position, set_time
from mq9.storage import store
from mq9.storage.backend import roll_back


class TimeState(StrEnum):
    """Whether an operator should set the time of a file."""

    RIGHT = "right"
    AHEAD = "ahead"  # of the machine's, by an hour or more
    HELD = "held"  # since the machine's is more than a year later


class FileTime(NamedTuple):
    """The time of a file beside a machine's, in milliseconds since the Unix epoch.

    Attributes:
        file_ms: When something has last happened in the file; 0 for never.
        machine_ms: The time of the machine.
    """

    file_ms: int
    machine_ms: int

    @property
    def state(self) -> TimeState:
        """Whether it should be set."""
        ahead_ms = self.file_ms - self.machine_ms
        if ahead_ms > SETTABLE_MS:
            return TimeState.AHEAD
        if self.file_ms and ahead_ms < -LONGEST_JUMP_MS:
            return TimeState.HELD
        return TimeState.RIGHT


def look(path: Path, machine_ms: int) -> FileTime:
    """Compare the time of a file with the machine's. Nothing is written.

    Raises:
        UnusableFile: There is no such file, or it cannot be used.
    """
    return FileTime(store.look_into(path, position).now_ms, machine_ms)


def set_right(path: Path, machine_ms: int) -> None:
    """Set the time of a file to the machine's; programs that have it open follow.

    Raises:
        UnusableFile: It cannot be used.
        sqlite3.Error: It could not be written to; nothing was changed.
    """
    with closing(store.open_file(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            set_time(connection, machine_ms)
        except BaseException:
            roll_back(connection)
            raise
        connection.execute("COMMIT")
