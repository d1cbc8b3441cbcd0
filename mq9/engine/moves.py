"""A message that is moved to another mailbox: stored there and confirmed here, or neither."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

import orjson

from mq9.engine import access, batches, counts, groups, handlers, leases, mailboxes, messages
from mq9.engine.commands import Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.models import Moved
from mq9.protocol.outcomes import MoveOutcome
from mq9.protocol.requests import Move

_NOTHING = MoveOutcome(msg_id=None)


@handlers.command(Move)
def move(connection: sqlite3.Connection, call: Call[Move], now: int, limits: Limits) -> MoveOutcome:
    """Store a leased message in another mailbox and confirm it in its group.

    Raises:
        MailboxNotFound: One of the mailboxes is not there.
        MessageNotFound: The message was not delivered to the group.
        MailboxFull: The other mailbox is at its limit.
        Forbidden: The other mailbox takes nothing from who moves it there.
        InvalidRequest: It is the same mailbox.
    """
    request = call.request
    request.check_address(call.address)
    mailbox = mailboxes.advance(connection, call.address, now)
    chosen = groups.chosen_reply(connection, mailbox, call, now)
    if chosen is None:
        return _NOTHING
    group, reply = chosen
    batches.split_one(connection, mailbox.id, reply.number)
    moved_to, moved_as = connection.execute(
        "SELECT moved_to, moved_as FROM deliveries WHERE mailbox=? AND reply=? AND msg_id=?",
        (mailbox.id, reply.number, request.msg_id),
    ).fetchone()
    if moved_to is not None:  # by this call, made before, or to somewhere else
        return MoveOutcome(msg_id=moved_as) if moved_to == request.to else _NOTHING
    lease = connection.execute(
        "SELECT deliveries FROM leases WHERE group_id=? AND msg_id=?", (group.id, request.msg_id)
    ).fetchone()
    acked = leases.confirm(connection, mailbox, group, reply, request.msg_id, now, individual=True)
    if lease is None or not acked:
        return _NOTHING  # acked or removed before, or held by another consumer by now
    (moved_before,) = connection.execute(
        "SELECT moved FROM messages WHERE mailbox=? AND msg_id=?", (mailbox.id, request.msg_id)
    ).fetchone()
    before = None if moved_before is None else Moved(**orjson.loads(moved_before))
    moved = Moved(
        mailbox=mailbox.address,
        group=request.group_name,
        msg_id=request.msg_id,
        by=call.agent,
        by_verified=call.actor.agent is not None,
        reason=request.reason,
        deliveries=lease[0],
        at=now / 1000,
        back=before is not None and not before.back and before.mailbox == request.to,
    )
    target = mailboxes.advance(connection, request.to, now)
    access.refuse_sender(target, call.actor.elsewhere)
    copy = _store_copy(connection, mailbox, target, moved, before, now, limits)
    connection.execute(
        "INSERT INTO moves (group_id, msg_id, mailbox, target, copy, moved) VALUES (?,?,?,?,?,?)",
        (group.id, request.msg_id, mailbox.id, request.to, copy, _told(moved)),
    )
    connection.execute(
        "UPDATE deliveries SET moved_to=?, moved_as=? WHERE mailbox=? AND reply=? AND msg_id=?",
        (request.to, copy, mailbox.id, reply.number, request.msg_id),
    )
    return MoveOutcome(msg_id=copy, is_dead_letter=not moved.back)


def _store_copy(
    connection: sqlite3.Connection,
    source: Mailbox,
    target: Mailbox,
    moved: Moved,
    before: Moved | None,
    now: int,
    limits: Limits,
) -> int:
    """Store a message in another mailbox as well.

    The copy has no key, so that it replaces nothing except in a mailbox that keeps the newest only,
    and does not expire.

    Args:
        connection: The database.
        source: Where the message is.
        target: Where the copy goes.
        moved: What the copy says of the move.
        before: What the message says of an earlier move, if there was one.
        now: The time, in milliseconds since the Unix epoch.
        limits: How much a mailbox may hold.

    Returns:
        Its number there.
    """
    size, key = connection.execute(
        "SELECT size, key FROM messages WHERE mailbox=? AND msg_id=?", (source.id, moved.msg_id)
    ).fetchone()
    size += _counted_bytes(moved) - messages.text_bytes(key)
    if before is not None:
        size -= _counted_bytes(before)
    copy = target.next_msg_id
    target.next_msg_id += 1
    target.visible_ms = max(target.visible_ms, now)
    has_replaced = mailboxes.replace_older(connection, target, None, target.visible_ms, copy)
    messages.make_room(connection, target, size, now, limits, has_replaced=has_replaced)
    connection.execute(
        "INSERT INTO messages (mailbox, msg_id, visible_ms, sent_ms, moved, size, priority, tags,"
        " sender, sender_verified, from_mailbox, reply_to, correlation_id, path, headers, payload)"
        " SELECT ?,?,?,?,?,?, priority, tags,"
        " sender, sender_verified, from_mailbox, reply_to, correlation_id, path, headers, payload"
        " FROM messages WHERE mailbox=? AND msg_id=?",
        (
            target.id,
            copy,
            target.visible_ms,
            now,
            _told(moved),
            size,
            source.id,
            moved.msg_id,
        ),
    )
    counts.complete_blocks(connection, target, copy)
    target.messages += 1
    target.bytes += size
    target.save(connection)
    return copy


def _told(moved: Moved) -> str:
    """Return what a copy says of a move, as JSON; that it went back only where it did."""
    fields = asdict(moved)
    if not moved.back:
        del fields["back"]
    return orjson.dumps(fields).decode()


def _counted_bytes(moved: Moved) -> int:
    return messages.text_bytes(moved.mailbox, moved.group, moved.by, moved.reason)
