"""What agents say of themselves, as vectors: kept here, made elsewhere."""

from __future__ import annotations

import sqlite3

import orjson

from mq9.discovery import search
from mq9.engine import discovery
from mq9.engine.commands import (
    AgentRows,
    Limits,
    Matched,
    Matching,
    Meanings,
    Meant,
    StoreVectors,
)

_MOST_READ = 256 * 1024  # bytes of registrations, and one


def store(
    connection: sqlite3.Connection, command: StoreVectors, _now: int, _limits: Limits
) -> None:
    """Keep vectors; of an agent that has gone meanwhile, nothing."""
    connection.executemany(
        "INSERT OR REPLACE INTO agents_vectors (agent, model, vector)"
        " SELECT id, ?, ? FROM agents WHERE id=?",
        [(command.model, vector, row) for row, vector in command.vectors],
    )


def rows(connection: sqlite3.Connection, _query: AgentRows, _now: int) -> tuple[int, ...]:
    """Return the rows of all agents."""
    return tuple(row for (row,) in connection.execute("SELECT id FROM agents ORDER BY id"))


def meanings(connection: sqlite3.Connection, query: Meanings, _now: int) -> tuple[Meant, ...]:
    """Return vectors of the model where there are any, and else what is to be embedded."""
    found = connection.execute(
        "SELECT a.id, a.key, a.registered, v.vector FROM agents a"
        " LEFT JOIN agents_vectors v ON v.agent=a.id AND v.model=?"
        " WHERE a.id>? ORDER BY a.id LIMIT ?",
        (query.model, query.after, query.most),
    )
    size = 0
    meant = []
    for row, name, registered, vector in found:
        if vector is None:
            size += len(registered)
        parts = () if vector is not None else search.parts(name, orjson.loads(registered))
        meant.append(Meant(row=row, vector=vector, parts=parts))
        if size >= _MOST_READ:
            break
    return tuple(meant)


def matching(connection: sqlite3.Connection, query: Matching, _now: int) -> Matched:
    """Return the agents whose text has every word of a question that says something.

    Where these are too many, the words tell them apart from nobody, and it is none.
    """
    (newest,) = connection.execute("SELECT max(id) FROM agents").fetchone()
    words = search.terms(query.text)
    found = discovery.matching(connection, search.all_of(words), query.most + 1) if words else []
    return Matched(rows=tuple(found) if len(found) <= query.most else (), newest=newest or 0)
