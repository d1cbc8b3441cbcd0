"""Reads without a lease: without a group, for a group that only notes its progress, and QUERY."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import islice
from sqlite3 import Connection
from typing import Any

import orjson

from mq9.engine import fetch, groups, mailboxes, messages
from mq9.engine.commands import Call, Limits, NoteRead, Peek
from mq9.engine.fetch import Candidate
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.messages import COLUMNS, LANES
from mq9.errors import Forbidden
from mq9.models import PRIORITIES
from mq9.protocol.outcomes import Fetched, Found, Stored
from mq9.protocol.requests import Fetch, Query, QueryUnread

_MOST_UNREAD = 1_000  # messages of one answer


def peek(db: Connection, call: Call[Peek], now: int) -> Fetched:
    """Read without a group."""
    wanted, position = call.request.fetch, call.request.position
    mailbox = messages.current(db, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    if position is None:
        position = groups.start_position(db, mailbox, wanted, now)
    cursors = list(call.request.cursors or [position] * len(LANES))
    fetched = _read(db, mailbox, cursors, wanted, now, as_text=call.as_text)
    return replace(fetched, position=position)


def unread(db: Connection, call: Call[QueryUnread], now: int) -> Fetched:
    """Read the messages that a group has not read."""
    request = call.request
    mailbox = messages.current(db, call.address, now)
    if request.generation != mailbox.generation:
        raise Forbidden(f"token: it is not the one that CREATE answered for {mailbox.address}")
    group = groups.find(db, mailbox, request.group_name, now)
    cursors = [0] * len(LANES) if group is None else group.cursors
    wanted = Fetch(num_msgs=_MOST_UNREAD)
    return _read(db, mailbox, cursors, wanted, now, as_text=call.as_text)


def note_read(db: Connection, call: Call[NoteRead], now: int, limits: Limits) -> None:
    """Store how far a group without leases has read; create a missing group."""
    mailbox = messages.advance(db, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    if not mailbox.may_take(call.actor):
        return  # a client that may only look changes nothing
    name = call.request.group_name
    group = groups.find(db, mailbox, name, now)
    if group is None:
        group = groups.create(db, mailbox, name, 0, now, limits)
    group.note_use(db, now)
    cursors = list(map(max, group.cursors, call.request.cursors))
    if cursors != group.cursors:
        group.cursors = cursors
        group.save(db)
        mailbox.may_evict(db, 0)


def _read(
    db: Connection, mailbox: MailboxRow, start: list[int], wanted: Fetch, now: int, *, as_text: bool
) -> Fetched:
    """Read messages from a msg_id in each lane, the most urgent and oldest first."""
    cursors = list(start)
    most = wanted.num_msgs + 1
    picked: list[Candidate] = []
    for lane, cursor in enumerate(cursors):
        if len(picked) < most and wanted.priority in {None, PRIORITIES[lane]}:
            picked += db.execute(
                "SELECT priority, msg_id, -1, 0 FROM messages WHERE mailbox=? AND priority=?"
                " AND msg_id>=? AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id LIMIT ?",
                (mailbox.id, lane, cursor, now, most - len(picked)),
            ).fetchall()
    messages, cut = fetch.load(
        db, mailbox, picked[: wanted.num_msgs], start, wanted, as_text=as_text
    )
    for message in messages:
        cursors[LANES[message.priority]] = message.msg_id + 1
    delivery_ms = None if messages else fetch.next_delivery(db, mailbox, None)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=messages,
        more=cut or len(picked) == most,
        cursors=tuple(cursors),
        next_change_ms=None if messages else fetch.sooner(delivery_ms, mailbox.expires_ms),
        next_delivery_ms=delivery_ms,
    )


# The condition of each field of a QUERY.
_CONDITIONS = {
    "msg_id": "msg_id=:msg_id",
    "key": "key=:key",
    "correlation_id": "correlation_id=:correlation_id",
    "before_id": "msg_id<:before_id",
    "state": "state=:state",
}
# The messages that a group has received and not acked. SQLite computes them once for each QUERY.
_HELD = (
    "WITH held AS MATERIALIZED (SELECT msg_id, holder, until_ms"  # noqa: S608  # constant text
    f" FROM {groups.LEASES} WHERE group_id=:group) "
)
# The state of a message in the group, as in STATUS.
_STATE = (
    "CASE WHEN msg_id IN (SELECT msg_id FROM held WHERE until_ms>:now AND holder<>'') THEN 'leased'"
    " WHEN msg_id IN (SELECT msg_id FROM held WHERE until_ms>:now) THEN 'given_back'"
    " WHEN msg_id IN (SELECT msg_id FROM held) OR msg_id>="
    "CASE priority WHEN 0 THEN :critical WHEN 1 THEN :urgent ELSE :normal END THEN 'pending'"
    " WHEN msg_id<:start THEN 'skipped'"
    " WHEN msg_id IN (SELECT msg_id FROM moves WHERE group_id=:group) THEN 'moved'"
    " ELSE 'acked' END"
)
_AMONG = "msg_id IN (SELECT value FROM json_each(:ids))"


def query(db: Connection, call: Call[Query], now: int) -> Found:
    """Read the newest messages that match, oldest first."""
    mailbox = messages.current(db, call.address, now)
    request = call.request
    given: dict[str, Any] = {"mailbox": mailbox.id, "now": now, "most": request.limit + 1}
    conditions = ["mailbox=:mailbox", "(expires_ms IS NULL OR expires_ms>:now)"]
    for name, condition in _CONDITIONS.items():
        given[name] = getattr(request, name)
        if given[name] is not None:
            conditions.append(condition)
    if request.since is not None:
        given["first"] = groups.first_since(db, mailbox, request.since * 1000)
        conditions.append("msg_id>=:first")
    standings: dict[int, dict[str, Any]] = {}
    if request.tags or request.group_name is not None:
        given |= _of_group(db, mailbox, request.group_name, now)
        states = _matching(db, request, " AND ".join(conditions), given)
        given["ids"] = orjson.dumps(list(states)).decode()
        conditions = ["mailbox=:mailbox", _AMONG]
        if request.group_name is not None:
            standings = _standings(db, request.group_name, states, given)
    rows = db.execute(
        f"SELECT {COLUMNS} FROM messages WHERE {' AND '.join(conditions)}"  # noqa: S608  # constant text
        " ORDER BY msg_id DESC LIMIT :most",
        given,
    )
    newest: list[Stored] = []
    room = request.max_bytes
    more = False
    for row in rows:
        message = messages.from_row(row)
        if standings:
            envelope = {**(message.envelope or {}), "standing": standings[message.msg_id]}
            message = message._replace(envelope=envelope)
        room -= messages.reply_bytes(message, as_text=call.as_text)
        if len(newest) == request.limit or (newest and room < 0):
            more = True
            break
        newest.append(message)
    return Found(messages=tuple(reversed(newest)), more=more)


def _of_group(db: Connection, mailbox: MailboxRow, name: str | None, now: int) -> dict[str, int]:
    """Return the SQL parameters of a group; a missing group has read nothing."""
    group = None if name is None else groups.find(db, mailbox, name, now)
    id_, start, cursors = (
        (-1, 0, [0, 0, 0]) if group is None else (group.id, group.start, group.cursors)
    )
    return {"group": id_, "start": start, **dict(zip(PRIORITIES, cursors, strict=True))}


def _matching(
    db: Connection, request: Query, matching: str, given: dict[str, Any]
) -> dict[int, str | None]:
    """Return the newest messages that match, including tags, with their states in the group."""
    prelude, state = ("", "NULL") if request.group_name is None else (_HELD, _STATE)
    if request.tags:  # excludes most messages before their rows are made
        matching += " AND instr(tags, :tag)"
        given["tag"] = f",{max(request.tags, key=len)},"
    found = db.execute(
        f"{prelude}SELECT msg_id, {state} AS state, tags FROM messages WHERE {matching}"  # noqa: S608  # constant text
        " ORDER BY msg_id DESC",
        given,
    )
    # Splitting once is a thousand times as fast as searching the text for each of many tags.
    wanted = set(request.tags)
    tagged = ((msg_id, state) for msg_id, state, tags in found if wanted.issubset(tags.split(",")))
    return dict(islice(tagged, request.limit + 1))


def _standings(
    db: Connection, group_name: str, states: dict[int, str | None], given: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """Return the states of messages in a group, as a reply has them."""
    found: dict[int, dict[str, Any]] = {
        msg_id: {"group_name": group_name, "state": state, "deliveries": 0}
        for msg_id, state in states.items()
    }
    leases = db.execute(
        "SELECT msg_id, nullif(holder, ''), until_ms, deliveries, reason, promised_ms, done,"  # noqa: S608  # constant text
        f" promised_by FROM {groups.LEASES}"
        f" WHERE group_id=:group AND {_AMONG}",
        given,
    )
    for msg_id, holder, until_ms, deliveries, reason, *promised in leases:
        found[msg_id]["deliveries"] = deliveries
        if reason is not None:
            found[msg_id]["reason"] = reason
        promise = groups.promise(*promised)
        if promise is not None:
            found[msg_id]["promise"] = {
                name: one for name, one in asdict(promise).items() if one is not None
            }
        if states[msg_id] != "pending":
            found[msg_id]["until"] = until_ms / 1000
            if holder is not None:
                found[msg_id]["consumer"] = holder
    moves = db.execute(
        f"SELECT msg_id, target, copy FROM moves WHERE group_id=:group AND {_AMONG}",  # noqa: S608  # constant text
        given,
    )
    for msg_id, target, copy in moves:
        if states[msg_id] == "moved":
            found[msg_id] |= {"moved_to": target, "moved_as": copy}
    return found
