"""Vectors of agents that were made before, and what is still to be embedded."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from mq9.discovery import documents

_MOST_READ = 256 * 1024  # bytes of registrations, and one


@dataclass(frozen=True, slots=True)
class AgentVector:
    """An agent's vector, or what it is to be made of.

    Attributes:
        id: The agent's registration.
        vector: 32-bit floats, the least significant byte first; None where the model made none.
        parts: What the agent says of itself, where there is no vector.
    """

    id: int
    vector: bytes | None
    parts: tuple[str, ...]


def after(
    connection: sqlite3.Connection, id_: int, model: str, most: int
) -> tuple[AgentVector, ...]:
    """Return agents with a higher id, ascending, with the vectors of a model where there are any.

    They are fewer than ``most`` where their registrations are large.
    """
    found = connection.execute(
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


def store(connection: sqlite3.Connection, model: str, vectors: Sequence[tuple[int, bytes]]) -> None:
    """Keep the vectors that a model made of agents; of one that was removed meanwhile, nothing."""
    connection.executemany(
        "INSERT OR REPLACE INTO agents_vectors (agent, model, vector)"
        " SELECT id, ?, ? FROM agents WHERE id=?",
        [(model, vector, id_) for id_, vector in vectors],
    )
