"""Reads without a lease: by nobody in particular, and for a group that only notes how far."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from mq9.engine import fetches, groups, handlers, mailboxes
from mq9.engine.commands import Call, NoteRead, Peek
from mq9.engine.fetches import Candidate
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.engine.messages import LANES
from mq9.errors import Forbidden
from mq9.models import PRIORITIES
from mq9.protocol.outcomes import Fetched
from mq9.protocol.requests import Fetch, Unread

_MOST_UNREAD = 1_000  # messages of one answer


@handlers.query(Peek)
def peek(connection: sqlite3.Connection, call: Call[Peek], now: int) -> Fetched:
    """Read without a group."""
    wanted, position = call.request.fetch, call.request.position
    mailbox = mailboxes.current(connection, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    if position is None:
        position = groups.start_position(connection, mailbox, wanted, now)
    cursors = list(call.request.cursors or [position] * len(LANES))
    fetched = _read(connection, mailbox, cursors, wanted, now, as_text=call.as_text)
    return replace(fetched, position=position)


@handlers.query(Unread)
def unread(connection: sqlite3.Connection, call: Call[Unread], now: int) -> Fetched:
    """Read what a group has not read.

    Raises:
        Forbidden: It is another mailbox than the asker knows of.
    """
    request = call.request
    mailbox = mailboxes.current(connection, call.address, now)
    if request.generation != mailbox.generation:
        raise Forbidden(f"token: it is not the one that CREATE answered for {mailbox.address}")
    group = groups.find(connection, mailbox, request.group_name, now)
    cursors = [0] * len(LANES) if group is None else group.cursors
    wanted = Fetch(num_msgs=_MOST_UNREAD)
    return _read(connection, mailbox, cursors, wanted, now, as_text=call.as_text)


@handlers.command(NoteRead)
def note_read(
    connection: sqlite3.Connection, call: Call[NoteRead], now: int, limits: Limits
) -> None:
    """Note how far a group has read that leases nothing; it is made where there is none."""
    mailbox = mailboxes.advance(connection, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    if not mailbox.may_take(call.actor):
        return  # who may only look leaves nothing behind
    name = call.request.group_name
    group = groups.find(connection, mailbox, name, now)
    if group is None:
        group = groups.create(connection, mailbox, name, 0, now, limits)
    group.note_use(connection, now)
    cursors = list(map(max, group.cursors, call.request.cursors))
    if cursors != group.cursors:
        group.cursors = cursors
        group.save(connection)
        mailbox.may_evict(connection, 0)


def _read(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    start: list[int],
    wanted: Fetch,
    now: int,
    *,
    as_text: bool,
) -> Fetched:
    """Read messages, the most urgent and oldest first, from a msg_id in each lane."""
    cursors = list(start)
    most = wanted.num_msgs + 1
    picked: list[Candidate] = []
    for lane, cursor in enumerate(cursors):
        if len(picked) < most and wanted.priority in {None, PRIORITIES[lane]}:
            picked += connection.execute(
                "SELECT priority, msg_id, -1, 0 FROM messages WHERE mailbox=? AND priority=?"
                " AND msg_id>=? AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id LIMIT ?",
                (mailbox.id, lane, cursor, now, most - len(picked)),
            ).fetchall()
    messages, cut = fetches.load(
        connection, mailbox, picked[: wanted.num_msgs], start, wanted, as_text=as_text
    )
    for message in messages:
        cursors[LANES[message.priority]] = message.msg_id + 1
    delivery_ms = None if messages else fetches.next_delivery(connection, mailbox, None)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=messages,
        more=cut or len(picked) == most,
        cursors=tuple(cursors),
        next_change_ms=None if messages else fetches.sooner(delivery_ms, mailbox.expires_ms),
        next_delivery_ms=delivery_ms,
    )
