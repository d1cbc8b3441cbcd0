"""The registry: agents registered, replaced, reported, removed.

A registration remembers the generation of the mailbox it points at, and is removed with it. Whoever
reads the registry passes over what has expired; the sweep removes it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import orjson

from mq9.engine import access, erasure, handlers, lifecycle, registry
from mq9.engine.commands import Actor, AgentKeys, Call, Claimed, ClaimNames, IsRegistered, Seen
from mq9.engine.limits import Limits
from mq9.engine.registry import ALIVE
from mq9.errors import AgentNotFound, Forbidden, LimitReached
from mq9.protocol.request import parse_object
from mq9.protocol.requests import Register, Report, Unregister

# Noting every sign of life would be wasted writing where a registration lasts much longer.
_SEEN_GRAIN_MS = 1_000
_EXACT_TTL_S = 3_600  # up to which every sign is noted
_MOST_AT_ONCE = 1_000  # rows that one registration makes room by removing
_MOST_NAMED = 5  # closed mailboxes


@dataclass(frozen=True, slots=True)
class _Registration:
    """A row of agents, as far as rights depend on it."""

    id: int
    key: str
    mailbox: str
    owner: str | None

    def admits(self, actor: Actor) -> bool:
        """Tell whether somebody may change it; nobody else may what an agent registered."""
        if actor.agent is None:
            return self.owner is None
        return (
            self.owner == actor.agent
            or self.key in actor.own
            or actor.owns(self.mailbox)
            or (self.owner is None and not actor.closed)
        )


@handlers.command(Register)
def register(connection: sqlite3.Connection, call: Call[Register], now: int, limits: Limits) -> str:
    """Put an agent into the registry, or replace it; its mailbox is made if it is missing."""
    limits.check_registration(call.payload)
    key = call.request.name or call.address
    ttl_s = call.request.ttl
    existing = _find(connection, "a.key=:value", key, now)
    if existing is not None:
        _refuse_others(existing, call.actor, key)
    generation = lifecycle.ensure(
        connection, call.address, call.token, call.actor.agent, now, limits
    )
    expires_ms = now + ttl_s * 1000 if ttl_s else None
    if existing is not None:
        # Most register again with what they said before: then what is derived from it can stay.
        is_renewed = connection.execute(
            "UPDATE agents SET generation=?, owner=?, ttl_s=?, expires_ms=?, seen_ms=?, status=NULL"
            " WHERE id=? AND mailbox=? AND registered=?",
            (
                *(generation, call.actor.agent, ttl_s, expires_ms, now),
                *(existing.id, call.address, call.payload),
            ),
        ).rowcount
        if is_renewed:
            return call.address
        registry.remove(connection, "id=?", (existing.id,))
    else:
        registry.remove(connection, "key=?", (key,))
        _make_room(connection, now, limits)
    connection.execute(
        "INSERT INTO agents"
        " (key, mailbox, generation, registered, owner, ttl_s, expires_ms, seen_ms)"
        " VALUES (?,?,?,?,?,?,?,?)",
        (
            *(key, call.address, generation, call.payload),
            *(call.actor.agent, ttl_s, expires_ms, now),
        ),
    )
    return call.address


def _find(
    connection: sqlite3.Connection,
    condition: str,
    value: str,
    now: int,
    name: str | None = None,
    agent: str | None = None,
) -> _Registration | None:
    """Return a living registration."""
    row = connection.execute(
        f"SELECT a.id, a.key, a.mailbox, a.owner FROM agents a WHERE {condition} AND {ALIVE}"  # noqa: S608  # constant text
        " ORDER BY a.key IS :name DESC, a.owner IS :agent DESC, a.key LIMIT 1",
        {"value": value, "now": now, "name": name, "agent": agent},
    ).fetchone()
    return None if row is None else _Registration(*row)


def _named(
    connection: sqlite3.Connection,
    name: str | None,
    mailbox: str | None,
    actor: Actor,
    now: int,
) -> _Registration:
    """Find an agent by its mailbox, then by its name.

    Of several at one mailbox it is the one of that name, else the actor's own.
    """
    found = None
    if mailbox is not None:
        found = _find(connection, "a.mailbox=:value", mailbox, now, name, actor.agent)
    if found is None and name is not None:
        found = _find(connection, "a.key=:value", name, now)
    if found is None:
        who = " or ".join(repr(one) for one in (mailbox, name) if one is not None)
        raise AgentNotFound(f"agent not found: {who} is not registered")
    return found


def _refuse_others(registration: _Registration, actor: Actor, name: str) -> None:
    if registration.admits(actor):
        return
    if registration.owner is None:
        raise Forbidden(f"name: {name!r} was not registered by an agent and is closed to agents")
    raise Forbidden(f"name: {name!r} was registered by another agent")


def _make_room(connection: sqlite3.Connection, now: int, limits: Limits) -> None:
    (count,) = connection.execute("SELECT count(*) FROM agents").fetchone()
    if count >= limits.max_agents:
        remove_expired(connection, now, most=_MOST_AT_ONCE)
        erasure.erase_expired(connection, now, most=_MOST_AT_ONCE)
        (count,) = connection.execute("SELECT count(*) FROM agents").fetchone()
    if count >= limits.max_agents:
        raise LimitReached(f"max_agents: {count} agents reach the limit of {limits.max_agents}")


def remove_expired(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Remove registrations that were not renewed in time; how many."""
    removed = registry.remove(
        connection,
        "id IN (SELECT id FROM agents WHERE expires_ms<=? ORDER BY expires_ms, id LIMIT ?)",
        (now, most),
    )
    return len(removed)


@handlers.command(Unregister)
def unregister(
    connection: sqlite3.Connection, call: Call[Unregister], now: int, _limits: Limits
) -> None:
    """Take an agent out of the registry."""
    request = call.request
    found = _named(connection, request.name, request.mailbox, call.actor, now)
    _refuse_others(found, call.actor, request.name or request.mailbox or "")
    registry.remove(connection, "id=?", (found.id,))


@handlers.command(Report)
def report(connection: sqlite3.Connection, call: Call[Report], now: int, limits: Limits) -> None:
    """Keep what an agent says of itself, and that it lives."""
    told = parse_object(call.payload)
    said = orjson.dumps({key: told[key] for key in told if key not in {"name", "mailbox"}})
    limits.check_registration(said)
    request = call.request
    found = _named(connection, request.name, request.mailbox, call.actor, now)
    _refuse_others(found, call.actor, request.name or request.mailbox or "")
    connection.execute(
        "UPDATE agents SET status=?, seen_ms=?,"
        " expires_ms=CASE WHEN ttl_s>0 THEN ?+ttl_s*1000 END WHERE id=?",
        (said.decode(), now, now, found.id),
    )


@handlers.query(IsRegistered)
def is_registered(connection: sqlite3.Connection, call: Call[IsRegistered], _now: int) -> bool:
    """Tell whether there is a registration of that key."""
    row = connection.execute("SELECT 1 FROM agents WHERE key=?", (call.request.name,)).fetchone()
    return row is not None


@handlers.command(Seen)
def seen(connection: sqlite3.Connection, call: Call[Seen], now: int, _limits: Limits) -> int | None:
    """Note a sign of life; return the instant by which a waiting agent gives the next."""
    note_seen(connection, call.request.name, now)
    return next_sign(connection, call.request.name, now)


@handlers.unchanging(Seen)
def find_seen(connection: sqlite3.Connection, call: Call[Seen], now: int) -> int | None:
    """Return by when a waiting agent gives the next sign; None where one is to be noted."""
    if is_sign_due(connection, call.request.name, now):
        return None
    return next_sign(connection, call.request.name, now)


# An agent whose sign of life is to be noted.
_DUE = (
    "a.key=:name AND (a.seen_ms<=:now-:grain"
    f" OR (a.seen_ms<:now AND a.ttl_s BETWEEN 1 AND :exact)) AND {ALIVE}"
)


def note_seen(connection: sqlite3.Connection, name: str, now: int) -> None:
    """Note that an agent lives, which restarts its ttl; who is not registered is passed over."""
    connection.execute(
        "UPDATE agents AS a SET seen_ms=:now,"  # noqa: S608  # constant text
        f" expires_ms=CASE WHEN a.ttl_s>0 THEN :now+a.ttl_s*1000 END WHERE {_DUE}",
        _sign(name, now),
    )


def is_sign_due(connection: sqlite3.Connection, name: str | None, now: int) -> bool:
    """Tell whether a sign of life would be noted."""
    row = connection.execute(
        f"SELECT 1 FROM agents a WHERE {_DUE}",  # noqa: S608  # constant text
        _sign(name, now),
    ).fetchone()
    return row is not None


def _sign(name: str | None, now: int) -> dict[str, object]:
    return {"now": now, "name": name, "grain": _SEEN_GRAIN_MS, "exact": _EXACT_TTL_S}


def next_sign(connection: sqlite3.Connection, name: str | None, now: int) -> int | None:
    """Return by when an agent that waits in a FETCH is to be noted again; None for never.

    It is well before its ttl ends: whoever waits for mail lives.
    """
    row = connection.execute("SELECT ttl_s FROM agents WHERE key=? AND ttl_s>0", (name,)).fetchone()
    return None if row is None else now + int(row[0]) * 500


@handlers.query(AgentKeys)
def keys(connection: sqlite3.Connection, _call: Call[AgentKeys], _now: int) -> tuple[str, ...]:
    """Return the keys of all registrations."""
    return tuple(key for (key,) in connection.execute("SELECT key FROM agents ORDER BY key"))


@handlers.command(ClaimNames)
def claim(
    connection: sqlite3.Connection, call: Call[ClaimNames], now: int, _limits: Limits
) -> Claimed:
    """Give configured agents what is stored under their names and addresses."""
    request = call.request
    owner_of = access.owners(request)
    removed = []
    for key, agent in request.names:
        found = _find(connection, "a.key=:value", key, now)
        if found is None or found.owner == agent:
            continue
        if found.owner is None and owner_of(found.mailbox) == agent:
            connection.execute("UPDATE agents SET owner=? WHERE id=?", (agent, found.id))
        else:
            removed += registry.remove(connection, "id=?", (found.id,))
    for mailbox, agent in access.claimed(connection, request, "agents", "mailbox"):
        removed += registry.remove(connection, "mailbox=? AND owner IS NOT ?", (mailbox, agent))
    mailboxes_taken = access.claim(connection, request, now)
    closed, first_closed = access.count_closed(connection, now, _MOST_NAMED)
    return Claimed(
        mailboxes=mailboxes_taken,
        removed=tuple(removed),
        closed=closed,
        first_closed=first_closed,
    )
