"""Copies of a database as it was before its schema was changed, beside its file."""

from __future__ import annotations

import filecmp
import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path


def make(source: sqlite3.Connection, path: Path, schema: int) -> Path:
    """Copy a database to a file beside its own, and return that file.

    A file of that name is complete: what a killed process left has another one. A backup that is
    there already, and holds something else, is kept, and the new one is numbered.

    Args:
        source: Reads the database, to which nobody can write until this returns.
        path: Its file.
        schema: Its version, for the name of the copy.

    Raises:
        OSError: There is no room, or no right to write; no copy is left then.
        sqlite3.Error: The same, or the database cannot be read.
    """
    # What SQLite keeps of a symbolic link's file is beside the file, too.
    real = Path(os.path.realpath(path))
    first = real.with_name(f"{real.name}.schema-{schema}.backup")
    part = first.with_name(f"{first.name}.part")
    part.unlink(missing_ok=True)
    try:
        # Only the owner of a mailbox may read it.
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(part)) as target:
            target.execute("PRAGMA journal_mode=OFF")  # who is interrupted begins again
            target.execute("PRAGMA synchronous=OFF")  # all is written to the disk below
            source.backup(target)
        _flush(part)
        numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
        backup = next(
            # One that is the same was made by a process that was killed before it changed anything.
            one
            for one in itertools.chain([first], numbered)
            if not one.exists() or filecmp.cmp(part, one, shallow=False)
        )
        if not backup.exists():
            part.rename(backup)
        _flush(backup.parent)
    finally:
        part.unlink(missing_ok=True)
    return backup


def _flush(path: Path) -> None:
    """Have what is in a file, or a directory, survive a loss of power."""
    if os.name != "posix" and path.is_dir():
        return  # only there can directories be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
