"""The tables that are derived from registrations: the text index and the stored vectors.

The transaction that changes the registry also updates the text index, so every process sees both in
the same state. The tables may be dropped at any time and are rebuilt when the database is opened.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

import orjson

from mq9.discovery import documents
from mq9.engine import agents
from mq9.engine.commands import SendBatch
from mq9.protocol.requests import Ack, Extend, Fetch, Nack, Send
from mq9.storage import store
from mq9.storage.backend import Derived
from mq9.storage.schema import AGENTS_INDEX, AGENTS_TEXT, AGENTS_VECTORS

# The rules for indexing text. A change of `documents.columns` or the tokenizer needs a new number.
# Normalisation also depends on Python's Unicode tables. Other columns also need a new
# `store.VERSION`, so that older programs with the file open stop writing to it.
_RULES = 1
VERSION = f"{_RULES}, Unicode {unicodedata.unidata_version}"
_MIXED = "several"  # the version of an index that programs of several versions have written
_AT_ONCE = 500  # registrations, and removals, that one transaction indexes
_TABLES = ("agents_index", "agents_text", "agents_vectors")
_MOST_READ = 256 * 1024  # bytes of registrations, plus one registration


def open_index(db: Connection) -> None:
    """Create the tables if they are missing or of another version, and update them.

    It works a part at a time, so that other processes can write in between.
    """
    if not _is_usable(db):
        with store.transaction(db):
            _make(db)
    while _is_behind(db):
        with store.transaction(db):
            follow(db)


def follow(db: Connection) -> None:
    """Index new registrations and removals, inside a transaction."""
    version, id_, removal, newest_id, newest_removal = _state(db)
    if (id_, removal) == (newest_id, newest_removal):
        return
    if removal != newest_removal:
        removal = _index_removals(db, removal, newest_removal)
    if id_ != newest_id:
        id_ = _index_registrations(db, id_, newest_id)
    db.execute(
        "UPDATE agents_index SET version=?, id=?, removal=? WHERE rowid=1",
        (version if version == VERSION else _MIXED, id_, removal),
    )


AGENT_INDEX = Derived(
    open=open_index,
    follow=follow,
    unmoved_by=frozenset({SendBatch, Send, Fetch, Ack, Nack, Extend}),
)


def _is_usable(db: Connection) -> bool:
    (tables,) = db.execute(
        "SELECT count(*) FROM sqlite_master WHERE name IN (?,?,?)", _TABLES
    ).fetchone()
    return tables == len(_TABLES) and _state(db)[0] == VERSION


def _is_behind(db: Connection) -> bool:
    _, id_, removal, newest_id, newest_removal = _state(db)
    return (id_, removal) != (newest_id, newest_removal)


def _state(db: Connection) -> tuple[str, int, int, int, int]:
    """Return the version, the position of the index, and that of the registry.

    A position is the highest id of a registration and the number of a removal. One statement reads
    them all, because every command waits for it.
    """
    state: tuple[str, int, int, int, int] = db.execute(
        "SELECT version, id, removal, ifnull((SELECT max(id) FROM agents), 0),"
        " ifnull((SELECT max(number) FROM agents_removed), 0) FROM agents_index"
    ).fetchone()
    return state


def _make(db: Connection) -> None:
    if _is_usable(db):
        return  # another process was first
    for table in ("agents_index", "agents_text"):
        db.execute(f"DROP TABLE IF EXISTS {table}")
    # The position of the index; the words; unit vectors of little-endian 32-bit floats, with their
    # model.
    vectors = AGENTS_VECTORS.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
    for statement in (AGENTS_INDEX, AGENTS_TEXT, vectors):
        db.execute(statement)
    db.execute("INSERT INTO agents_index VALUES (?,0,0)", (VERSION,))
    newest_removal = _state(db)[4]
    db.execute("UPDATE agents_index SET removal=?", (newest_removal,))
    _forget_unknown(db)


def _index_registrations(db: Connection, after: int, newest: int) -> int:
    """Index registrations after an id; return the last indexed id.

    It is lower than ``after`` if the newest registration was removed. Ids are never reused.
    """
    added = agents.after(db, after, _AT_ONCE)
    for id_, name, registered in added:
        columns = documents.columns(name, orjson.loads(registered))
        db.execute(
            "INSERT INTO agents_text (rowid, name, description, skills, rest) VALUES (?,?,?,?,?)",
            (id_, *columns),
        )
    return added[-1][0] if len(added) == _AT_ONCE else newest


def _index_removals(db: Connection, after: int, newest: int) -> int:
    """Remove the rows of removed agents; return the number of the last processed removal."""
    removed = agents.removed_after(db, after, _AT_ONCE)
    if removed is None:
        _forget_unknown(db)
        return newest
    for id_ in removed:
        db.execute("DELETE FROM agents_text WHERE rowid=?", (id_,))
        db.execute("DELETE FROM agents_vectors WHERE agent=?", (id_,))
    return after + len(removed)


def _forget_unknown(db: Connection) -> None:
    """Remove the rows of agents that are not in the registry."""
    db.execute("DELETE FROM agents_text WHERE rowid NOT IN (SELECT id FROM agents)")
    db.execute("DELETE FROM agents_vectors WHERE agent NOT IN (SELECT id FROM agents)")


@dataclass(frozen=True, slots=True)
class AgentVector:
    """An agent's vector, or the texts to embed."""

    id: int  # of the agent's registration
    vector: bytes | None  # little-endian 32-bit floats; None if there is none yet
    parts: tuple[str, ...]  # the texts to embed; empty if there is a vector


def vectors_after(db: Connection, id_: int, model: str, most: int) -> tuple[AgentVector, ...]:
    """Return agents after an id, ascending, with their vectors of a model, if any.

    Large registrations make the result shorter than ``most``.
    """
    found = db.execute(
        "SELECT a.id, a.key, a.registered, v.vector FROM agents a"
        " LEFT JOIN agents_vectors v ON v.agent=a.id AND v.model=?"
        " WHERE a.id>? ORDER BY a.id LIMIT ?",
        (model, id_, most),
    )
    size = 0
    agents = []
    for agent, name, registered, vector in found:
        if vector is None:
            size += len(registered)
        parts = () if vector is not None else documents.parts(name, orjson.loads(registered))
        agents.append(AgentVector(agent, vector, parts))
        if size >= _MOST_READ:
            break
    return tuple(agents)


def store_vectors(db: Connection, model: str, vectors: Sequence[tuple[int, bytes]]) -> None:
    """Store the vectors of agents; skip agents that were removed in the meantime."""
    db.executemany(
        "INSERT OR REPLACE INTO agents_vectors (agent, model, vector)"
        " SELECT id, ?, ? FROM agents WHERE id=?",
        [(model, vector, id_) for id_, vector in vectors],
    )
