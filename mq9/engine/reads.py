"""Reads without a lease: by nobody in particular, for a group that only notes how far, QUERY."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from sqlite3 import Connection
from typing import Any

from mq9.engine import fetch, groups, mailboxes, messages
from mq9.engine.commands import Call, Limits, NoteRead, Peek
from mq9.engine.fetch import Candidate
from mq9.engine.mailboxes import Mailbox
from mq9.engine.messages import COLUMNS, LANES
from mq9.errors import Forbidden
from mq9.models import PRIORITIES
from mq9.protocol.outcomes import Fetched, Found, Stored
from mq9.protocol.requests import Fetch, Query, Unread

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


def unread(db: Connection, call: Call[Unread], now: int) -> Fetched:
    """Read what a group has not read."""
    request = call.request
    mailbox = messages.current(db, call.address, now)
    if request.generation != mailbox.generation:
        raise Forbidden(f"token: it is not the one that CREATE answered for {mailbox.address}")
    group = groups.find(db, mailbox, request.group_name, now)
    cursors = [0] * len(LANES) if group is None else group.cursors
    wanted = Fetch(num_msgs=_MOST_UNREAD)
    return _read(db, mailbox, cursors, wanted, now, as_text=call.as_text)


def note_read(db: Connection, call: Call[NoteRead], now: int, limits: Limits) -> None:
    """Note how far a group has read that leases nothing; it is made where there is none."""
    mailbox = messages.advance(db, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    if not mailbox.may_take(call.actor):
        return  # who may only look leaves nothing behind
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
    db: Connection, mailbox: Mailbox, start: list[int], wanted: Fetch, now: int, *, as_text: bool
) -> Fetched:
    """Read messages, the most urgent and oldest first, from a msg_id in each lane."""
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


def query(db: Connection, call: Call[Query], now: int) -> Found:
    """Look at the newest messages that match, oldest first."""
    mailbox = messages.current(db, call.address, now)
    request = call.request
    conditions = ["mailbox=?", "(expires_ms IS NULL OR expires_ms>?)"]
    values: list[Any] = [mailbox.id, now]
    if request.msg_id is not None:
        conditions.append("msg_id=?")
        values.append(request.msg_id)
    if request.key is not None:
        conditions.append("key=?")
        values.append(request.key)
    if request.correlation_id is not None:
        conditions.append("correlation_id=?")
        values.append(request.correlation_id)
    if request.since is not None:
        conditions.append("msg_id>=?")
        values.append(groups.first_since(db, mailbox, request.since * 1000))
    matching = " AND ".join(conditions)
    rows: Iterable[tuple[Any, ...]]
    if request.tags:
        rows = _tagged(db, mailbox, request.tags, matching, values)
    else:
        rows = db.execute(
            f"SELECT {COLUMNS} FROM messages WHERE {matching} ORDER BY msg_id DESC LIMIT ?",  # noqa: S608  # constant text
            (*values, request.limit + 1),
        )
    newest: list[Stored] = []
    room = request.max_bytes
    more = False
    for row in rows:
        message = messages.from_row(row)
        room -= messages.reply_bytes(message, as_text=call.as_text)
        if len(newest) == request.limit or (newest and room < 0):
            more = True
            break
        newest.append(message)
    return Found(messages=tuple(reversed(newest)), more=more)


def _tagged(
    db: Connection, mailbox: Mailbox, tags: tuple[str, ...], matching: str, values: list[Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with all of some tags, the newest first."""
    # Splitting once is a thousand times as fast as searching the text for each of many tags.
    wanted = set(tags)
    found = db.execute(
        f"SELECT msg_id, tags FROM messages WHERE {matching} AND tags<>'' ORDER BY msg_id DESC",  # noqa: S608  # constant text
        values,
    )
    for msg_id, text in found:
        if wanted.issubset(text.split(",")):
            yield db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE mailbox=? AND msg_id=?",  # noqa: S608  # constant columns
                (mailbox.id, msg_id),
            ).fetchone()
