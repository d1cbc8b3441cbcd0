"""The state as a whole: position, limits, digest, and setting its time.

The digest depends only on the contents of the engine's tables. The order of rows and columns, the
versions of SQLite and Python and the layout of the file have no influence. Copies of a state are
compared by it.

Setting the time is not a command. An operator does it, on a file that is not a replica.
"""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing
from dataclasses import fields
from hashlib import blake2b
from importlib import resources
from sqlite3 import Connection
from typing import NamedTuple

from mq9 import engine
from mq9.engine.commands import Call, Limits, SetLimits

# In the order of the columns of the table.
_LIMITS = tuple(field.name for field in fields(Limits))
_LIMIT_COLUMNS = ", ".join(_LIMITS)
# The tables of `schema.sql` that make up the state. NOT_STATE belongs to the file.
STATE = (
    "agents",
    "agents_removed",
    "awaited",
    "delayed",
    "deliveries",
    "erased",
    "groups",
    "leases",
    "mailboxes",
    "message_counts",
    "messages",
    "moves",
    "notice_sessions",
    "notices",
    "replies",
    "sent_ids",
    "state",
    "tombstones",
)
NOT_STATE = ("checkpoints",)
_BYTES = 16
# Past instants: one that lies after the new time becomes the new time.
PAST = {
    "mailboxes": ("visible_ms",),
    "messages": ("visible_ms", "sent_ms"),
    "delayed": ("sent_ms",),
    "awaited": ("sent_ms",),
    "sent_ids": ("sent_ms",),
    "tombstones": ("removed_ms", "sent_ms", "visible_ms"),
    "groups": ("used_ms",),
    "replies": ("made_ms",),
    "notice_sessions": ("used_ms",),
    "notices": ("at_ms",),
    "agents": ("seen_ms",),
}
# An instant that a sender named. If it had passed at the send, it stays in the past.
_SINCE_SENDING = "iif({0}>sent_ms, :now + {0} - sent_ms, {0})"
# Future instants: the upper bound of each column. Durations count from now again. A mailbox TTL
# counted from the last renewal, a message TTL and a delay from the send.
FUTURE = {
    ("mailboxes", "expires_ms"): ":now + ttl_s * 1000",
    ("mailboxes", "changes_ms"): ":now",  # a lower bound
    ("messages", "expires_ms"): ":now + expires_ms - sent_ms",
    ("messages", "answer_by_ms"): _SINCE_SENDING.format("answer_by_ms"),
    ("delayed", "expires_ms"): ":now + expires_ms - sent_ms",
    ("delayed", "due_ms"): ":now + due_ms - sent_ms",
    ("delayed", "answer_by_ms"): _SINCE_SENDING.format("answer_by_ms"),
    ("awaited", "due_ms"): ":now + due_ms - sent_ms",
    ("awaited", "answer_by_ms"): _SINCE_SENDING.format("answer_by_ms"),
    ("agents", "expires_ms"): ":now + ttl_s * 1000",
    ("leases", "until_ms"): "max(:now, until_ms - :back)",
    ("leases", "promised_ms"): "max(:now, promised_ms - :back)",
    ("replies", "until_ms"): "max(:now, until_ms - :back)",
}


class Position(NamedTuple):
    """The last entry in the state."""

    applied: int  # the number of the last entry; 0 before the first
    now_ms: int  # when that happened


def position(db: Connection) -> Position:
    """Return the last entry that was applied."""
    return Position(*db.execute("SELECT applied, now_ms FROM state").fetchone())


def position_and_limits(db: Connection) -> tuple[Position, Limits]:
    """Return the position and the limits of the broker by one query."""
    applied, now_ms, *values = db.execute(
        f"SELECT applied, now_ms, {_LIMIT_COLUMNS} FROM state"  # noqa: S608  # constant columns
    ).fetchone()
    return Position(applied, now_ms), Limits(*values)


def move(db: Connection, to: Position) -> None:
    """Store the position of the state."""
    db.execute("UPDATE state SET applied=?, now_ms=?", to)


def set_limits(db: Connection, call: Call[SetLimits], _now: int, _limits: Limits) -> None:
    """Set the limits of the broker."""
    columns = ", ".join(f"{name}=?" for name in _LIMITS)
    values = [getattr(call.request.limits, name) for name in _LIMITS]
    db.execute(f"UPDATE state SET {columns}", values)  # noqa: S608  # constant columns


def digest(db: Connection) -> str:
    """Return the digest of the state as 32 hexadecimal digits, reading one row at a time."""
    digested = blake2b(digest_size=_BYTES)
    for name, select in _selects():
        digested.update(name)
        for row in db.execute(select):
            # `ascii` has fixed rules. `repr` depends on Python's Unicode tables.
            digested.update(ascii(row).encode())
    return digested.hexdigest()


@functools.cache
def _selects() -> tuple[tuple[bytes, str], ...]:
    """Return, for each table of the state, its name with columns and the SELECT of its rows."""
    schema = resources.files(engine).joinpath("schema.sql").read_text("utf-8")
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        selects = [_select(db, table) for table in sorted(STATE)]
    # The next ids are part of the state, because ids are never reused.
    counters = ",".join(f"'{table}'" for table in STATE)
    given = f"SELECT name, seq FROM sqlite_sequence WHERE name IN ({counters}) ORDER BY name"  # noqa: S608  # our own names
    return (*selects, (b"sqlite_sequence", given))


def _select(db: Connection, table: str) -> tuple[bytes, str]:
    """Return a table's name and a SELECT of its rows by primary key, else by all columns."""
    # Columns are sorted by name, because a migrated file has them in another order.
    columns = db.execute(
        "SELECT name, pk FROM pragma_table_info(?) ORDER BY name", (table,)
    ).fetchall()
    key = sorted((place, name) for name, place in columns if place)
    names = ",".join(name for name, _ in columns)
    order = ",".join(name for _, name in key) or names
    select = f"SELECT {names} FROM {table} ORDER BY {order}"  # noqa: S608  # our own names
    return f"{table}({names})".encode(), select


def set_time(db: Connection, now_ms: int) -> None:
    """Set the time of a state.

    If the time goes back, nothing stored expires by that, and no wait gets longer.
    """
    applied, was_ms = position(db)
    move(db, Position(applied + 1, now_ms))
    if now_ms >= was_ms:
        return
    values = {"now": now_ms, "back": was_ms - now_ms}
    for (table, column), limit in FUTURE.items():  # first, because it needs the old sent_ms
        db.execute(
            f"UPDATE {table} SET {column}={limit} WHERE {column} > {limit}",  # noqa: S608  # constant
            values,
        )
    for table, columns in PAST.items():
        for column in columns:
            db.execute(
                f"UPDATE {table} SET {column}=:now WHERE {column} > :now",  # noqa: S608  # constant
                values,
            )
