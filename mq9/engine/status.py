"""What a mailbox and its groups look like: counts and lives, read without changing them."""

from __future__ import annotations

import sqlite3

from mq9.engine import batches, groups, handlers, mailboxes
from mq9.engine.commands import Actor, Call, CountUnread, WhyEmpty
from mq9.engine.groups import Group
from mq9.engine.history import history
from mq9.engine.mailboxes import Mailbox
from mq9.models import (
    PRIORITIES,
    GroupStatus,
    Leased,
    MailboxStatus,
    MailboxType,
    Unread,
    Waiting,
)
from mq9.protocol.requests import Status

_MOST_HOLDERS = 20  # of one group, named in one answer
_LIVE = "(m.expires_ms IS NULL OR m.expires_ms>:now)"


@handlers.query(Status)
def status(connection: sqlite3.Connection, call: Call[Status], now: int) -> MailboxStatus:
    """Describe a mailbox."""
    mailbox = mailboxes.current(connection, call.address, now)
    group_name, msg_id = call.request.group_name, call.request.msg_id
    delayed, next_due = _delayed(connection, mailbox)
    return MailboxStatus(
        mail_address=mailbox.address,
        type=MailboxType(mailbox.type),
        desc=mailbox.description,
        public=bool(mailbox.public),
        ttl=mailbox.ttl_s,
        expires_at=_seconds(mailbox.expires_ms),
        stored=mailbox.messages - delayed,
        stored_bytes=mailbox.bytes,
        delayed=delayed,
        next_due=_seconds(next_due),
        group=_group(connection, mailbox, group_name, now) if group_name is not None else None,
        message=history(connection, mailbox, msg_id, now) if msg_id is not None else None,
        own=_is_own(mailbox, call.actor),
    )


def _is_own(mailbox: Mailbox, actor: Actor) -> bool | None:
    if actor.agent is None:
        return None
    return actor.agent == (actor.owner or mailbox.creator)


@handlers.query(WhyEmpty)
def why_empty(connection: sqlite3.Connection, call: Call[WhyEmpty], now: int) -> Waiting:
    """Say why a FETCH found nothing."""
    mailbox = mailboxes.current(connection, call.address, now)
    group_name = call.request.group_name
    delayed, next_due = _delayed(connection, mailbox)
    stored = mailbox.messages - delayed
    group = None if group_name is None else groups.find(connection, mailbox, group_name, now)
    start = call.request.position if group is None else group.start
    skipped = _count_before(connection, mailbox, start, now)
    return Waiting(
        stored=stored,
        delayed=delayed,
        next_due=_seconds(next_due),
        leased=() if group is None else _leased(connection, group, now),
        acked=0 if group is None else stored - skipped - _not_acked(connection, mailbox, group),
        skipped=skipped,
    )


@handlers.query(CountUnread)
def count_unread(
    connection: sqlite3.Connection, call: Call[CountUnread], now: int
) -> Unread | None:
    """Count what a group could be given; None when the mailbox is not there."""
    if mailboxes.look(connection, call.address, now) is None:
        return None
    mailbox = mailboxes.current(connection, call.address, now)
    return unread(connection, mailbox, call.request.group_name, now)


def unread(connection: sqlite3.Connection, mailbox: Mailbox, group_name: str, now: int) -> Unread:
    """Count what a group could be given now; one that is not there counts as ``earliest``."""
    group = groups.find(connection, mailbox, group_name, now)
    cursors = group.cursors if group is not None else [0, 0, 0]
    counts = []
    for lane, cursor in enumerate(cursors):
        (fresh,) = connection.execute(
            "SELECT count(*) FROM messages m WHERE mailbox=:mailbox AND priority=:lane"  # noqa: S608  # constant text
            f" AND msg_id>=:cursor AND {_LIVE}",
            {"mailbox": mailbox.id, "lane": lane, "cursor": cursor, "now": now},
        ).fetchone()
        counts.append(fresh)
    if group is not None:
        free = connection.execute(
            f"SELECT l.priority, count(*) FROM {batches.LEASES} l JOIN messages m"  # noqa: S608  # constant text
            " ON m.mailbox=l.mailbox AND m.msg_id=l.msg_id"
            f" WHERE l.group_id=:group AND (l.until_ms IS NULL OR l.until_ms<=:now) AND {_LIVE}"
            " GROUP BY l.priority",
            {"group": group.id, "now": now},
        )
        for lane, count in free:
            counts[lane] += count
    return Unread(*counts)


_MOST_BACKLOG = 1_000  # messages that are counted


def backlog(connection: sqlite3.Connection, address: str, actor: Actor, now: int) -> int | None:
    """Count what waits for the group that is called like its mailbox, up to a thousand.

    Returns:
        The count; None when the mailbox is not there, or is not the actor's to read.
    """
    mailbox = mailboxes.look(connection, address, now)
    if mailbox is None or not (address in actor.own or mailbox.admits(actor)):
        return None
    group = groups.find(connection, mailbox, address, now)
    count = 0
    for lane, cursor in enumerate(group.cursors if group is not None else [0, 0, 0]):
        (fresh,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM messages m"  # noqa: S608  # constant text
            " WHERE mailbox=:mailbox AND priority=:lane AND msg_id>=:cursor"
            f" AND {_LIVE} LIMIT :most)",
            {
                "mailbox": mailbox.id,
                "lane": lane,
                "cursor": cursor,
                "now": now,
                "most": _MOST_BACKLOG,
            },
        ).fetchone()
        count += fresh
    if group is not None:
        (held,) = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {batches.LEASES} WHERE group_id=? LIMIT ?)",  # noqa: S608  # constant text
            (group.id, _MOST_BACKLOG),
        ).fetchone()
        count += held
    return min(count, _MOST_BACKLOG)


def _group(connection: sqlite3.Connection, mailbox: Mailbox, name: str, now: int) -> GroupStatus:
    group = groups.find(connection, mailbox, name, now)
    pending = unread(connection, mailbox, name, now)
    if group is None:
        return GroupStatus(name, exists=False, pending=pending)
    delayed, _ = _delayed(connection, mailbox)
    skipped = _count_before(connection, mailbox, group.start, now)
    return GroupStatus(
        name,
        exists=True,
        pending=pending,
        leased=_leased(connection, group, now),
        acked=mailbox.messages - delayed - skipped - _not_acked(connection, mailbox, group),
    )


def _seconds(instant: int | None) -> float | None:
    return None if instant is None else instant / 1000


def _delayed(connection: sqlite3.Connection, mailbox: Mailbox) -> tuple[int, int | None]:
    count, next_due = connection.execute(
        "SELECT count(*), min(due_ms) FROM delayed WHERE mailbox=?", (mailbox.id,)
    ).fetchone()
    return count, next_due


def _count_before(connection: sqlite3.Connection, mailbox: Mailbox, start: int, now: int) -> int:
    if start == 0:
        return 0
    total = 0
    for lane in range(len(PRIORITIES)):  # by lane, because an index has all that is asked for
        (count,) = connection.execute(
            "SELECT count(*) FROM messages m WHERE mailbox=:mailbox AND priority=:lane"  # noqa: S608  # constant text
            f" AND msg_id<:start AND {_LIVE}",
            {"mailbox": mailbox.id, "lane": lane, "start": start, "now": now},
        ).fetchone()
        total += count
    return total


def _not_acked(connection: sqlite3.Connection, mailbox: Mailbox, group: Group) -> int:
    """Count what the group has still to be given or to ack."""
    (total,) = connection.execute(
        f"SELECT count(*) FROM {batches.LEASES} WHERE group_id=?",  # noqa: S608  # constant text
        (group.id,),
    ).fetchone()
    for lane, cursor in enumerate(group.cursors):
        (fresh,) = connection.execute(
            "SELECT count(*) FROM messages WHERE mailbox=? AND priority=? AND msg_id>=?",
            (mailbox.id, lane, cursor),
        ).fetchone()
        total += fresh
    return int(total)


def _leased(connection: sqlite3.Connection, group: Group, now: int) -> tuple[Leased, ...]:
    rows = connection.execute(
        f"SELECT nullif(holder, ''), count(*), min(until_ms) FROM {batches.LEASES}"  # noqa: S608  # constant text
        " WHERE group_id=? AND until_ms>? GROUP BY holder ORDER BY min(until_ms), holder LIMIT ?",
        (group.id, now, _MOST_HOLDERS),
    )
    return tuple(Leased(holder, count, until_ms / 1000) for holder, count, until_ms in rows)
