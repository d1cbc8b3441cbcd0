"""Leases: confirmed, given back, renewed, undone."""

from __future__ import annotations

import sqlite3

import orjson

from mq9.engine import batches, deliveries, fetches, groups, handlers, mailboxes
from mq9.engine.commands import Call, Undo, consumer_of
from mq9.engine.groups import Group, Reply
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.models import Extended
from mq9.protocol.requests import Ack, Extend, Nack, Release

GIVEN_BACK = ""  # the holder of a message that nobody gets until its delay is over


@handlers.command(Ack)
def ack(
    connection: sqlite3.Connection, call: Call[Ack], now: int, _limits: Limits
) -> tuple[int, ...]:
    """Confirm a message and, unless it is to be alone, those before it in the same reply."""
    request = call.request
    mailbox = mailboxes.advance(connection, call.address, now)
    chosen = groups.chosen_reply(connection, mailbox, call, now)
    if chosen is None:
        return ()
    group, reply = chosen
    batch, named = reply.batch, request.msg_id
    if batch is not None:
        is_all = not request.individual or len(batch.msg_ids) == 1
        if batch.acked_by is not None:  # by this call, made before, or by another one
            again = batch.msg_ids if is_all else [named]
            return tuple(again) if named == batch.acked_by else ()
        if is_all and batches.confirm(connection, batch, named):
            mailbox.may_evict(connection, min(batch.msg_ids))
            return tuple(batch.msg_ids)
        batches.split_one(connection, mailbox.id, reply.number)
    return confirm(connection, mailbox, group, reply, named, now, individual=request.individual)


def confirm(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    reply: Reply,
    named: int,
    now: int,
    *,
    individual: bool,
) -> tuple[int, ...]:
    """Confirm a message of a reply that is no whole batch, or no longer.

    Args:
        connection: The database.
        mailbox: The mailbox.
        group: The group.
        reply: The reply.
        named: The message.
        now: The time, in milliseconds since the Unix epoch.
        individual: Whether only this one is meant, and not those before it in the reply.

    Returns:
        Which messages were confirmed.
    """
    rows = connection.execute(
        "SELECT d.msg_id, l.returned>d.reply, d.acked_by, l.holder, l.until_ms,"
        " l.msg_id IS NOT NULL FROM deliveries d"
        " LEFT JOIN leases l ON l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " WHERE d.mailbox=:mailbox AND d.reply=:reply AND d.position<=(SELECT position"
        " FROM deliveries WHERE mailbox=:mailbox AND reply=:reply AND msg_id=:msg_id)"
        " AND (d.msg_id=:msg_id OR NOT :individual) ORDER BY d.position",
        {
            "mailbox": mailbox.id,
            "reply": reply.number,
            "msg_id": named,
            "individual": individual,
        },
    ).fetchall()
    acked: list[int] = []
    newly: list[int] = []
    for msg_id, given_back, acked_by, holder, until_ms, outstanding in rows:
        held_elsewhere = (
            holder not in {None, GIVEN_BACK, reply.consumer}
            and until_ms is not None
            and until_ms > now
        )
        if acked_by == named:
            acked.append(msg_id)  # this call was made before
        elif outstanding and not held_elsewhere and (msg_id == named or not given_back):
            acked.append(msg_id)
            newly.append(msg_id)
    if newly:
        ids = orjson.dumps(newly).decode()
        connection.execute(
            "UPDATE deliveries SET acked_by=?"
            " WHERE mailbox=? AND reply=? AND msg_id IN (SELECT value FROM json_each(?))",
            (named, mailbox.id, reply.number, ids),
        )
        deliveries.keep_latest(
            connection,
            "l.group_id=? AND l.msg_id IN (SELECT value FROM json_each(?))",
            (group.id, ids),
            acked=True,
        )
        connection.execute(
            "DELETE FROM leases WHERE group_id=? AND msg_id IN (SELECT value FROM json_each(?))",
            (group.id, ids),
        )
        mailbox.may_evict(connection, min(newly))
    return tuple(acked)


@handlers.command(Nack)
def nack(connection: sqlite3.Connection, call: Call[Nack], now: int, _limits: Limits) -> None:
    """Give a lease back; nobody gets the message until the delay is over."""
    request = call.request
    mailbox = mailboxes.advance(connection, call.address, now)
    chosen = groups.chosen_reply(connection, mailbox, call, now)
    if chosen is None:
        return
    group, reply = chosen
    batches.split_one(connection, mailbox.id, reply.number)
    holder, until_ms = (GIVEN_BACK, now + request.delay_ms) if request.delay_ms else (None, None)
    connection.execute(
        "UPDATE leases SET holder=?, until_ms=?, returned=?, begun=0"
        " WHERE group_id=? AND msg_id=? AND holder=? AND until_ms>?",
        (
            holder,
            until_ms,
            mailbox.next_reply,
            group.id,
            request.msg_id,
            reply.consumer,
            now,
        ),
    )


@handlers.command(Extend)
def extend(
    connection: sqlite3.Connection, call: Call[Extend], now: int, _limits: Limits
) -> Extended:
    """Renew the leases that the consumer still holds."""
    request, consumer = call.request, consumer_of(call)
    mailbox = mailboxes.advance(connection, call.address, now)
    group = groups.find(connection, mailbox, request.group_name, now)
    extended: list[int] = []
    lost: list[int] = []
    whole = set() if group is None else _extend_whole(connection, mailbox, group, call, now)
    for msg_id in request.msg_ids:
        renewed = msg_id in whole or (
            group is not None
            and connection.execute(
                "UPDATE leases SET until_ms=?, begun=coalesce(?,begun)"
                " WHERE group_id=? AND msg_id=? AND holder=? AND until_ms>?",
                (now + request.lease_ms, request.begun, group.id, msg_id, consumer, now),
            ).rowcount
        )
        (extended if renewed else lost).append(msg_id)
    if group is not None:
        group.note_use(connection, now)
    return Extended(tuple(extended), tuple(lost))


def _extend_whole(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group, call: Call[Extend], now: int
) -> set[int]:
    """Renew the leases of all in a whole batch, or split it where not all are meant; which ones."""
    request, consumer = call.request, consumer_of(call)
    held = "r.group_id=? AND r.consumer=? AND r.until_ms>?"
    renewed: set[int] = set()
    for msg_id in request.msg_ids:
        if msg_id in renewed:
            continue
        if not batches.is_any(connection, held, (group.id, consumer, now)):
            break
        batch = batches.of_message(
            connection, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
        )
        if batch is None or batch.consumer != consumer or not batch.is_held(now):
            continue
        until_ms = now + request.lease_ms
        if batches.extend(connection, batch, request.msg_ids, until_ms, begun=request.begun):
            renewed.update(batch.msg_ids)
        else:
            batches.split_one(connection, mailbox.id, batch.number)
    return renewed


@handlers.command(Undo)
def undo(connection: sqlite3.Connection, call: Call[Undo], now: int, _limits: Limits) -> None:
    """Make a reply undone that reached nobody."""
    request = call.request
    mailbox = mailboxes.look(connection, call.address, now)
    if mailbox is None or not request.batch.startswith(f"{mailbox.generation}-"):
        return
    number = int(request.batch.rpartition("-")[2])
    latest = connection.execute(
        "SELECT copies FROM replies WHERE mailbox=? AND number=?", (mailbox.id, number)
    ).fetchone()
    if latest != (request.copy,):
        return  # its asker has repeated the FETCH since, and was answered
    deliveries.undo(connection, mailbox.id, number)


@handlers.command(Release)
def release(connection: sqlite3.Connection, call: Call[Release], now: int, _limits: Limits) -> None:
    """Make undone what a FETCH was given whose asker no longer waits for the reply."""
    mailbox = mailboxes.advance(connection, call.address, now)
    group = groups.find(connection, mailbox, call.request.group_name, now)
    if group is None:
        return
    number = fetches.latest_reply(connection, group, call)
    if number is not None and number >= group.first_reply:
        deliveries.undo(connection, mailbox.id, number)
