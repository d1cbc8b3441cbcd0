"""The database of a broker: opened, checked, brought to the present schema, its time set right.

A file that is damaged, was written by a newer version or belongs to something else is refused
before anything in it is changed.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import logging
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from mq9 import directories
from mq9.clock import LONGEST_JUMP_MS, SETTABLE_MS
from mq9.engine.state import position, set_time
from mq9.errors import BrokerFailed, UnusableFile
from mq9.storage import schema

logger = logging.getLogger("mq9.broker")
APPLICATION_ID = 0x6D713901  # "mq9\1", in the header of every file of ours
_UNRELEASED_ID = 0x6D713900  # in those written before the first release
VERSION = 4
# The statements that bring each older schema to the next; applied in order up to VERSION.
_MIGRATIONS = {
    1: """
ALTER TABLE mailboxes ADD COLUMN look_policy TEXT NOT NULL DEFAULT 'granted';
DROP INDEX messages_correlation;
CREATE INDEX messages_correlation ON messages (correlation_id, mailbox, msg_id)
  WHERE correlation_id IS NOT NULL;
CREATE INDEX messages_sent ON messages (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;
CREATE INDEX delayed_sent ON delayed (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;
""",
    2: """
CREATE INDEX mailboxes_creator ON mailboxes (creator, address) WHERE creator IS NOT NULL;
CREATE TABLE notice_sessions (
  mailbox INTEGER NOT NULL,
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  next_id INTEGER NOT NULL,
  in_a_row INTEGER NOT NULL,
  used_ms INTEGER NOT NULL,
  PRIMARY KEY (mailbox, host, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE notices (
  mailbox INTEGER NOT NULL,
  number INTEGER NOT NULL,
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  occasion TEXT NOT NULL,
  from_id INTEGER NOT NULL,
  to_id INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  held TEXT,
  most INTEGER,
  PRIMARY KEY (mailbox, number)
) STRICT, WITHOUT ROWID;
""",
    3: """
ALTER TABLE mailboxes ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN answer_by_ms INTEGER;
ALTER TABLE messages ADD COLUMN overdue INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delayed ADD COLUMN answer_by_ms INTEGER;
ALTER TABLE leases ADD COLUMN reason TEXT;
ALTER TABLE leases ADD COLUMN promised_ms INTEGER;
ALTER TABLE leases ADD COLUMN done TEXT;
ALTER TABLE leases ADD COLUMN promised_by TEXT;
CREATE TABLE awaited (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mailbox INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  answer_by_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  correlation_id TEXT NOT NULL,
  sender TEXT,
  address TEXT NOT NULL,
  msg_id INTEGER NOT NULL,
  asked INTEGER NOT NULL,
  question INTEGER NOT NULL
) STRICT;
CREATE INDEX awaited_due ON awaited (mailbox, due_ms, id);
CREATE INDEX awaited_answer ON awaited (mailbox, correlation_id);
CREATE INDEX awaited_question ON awaited (asked, question);
""",
}
_BESIDE = ("-wal", "-shm")  # suffixes of the other files of an open database
_KINDS = {
    stat.S_IFDIR: os.strerror(errno.EISDIR),
    stat.S_IFIFO: "it is a FIFO, no file",
    stat.S_IFSOCK: "it is a socket, no file",
    stat.S_IFCHR: "it is a device, no file",
    stat.S_IFBLK: "it is a device, no file",
}
# In one value of a file. The largest possible limit of a payload is 64 MiB.
MOST_BYTES = 80 * 1024 * 1024
_SPARE_PAGES = 1_024  # free ones that a file keeps
_OLDEST_SQLITE = (3, 37, 0)  # the first with strict tables
_BUSY_MS = 4_000  # less than a client waits for a reply, so that it learns the cause
LOG_PAGES = 1_000  # in the log from which a commit writes it into the file; SQLite's default
_MIGRATION_MS = 60_000  # while another process makes a backup and migrates a large file
LOG_BYTES = 16 * 1024 * 1024  # kept of the log once it is written into the file
# Small files are checked page by page when opened, larger ones when a page is read.
_CHECKED_BYTES = 64 * 1024 * 1024
R = TypeVar("R")


# Errors of SQLite for a write that found no room.
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE"})


class Durability(StrEnum):
    """The durability of answered changes: against a killed process, or also a power failure."""

    NORMAL = "normal"
    FULL = "full"


def open_memory() -> sqlite3.Connection:
    """Return a new database that lives as long as its connection."""
    connection = _connect(":memory:")
    _create(connection, None)
    return connection


def open_file(
    path: Path, durability: Durability = Durability.NORMAL, *, is_alone: bool = False
) -> sqlite3.Connection:
    """Return a connection that may write, making the file if it is missing.

    With ``is_alone`` SQLite keeps its index of the log in memory, and no other process can open the
    file. So it can be read on a full disk. Further connections of this process use the same index.

    Raises:
        UnusableFile: The file cannot be used; it was left as it was.
    """
    try:
        directories.make_private(path.parent)
        # Only the owner may read the mail; SQLite gives its other files the same rights.
        # One that exists is left to SQLite: closing a descriptor of it would drop all the locks
        # that this process holds on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise UnusableFile(f"{path} cannot be opened: {error.strerror}") from error
    _refuse_unusable(path, shares=not is_alone)
    connection = _connect(_alone(path) if is_alone else str(path))
    try:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if pages == 0:  # later it would change nothing, and write all the same
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        _switch_to_wal(connection)
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        synchronous = "FULL" if durability is Durability.FULL else "NORMAL"
        connection.execute(f"PRAGMA synchronous={synchronous}")
        _create(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise _cannot_be_opened(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _alone(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=rw&vfs=unix-excl"


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error of SQLite is about a write that found no room."""
    return getattr(error, "sqlite_errorname", "") in _FULL  # none where Python itself raises


def _cannot_be_opened(path: Path, error: sqlite3.Error) -> UnusableFile:
    why = f"there is no room on its disk ({error})" if is_full(error) else str(error)
    return UnusableFile(f"{path} cannot be opened: {why}")


def open_on_full_disk(path: Path, durability: Durability) -> tuple[sqlite3.Connection, bool]:
    """Open a file, if need be without sharing it; return whether it is shared, too."""
    try:
        return open_file(path, durability), True
    except UnusableFile as refusal:
        if sys.platform == "win32" or not is_full(refusal.__cause__):  # Windows has no such way
            raise
        try:
            connection = open_file(path, durability, is_alone=True)
        except UnusableFile:
            raise refusal from refusal.__cause__
        logger.warning(
            "the disk of %s is full: queries are answered, and changes are refused until there is "
            "room. No other program can open the file until this one is restarted",
            path,
        )
        return connection, False


def set_patient(connection: sqlite3.Connection, is_patient: bool) -> None:
    """Set whether commits wait for other processes, and write a long log into the file.

    The default is true. A log is long from half of `LOG_PAGES` on.
    """
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS if is_patient else 0}")
    connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES // 2 if is_patient else 0}")


def open_for_checkpoints(path: Path, *, is_alone: bool = False) -> sqlite3.Connection:
    """Return a connection to an open file, for checkpoints on request."""
    connection = _connect(_alone(path) if is_alone else f"{path.absolute().as_uri()}?mode=rw")
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("PRAGMA user_version").fetchone()  # from now on it has the file open
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection to an open file that only reads."""
    # Without the right to write, so that closing it never writes the log into the file. The index
    # of the log is that of the other connections of this process.
    connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA user_version").fetchone()  # from now on it holds a lock
    return connection


def look_into(path: Path, look: Callable[[sqlite3.Connection], R]) -> R:
    """Return the result of a function on a file, in one read-only transaction.

    The function may be called twice. Raises UnusableFile for a file that is missing, unusable, or
    of an older schema.
    """
    if not path.exists():
        raise UnusableFile(f"{path} is not there")
    _refuse_unusable(path)
    if _is_alone(path):
        before = _stamp(path)
        try:
            found = _look(path, look, alone=True)
        except UnusableFile:
            if _stamp(path) == before:
                raise
        else:
            if _stamp(path) == before:
                return found
    return _look(path, look, alone=False)  # another process has it open


def newer_schema(path: Path) -> int | None:
    """Return the schema of a file that a newer version wrote; None for any other, or no file."""
    if not path.exists():
        return None
    try:
        with closing(_open_to_look(path, alone=_is_alone(path))) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None  # `open_file` names the reason
    return int(version) if application == APPLICATION_ID and version > VERSION else None


def refuse_newer(connection: sqlite3.Connection) -> None:
    """See, in a transaction, that no newer version has brought the database to another schema.

    Raises:
        BrokerFailed: One has, while this program had the file open.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise BrokerFailed(f"the broker's file {newer(version)}, and restart; nothing was done")


def _refuse_newer_file(path: Path | None, version: int) -> None:
    if version > VERSION:
        raise UnusableFile(f"{path} {newer(version)}")


def newer(version: int) -> str:
    """Return why a schema is not usable, after the name of its file."""
    return (
        f"was written by a newer version of mq9 (schema {version}, this one knows {VERSION}); "
        "upgrade langchain-mq9"
    )


def give_back_pages(connection: sqlite3.Connection, most: int) -> int:
    """Remove free pages from the file, but keep some; return the number of removed pages."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    pages = min(free - _SPARE_PAGES, most)
    if pages <= 0:
        return 0
    for _ in range(pages):  # Python takes one step of such a statement, whatever its argument
        connection.execute("PRAGMA incremental_vacuum(1)")
    (left,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(free - left)


def _connect(target: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise UnusableFile(f"this Python has SQLite {sqlite3.sqlite_version}; {needed} is needed")
    connection = sqlite3.connect(
        target,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        uri=target.startswith("file:"),
    )
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    # A file may come from anyone: its values are data, of bounded size.
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    return connection


def _refuse_unusable(path: Path, *, shares: bool = True) -> None:
    _refuse_special(path)
    before = _stamp(path)
    try:
        _check(path, alone=_is_alone(path), shares=shares)
    except UnusableFile:
        if _stamp(path) == before:
            raise
        _check(path, alone=False, shares=shares)  # it was seen in the middle of another's write


def _refuse_special(path: Path) -> None:
    """Refuse a FIFO, socket or device, which would block SQLite."""
    real = Path(os.path.realpath(path))  # where SQLite keeps what belongs to a symbolic link
    for one in (path, *(_beside(real, suffix) for suffix in (*_BESIDE, "-journal"))):
        try:
            kind = stat.S_IFMT(one.stat().st_mode)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and one != path:
                continue
            raise UnusableFile(f"{one} cannot be opened: {error.strerror}") from error
        if kind != stat.S_IFREG:
            problem = _KINDS.get(kind, "it is not a file")
            advice = "name another file" if one == path else "remove it"
            raise UnusableFile(f"{one} cannot be opened: {problem}; {advice}")


def _is_alone(path: Path) -> bool:
    """Return whether a file has no log, so no connection has it open."""
    return not any(_beside(path, suffix).exists() for suffix in _BESIDE)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _stamp(path: Path) -> dict[str, tuple[int, int]]:
    """Return size and age of the file and of its log, where there is something in them."""
    stamps = {}
    for suffix in ("", "-wal"):
        try:
            status = _beside(path, suffix).stat()
        except FileNotFoundError:
            continue
        if status.st_size:
            stamps[suffix] = (status.st_size, status.st_mtime_ns)
    return stamps


def _check(path: Path, *, alone: bool, shares: bool) -> None:
    size = path.stat().st_size
    if size == 0:
        return
    if size < 100:
        raise UnusableFile(f"{path} is not a database of mq9, or its beginning is damaged")
    connection = _open_to_look(path, alone=alone, shares=shares)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and version == 0 and tables == 0:
            return  # made, and not yet filled
        if application == _UNRELEASED_ID:
            raise UnusableFile(
                f"{path} was written before the first release of mq9, which does not read such "
                "files; move it away, or name another file"
            )
        if application != APPLICATION_ID:
            raise UnusableFile(f"{path} is the database of another program, not of mq9")
        _refuse_newer_file(path, version)
        schema.refuse_foreign(connection, path, is_current=version == VERSION)
        if size <= _CHECKED_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise UnusableFile(f"{path} is damaged: {verdict}; restore it from a copy")
    except sqlite3.OperationalError as error:
        raise _cannot_be_opened(path, error) from error
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_NOTADB":
            raise UnusableFile(
                f"{path} is not a database of mq9, or its beginning is damaged"
            ) from error
        raise UnusableFile(f"{path} is damaged: {error}; restore it from a copy") from error
    finally:
        connection.close()


def _open_to_look(path: Path, *, alone: bool, shares: bool = True) -> sqlite3.Connection:
    """Return a read-only connection; ``alone``: no other connection has the file open."""
    if not alone and not shares:  # a read-only one would make an index of its own beside the file
        connection = _connect(_alone(path))
        connection.execute("PRAGMA query_only=ON")
        return connection
    # Read-only, so that not even closing the connection writes to the file; and immutable where
    # nobody has it open, which puts nothing beside it either.
    mode = "mode=ro&immutable=1" if alone else "mode=ro"
    return _connect(f"{path.absolute().as_uri()}?{mode}")


def _look(path: Path, look: Callable[[sqlite3.Connection], R], *, alone: bool) -> R:
    connection = _open_to_look(path, alone=alone)
    try:
        connection.execute("BEGIN")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            raise UnusableFile(
                f"{path} is of schema {version}; any other use of it by this program brings it to "
                f"{VERSION}"
            )
        return look(connection)
    except sqlite3.Error as error:
        raise UnusableFile(f"{path} cannot be read: {error}") from error
    finally:
        connection.close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging, so that reads and writes do not block each other."""
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # If several connections switch at once, all but one fail at once, whatever the timeout.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _create(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring the schema to VERSION; of several processes at once, one does it.

    A file, unlike a database in memory, has a backup made before that. Raises UnusableFile where
    that cannot be made, or a newer version has brought the file further meanwhile.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    connection.execute(f"PRAGMA busy_timeout={_MIGRATION_MS}")
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _refuse_newer_file(path, version)
        backup = _back_up(path, version) if path is not None and 0 < version < VERSION else None
        _migrate(connection, version)
        if version > 0:
            schema.refuse_foreign(connection, path, is_current=True)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    if backup is not None:
        logger.info(
            "%s was brought from schema %d to %d; %s has it as it was",
            path,
            version,
            VERSION,
            backup,
        )


def _back_up(path: Path, version: int) -> Path:
    """Copy a file that is about to be migrated, and that only this process can write to."""
    try:
        with closing(open_reader(path)) as source:
            return _make_backup(source, path, version)
    except (OSError, sqlite3.Error) as error:
        raise UnusableFile(
            f"{path} is of schema {version} and was left as it was, since no backup of it could be "
            f"made beside it: {error}"
        ) from error


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    if version == 0:
        _run(connection, schema.script())
    else:
        for step in range(version, VERSION):
            _run(connection, _MIGRATIONS[step])
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run statements inside the open transaction, which ``executescript`` would commit."""
    for statement in schema.statements(script):
        connection.execute(statement)


def _make_backup(source: sqlite3.Connection, path: Path, schema: int) -> Path:
    """Copy a database, which is locked in the meantime, to a file in the same directory.

    The returned file is complete: an incomplete one of a killed process has another name. An
    existing backup with other content is kept, and the new one gets a number. If the disk is full
    or not writable, no copy is left.
    """
    # The other files of SQLite are next to the target of a symbolic link.
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
    """Sync a file or a directory to the disk."""
    if os.name != "posix" and path.is_dir():
        return  # only there can directories be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo a transaction, if there still is one."""
    if connection.in_transaction:  # a full disk has rolled back already
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end; roll back if the block or the commit raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


class TimeState(StrEnum):
    """Whether an operator should set the time of a file."""

    RIGHT = "right"
    AHEAD = "ahead"  # of the machine's, by an hour or more
    HELD = "held"  # since the machine's is more than a year later


class FileTime(NamedTuple):
    """The time of a file and of the machine, in milliseconds since the Unix epoch."""

    file_ms: int  # when something has last happened in the file; 0 for never
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


def file_time(path: Path, machine_ms: int) -> FileTime:
    """Compare the time of a file with the machine's. Nothing is written.

    Raises:
        UnusableFile: The file does not exist, or it cannot be used.
    """
    return FileTime(look_into(path, position).now_ms, machine_ms)


def set_file_time(path: Path, machine_ms: int) -> None:
    """Set the time of a file to the machine's; programs that have it open follow.

    Raises:
        UnusableFile: It cannot be used.
        sqlite3.Error: It could not be written to; nothing was changed.
    """
    with closing(open_file(path)) as connection, transaction(connection):
        set_time(connection, machine_ms)
        schema.drop_conversations(connection)  # in the order of instants that are others now
