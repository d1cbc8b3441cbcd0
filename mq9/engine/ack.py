"""Outcomes of a delivery: acknowledged, given back, extended, moved, undone."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from sqlite3 import Connection

import orjson

from mq9.engine import access, awaited, fetch, groups, mailboxes, messages, send
from mq9.engine.commands import Call, Limits, Undo, consumer_of
from mq9.engine.groups import FORGOTTEN_MS, Batch, Group
from mq9.engine.mailboxes import MailboxRow
from mq9.errors import InvalidRequest, MessageNotFound
from mq9.models import Extended, Moved
from mq9.protocol.outcomes import MoveOutcome
from mq9.protocol.requests import Ack, Extend, Move, Nack, Release

GIVEN_BACK = ""  # the holder of a message that is not delivered until its delay is over
_TOKEN = re.compile(r"([0-9a-z]+)-([0-9]{1,15})")
_NOTHING = MoveOutcome(msg_id=None)


def ack(db: Connection, call: Call[Ack], now: int, _limits: Limits) -> tuple[int, ...]:
    """Confirm a message and, unless ``individual``, those before it in the same reply."""
    return _ack(db, messages.advance(db, call.address, now), call, now)


def ack_in_current(
    db: Connection, mailbox: MailboxRow, call: Call[Ack], now: int, _limits: Limits
) -> tuple[int, ...] | None:
    """Confirm as ``ack`` does, in a mailbox where nothing is due; return None in any other."""
    return _ack(db, mailbox, call, now) if mailboxes.is_current(mailbox, now) else None


def _ack(db: Connection, mailbox: MailboxRow, call: Call[Ack], now: int) -> tuple[int, ...]:
    request = call.request
    chosen = chosen_reply(db, mailbox, call, now)
    if chosen is None:
        return ()
    group, reply = chosen
    batch, named = reply.batch, request.msg_id
    if batch is not None:
        is_all = not request.individual or len(batch.msg_ids) == 1
        if batch.acked_by is not None:  # by an earlier copy of this call, or by another call
            again = batch.msg_ids if is_all else [named]
            return tuple(again) if named == batch.acked_by else ()
        if is_all and groups.confirm_batch(db, batch, named):
            mailbox.may_evict(db, min(batch.msg_ids))
            return tuple(batch.msg_ids)
        groups.split_batch(db, mailbox.id, reply.number)
    return _confirm(db, mailbox, group, reply, named, now, individual=request.individual)


@dataclass(frozen=True, slots=True)
class FetchReply:
    """A FETCH reply with messages, and its whole batch if it is stored as one."""

    number: int
    consumer: str
    batch: Batch | None = None


def chosen_reply(
    db: Connection, mailbox: MailboxRow, call: Call[Ack | Move | Nack], now: int
) -> tuple[Group, FetchReply] | None:
    """Find the FETCH reply of an ACK, MOVE or NACK, and note a use of the group.

    It changes nothing if it raises. A call without a consumer acts for the group.

    Returns:
        The group and the reply. None if the call succeeds without doing anything: the token is from
        before a reset or of an earlier mailbox, or the message was removed.
    """
    group = groups.find(db, mailbox, call.request.group_name, now)
    chosen = _chosen_by(db, mailbox, group, call, now)
    if group is not None:
        group.note_use(db, now)
    return chosen


def _chosen_by(
    db: Connection,
    mailbox: MailboxRow,
    group: Group | None,
    call: Call[Ack | Move | Nack],
    now: int,
) -> tuple[Group, FetchReply] | None:
    request, consumer = call.request, consumer_of(call)
    msg_id = request.msg_id
    if request.batch is not None:
        return _reply_of_token(db, mailbox, group, msg_id, request.batch, now)
    if group is not None:
        reply = _reply_of_message(db, mailbox, group, msg_id, consumer)
        if reply is not None:
            if reply.consumer != consumer and request.consumer is not None:
                raise MessageNotFound(
                    f"message not found: {msg_id} was delivered to another consumer"
                )
            return group, reply
    if msg_id < mailbox.next_msg_id and not _still_to_deliver(db, mailbox, group, msg_id):
        return None
    raise MessageNotFound(
        f"message not found: {msg_id} was not delivered to group {request.group_name}"
        f" of {mailbox.address}"
    )


def _reply_of_message(
    db: Connection, mailbox: MailboxRow, group: Group, msg_id: int, consumer: str
) -> FetchReply | None:
    """Find the last reply with a message, preferably one to the consumer."""
    row = db.execute(
        "SELECT r.number, r.consumer FROM deliveries d LEFT JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id AND l.granted=d.reply"
        # When both are removed, the first reply may outlive the last one for a moment.
        " JOIN replies r"
        " ON r.mailbox=d.mailbox AND r.number=coalesce(l.reply, d.latest, d.reply)"
        " WHERE d.group_id=? AND d.msg_id=? AND d.reply>=? AND d.previous IS NULL"
        " ORDER BY r.consumer=? DESC, d.reply DESC LIMIT 1",
        (group.id, msg_id, group.first_reply, consumer),
    ).fetchone()
    if row is not None:
        return FetchReply(*row)
    # A message of a whole batch was in no other reply since the last reset.
    batch = groups.batch_of_message(
        db, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
    )
    return None if batch is None else FetchReply(batch.number, batch.consumer, batch)


def _reply_of_token(
    db: Connection, mailbox: MailboxRow, group: Group | None, msg_id: int, batch: str, now: int
) -> tuple[Group, FetchReply] | None:
    match = _TOKEN.fullmatch(batch)
    if match is None:
        raise InvalidRequest(f"batch: {batch!r} is not a token of this broker")
    generation, number = match[1], int(match[2])
    if generation != mailbox.generation:
        return None
    if number >= mailbox.next_reply:
        raise InvalidRequest(f"batch: {batch!r} was never given out")
    row = db.execute(
        "SELECT r.group_id, r.consumer, g.first_reply FROM replies r"
        " JOIN groups g ON g.id=r.group_id WHERE r.mailbox=? AND r.number=? AND g.used_ms>?",
        (mailbox.id, number, now - FORGOTTEN_MS),
    ).fetchone()
    if row is None:
        return None  # the reply was removed, so none of its messages is outstanding
    group_id, consumer, first_reply = row
    if number < first_reply:
        return None
    if group is None or group_id != group.id:
        raise InvalidRequest(f"batch: {batch!r} was not given to this group")
    whole_batch = groups.batch_at(db, mailbox.id, number)
    if whole_batch is not None:
        is_contained = msg_id in whole_batch.msg_ids
    else:
        delivered = db.execute(
            "SELECT 1 FROM deliveries WHERE mailbox=? AND reply=? AND msg_id=?",
            (mailbox.id, number, msg_id),
        )
        is_contained = delivered.fetchone() is not None
    if not is_contained:
        raise InvalidRequest(f"batch: the reply of {batch!r} did not contain msg_id {msg_id}")
    return group, FetchReply(number, consumer, whole_batch)


def _still_to_deliver(
    db: Connection, mailbox: MailboxRow, group: Group | None, msg_id: int
) -> bool:
    """Tell whether an assigned message is stored and was never delivered to the group."""
    row = db.execute(
        "SELECT priority FROM messages WHERE mailbox=? AND msg_id=?", (mailbox.id, msg_id)
    ).fetchone()
    if row is None:
        return False
    if group is None or msg_id < group.start or msg_id >= group.cursors[row[0]]:
        return True
    # Below the cursor and in no stored reply: acked long ago. If its reply was undone, the message
    # still has a lease row.
    untouched = db.execute(
        "SELECT 1 FROM leases WHERE group_id=? AND msg_id=?", (group.id, msg_id)
    ).fetchone()
    return untouched is not None


def _confirm(
    db: Connection,
    mailbox: MailboxRow,
    group: Group,
    reply: FetchReply,
    named: int,
    now: int,
    *,
    individual: bool,
) -> tuple[int, ...]:
    """Confirm messages of a reply that is not a whole batch; return their ids."""
    rows = db.execute(
        "SELECT d.msg_id, l.returned>d.reply, d.acked_by, l.holder, l.until_ms,"
        " l.msg_id IS NOT NULL FROM deliveries d"
        " LEFT JOIN leases l ON l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " WHERE d.mailbox=:mailbox AND d.reply=:reply AND d.position<=(SELECT position"
        " FROM deliveries WHERE mailbox=:mailbox AND reply=:reply AND msg_id=:msg_id)"
        " AND (d.msg_id=:msg_id OR NOT :individual) ORDER BY d.position",
        {"mailbox": mailbox.id, "reply": reply.number, "msg_id": named, "individual": individual},
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
            acked.append(msg_id)  # by an earlier copy of this call
        elif outstanding and not held_elsewhere and (msg_id == named or not given_back):
            acked.append(msg_id)
            newly.append(msg_id)
    if newly:
        ids = orjson.dumps(newly).decode()
        db.execute(
            "UPDATE deliveries SET acked_by=?"
            " WHERE mailbox=? AND reply=? AND msg_id IN (SELECT value FROM json_each(?))",
            (named, mailbox.id, reply.number, ids),
        )
        groups.keep_latest(
            db,
            "l.group_id=? AND l.msg_id IN (SELECT value FROM json_each(?))",
            (group.id, ids),
            acked=True,
        )
        db.execute(
            "DELETE FROM leases WHERE group_id=? AND msg_id IN (SELECT value FROM json_each(?))",
            (group.id, ids),
        )
        mailbox.may_evict(db, min(newly))
    return tuple(acked)


def nack(db: Connection, call: Call[Nack], now: int, _limits: Limits) -> str | None:
    """Give a lease back; the message is not delivered until the delay is over.

    Returns the address of the mailbox in which the answer is due sooner now, or None.
    """
    request = call.request
    mailbox = messages.advance(db, call.address, now)
    chosen = chosen_reply(db, mailbox, call, now)
    if chosen is None:
        return None
    group, reply = chosen
    groups.split_batch(db, mailbox.id, reply.number)
    holder, until_ms = (GIVEN_BACK, now + request.delay_ms) if request.delay_ms else (None, None)
    db.execute(
        "UPDATE leases SET holder=?, until_ms=?, returned=?, begun=0, reason=?,"
        " promised_ms=NULL, done=NULL, promised_by=NULL"
        " WHERE group_id=? AND msg_id=? AND holder=? AND until_ms>?",
        (
            *(holder, until_ms, mailbox.next_reply, request.reason),
            *(group.id, request.msg_id, reply.consumer, now),
        ),
    )
    return awaited.give_up_promise(db, mailbox, request.msg_id, now)


def extend(db: Connection, call: Call[Extend], now: int, _limits: Limits) -> Extended:
    """Renew the leases that the consumer still holds."""
    return _extend(db, messages.advance(db, call.address, now), call, now)


def extend_in_current(
    db: Connection, mailbox: MailboxRow, call: Call[Extend], now: int, _limits: Limits
) -> Extended | None:
    """Renew leases as ``extend`` does if nothing is due in the mailbox; otherwise return None."""
    return _extend(db, mailbox, call, now) if mailboxes.is_current(mailbox, now) else None


def _extend(db: Connection, mailbox: MailboxRow, call: Call[Extend], now: int) -> Extended:
    request, consumer = call.request, consumer_of(call)
    group = groups.find(db, mailbox, request.group_name, now)
    extended: list[int] = []
    lost: list[int] = []
    in_batches = set() if group is None else _extend_batches(db, mailbox, group, call, now)
    for msg_id in request.msg_ids:
        renewed = msg_id in in_batches or (
            group is not None
            and db.execute(
                "UPDATE leases SET until_ms=?, begun=coalesce(?,begun)"
                " WHERE group_id=? AND msg_id=? AND holder=? AND until_ms>?",
                (now + request.lease_ms, request.begun, group.id, msg_id, consumer, now),
            ).rowcount
        )
        (extended if renewed else lost).append(msg_id)
        if renewed and group is not None and request.promise is not None:
            promise = request.promise
            db.execute(
                "UPDATE leases SET promised_ms=?, done=?, promised_by=?"
                " WHERE group_id=? AND msg_id=?",
                (promise.until * 1000, promise.done, consumer, group.id, msg_id),
            )
            awaited.promise(db, mailbox, msg_id, promise.until * 1000, now)
    if group is not None:
        group.note_use(db, now)
    return Extended(tuple(extended), tuple(lost))


def _extend_batches(
    db: Connection, mailbox: MailboxRow, group: Group, call: Call[Extend], now: int
) -> set[int]:
    """Renew the leases of complete whole batches, and split others; return the renewed ids."""
    request, consumer = call.request, consumer_of(call)
    held = "r.group_id=? AND r.consumer=? AND r.until_ms>?"
    renewed: set[int] = set()
    for msg_id in request.msg_ids:
        if msg_id in renewed:
            continue
        if not groups.is_any_batch(db, held, (group.id, consumer, now)):
            break
        batch = groups.batch_of_message(
            db, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
        )
        if batch is None or batch.consumer != consumer or not batch.is_held(now):
            continue
        until_ms = now + request.lease_ms
        if request.promise is None and groups.extend_batch(
            db, batch, request.msg_ids, until_ms, begun=request.begun
        ):
            renewed.update(batch.msg_ids)
        else:
            groups.split_batch(db, mailbox.id, batch.number)
    return renewed


def undo(db: Connection, call: Call[Undo], now: int, _limits: Limits) -> None:
    """Undo a reply that did not reach its client."""
    request = call.request
    mailbox = mailboxes.look(db, call.address, now)
    if mailbox is None or not request.batch.startswith(f"{mailbox.generation}-"):
        return
    number = int(request.batch.rpartition("-")[2])
    latest = db.execute(
        "SELECT copies FROM replies WHERE mailbox=? AND number=?", (mailbox.id, number)
    ).fetchone()
    if latest != (request.copy,):
        return  # the client has repeated the FETCH and got another copy
    _undo_reply(db, mailbox.id, number)


def release(db: Connection, call: Call[Release], now: int, _limits: Limits) -> None:
    """Undo a FETCH whose client no longer waits for the reply."""
    mailbox = messages.advance(db, call.address, now)
    group = groups.find(db, mailbox, call.request.group_name, now)
    if group is None:
        return
    number = fetch.latest_reply(db, group, call)
    if number is not None and number >= group.first_reply:
        _undo_reply(db, mailbox.id, number)


def _undo_reply(db: Connection, mailbox_id: int, number: int) -> None:
    """Undo the deliveries of a reply, as if it had never been made."""
    groups.split_batch(db, mailbox_id, number)
    reply = {"mailbox": mailbox_id, "number": number}
    # Messages that the consumer held before stay with it. The others are free again.
    db.execute(
        "UPDATE leases AS l SET deliveries=deliveries-1,"
        " holder=iif(d.previous IS NULL, NULL, holder),"
        " begun=iif(d.previous IS NULL, 0, begun),"
        " until_ms=iif(d.previous IS NULL, NULL, until_ms),"
        " reply=coalesce((SELECT p.reply FROM deliveries p WHERE p.mailbox=d.mailbox"
        " AND p.reply=d.previous AND p.msg_id=d.msg_id), l.granted)"  # if that was removed
        " FROM deliveries d WHERE d.mailbox=:mailbox AND d.reply=:number"
        " AND l.group_id=d.group_id AND l.msg_id=d.msg_id AND l.reply=d.reply",
        reply,
    )
    # If a next reply exists, it now follows the previous one.
    db.execute(
        "UPDATE deliveries AS n SET previous=d.previous FROM deliveries d, leases l"
        " WHERE d.mailbox=:mailbox AND d.reply=:number AND d.previous IS NOT NULL"
        " AND l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " AND n.mailbox=d.mailbox AND n.reply=l.reply AND n.msg_id=d.msg_id AND n.previous=d.reply",
        reply,
    )
    # If the lease is over, the delivery that gave it now points to the last remaining one.
    db.execute(
        "UPDATE deliveries AS f SET count=f.count-1, latest=(SELECT p.reply FROM deliveries p"
        " WHERE p.mailbox=d.mailbox AND p.reply=nullif(d.previous, f.reply) AND p.msg_id=d.msg_id)"
        " FROM deliveries d WHERE d.mailbox=:mailbox AND d.reply=:number AND d.previous IS NOT NULL"
        " AND f.group_id=d.group_id AND f.msg_id=d.msg_id AND f.previous IS NULL"
        " AND f.latest=d.reply",
        reply,
    )
    # The delivery that gave the lease stays, because later ones are found by it.
    db.execute(
        "DELETE FROM deliveries AS d WHERE mailbox=:mailbox AND reply=:number"
        " AND (previous IS NOT NULL OR latest IS NULL AND NOT EXISTS (SELECT 1 FROM leases l"
        " WHERE l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " AND l.granted=d.reply AND l.reply<>d.reply))",
        reply,
    )


def move(db: Connection, call: Call[Move], now: int, limits: Limits) -> MoveOutcome:
    """Store a leased message in another mailbox and confirm it in its group."""
    request = call.request
    request.check_address(call.address)
    mailbox = messages.advance(db, call.address, now)
    chosen = chosen_reply(db, mailbox, call, now)
    if chosen is None:
        return _NOTHING
    group, reply = chosen
    groups.split_batch(db, mailbox.id, reply.number)
    moved_to, moved_as = db.execute(
        "SELECT moved_to, moved_as FROM deliveries WHERE mailbox=? AND reply=? AND msg_id=?",
        (mailbox.id, reply.number, request.msg_id),
    ).fetchone()
    if moved_to is not None:  # by an earlier copy of this call, or to another mailbox
        return MoveOutcome(msg_id=moved_as) if moved_to == request.to else _NOTHING
    lease = db.execute(
        "SELECT deliveries FROM leases WHERE group_id=? AND msg_id=?", (group.id, request.msg_id)
    ).fetchone()
    acked = _confirm(db, mailbox, group, reply, request.msg_id, now, individual=True)
    if lease is None or not acked:
        return _NOTHING  # acked or removed before, or now held by another consumer
    (moved_before,) = db.execute(
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
    sooner = awaited.give_up_promise(db, mailbox, request.msg_id, now)
    target = messages.advance(db, request.to, now)
    access.refuse_sender(target, call.actor.elsewhere)
    copy = _store_copy(db, mailbox, target, moved, before, now, limits)
    db.execute(
        "INSERT INTO moves (group_id, msg_id, mailbox, target, copy, moved) VALUES (?,?,?,?,?,?)",
        (group.id, request.msg_id, mailbox.id, request.to, copy, _moved_json(moved)),
    )
    db.execute(
        "UPDATE deliveries SET moved_to=?, moved_as=? WHERE mailbox=? AND reply=? AND msg_id=?",
        (request.to, copy, mailbox.id, reply.number, request.msg_id),
    )
    return MoveOutcome(msg_id=copy, is_dead_letter=not moved.back, sooner=sooner)


def _store_copy(
    db: Connection,
    source: MailboxRow,
    target: MailboxRow,
    moved: Moved,
    before: Moved | None,
    now: int,
    limits: Limits,
) -> int:
    """Store a copy of a message in another mailbox, without key and ttl; return its msg_id."""
    size, key, sender, correlation_id = db.execute(
        "SELECT size, key, sender, correlation_id FROM messages WHERE mailbox=? AND msg_id=?",
        (source.id, moved.msg_id),
    ).fetchone()
    size += _counted_bytes(moved) - messages.text_bytes(key)
    if before is not None:
        size -= _counted_bytes(before)
    copy = target.next_msg_id
    target.next_msg_id += 1
    target.visible_ms = max(target.visible_ms, now)
    replaced = messages.replace_older(db, target, None, target.visible_ms, copy, sender)
    send.make_room(db, target, size, now, limits, has_replaced=replaced is not None)
    db.execute(
        "INSERT INTO messages (mailbox, msg_id, visible_ms, sent_ms, moved, size, priority, tags,"
        " sender, sender_verified, from_mailbox, reply_to, correlation_id, path, headers,"
        " answer_by_ms, overdue, payload)"
        " SELECT ?,?,?,?,?,?, priority, tags,"
        " sender, sender_verified, from_mailbox, reply_to, correlation_id, path, headers,"
        " answer_by_ms, overdue, payload"
        " FROM messages WHERE mailbox=? AND msg_id=?",
        (
            target.id,
            copy,
            target.visible_ms,
            now,
            _moved_json(moved),
            size,
            source.id,
            moved.msg_id,
        ),
    )
    messages.complete_blocks(db, target, copy)
    awaited.follow(db, source, moved.msg_id, target, copy)
    if target.awaited and correlation_id is not None:
        awaited.end(db, target, copy, correlation_id, sender)
    target.messages += 1
    target.bytes += size
    target.save(db)
    return copy


def _moved_json(moved: Moved) -> str:
    """Return the field ``moved`` of a copy as JSON; ``back`` only if it is true."""
    fields = asdict(moved)
    if not moved.back:
        del fields["back"]
    return orjson.dumps(fields).decode()


def _counted_bytes(moved: Moved) -> int:
    return messages.text_bytes(moved.mailbox, moved.group, moved.by, moved.reason)
