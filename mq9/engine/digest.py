"""A digest of the state, by which copies of it are compared.

It depends on what the engine's tables hold and on nothing else: not on the order in which rows or
columns came to be there, nor on the versions of SQLite and Python, nor on the layout of the file.
"""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing
from hashlib import blake2b
from importlib import resources

from mq9 import engine

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
    "message_counts",
    "messages",
    "moves",
    "replies",
    "sent_ids",
    "state",
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
    for name, select in _selects():
        digested.update(name)
        for row in connection.execute(select):
            # `ascii` escapes by rules of its own, where `repr` asks Python's Unicode tables.
            digested.update(ascii(row).encode())
    return digested.hexdigest()


@functools.cache
def _selects() -> tuple[tuple[bytes, str], ...]:
    """Return a name of each table of the state with its columns, and what selects its rows."""
    schema = resources.files(engine).joinpath("schema.sql").read_text("utf-8")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        selects = [_select(connection, table) for table in sorted(STATE)]
    # The ids that will be given next are part of the state: they are never used again.
    counters = ",".join(f"'{table}'" for table in STATE)
    given = f"SELECT name, seq FROM sqlite_sequence WHERE name IN ({counters}) ORDER BY name"  # noqa: S608  # our own names
    return (*selects, (b"sqlite_sequence", given))


def _select(connection: sqlite3.Connection, table: str) -> tuple[bytes, str]:
    """Return the name, and what selects the rows in the order of the primary key.

    The columns are in the order of their names, since those of a migrated file stand in another
    one. Where there is no primary key, rows are in the order of all of them.
    """
    columns = connection.execute(
        "SELECT name, pk FROM pragma_table_info(?) ORDER BY name", (table,)
    ).fetchall()
    key = sorted((place, name) for name, place in columns if place)
    names = ",".join(name for name, _ in columns)
    order = ",".join(name for _, name in key) or names
    select = f"SELECT {names} FROM {table} ORDER BY {order}"  # noqa: S608  # our own names
    return f"{table}({names})".encode(), select
