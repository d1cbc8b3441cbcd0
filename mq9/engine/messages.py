"""Messages: stored, made room for, looked at, deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from mq9.engine import access, batches, counts, handlers, idempotency, mailboxes
from mq9.engine.commands import Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.engine.mailboxes import Removal
from mq9.errors import Forbidden, MailboxFull, MessageNotFound
from mq9.models import PRIORITIES, MailboxType
from mq9.protocol.outcomes import Found, Stored
from mq9.protocol.requests import Delete, Query, Send

LANES = {priority: lane for lane, priority in enumerate(PRIORITIES)}
# Python takes longer to fetch ten values than SQLite to make one of them, or none where a message
# has nothing but its payload.
COLUMNS = (
    "msg_id, payload, priority, visible_ms/1000, CASE WHEN coalesce(key, sender, reply_to,"
    " correlation_id, headers, moved, from_mailbox) IS NOT NULL OR tags<>'' OR path<>'' THEN"
    " json_array(key, tags, sender, sender_verified, from_mailbox, reply_to, correlation_id, path,"
    " headers, moved) END"
)
_SENT = (  # after an id and an instant
    "sent_ms, mailbox, priority, expires_ms, key, tags, sender, sender_verified, reply_to,"
    f" correlation_id, path, headers, from_mailbox, size, payload) VALUES ({','.join('?' * 17)})"
)
_STORE = f"INSERT INTO messages (msg_id, visible_ms, {_SENT}"
_DELAY = f"INSERT INTO delayed (id, due_ms, {_SENT}"
_OVERHEAD = 256  # bytes of a message in a reply beside what is counted
_CONTROL = bytes(range(0x20))
_ESCAPED = _CONTROL + b'"\\'  # what takes more in JSON than by itself


def from_row(row: tuple[Any, ...], deliveries: int = 0) -> Stored:
    """Return the message in a row of ``COLUMNS``."""
    msg_id, payload, lane, create_time, beside = row
    envelope = None if beside is None else _envelope(beside)
    return Stored(msg_id, payload, PRIORITIES[lane], create_time, deliveries, envelope)


def _envelope(beside: str) -> dict[str, Any] | None:
    key, tags, sender, verified, from_mailbox, reply_to, correlation_id, path, headers, moved = (
        orjson.loads(beside)
    )
    fields = {
        "key": key,
        "tags": tags and tags.strip(",").split(","),
        "from": sender,
        "from_verified": bool(verified),
        "from_mailbox": from_mailbox,
        "reply_to": reply_to,
        "correlation_id": correlation_id,
        "path": path and path.split(","),
        "headers": headers and orjson.loads(headers),
        "moved": moved and _without_none(orjson.loads(moved)),
    }
    return {name: value for name, value in fields.items() if value} or None


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def load_messages(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    deliveries: dict[int, int],
    all_of_lane: int | None = None,
) -> Iterator[Stored]:
    """Yield messages that are stored, by msg_id, each read when it is asked for.

    Args:
        connection: The database.
        mailbox: Where they are.
        deliveries: How often each was delivered, by msg_id.
        all_of_lane: The lane of which they are all that is stored from the first to the last; None
            where they may be others.
    """
    values: tuple[object, ...]
    if all_of_lane is not None:
        which = "priority=? AND msg_id BETWEEN ? AND ?"
        values = (all_of_lane, min(deliveries), max(deliveries))
    else:
        which = "msg_id IN (SELECT value FROM json_each(?))"
        values = (orjson.dumps(list(deliveries)).decode(),)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM messages WHERE mailbox=? AND {which} ORDER BY msg_id",  # noqa: S608  # constant text
        (mailbox.id, *values),
    )
    for row in rows:
        yield from_row(row, deliveries[row[0]])


def counted_bytes(call: Call[Send]) -> int:
    """Return how much a message counts in its mailbox: its payload and all text beside it."""
    sent = call.request
    beside = [sent.key, call.agent, sent.from_mailbox, sent.reply_to, sent.correlation_id]
    beside += (*sent.tags, *sent.path)
    for header in sent.headers:
        beside += header
    return len(call.payload) + text_bytes(*beside)


def text_bytes(*texts: str | None) -> int:
    """Return how many bytes texts are in UTF-8 together."""
    return len("".join(filter(None, texts)).encode())


def reply_bytes(message: Stored, *, as_text: bool) -> int:
    """Return at least as many bytes as the message takes in a reply, in base64 or as text."""
    envelope = len(orjson.dumps(message.envelope)) if message.envelope else 0
    size = (len(message.payload) * 4) // 3 + 4
    if as_text:
        size = max(size, _json_bytes(message.payload))
    return size + envelope + _OVERHEAD


def _json_bytes(text: bytes) -> int:
    if len(text.translate(None, delete=_ESCAPED)) == len(text):
        return len(text)
    control = len(text) - len(text.translate(None, delete=_CONTROL))  # each becomes "\u0000"
    return len(text) + 5 * control + text.count(b'"') + text.count(b"\\")


class Full(MailboxFull):
    """A mailbox is full, and was searched in vain for what may make room.

    Args:
        text: What the sender is told.
        mailbox_id: The mailbox.
        evict_from: No message below this one can make room, as it was found.
    """

    def __init__(self, text: str, mailbox_id: int, evict_from: int) -> None:
        super().__init__(text)
        self._mailbox_id = mailbox_id
        self._evict_from = evict_from

    def remember(self, connection: sqlite3.Connection) -> None:
        """Write down what the refused SEND has found, so that the next one is quick."""
        connection.execute(
            "UPDATE mailboxes SET evict_from=:found WHERE id=:id AND evict_from<:found",
            {"found": self._evict_from, "id": self._mailbox_id},
        )


@handlers.command(Send)
def send(connection: sqlite3.Connection, call: Call[Send], now: int, limits: Limits) -> int:
    """Store a message; its msg_id, or -1 while it is delayed.

    Raises:
        Forbidden: The mailbox takes none from its sender, its key belongs to another, or the sender
            may not take messages from the mailbox that it says it comes from.
        InvalidRequest: That mailbox is not there.
    """
    limits.check_payload(call.payload)
    size = counted_bytes(call)
    mailbox = mailboxes.advance(connection, call.address, now)
    return _send(connection, mailbox, call, size, now, limits)


@handlers.unguarded(Send)
def send_what_fits(
    connection: sqlite3.Connection, mailbox: Mailbox, call: Call[Send], now: int, limits: Limits
) -> int | None:
    """Store a message that replaces nothing, and for which nothing has to be removed."""
    size = counted_bytes(call)
    fits = (
        len(call.payload) <= limits.max_payload
        and _has_room(mailbox.messages, mailbox.bytes + size, limits)
        and mailbox.ids < limits.max_ids
        and call.request.key is None
        and call.request.from_mailbox is None
        and mailbox.may_send(call.actor)
        and mailbox.type != MailboxType.LATEST
        and mailboxes.is_current(mailbox, now)
    )
    return _send(connection, mailbox, call, size, now, limits) if fits else None


def _send(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    call: Call[Send],
    size: int,
    now: int,
    limits: Limits,
) -> int:
    request, sender, is_verified = call.request, call.agent, call.actor.agent is not None
    answer = -1 if request.delay else mailbox.next_msg_id
    first = idempotency.remember(connection, mailbox, call, answer, now, limits)
    if first is not None:
        return first
    expires_ms = None if request.ttl is None else now + request.ttl * 1000
    instant = now + (request.delay or 0) * 1000
    if not mailboxes.may_replace(connection, mailbox, request.key, sender, is_verified, instant):
        raise Forbidden(f"key: {request.key!r} in {call.address} belongs to another sender")
    access.refuse_sender(mailbox, call.actor)
    access.check_source(connection, call, now)
    has_replaced = False
    if not request.delay:
        instant = max(mailbox.visible_ms, now)
        has_replaced = mailboxes.replace_older(connection, mailbox, request.key, instant, answer)
    make_room(connection, mailbox, size, now, limits, has_replaced=has_replaced)
    connection.execute(
        _DELAY if request.delay else _STORE,
        (
            None if request.delay else answer,
            instant,
            now,
            mailbox.id,
            LANES[request.priority],
            expires_ms,
            request.key,
            f",{','.join(request.tags)}," if request.tags else "",
            sender,
            int(is_verified),
            request.reply_to,
            request.correlation_id,
            ",".join(request.path),
            orjson.dumps(dict(request.headers)).decode() if request.headers else None,
            request.from_mailbox,
            size,
            call.payload,
        ),
    )
    if request.delay:
        mailbox.delayed += 1
    else:
        mailbox.visible_ms = instant
        mailbox.next_msg_id += 1
        counts.complete_blocks(connection, mailbox, answer)
    mailbox.messages += 1
    mailbox.bytes += size
    mailbox.expect_change(instant if request.delay else expires_ms)
    mailbox.save(connection)
    return answer


def make_room(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    size: int,
    now: int,
    limits: Limits,
    *,
    has_replaced: bool,
) -> None:
    """Evict the oldest messages that nobody needs until one of ``size`` bytes fits.

    Args:
        connection: The database.
        mailbox: The mailbox.
        size: What the message counts that is to fit.
        now: The time, in milliseconds since the Unix epoch.
        limits: How much a mailbox may hold.
        has_replaced: Whether the message has replaced another, which comes back with a refusal.

    Raises:
        Full: There are not enough of them.
    """
    count, total = mailbox.messages, mailbox.bytes
    if _has_room(count, total + size, limits):
        return
    evicted: list[int] = []
    for msg_id, its_size in _done(connection, mailbox):
        evicted.append(msg_id)
        count -= 1
        total -= its_size
        if _has_room(count, total + size, limits):
            removals = [Removal(one, now) for one in evicted]
            mailboxes.remove(connection, mailbox, removals, "evicted")
            return
    if count >= limits.max_messages:
        met = f"max_messages: {count} messages reach {limits.max_messages}"
    else:
        met = f"max_bytes: {total} and {size} bytes are more than {limits.max_bytes}"
    found_from = evicted[0] if evicted else mailbox.evict_from
    # What was replaced in vain may make room; so nothing is remembered of such a search.
    raise Full(
        f"mailbox {mailbox.address} is full: {met}, none of them acked by all",
        mailbox.id,
        0 if has_replaced else found_from,
    )


def _has_room(count: int, total: int, limits: Limits) -> bool:
    """Tell whether a mailbox with so many messages takes one that makes so many bytes of them."""
    return count < limits.max_messages and total <= limits.max_bytes


def _done(connection: sqlite3.Connection, mailbox: Mailbox) -> Iterator[tuple[int, int]]:
    """Yield id and size of messages that a group has acked and none has yet to get, by id."""
    bounds = connection.execute(
        "SELECT min(start), min(critical), min(urgent), min(normal) FROM groups WHERE mailbox=?",
        (mailbox.id,),
    ).fetchone()
    start, *cursors = bounds
    if start is None:
        return
    done = connection.execute(
        "SELECT msg_id, size, priority FROM messages m WHERE mailbox=? AND msg_id>=? AND msg_id<?"
        " AND msg_id<CASE priority WHEN 0 THEN ? WHEN 1 THEN ? ELSE ? END AND NOT EXISTS ("
        "SELECT 1 FROM leases l WHERE l.mailbox=m.mailbox AND l.msg_id=m.msg_id)"
        " ORDER BY msg_id",
        (mailbox.id, max(start, mailbox.evict_from), max(cursors), *cursors),
    )
    leased = batches.Leased(connection, mailbox.id, max(start, mailbox.evict_from))
    for msg_id, size, lane in done:
        # What was passed over is not looked at again until an ACK or a reset says so.
        mailbox.evict_from = msg_id
        if not leased.holds(msg_id, lane):
            yield msg_id, size
    mailbox.evict_from = mailbox.next_msg_id


@handlers.command(Delete)
def delete(connection: sqlite3.Connection, call: Call[Delete], now: int, _limits: Limits) -> None:
    """Remove one message."""
    mailbox = mailboxes.advance(connection, call.address, now)
    msg_id = call.request.msg_id
    if not mailboxes.remove(connection, mailbox, [Removal(msg_id, now)], "deleted"):
        raise MessageNotFound(f"message not found: {msg_id} is not in {call.address}")
    mailbox.save(connection)


@handlers.query(Query)
def query(connection: sqlite3.Connection, call: Call[Query], now: int) -> Found:
    """Look at the newest messages that match, oldest first."""
    mailbox = mailboxes.current(connection, call.address, now)
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
        values.append(mailboxes.first_since(connection, mailbox, request.since * 1000))
    matching = " AND ".join(conditions)
    rows: Iterable[tuple[Any, ...]]
    if request.tags:
        rows = _tagged(connection, mailbox, request.tags, matching, values)
    else:
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM messages WHERE {matching} ORDER BY msg_id DESC LIMIT ?",  # noqa: S608  # constant text
            (*values, request.limit + 1),
        )
    newest: list[Stored] = []
    room = request.max_bytes
    more = False
    for row in rows:
        message = from_row(row)
        room -= reply_bytes(message, as_text=call.as_text)
        if len(newest) == request.limit or (newest and room < 0):
            more = True
            break
        newest.append(message)
    return Found(messages=tuple(reversed(newest)), more=more)


def _tagged(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    tags: tuple[str, ...],
    matching: str,
    values: list[Any],
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with all of some tags, the newest first.

    The tags of a message are taken apart once, however many are looked for: to search the text for
    each takes a thousand times as long where there are many.
    """
    wanted = set(tags)
    found = connection.execute(
        f"SELECT msg_id, tags FROM messages WHERE {matching} AND tags<>'' ORDER BY msg_id DESC",  # noqa: S608  # constant text
        values,
    )
    for msg_id, text in found:
        if wanted.issubset(text.split(",")):
            yield connection.execute(
                f"SELECT {COLUMNS} FROM messages WHERE mailbox=? AND msg_id=?",  # noqa: S608  # constant columns
                (mailbox.id, msg_id),
            ).fetchone()
