"""The file of a gateway's copy of the state: kept as long as the machine runs.

What is written to it is not made durable, since the log has it. So a file that was written before
the machine stopped may be damaged, and is removed.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mq9.errors import UnusableFile

logger = logging.getLogger("mq9.broker")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def current_boot(source: Path = _BOOT_ID) -> str:
    """Return what tells this run of the machine from others; where that is unknown, a new text."""
    try:
        return source.read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def remove_what_may_be_damaged(path: Path, boot: str) -> None:
    """Remove a copy unless it was written since the machine started, and note when this one is.

    Args:
        path: The file.
        boot: What ``current_boot`` returned.

    Raises:
        UnusableFile: There is a file which was not made by a gateway.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    note = beside(path, ".boot")
    noted = note.read_text("ascii") if note.exists() else None
    if noted != boot:
        if path.exists():
            if noted is None:
                raise UnusableFile(
                    f"{path} was not made by a gateway, and is left alone; name another file, or "
                    "begin the cluster with this one by `mq9 cluster import`"
                )
            logger.info("the copy of the state is from before the machine started, and made anew")
        remove(path)
    note.write_text(boot, "ascii")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Have no other process use a copy while inside.

    Raises:
        UnusableFile: Another one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(beside(path, ".lock"), timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")  # which ends with the process, however that ends
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
    """Return the path of what belongs to a copy."""
    return path.with_name(path.name + suffix)
