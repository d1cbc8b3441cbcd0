"""SEND and CANCEL: messages, idempotency ids, and room in a full mailbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from sqlite3 import Connection
from typing import Any

import orjson

from mq9.engine import access, awaited, groups, mailboxes, messages
from mq9.engine.commands import Call, Limits, SendBatch
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.messages import LANES, Removal
from mq9.errors import (
    Forbidden,
    IdConflict,
    InvalidRequest,
    LimitReached,
    MailboxFull,
    MessageNotFound,
)
from mq9.models import MailboxType, SendOutcome
from mq9.protocol.requests import Cancel, Send

_SENT = (  # after an id and an instant
    "sent_ms, mailbox, priority, expires_ms, key, tags, sender, sender_verified, reply_to,"
    " correlation_id, path, headers, from_mailbox, answer_by_ms, size, payload)"
    f" VALUES ({','.join('?' * 18)})"
)
_STORE = f"INSERT INTO messages (msg_id, visible_ms, {_SENT}"
# For a message without values in partial indexes, so that SQLite need not check these.
_STORE_BARE = (
    "INSERT INTO messages (msg_id, visible_ms, sent_ms, mailbox, priority, tags, sender,"
    " sender_verified, path, size, payload) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
)
_DELAY = f"INSERT INTO delayed (id, due_ms, {_SENT}"
_KEEP_ID = (
    "INSERT INTO sent_ids (mailbox, id, digest, answer, sent_ms) VALUES (?,?,?,?,?)"
    " ON CONFLICT DO NOTHING"
)
IDS_REMEMBERED_MS = 7 * 86_400_000
_FORGOTTEN_AT_ONCE = 1_000  # ids that a SEND removes to make room
_NONE = (None,) * 5
_UNHASHED_BYTES = 40  # ids up to this length are stored unhashed
_BEGINNING_BYTES = 12  # of the digest of a longer id, without its end
_END_BYTES = 8  # of a longer id, stored unhashed


def send(db: Connection, call: Call[Send], now: int, limits: Limits) -> int | SendOutcome:
    """Store a message; return its msg_id, -1 while it is delayed, or the details if wanted."""
    limits.check_size("max_payload", call.payload)
    size = counted_bytes(call)
    mailbox = messages.advance(db, call.address, now)
    return _send(db, mailbox, call, size, now, limits)


def send_new(
    db: Connection, mailbox: MailboxRow, call: Call[Send], now: int, limits: Limits
) -> int | SendOutcome | None:
    """Store a message that neither replaces nor evicts another; return None for any other."""
    size = counted_bytes(call)
    fits = (
        len(call.payload) <= limits.max_payload
        and _has_room(mailbox.messages, mailbox.bytes + size, limits)
        and mailbox.ids < limits.max_ids
        and call.request.key is None
        and call.request.from_mailbox is None
        and not call.request.tell_overdue
        and mailbox.may_send(call.actor)
        and mailbox.type != MailboxType.LATEST
        and mailboxes.is_current(mailbox, now)
    )
    return _send(db, mailbox, call, size, now, limits) if fits else None


def _send(
    db: Connection, mailbox: MailboxRow, call: Call[Send], size: int, now: int, limits: Limits
) -> int | SendOutcome:
    request, sender, is_verified = call.request, call.agent, call.actor.agent is not None
    answer = -1 if request.delay else mailbox.next_msg_id
    first = _remember_id(db, mailbox, call, answer, now, limits)
    if first is not None:
        return _repeated_answer(db, mailbox, call, first)
    expires_ms = None if request.ttl is None else now + request.ttl * 1000
    instant = now + (request.delay or 0) * 1000
    if not messages.may_replace(db, mailbox, request.key, sender, is_verified, instant):
        raise Forbidden(f"key: {request.key!r} in {call.address} belongs to another sender")
    access.refuse_sender(mailbox, call.actor)
    access.check_source(db, call, now)
    replaced = delayed_id = None
    if not request.delay:
        instant = max(mailbox.visible_ms, now)
        replaced = messages.replace_older(db, mailbox, request.key, instant, answer, sender)
    make_room(db, mailbox, size, now, limits, has_replaced=replaced is not None)
    awaiting = _awaiting(db, mailbox, call, now)  # now, as the replacement may have changed its row
    statement, columns = _columns(request, sender, expires_ms, is_verified=is_verified)
    row_id = db.execute(
        _DELAY if request.delay else statement,
        (
            None if request.delay else answer,
            instant,
            now,
            mailbox.id,
            *columns,
            size,
            call.payload,
        ),
    ).lastrowid
    if request.delay:
        delayed_id = row_id
        mailbox.delayed += 1
        _remember_delayed(db, mailbox, call, row_id)
    else:
        mailbox.visible_ms = instant
        mailbox.next_msg_id += 1
        messages.complete_blocks(db, mailbox, answer)
        if mailbox.awaited and request.correlation_id is not None:
            awaited.end(db, mailbox, answer, request.correlation_id, sender)
    mailbox.messages += 1
    mailbox.bytes += size
    mailbox.expect_change(instant if request.delay else expires_ms)
    mailbox.save(db)
    if awaiting is not None:
        question_id = answer if delayed_id is None else -1 - delayed_id
        awaited.begin(db, call, mailbox, question_id, awaiting, now, limits)
    if not request.details:
        return answer
    return SendOutcome(msg_id=answer, delayed_id=delayed_id, replaced=replaced)


@dataclass(slots=True)
class _Growth:
    """The changes of a mailbox by several messages, which are written when all are stored."""

    mailbox: MailboxRow
    next_msg_id: int
    ids: int
    bytes: int
    expires_ms: int | None = None  # the first instant at which one of them expires


def send_together(
    db: Connection,
    batches: Sequence[tuple[MailboxRow, Call[SendBatch]]],
    now: int,
    limits: Limits,
) -> list[list[int]] | None:
    """Store all messages of some batches by few statements, and return their msg_ids.

    The result equals that of single SENDs. Returns None and changes nothing if a message needs the
    slow path: an id is known, a limit is reached, a sender may not send, or something is due.
    """
    growths: dict[int, _Growth] = {}
    ids: list[tuple[int, bytes, bytes, int, int]] = []
    rows: dict[str, list[tuple[Any, ...]]] = {}  # by the statement that stores them
    answers: list[list[int]] = []
    for mailbox, call in batches:
        growth = growths.get(mailbox.id)
        if growth is None:
            growth = _Growth(mailbox, mailbox.next_msg_id, mailbox.ids, mailbox.bytes)
            growths[mailbox.id] = growth
            if mailbox.type == MailboxType.LATEST or not mailboxes.is_current(mailbox, now):
                return None
        if not mailbox.may_send(call.actor):
            return None
        if any(len(one.payload) > limits.max_payload for one in call.request.sends):
            return None
        first = growth.next_msg_id
        _add(growth, call, now, ids, rows)
        answers.append(list(range(first, growth.next_msg_id)))
    if not all(_fits(growth, limits) for growth in growths.values()):
        return None
    if ids and db.executemany(_KEEP_ID, ids).rowcount != len(ids):
        # Remove only the new ids: an id that existed before has an earlier answer.
        db.executemany(
            "DELETE FROM sent_ids WHERE mailbox=? AND id=? AND answer=?",
            [(mailbox_id, stored_as, answer) for mailbox_id, stored_as, _, answer, _ in ids],
        )
        return None
    for statement, values in rows.items():
        db.executemany(statement, values)
    for growth in growths.values():
        mailbox = growth.mailbox
        first = mailbox.next_msg_id
        mailbox.visible_ms = max(mailbox.visible_ms, now)
        mailbox.messages += growth.next_msg_id - first
        mailbox.next_msg_id = growth.next_msg_id
        mailbox.ids = growth.ids
        mailbox.bytes = growth.bytes
        messages.complete_blocks(db, mailbox, first)
        mailbox.expect_change(growth.expires_ms)
        mailbox.save(db)
    return answers


def _add(
    growth: _Growth,
    call: Call[SendBatch],
    now: int,
    ids: list[tuple[int, bytes, bytes, int, int]],
    rows: dict[str, list[tuple[Any, ...]]],
) -> None:
    """Add the rows of a batch to ``ids`` and ``rows``."""
    mailbox, verified = growth.mailbox, call.actor.agent
    number, instant = mailbox.id, max(mailbox.visible_ms, now)
    answer = growth.next_msg_id
    options: Send | None = None
    columns: tuple[Any, ...] = ()
    name, text_bytes = "", 0
    stored: list[tuple[Any, ...]] = []
    for sent, id_, payload, _ in call.request.sends:
        if sent is not options:  # most SENDs share theirs
            options = sent
            sender = verified or options.sender
            name, text_bytes = sender or "", _text_bytes(options, sender)
            expires_ms = None if options.ttl is None else now + options.ttl * 1000
            statement, columns = _columns(
                options, sender, expires_ms, is_verified=verified is not None
            )
            stored = rows.setdefault(statement, [])
            if expires_ms is not None:
                growth.expires_ms = min(expires_ms, growth.expires_ms or expires_ms)
        if id_ is not None:
            ids.append((number, stored_id(name, id_), _digest(payload, 16), answer, now))
            growth.ids += 1
        size = len(payload) + text_bytes
        stored.append((answer, instant, now, number, *columns, size, payload))
        growth.bytes += size
        answer += 1
    growth.next_msg_id = answer


def _fits(growth: _Growth, limits: Limits) -> bool:
    """Tell whether a mailbox has room for its new messages, and awaits no answers."""
    mailbox = growth.mailbox
    count = mailbox.messages + growth.next_msg_id - mailbox.next_msg_id
    return (
        count <= limits.max_messages
        and growth.bytes <= limits.max_bytes
        and growth.ids <= limits.max_ids
        and not mailbox.awaited
    )


def _awaiting(db: Connection, mailbox: MailboxRow, call: Call[Send], now: int) -> MailboxRow | None:
    """Return the mailbox for the notice of an overdue answer; None if none is wanted."""
    address = call.request.reply_to
    if not call.request.tell_overdue or address is None:
        return None
    if address == mailbox.address:
        awaiting = mailbox
    elif mailboxes.look(db, address, now) is None:
        raise InvalidRequest(
            f"reply_to: {address} does not exist; it gets the notice of an overdue answer"
        )
    else:
        awaiting = messages.advance(db, address, now)
    actor = call.actor.at_reply_to
    # Without this check, a client could make the broker send notices to other readers.
    if not (awaiting.may_send(actor) and awaiting.may_take(actor)):
        raise Forbidden(
            f"reply_to: to get the notice of an overdue answer in {address}, you need the rights "
            "to send to it and to take messages from it"
        )
    if awaiting.type == MailboxType.LATEST:
        raise InvalidRequest(
            f"reply_to: {address} keeps the newest message only, which a notice would replace"
        )
    return awaiting


def cancel(db: Connection, call: Call[Cancel], now: int, _limits: Limits) -> None:
    """Remove a delayed message, for its sender or for a client that may take messages there."""
    mailbox = messages.advance(db, call.address, now)
    delayed_id, actor = call.request.delayed_id, call.actor
    row = db.execute(
        "SELECT size, answer_by_ms, sender, sender_verified FROM delayed WHERE mailbox=? AND id=?",
        (mailbox.id, delayed_id),
    ).fetchone()
    size, answer_by_ms, *sent_by = (0, None, None, None) if row is None else row
    is_sender = call.agent is not None and sent_by == [call.agent, actor.agent is not None]
    # A request with a sender is only about a message of that sender.
    may_take = call.request.sender is None and mailbox.may_take(actor)
    if row is None or not (is_sender or may_take):
        raise MessageNotFound(
            f"message not found: no delayed message {delayed_id} of yours is in {call.address}; it "
            "may be visible by now"
        )
    db.execute("DELETE FROM delayed WHERE id=?", (delayed_id,))
    if answer_by_ms is not None:
        awaited.withdraw(db, mailbox, -1 - delayed_id, call.agent, now)
    mailbox.messages -= 1
    mailbox.delayed -= 1
    mailbox.bytes -= size
    mailbox.count_removed("deleted", 1)
    mailbox.save(db)


def counted_bytes(call: Call[Send]) -> int:
    """Return the counted size of a message: its payload and all its text."""
    return len(call.payload) + _text_bytes(call.request, call.agent)


def _text_bytes(sent: Send, sender: str | None) -> int:
    texts = [sent.key, sender, sent.from_mailbox, sent.reply_to, sent.correlation_id]
    texts += (*sent.tags, *sent.path)
    for header in sent.headers:
        texts += header
    return messages.text_bytes(*texts)


def _columns(
    sent: Send, sender: str | None, expires_ms: int | None, *, is_verified: bool
) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that stores a message, and its values between ``mailbox`` and size."""
    lane, path = LANES[sent.priority], ",".join(sent.path)
    tags = f",{','.join(sent.tags)}," if sent.tags else ""
    others = (expires_ms, sent.key, sent.reply_to, sent.correlation_id, sent.from_mailbox)
    if others == _NONE and not sent.delay and not sent.headers and sent.answer_by is None:
        return _STORE_BARE, (lane, tags, sender, int(is_verified), path)
    return _STORE, (
        lane,
        expires_ms,
        sent.key,
        tags,
        sender,
        int(is_verified),
        sent.reply_to,
        sent.correlation_id,
        path,
        orjson.dumps(dict(sent.headers)).decode() if sent.headers else None,
        sent.from_mailbox,
        None if sent.answer_by is None else sent.answer_by * 1000,
    )


def stored_id(sender: str, id_: str) -> bytes:
    """Return the stored form of an idempotency id, which is short even for a long id."""
    # Ids that differ only at the end, such as numbered ones, are stored next to each other.
    named = f"{sender}\n{id_}".encode()
    if len(named) <= _UNHASHED_BYTES:
        return b"\1" + named
    return b"\2" + _digest(named[:-_END_BYTES], _BEGINNING_BYTES) + named[-_END_BYTES:]


def _digest(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size).digest()


def _remember_id(
    db: Connection, mailbox: MailboxRow, call: Call[Send], answer: int, now: int, limits: Limits
) -> int | None:
    """Store the answer to a SEND, or return the first answer under its id.

    The caller saves the mailbox.
    """
    if call.request.id is None:
        return None
    stored_as, digest = stored_id(call.agent or "", call.request.id), _digest(call.payload, 16)
    is_new = db.execute(_KEEP_ID, (mailbox.id, stored_as, digest, answer, now)).rowcount
    if is_new:
        if mailbox.ids >= limits.max_ids:
            forgotten = _remove_old_ids(db, now, _FORGOTTEN_AT_ONCE)
            mailbox.ids -= forgotten[mailbox.id]
        if mailbox.ids >= limits.max_ids:
            raise LimitReached(
                f"max_ids: {mailbox.ids} idempotency ids in {mailbox.address} reach the limit of "
                f"{limits.max_ids}; each is remembered for 7 days"
            )
        mailbox.ids += 1
        return None
    known, first, sent_ms = db.execute(
        "SELECT digest, answer, sent_ms FROM sent_ids WHERE mailbox=? AND id=?",
        (mailbox.id, stored_as),
    ).fetchone()
    if sent_ms <= now - IDS_REMEMBERED_MS:
        db.execute(
            "UPDATE sent_ids SET digest=?, answer=?, sent_ms=? WHERE mailbox=? AND id=?",
            (digest, answer, now, mailbox.id, stored_as),
        )
        return None
    if known != digest:
        raise IdConflict(
            f"id: {call.request.id!r} was used before in {mailbox.address} with another body"
        )
    return int(first)


def _remember_delayed(
    db: Connection, mailbox: MailboxRow, call: Call[Send], delayed_id: int | None
) -> None:
    """Store the delayed message of a SEND with its idempotency id."""
    if call.request.id is not None:
        db.execute(
            "UPDATE sent_ids SET answer=-1-? WHERE mailbox=? AND id=?",
            (delayed_id, mailbox.id, stored_id(call.agent or "", call.request.id)),
        )


def _repeated_answer(
    db: Connection, mailbox: MailboxRow, call: Call[Send], kept: int
) -> int | SendOutcome:
    """Return the first answer to a SEND whose id was sent before."""
    msg_id, delayed_id = max(kept, -1), -1 - kept
    if not call.request.details:
        return msg_id
    is_delayed = (
        delayed_id > 0
        and db.execute(
            "SELECT 1 FROM delayed WHERE id=? AND mailbox=?", (delayed_id, mailbox.id)
        ).fetchone()
    )
    return SendOutcome(msg_id=msg_id, delayed_id=delayed_id if is_delayed else None)


def forget_ids(db: Connection, now: int, most: int) -> int:
    """Remove ids that are too old to be remembered, the oldest first; return how many."""
    return _remove_old_ids(db, now, most).total()


def _remove_old_ids(db: Connection, now: int, most: int) -> Counter[int]:
    """Remove old ids and count them by mailbox."""
    old = db.execute(
        "SELECT mailbox, id FROM sent_ids WHERE sent_ms<=? ORDER BY sent_ms, mailbox, id LIMIT ?",
        (now - IDS_REMEMBERED_MS, most),
    ).fetchall()
    db.executemany("DELETE FROM sent_ids WHERE mailbox=? AND id=?", old)
    removed = Counter(mailbox for mailbox, _ in old)
    db.executemany(
        "UPDATE mailboxes SET ids=ids-? WHERE id=?",
        [(count, mailbox) for mailbox, count in removed.items()],
    )
    return removed


def make_room(
    db: Connection, mailbox: MailboxRow, size: int, now: int, limits: Limits, *, has_replaced: bool
) -> None:
    """Evict the oldest messages that no group needs until ``size`` bytes fit, else raise Full."""
    count, total = mailbox.messages, mailbox.bytes
    if _has_room(count, total + size, limits):
        return
    evicted: list[int] = []
    for msg_id, its_size in _done(db, mailbox):
        evicted.append(msg_id)
        count -= 1
        total -= its_size
        if _has_room(count, total + size, limits):
            removals = [Removal(one, now) for one in evicted]
            messages.remove(db, mailbox, removals, "evicted")
            return
    if count >= limits.max_messages:
        met = f"max_messages: {count} messages reach {limits.max_messages}"
    else:
        met = f"max_bytes: {total} and {size} bytes are more than {limits.max_bytes}"
    found_from = evicted[0] if evicted else mailbox.evict_from
    # The replacement is undone, and its message may make room later. So this search is forgotten.
    raise Full(
        f"mailbox {mailbox.address} is full: {met}, and no message is acked by all groups",
        mailbox.id,
        0 if has_replaced else found_from,
    )


def _has_room(count: int, total: int, limits: Limits) -> bool:
    """Tell whether a mailbox of ``count`` messages takes another that makes ``total`` bytes."""
    return count < limits.max_messages and total <= limits.max_bytes


def _done(db: Connection, mailbox: MailboxRow) -> Iterator[tuple[int, int]]:
    """Yield id and size of messages that all groups are done with, by id."""
    bounds = db.execute(
        "SELECT min(start), min(critical), min(urgent), min(normal) FROM groups WHERE mailbox=?",
        (mailbox.id,),
    ).fetchone()
    start, *cursors = bounds
    if start is None:
        return
    done = db.execute(
        "SELECT msg_id, size, priority FROM messages m WHERE mailbox=? AND msg_id>=? AND msg_id<?"
        " AND msg_id<CASE priority WHEN 0 THEN ? WHEN 1 THEN ? ELSE ? END AND NOT EXISTS ("
        "SELECT 1 FROM leases l WHERE l.mailbox=m.mailbox AND l.msg_id=m.msg_id)"
        " ORDER BY msg_id",
        (mailbox.id, max(start, mailbox.evict_from), max(cursors), *cursors),
    )
    leased = groups.LeasedInBatches(db, mailbox.id, max(start, mailbox.evict_from))
    for msg_id, size, lane in done:
        # A message that was passed over is checked again only after an ACK or a reset.
        mailbox.evict_from = msg_id
        if not leased.holds(msg_id, lane):
            yield msg_id, size
    mailbox.evict_from = mailbox.next_msg_id


class Full(MailboxFull):
    """A full mailbox in which no message below ``evict_from`` can make room."""

    def __init__(self, text: str, mailbox_id: int, evict_from: int) -> None:
        super().__init__(text)
        self._mailbox_id = mailbox_id
        self._evict_from = evict_from

    def remember(self, db: Connection) -> None:
        """Store the result of the search, so that the next SEND is quick."""
        db.execute(
            "UPDATE mailboxes SET evict_from=:found WHERE id=:id AND evict_from<:found",
            {"found": self._evict_from, "id": self._mailbox_id},
        )
