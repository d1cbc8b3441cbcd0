"""The file of a gateway's copy of the state: used until the machine restarts or the log changes.

Writes to it are not durable, since the log has everything. A file from before a restart of the
machine may be damaged, and is removed. A file of another log is removed, too.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from mq9 import directories
from mq9.errors import UnusableFile

logger = logging.getLogger("mq9.broker")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def current_boot(source: Path = _BOOT_ID) -> str:
    """Return an id of this run of the machine; a random one if the system has none."""
    try:
        return source.read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def is_of_a_log(path: Path) -> bool:
    """Return whether a file is the copy of a log, whichever it is."""
    return path.exists() and beside(path, ".origin").exists()


def remove_unless_of(path: Path, boot: str, created: str) -> None:
    """Remove a copy of another run of the machine or of another log; note the new origin.

    Every release compares the whole note. So the note of another release stays if it means the
    same, and a rollback finds it again.

    Args:
        path: The copy.
        boot: An id of this run of the machine.
        created: The time of creation of the log.
    """
    directories.make_private(path.parent)
    note = beside(path, ".origin")
    noted = note.read_text("ascii") if note.exists() else None
    if noted is not None:
        noted_boot, _, noted_created = noted.partition(" ")
        if noted_boot != boot:
            reason = f"the machine was restarted since ({noted_boot} was its boot id, now {boot})"
        elif not _is_same_instant(noted_created, created):
            reason = f"it is of a log that was created at {noted_created}, not at {created}"
        else:
            return
        if path.exists():
            logger.warning("the copy %s is not used again: %s", path, reason)
    elif path.exists():
        raise UnusableFile(
            f"{path} was not made by a gateway, and is left alone; name another file, or "
            "begin the cluster with this one by `mq9 cluster import`"
        )
    remove(path)
    note.write_text(f"{boot} {created}", "ascii")


def _is_same_instant(one: str, other: str) -> bool:
    """Compare two instants, which releases write in different forms."""
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except (ValueError, TypeError):  # TypeError: one has no time zone
        return one == other


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a copy against other processes while inside."""
    directories.make_private(path.parent)
    with closing(sqlite3.connect(beside(path, ".lock"), timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("PRAGMA journal_mode=MEMORY")  # nothing is written
            lock.execute("BEGIN EXCLUSIVE")  # which ends with the process
        except sqlite3.OperationalError as error:
            raise UnusableFile(
                f"{path} is the file of another gateway that runs; each needs one of its own"
            ) from error
        yield


def remove(path: Path) -> None:
    """Remove a copy."""
    for suffix in ("", "-wal", "-shm"):
        beside(path, suffix).unlink(missing_ok=True)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to a copy."""
    return path.with_name(path.name + suffix)
