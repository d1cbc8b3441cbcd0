"""The registry: registering, replacing, reporting, removing and finding agents.

A registration stores the generation of its mailbox, and is removed with it. Readers skip expired
registrations; the sweep removes them.

Row ids are never reused and ascend, and the registered object of a row never changes: a changed
registration gets a new row. So an index of the registrations is up to date when it has seen the
highest id and the newest removal. Removals are numbered without gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Connection

import orjson

from mq9 import address as addresses
from mq9.engine import mailboxes, messages
from mq9.engine.commands import (
    Actor,
    AgentKeys,
    Call,
    Claimed,
    ClaimNames,
    IsRegistered,
    Limits,
    Seen,
)
from mq9.engine.mailboxes import MailboxRow
from mq9.errors import AgentNotFound, Forbidden, LimitReached
from mq9.models import AgentEntry, LookPolicy
from mq9.protocol.body import parse_object
from mq9.protocol.requests import Lookup, Register, Report, Unregister

ALIVE = (
    "(a.expires_ms IS NULL OR a.expires_ms>:now) AND EXISTS ("
    "SELECT 1 FROM mailboxes m WHERE m.address=a.mailbox AND m.generation=a.generation"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now))"
)
_SHOWN = "a.id, a.key, a.mailbox, a.registered, a.seen_ms, a.status"
# A sign of life is stored at most once a second if the registration has no TTL or a long one.
_SEEN_GRAIN_MS = 1_000
_EXACT_TTL_S = 3_600  # up to this TTL every sign is stored
_MOST_AT_ONCE = 1_000  # rows that one registration removes to make room
_MOST_NAMED = 5  # closed mailboxes


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration as other agents see it."""

    id: int
    key: str  # the name, else the mailbox
    mailbox: str
    registered: bytes  # the JSON object as it came
    seen_ms: int  # the last sign of life
    status: str | None  # the last report, as JSON


@dataclass(frozen=True, slots=True)
class _Registration:
    """The columns of a row of agents that determine rights."""

    id: int
    key: str
    mailbox: str
    owner: str | None

    def admits(self, actor: Actor) -> bool:
        """Tell whether a client may change it, by its owner, name and mailbox."""
        if actor.agent is None:
            return self.owner is None
        return (
            self.owner == actor.agent
            or self.key in actor.own
            or actor.owns(self.mailbox)
            or (self.owner is None and (actor.is_operator or not actor.closed))
        )


def register(db: Connection, call: Call[Register], now: int, limits: Limits) -> str:
    """Register an agent or replace its registration; create its mailbox if it is missing."""
    limits.check_size("max_registration", call.payload)
    key = call.request.name or call.address
    ttl_s = call.request.ttl
    existing = _find(db, "a.key=:value", key, now)
    if existing is not None:
        _refuse_others(existing, call.actor, key)
    generation = mailboxes.ensure(db, call.address, call.token, call.actor.agent, now, limits)
    expires_ms = now + ttl_s * 1000 if ttl_s else None
    if existing is not None:
        # Most agents register the same object again. The row stays, and so do its index entries.
        is_renewed = db.execute(
            "UPDATE agents SET generation=?, owner=?, ttl_s=?, expires_ms=?, seen_ms=?, status=NULL"
            " WHERE id=? AND mailbox=? AND registered=?",
            (
                *(generation, call.actor.agent, ttl_s, expires_ms, now),
                *(existing.id, call.address, call.payload),
            ),
        ).rowcount
        if is_renewed:
            return call.address
        mailboxes.remove_agents(db, "id=?", (existing.id,))
    else:
        mailboxes.remove_agents(db, "key=?", (key,))
        _make_room(db, now, limits)
    db.execute(
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
    db: Connection,
    condition: str,
    value: str,
    now: int,
    name: str | None = None,
    agent: str | None = None,
) -> _Registration | None:
    """Return a living registration."""
    row = db.execute(
        f"SELECT a.id, a.key, a.mailbox, a.owner FROM agents a WHERE {condition} AND {ALIVE}"  # noqa: S608  # constant text
        " ORDER BY a.key IS :name DESC, a.owner IS :agent DESC, a.key LIMIT 1",
        {"value": value, "now": now, "name": name, "agent": agent},
    ).fetchone()
    return None if row is None else _Registration(*row)


def _named(
    db: Connection, name: str | None, mailbox: str | None, actor: Actor, now: int
) -> _Registration:
    """Find an agent by its mailbox, or else by its name.

    Of several agents with one mailbox, the one with the name comes first, then the client's own.
    """
    found = None
    if mailbox is not None:
        found = _find(db, "a.mailbox=:value", mailbox, now, name, actor.agent)
    if found is None and name is not None:
        found = _find(db, "a.key=:value", name, now)
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


def _make_room(db: Connection, now: int, limits: Limits) -> None:
    (count,) = db.execute("SELECT count(*) FROM agents").fetchone()
    if count >= limits.max_agents:
        remove_expired(db, now, most=_MOST_AT_ONCE)
        mailboxes.erase_expired(db, now, most=_MOST_AT_ONCE)
        (count,) = db.execute("SELECT count(*) FROM agents").fetchone()
    if count >= limits.max_agents:
        raise LimitReached(f"max_agents: {count} agents reach the limit of {limits.max_agents}")


def remove_expired(db: Connection, now: int, most: int) -> int:
    """Remove expired registrations; return how many."""
    removed = mailboxes.remove_agents(
        db,
        "id IN (SELECT id FROM agents WHERE expires_ms<=? ORDER BY expires_ms, id LIMIT ?)",
        (now, most),
    )
    return len(removed)


def unregister(db: Connection, call: Call[Unregister], now: int, _limits: Limits) -> None:
    """Remove an agent from the registry."""
    request = call.request
    found = _named(db, request.name, request.mailbox, call.actor, now)
    _refuse_others(found, call.actor, request.name or request.mailbox or "")
    mailboxes.remove_agents(db, "id=?", (found.id,))


def report(db: Connection, call: Call[Report], now: int, limits: Limits) -> None:
    """Store the report of an agent, which is also a sign of life."""
    reported = parse_object(call.payload)
    status = orjson.dumps(
        {key: reported[key] for key in reported if key not in {"name", "mailbox"}}
    )
    limits.check_size("max_registration", status)
    request = call.request
    found = _named(db, request.name, request.mailbox, call.actor, now)
    _refuse_others(found, call.actor, request.name or request.mailbox or "")
    db.execute(
        "UPDATE agents SET status=?, seen_ms=?,"
        " expires_ms=CASE WHEN ttl_s>0 THEN ?+ttl_s*1000 END WHERE id=?",
        (status.decode(), now, now, found.id),
    )


def is_registered(db: Connection, call: Call[IsRegistered], _now: int) -> bool:
    """Tell whether a registration with that key exists."""
    row = db.execute("SELECT 1 FROM agents WHERE key=?", (call.request.name,)).fetchone()
    return row is not None


def is_registered_by_itself(db: Connection, name: str, now: int) -> bool:
    """Tell whether an authenticated agent has registered under its own name."""
    found = _find(db, "a.key=:value", name, now)
    return found is not None and found.owner == name


def names_at(db: Connection, mailbox: str, now: int) -> set[str]:
    """Return the names of some agents that are registered with a mailbox."""
    found = _looked_up(db, _AT_MAILBOXES, (mailbox,), now)
    return {name for name, *_ in found}


def mailboxes_of(db: Connection, name: str, now: int) -> set[str]:
    """Return the addresses of an agent: the registered one and its slug."""
    found = _find(db, "a.key=:value", name, now)
    return {addresses.slug_or_none(name) or "", "" if found is None else found.mailbox} - {""}


def seen(db: Connection, call: Call[Seen], now: int, _limits: Limits) -> int | None:
    """Note a sign of life; return when a waiting agent must give the next one."""
    note_seen(db, call.request.name, now)
    return next_sign(db, call.request.name, now)


def find_seen(db: Connection, call: Call[Seen], now: int) -> int | None:
    """Return when a waiting agent must give the next sign; None if one must be stored now."""
    if is_sign_due(db, call.request.name, now):
        return None
    return next_sign(db, call.request.name, now)


# The condition for an agent whose sign of life must be stored.
_DUE = (
    "a.key=:name AND (a.seen_ms<=:now-:grain"
    f" OR (a.seen_ms<:now AND a.ttl_s BETWEEN 1 AND :exact)) AND {ALIVE}"
)


def note_seen(db: Connection, name: str, now: int) -> None:
    """Store a sign of life of an agent, which restarts its TTL; skip unregistered agents."""
    db.execute(
        "UPDATE agents AS a SET seen_ms=:now,"  # noqa: S608  # constant text
        f" expires_ms=CASE WHEN a.ttl_s>0 THEN :now+a.ttl_s*1000 END WHERE {_DUE}",
        _sign(name, now),
    )


def is_sign_due(db: Connection, name: str | None, now: int) -> bool:
    """Tell whether a sign of life would be stored."""
    row = db.execute(
        f"SELECT 1 FROM agents a WHERE {_DUE}",  # noqa: S608  # constant text
        _sign(name, now),
    ).fetchone()
    return row is not None


def _sign(name: str | None, now: int) -> dict[str, object]:
    return {"now": now, "name": name, "grain": _SEEN_GRAIN_MS, "exact": _EXACT_TTL_S}


def next_sign(db: Connection, name: str | None, now: int) -> int | None:
    """Return when an agent that waits in a FETCH must be noted again: after half its TTL."""
    row = db.execute("SELECT ttl_s FROM agents WHERE key=? AND ttl_s>0", (name,)).fetchone()
    return None if row is None else now + int(row[0]) * 500


def keys(db: Connection, _call: Call[AgentKeys], _now: int) -> tuple[str, ...]:
    """Return the keys of all registrations."""
    return tuple(key for (key,) in db.execute("SELECT key FROM agents ORDER BY key"))


_MOST_AT_MAILBOX = 10  # registrations of one mailbox in a reply
_LOOKED_BACK = 1_000  # messages of a mailbox
_NAMED = (
    "SELECT a.key, a.mailbox, a.seen_ms, a.owner FROM agents a"  # noqa: S608  # constant text
    f" WHERE a.key IN (SELECT value FROM json_each(:wanted)) AND {ALIVE}"
)
_AT_MAILBOXES = (
    "SELECT r.key, r.mailbox, r.seen_ms, r.owner FROM json_each(:wanted) j CROSS JOIN agents r"  # noqa: S608  # constant text
    f" ON r.id IN (SELECT a.id FROM agents a WHERE a.mailbox=j.value AND {ALIVE} ORDER BY a.id"
    f" LIMIT {_MOST_AT_MAILBOX}) ORDER BY j.key, r.id"
)
_WROTE = (
    "WITH newest AS MATERIALIZED (SELECT sender, sender_verified, visible_ms, moved FROM messages"
    " WHERE mailbox=:mailbox AND msg_id<:before AND (expires_ms IS NULL OR expires_ms>:now)"
    " ORDER BY msg_id DESC LIMIT :most)"
    " SELECT sender, min(visible_ms), min(iif(sender_verified, visible_ms, NULL)) FROM newest"
    " WHERE moved IS NULL AND sender IN (SELECT value FROM json_each(:names)) GROUP BY sender"
)
_Row = tuple[str, str, int, str | None]  # key, mailbox, seen_ms, owner


def lookup(db: Connection, call: Call[Lookup], now: int) -> tuple[AgentEntry, ...]:
    """Look up the registrations of names and of mailboxes.

    If the request names a mailbox, each entry also says since when that has messages from the name.
    """
    request = call.request
    mailbox = None if request.wrote_to is None else messages.current(db, request.wrote_to, now)
    named = {one[0]: one for one in _looked_up(db, _NAMED, request.names, now)}
    there = {one[0]: one for one in _looked_up(db, _AT_MAILBOXES, request.mailboxes, now)}
    names = tuple(dict.fromkeys((*request.names, *there)))
    wrote = {} if mailbox is None else _wrote(db, mailbox, names, request.before, now)
    return tuple(
        _entry(name, named.get(name) or there.get(name), wrote.get(name, (None, None)))
        for name in names
    )


def _looked_up(db: Connection, which: str, wanted: tuple[str, ...], now: int) -> list[_Row]:
    """Return the living registrations of names or of mailboxes."""
    return db.execute(which, {"wanted": _json(wanted), "now": now}).fetchall() if wanted else []


def _wrote(
    db: Connection, mailbox: MailboxRow, names: tuple[str, ...], before: int | None, now: int
) -> dict[str, tuple[int, int | None]]:
    """Return when the oldest of the newest messages of each sender came, and of verified ones."""
    rows = db.execute(
        _WROTE,
        {
            "mailbox": mailbox.id,
            "before": mailbox.next_msg_id if before is None else before,
            "now": now,
            "most": _LOOKED_BACK,
            "names": _json(names),
        },
    )
    return {sender: (wrote, verified) for sender, wrote, verified in rows}


def _entry(name: str, found: _Row | None, wrote: tuple[int | None, int | None]) -> AgentEntry:
    _, mailbox, seen_ms, owner = found or (name, None, None, None)
    since, verified = (None if one is None else one / 1000 for one in wrote)
    return AgentEntry(
        name=name,
        registered=found is not None,
        mailbox=mailbox,
        last_seen=None if seen_ms is None else seen_ms // 1000,
        by=owner,
        wrote=since,
        wrote_verified=verified,
    )


def _json(texts: tuple[str, ...]) -> str:
    return orjson.dumps(texts).decode()


def claim(db: Connection, call: Call[ClaimNames], now: int, _limits: Limits) -> Claimed:
    """Give configured agents the mailboxes and registrations under their names and addresses."""
    request = call.request
    owner_of = _owners(request)
    removed = []
    for key, agent in request.names:
        found = _find(db, "a.key=:value", key, now)
        if found is None or found.owner == agent:
            continue
        if found.owner is None and owner_of(found.mailbox) == agent:
            db.execute("UPDATE agents SET owner=? WHERE id=?", (agent, found.id))
        else:
            removed += mailboxes.remove_agents(db, "id=?", (found.id,))
    for mailbox, agent in _claimed(db, request, "agents", "mailbox"):
        removed += mailboxes.remove_agents(db, "mailbox=? AND owner IS NOT ?", (mailbox, agent))
    mailboxes_taken = _claim_mailboxes(db, request, now)
    closed, first_closed = _count_closed(db, now, _MOST_NAMED)
    return Claimed(
        mailboxes=mailboxes_taken, removed=tuple(removed), closed=closed, first_closed=first_closed
    )


def _owners(request: ClaimNames) -> Callable[[str], str | None]:
    """Return a function that returns the agent for which an address is claimed."""
    by_address = dict(request.addresses)

    def owner_of(address: str) -> str | None:
        if not request.with_sub_addresses:
            return by_address.get(address)
        nearest = (one for one in addresses.upwards(address) if one in by_address)
        return by_address.get(next(nearest, ""))

    return owner_of


def _claimed(db: Connection, request: ClaimNames, table: str, column: str) -> list[tuple[str, str]]:
    """Return the claimed addresses in a column, each with its agent."""
    owner_of = _owners(request)
    found = []
    for root, agent in request.addresses:
        # No character of an address is between "." and "/".
        end = f"{root}/" if request.with_sub_addresses else root
        rows = db.execute(
            f"SELECT DISTINCT {column} FROM {table}"  # noqa: S608  # our own names
            f" WHERE {column}=? OR {column}>=? AND {column}<? ORDER BY {column}",
            (root, root, end),
        )
        found += [(address, agent) for (address,) in rows if owner_of(address) == agent]
    return found


def _claim_mailboxes(db: Connection, request: ClaimNames, now: int) -> tuple[str, ...]:
    """Give agents the mailboxes at their addresses, without grants of an earlier creator."""
    changed = []
    for address, agent in _claimed(db, request, "mailboxes", "address"):
        mailbox = mailboxes.look(db, address, now)
        if mailbox is None or mailbox.creator == agent:
            continue
        granted = (mailbox.readers, mailbox.viewers, mailbox.senders, mailbox.look_policy)
        if mailbox.creator is not None:
            granted = ("", "", "", LookPolicy.GRANTED.value)
        db.execute(
            "UPDATE mailboxes SET creator=?, readers=?, viewers=?, senders=?, look_policy=?"
            " WHERE id=?",
            (agent, *granted, mailbox.id),
        )
        changed.append(address)
    return tuple(changed)


def _count_closed(db: Connection, now: int, most_named: int) -> tuple[int, tuple[str, ...]]:
    """Count the mailboxes without creator and readers; return some of their addresses, too."""
    which = (
        "FROM mailboxes WHERE creator IS NULL AND readers='' AND viewers=''"
        f" AND look_policy='{LookPolicy.GRANTED}' AND coalesce(expires_ms>?, 1)"
    )
    (count,) = db.execute(f"SELECT count(*) {which}", (now,)).fetchone()  # constant text
    rows = db.execute(
        f"SELECT address {which} ORDER BY address LIMIT ?",  # constant text
        (now, most_named),
    )
    return int(count), tuple(address for (address,) in rows)


def newest_id(db: Connection) -> int:
    """Return the highest id of a registration; 0 if there is none."""
    (id_,) = db.execute("SELECT max(id) FROM agents").fetchone()
    return id_ or 0


def ids(db: Connection) -> tuple[int, ...]:
    """Return the ids of all registrations, ascending, including expired ones."""
    return tuple(one for (one,) in db.execute("SELECT id FROM agents ORDER BY id"))


def find_id(db: Connection, key: str) -> int | None:
    """Return the id of the registration with a key, expired or not."""
    row = db.execute("SELECT id FROM agents WHERE key=?", (key,)).fetchone()
    return None if row is None else int(row[0])


def after(db: Connection, id_: int, most: int) -> list[tuple[int, str, bytes]]:
    """Return id, key and JSON of registrations with a higher id, ascending, also expired ones."""
    return db.execute(
        "SELECT id, key, registered FROM agents WHERE id>? ORDER BY id LIMIT ?", (id_, most)
    ).fetchall()


def removed_after(db: Connection, number: int, most: int) -> list[int] | None:
    """Return the ids of removals after a number, oldest first; None if some are forgotten."""
    removed = db.execute(
        "SELECT number, agent FROM agents_removed WHERE number>? ORDER BY number LIMIT ?",
        (number, most),
    ).fetchall()
    if removed and removed[0][0] != number + 1:
        return None
    return [id_ for _, id_ in removed]


def look(db: Connection, id_: int, now: int) -> Registration | None:
    """Return a living registration, or None."""
    row = db.execute(
        f"SELECT {_SHOWN} FROM agents a WHERE a.id=:id AND {ALIVE}",  # noqa: S608  # constant text
        {"id": id_, "now": now},
    ).fetchone()
    return None if row is None else Registration(*row)


def by_key(db: Connection, now: int, *, limit: int, offset: int) -> list[Registration]:
    """Return a page of the living registrations, in the order of their keys."""
    rows = db.execute(
        f"SELECT {_SHOWN} FROM agents a WHERE {ALIVE} ORDER BY a.key LIMIT :limit OFFSET :offset",  # noqa: S608  # constant text
        {"now": now, "limit": limit, "offset": offset},
    )
    return [Registration(*row) for row in rows]
