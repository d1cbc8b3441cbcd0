"""The rows of the registry: which are alive, which were removed, and how others read them.

A row's id is given once, ids ascend, and what was registered under one never changes: who registers
otherwise gets another. So whatever is derived from registrations, such as an index of their words,
is up to date once it has seen the highest id and the newest removal. Removals are numbered without
a gap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

ALIVE = (
    "(a.expires_ms IS NULL OR a.expires_ms>:now) AND EXISTS ("
    "SELECT 1 FROM mailboxes m WHERE m.address=a.mailbox AND m.generation=a.generation"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now))"
)
_REMOVALS_KEPT = 10_000  # that whoever follows the registry may be behind
_FORGOTTEN_TOGETHER = 100  # older removals
_SHOWN = "a.id, a.key, a.mailbox, a.registered, a.seen_ms, a.status"


@dataclass(frozen=True, slots=True)
class Registration:
    """What others are shown of a registration.

    Attributes:
        id: Its row.
        key: The name, else the mailbox.
        mailbox: Where the agent is reached.
        registered: The JSON object as it came.
        seen_ms: The instant of the agent's last sign of life.
        status: What it reported last, as JSON; None where that is nothing.
    """

    id: int
    key: str
    mailbox: str
    registered: bytes
    seen_ms: int
    status: str | None


def newest_id(connection: sqlite3.Connection) -> int:
    """Return the highest id of a registration; 0 where there is none."""
    (id_,) = connection.execute("SELECT max(id) FROM agents").fetchone()
    return id_ or 0


def ids(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Return the ids of all registrations, ascending; expired ones included."""
    return tuple(one for (one,) in connection.execute("SELECT id FROM agents ORDER BY id"))


def find_id(connection: sqlite3.Connection, key: str) -> int | None:
    """Return the id of the registration with a key, expired or not."""
    row = connection.execute("SELECT id FROM agents WHERE key=?", (key,)).fetchone()
    return None if row is None else int(row[0])


def after(connection: sqlite3.Connection, id_: int, most: int) -> list[tuple[int, str, bytes]]:
    """Return id, key and JSON of registrations with a higher id, ascending; expired ones too."""
    return connection.execute(
        "SELECT id, key, registered FROM agents WHERE id>? ORDER BY id LIMIT ?", (id_, most)
    ).fetchall()


def removed_after(connection: sqlite3.Connection, number: int, most: int) -> list[int] | None:
    """Return the ids of removals after one, oldest first; None where some are forgotten."""
    removed = connection.execute(
        "SELECT number, agent FROM agents_removed WHERE number>? ORDER BY number LIMIT ?",
        (number, most),
    ).fetchall()
    if removed and removed[0][0] != number + 1:
        return None
    return [id_ for _, id_ in removed]


def look(connection: sqlite3.Connection, id_: int, now: int) -> Registration | None:
    """Return a registration that is alive; else None."""
    row = connection.execute(
        f"SELECT {_SHOWN} FROM agents a WHERE a.id=:id AND {ALIVE}",  # noqa: S608  # constant text
        {"id": id_, "now": now},
    ).fetchone()
    return None if row is None else Registration(*row)


def by_key(
    connection: sqlite3.Connection, now: int, *, limit: int, offset: int
) -> list[Registration]:
    """Return some of the registrations that are alive, in the order of their keys."""
    rows = connection.execute(
        f"SELECT {_SHOWN} FROM agents a WHERE {ALIVE} ORDER BY a.key LIMIT :limit OFFSET :offset",  # noqa: S608  # constant text
        {"now": now, "limit": limit, "offset": offset},
    )
    return [Registration(*row) for row in rows]


def remove(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[str]:
    """Remove the registrations that meet a condition, and remember which; their keys, sorted."""
    removed = connection.execute(
        f"SELECT id, key FROM agents WHERE {condition} ORDER BY id",  # noqa: S608  # constant text
        values,
    ).fetchall()
    for id_, _ in removed:
        connection.execute("DELETE FROM agents WHERE id=?", (id_,))
        number = connection.execute(
            "INSERT INTO agents_removed (agent) VALUES (?)", (id_,)
        ).lastrowid
        assert number is not None  # noqa: S101  # a row was inserted
        if number % _FORGOTTEN_TOGETHER == 0:
            connection.execute(
                "DELETE FROM agents_removed WHERE number<=?", (number - _REMOVALS_KEPT,)
            )
    return sorted(key for _, key in removed)
