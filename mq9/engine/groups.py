"""Consumer groups: where one starts, what it has been given, how a batch token reads."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from mq9.engine import batches, mailboxes
from mq9.engine.batches import Batch
from mq9.engine.commands import Call, consumer_of
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.errors import InvalidRequest, LimitReached, MessageNotFound
from mq9.models import Deliver
from mq9.protocol.requests import Ack, Fetch, Move, Nack

_TOKEN = re.compile(r"([0-9a-z]+)-([0-9]{1,15})")
# Using a group keeps it for a month; noting that more often than hourly would be wasted writing.
_USE_GRAIN_MS = 3_600_000
FORGOTTEN_MS = 30 * 86_400_000 + _USE_GRAIN_MS  # after so long without use


@dataclass(slots=True)
class Group:
    """A row of groups; ``cursors`` are by lane."""

    id: int
    start: int
    cursors: list[int]
    first_reply: int
    used_ms: int
    reached: int = 0
    redelivered: int = 0

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what changes."""
        connection.execute(
            "UPDATE groups SET start=?, critical=?, urgent=?, normal=?, first_reply=?, used_ms=?,"
            " reached=?, redelivered=? WHERE id=?",
            (
                self.start,
                *self.cursors,
                self.first_reply,
                self.used_ms,
                self.reached,
                self.redelivered,
                self.id,
            ),
        )

    def note_use(self, connection: sqlite3.Connection, now: int) -> None:
        """Remember that the group is alive."""
        if self.is_use_due(now):
            self.used_ms = now
            self.save(connection)

    def is_use_due(self, now: int) -> bool:
        """Tell whether a use of the group is to be noted."""
        return now - self.used_ms >= _USE_GRAIN_MS


@dataclass(frozen=True, slots=True)
class Reply:
    """A FETCH reply that delivered something, and the whole batch that it is, if it is one."""

    number: int
    consumer: str
    batch: Batch | None = None


def find(connection: sqlite3.Connection, mailbox: Mailbox, name: str, now: int) -> Group | None:
    """Return a group of a mailbox, unless it has not been used for a month."""
    row = connection.execute(
        "SELECT id, start, critical, urgent, normal, first_reply, used_ms, reached, redelivered"
        " FROM groups WHERE mailbox=? AND name=?",
        (mailbox.id, name),
    ).fetchone()
    if row is None:
        return None
    group_id, start, *cursors, first_reply, used_ms, reached, redelivered = row
    if used_ms <= now - FORGOTTEN_MS:
        return None
    return Group(group_id, start, cursors, first_reply, used_ms, reached, redelivered)


def create(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    name: str,
    start: int,
    now: int,
    limits: Limits,
) -> Group:
    """Make a group that starts at a msg_id.

    Raises:
        LimitReached: The mailbox has too many groups.
    """
    forgotten = connection.execute(
        "SELECT id FROM groups WHERE mailbox=? AND name=?", (mailbox.id, name)
    ).fetchone()
    if forgotten is not None:
        erase(connection, *forgotten)
        mailbox.evict_from = 0
    _refuse_too_many(connection, mailbox, now, limits)
    group_id = connection.execute(
        "INSERT INTO groups (mailbox, name, start, critical, urgent, normal, first_reply, used_ms)"
        " VALUES (?,?,?,?,?,?,?,?)",
        (mailbox.id, name, start, start, start, start, mailbox.next_reply, now),
    ).lastrowid
    assert group_id is not None  # noqa: S101  # an INSERT that did not raise has one
    return Group(group_id, start, [start] * 3, mailbox.next_reply, now)


def _refuse_too_many(
    connection: sqlite3.Connection, mailbox: Mailbox, now: int, limits: Limits
) -> None:
    (count,) = connection.execute(
        "SELECT count(*) FROM groups WHERE mailbox=? AND used_ms>?",
        (mailbox.id, now - FORGOTTEN_MS),
    ).fetchone()
    if count >= limits.max_groups:
        raise LimitReached(
            f"max_groups: {count} groups of {mailbox.address} reach the limit of "
            f"{limits.max_groups}"
        )


def erase(connection: sqlite3.Connection, group_id: int) -> int:
    """Remove a group with all that is remembered of it; how many rows."""
    connection.execute(
        "UPDATE mailboxes SET evict_from=0 WHERE id=(SELECT mailbox FROM groups WHERE id=?)",
        (group_id,),
    )
    removed = 1
    for condition in (
        "leases WHERE group_id=?",
        "moves WHERE group_id=?",
        (
            "deliveries WHERE (mailbox, reply) IN"
            " (SELECT mailbox, number FROM replies WHERE group_id=?)"
        ),
        "replies WHERE group_id=?",
    ):
        removed += connection.execute(
            f"DELETE FROM {condition}",  # noqa: S608  # constant text
            (group_id,),
        ).rowcount
    connection.execute("DELETE FROM groups WHERE id=?", (group_id,))
    return removed


def reset(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group, start: int, now: int
) -> None:
    """Forget a group's position, leases and acks, and void its batch tokens."""
    connection.execute("DELETE FROM leases WHERE group_id=?", (group.id,))
    connection.execute("DELETE FROM moves WHERE group_id=?", (group.id,))
    batches.reset(connection, group.id)
    mailbox.may_evict(connection, 0)
    group.start = start
    group.reached = max(group.reached, *group.cursors)
    group.cursors = [start] * 3
    group.first_reply = mailbox.next_reply
    group.used_ms = now
    group.save(connection)


def start_position(
    connection: sqlite3.Connection, mailbox: Mailbox, wanted: Fetch, now: int
) -> int:
    """Return the first msg_id that a group or a read which begins so covers.

    Where there is no message to start with, that is the next one to arrive.
    """
    if wanted.deliver is Deliver.EARLIEST:
        return 0
    if wanted.deliver is Deliver.FROM_ID and wanted.from_id is not None:
        return min(wanted.from_id, mailbox.next_msg_id)
    row = None
    if wanted.deliver is Deliver.LATEST:
        row = connection.execute(
            "SELECT msg_id FROM messages WHERE mailbox=?"
            " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id DESC LIMIT 1",
            (mailbox.id, now),
        ).fetchone()
    elif wanted.deliver is Deliver.FROM_TIME and wanted.from_time is not None:
        row = connection.execute(
            "SELECT msg_id FROM messages WHERE mailbox=? AND msg_id>=?"
            " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id LIMIT 1",
            (mailbox.id, mailboxes.first_since(connection, mailbox, wanted.from_time * 1000), now),
        ).fetchone()
    return mailbox.next_msg_id if row is None else int(row[0])


def token(mailbox: Mailbox, number: int) -> str:
    """Return the batch token of a reply."""
    return f"{mailbox.generation}-{number}"


def chosen_reply(
    connection: sqlite3.Connection, mailbox: Mailbox, call: Call[Ack | Move | Nack], now: int
) -> tuple[Group, Reply] | None:
    """Find the FETCH reply that an ACK, MOVE or NACK speaks of; a use of the group.

    Returns:
        The group and its reply; None when the call succeeds without doing anything: the token is
        from before a reset or of an earlier mailbox, or the message was removed.

    Raises:
        InvalidRequest: The token is none of ours, or its reply did not contain the message.
        MessageNotFound: The id is not assigned yet, was not delivered to the group, or only to
            other consumers of it while the call names its own: one that names none speaks for the
            group.
    """
    request, consumer = call.request, consumer_of(call)
    msg_id = request.msg_id
    group = find(connection, mailbox, request.group_name, now)
    if group is not None:
        group.note_use(connection, now)
    if request.batch is not None:
        return _reply_of_token(connection, mailbox, group, msg_id, request.batch, now)
    if group is not None:
        reply = _reply_of_message(connection, mailbox, group, msg_id, consumer)
        if reply is not None:
            if reply.consumer != consumer and request.consumer is not None:
                raise MessageNotFound(
                    f"message not found: {msg_id} was delivered to another consumer"
                )
            return group, reply
    if msg_id < mailbox.next_msg_id and not _still_to_deliver(connection, mailbox, group, msg_id):
        return None
    raise MessageNotFound(
        f"message not found: {msg_id} was not delivered to group {request.group_name}"
        f" of {mailbox.address}"
    )


def _reply_of_message(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group, msg_id: int, consumer: str
) -> Reply | None:
    """Find the last reply with a message, to a consumer if there is one, else to any."""
    row = connection.execute(
        "SELECT r.number, r.consumer FROM deliveries d LEFT JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id AND l.granted=d.reply"
        # The first one outlives the last one for a moment, when both are forgotten.
        " JOIN replies r"
        " ON r.mailbox=d.mailbox AND r.number=coalesce(l.reply, d.latest, d.reply)"
        " WHERE d.group_id=? AND d.msg_id=? AND d.reply>=? AND d.previous IS NULL"
        " ORDER BY r.consumer=? DESC, d.reply DESC LIMIT 1",
        (group.id, msg_id, group.first_reply, consumer),
    ).fetchone()
    if row is not None:
        return Reply(*row)
    # What is in a whole batch was in no other reply since the last reset.
    batch = batches.of_message(
        connection, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
    )
    return None if batch is None else Reply(batch.number, batch.consumer, batch)


def _reply_of_token(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group | None,
    msg_id: int,
    batch: str,
    now: int,
) -> tuple[Group, Reply] | None:
    match = _TOKEN.fullmatch(batch)
    if match is None:
        raise InvalidRequest(f"batch: {batch!r} is not a token of this broker")
    generation, number = match[1], int(match[2])
    if generation != mailbox.generation:
        return None
    if number >= mailbox.next_reply:
        raise InvalidRequest(f"batch: {batch!r} was never given out")
    row = connection.execute(
        "SELECT r.group_id, r.consumer, g.first_reply FROM replies r"
        " JOIN groups g ON g.id=r.group_id WHERE r.mailbox=? AND r.number=? AND g.used_ms>?",
        (mailbox.id, number, now - FORGOTTEN_MS),
    ).fetchone()
    if row is None:
        return None  # forgotten, so nothing of it is outstanding
    group_id, consumer, first_reply = row
    if number < first_reply:
        return None
    if group is None or group_id != group.id:
        raise InvalidRequest(f"batch: {batch!r} was not given to this group")
    whole = batches.at(connection, mailbox.id, number)
    if whole is not None:
        is_contained = msg_id in whole.msg_ids
    else:
        is_contained = _is_delivered(connection, mailbox, number, msg_id)
    if not is_contained:
        raise InvalidRequest(f"batch: the reply of {batch!r} did not contain msg_id {msg_id}")
    return group, Reply(number, consumer, whole)


def _is_delivered(
    connection: sqlite3.Connection, mailbox: Mailbox, number: int, msg_id: int
) -> bool:
    """Tell whether a reply that is no whole batch contained a message."""
    row = connection.execute(
        "SELECT 1 FROM deliveries WHERE mailbox=? AND reply=? AND msg_id=?",
        (mailbox.id, number, msg_id),
    ).fetchone()
    return row is not None


def _still_to_deliver(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group | None, msg_id: int
) -> bool:
    """Tell whether an assigned message is stored and was never delivered to the group."""
    row = connection.execute(
        "SELECT priority FROM messages WHERE mailbox=? AND msg_id=?", (mailbox.id, msg_id)
    ).fetchone()
    if row is None:
        return False
    if group is None or msg_id < group.start or msg_id >= group.cursors[row[0]]:
        return True
    # Below the cursor without a reply that we remember: acked long ago, unless the reply that
    # delivered it reached nobody.
    untouched = connection.execute(
        "SELECT 1 FROM leases WHERE group_id=? AND msg_id=?", (group.id, msg_id)
    ).fetchone()
    return untouched is not None
