"""The tables that are derived from registrations: the text index and the stored vectors.

They are brought up to date in the transaction of the command that changes the registry, so that
every process sees them in step with it. They may be dropped at any time: they are made anew when
the database is opened next.
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

# By which rules text was indexed: a change of `documents.columns` or the tokenizer needs
# another number. Normalisation depends on Python's Unicode tables, too. Other columns need another
# `store.VERSION` as well, so that an older program which has the file open stops writing to it.
_RULES = 1
VERSION = f"{_RULES}, Unicode {unicodedata.unidata_version}"
_MIXED = "several"  # the version of an index in which programs of several versions have written
_AT_ONCE = 500  # registrations, and removals, that one transaction takes in
_TABLES = ("agents_index", "agents_text", "agents_vectors")
_MOST_READ = 256 * 1024  # bytes of registrations, and one


def open_index(db: Connection) -> None:
    """Make the tables where they are missing or of another version, and bring them up to date.

    That is done a part at a time, so that other processes get their turn between.
    """
    if not _is_usable(db):
        with store.transaction(db):
            _make(db)
    while _is_behind(db):
        with store.transaction(db):
            follow(db)


def follow(db: Connection) -> None:
    """Take in, inside a transaction, what was registered and removed since."""
    version, id_, removal, newest_id, newest_removal = _state(db)
    if (id_, removal) == (newest_id, newest_removal):
        return
    if removal != newest_removal:
        removal = _take_in_removals(db, removal, newest_removal)
    if id_ != newest_id:
        id_ = _take_in_registrations(db, id_, newest_id)
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
    """Return the version, how far the index has followed, and how far the registry has come.

    Either is the highest id of a registration and the number of a removal. It is one statement,
    since every command waits for it.
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
    # How far the index has followed the registry; the words; unit vectors of 32-bit floats, the
    # least significant byte first, with their model for a version.
    vectors = AGENTS_VECTORS.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
    for statement in (AGENTS_INDEX, AGENTS_TEXT, vectors):
        db.execute(statement)
    db.execute("INSERT INTO agents_index VALUES (?,0,0)", (VERSION,))
    newest_removal = _state(db)[4]
    db.execute("UPDATE agents_index SET removal=?", (newest_removal,))
    _forget_unknown(db)


def _take_in_registrations(db: Connection, after: int, newest: int) -> int:
    """Index registrations with higher ids; return the id up to which that is done.

    It is lower than before where the newest was removed: ids are never used again.
    """
    added = agents.after(db, after, _AT_ONCE)
    for id_, name, registered in added:
        columns = documents.columns(name, orjson.loads(registered))
        db.execute(
            "INSERT INTO agents_text (rowid, name, description, skills, rest) VALUES (?,?,?,?,?)",
            (id_, *columns),
        )
    return added[-1][0] if len(added) == _AT_ONCE else newest


def _take_in_removals(db: Connection, after: int, newest: int) -> int:
    """Forget who was removed; return the number of the removal up to which that is done."""
    removed = agents.removed_after(db, after, _AT_ONCE)
    if removed is None:
        _forget_unknown(db)
        return newest
    for id_ in removed:
        db.execute("DELETE FROM agents_text WHERE rowid=?", (id_,))
        db.execute("DELETE FROM agents_vectors WHERE agent=?", (id_,))
    return after + len(removed)


def _forget_unknown(db: Connection) -> None:
    """Forget whom the registry does not know."""
    db.execute("DELETE FROM agents_text WHERE rowid NOT IN (SELECT id FROM agents)")
    db.execute("DELETE FROM agents_vectors WHERE agent NOT IN (SELECT id FROM agents)")


@dataclass(frozen=True, slots=True)
class AgentVector:
    """An agent's vector, or what it is to be made of."""

    id: int  # of the agent's registration
    vector: bytes | None  # 32-bit floats, least significant byte first; None if there is none yet
    parts: tuple[str, ...]  # what the agent says of itself, where there is no vector


def vectors_after(db: Connection, id_: int, model: str, most: int) -> tuple[AgentVector, ...]:
    """Return agents with a higher id, ascending, with the vectors of a model where there are any.

    They are fewer than ``most`` where their registrations are large.
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
    """Keep the vectors that a model made of agents; of one that was removed meanwhile, nothing."""
    db.executemany(
        "INSERT OR REPLACE INTO agents_vectors (agent, model, vector)"
        " SELECT id, ?, ? FROM agents WHERE id=?",
        [(model, vector, id_) for id_, vector in vectors],
    )
