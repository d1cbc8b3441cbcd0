"""A digest of the state, by which copies of it are compared.

It depends on what the engine's tables hold and on nothing else: not on the order in which rows or
columns came to be there, nor on the versions of SQLite and Python, nor on the layout of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b

# The tables of `schema.sql` that are the state, and those that belong to the file they are in.
STATE = (
    "agents",
    "agents_removed",
    "delayed",
    "deliveries",
    "erased",
    "groups",
    "leases",
    "mailboxes",
    "messages",
    "replies",
    "sent_ids",
    "tombstones",
)
NOT_STATE = ("checkpoints",)
_BYTES = 16


def digest(connection: sqlite3.Connection) -> str:
    """Return the digest of the state, as 32 hexadecimal digits.

    It reads the whole state, and keeps one row of it in memory at a time.

    Args:
        connection: The database, inside a transaction.
    """
    digested = blake2b(digest_size=_BYTES)
    for table, columns, key in _layout(connection):
        # `ascii` escapes by rules of its own, where `repr` asks the Unicode tables of this Python.
        digested.update(ascii((table, columns)).encode())
        rows = connection.execute(f"SELECT {columns} FROM {table} ORDER BY {key}")  # noqa: S608  # our own names
        for row in rows:
            digested.update(ascii(row).encode())
    # The ids that will be given next are part of the state: they are never used again.
    for row in connection.execute("SELECT name, seq FROM sqlite_sequence ORDER BY name"):
        if row[0] in STATE:
            digested.update(ascii(row).encode())
    return digested.hexdigest()


def _layout(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Yield each table of the state, its columns by name, and those of its primary key."""
    for table in sorted(STATE):
        columns = connection.execute(
            "SELECT name, pk FROM pragma_table_info(?) ORDER BY name", (table,)
        ).fetchall()
        keys = sorted((place, name) for name, place in columns if place)
        yield table, ",".join(name for name, _ in columns), ",".join(name for _, name in keys)
