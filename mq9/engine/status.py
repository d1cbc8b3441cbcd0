"""What a mailbox and its groups look like: counts and lives, read without changing them."""

from __future__ import annotations

import operator
import sqlite3

import orjson

from mq9.engine import batches, counts, groups, handlers, mailboxes
from mq9.engine.commands import Actor, Call, CountUnread, WhyEmpty
from mq9.engine.groups import Group
from mq9.engine.history import history
from mq9.engine.mailbox import Mailbox
from mq9.models import (
    PRIORITIES,
    GroupStatus,
    Leased,
    MailboxStatus,
    MailboxType,
    Removed,
    SendPolicy,
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
    return MailboxStatus(
        mail_address=mailbox.address,
        type=MailboxType(mailbox.type),
        desc=mailbox.description,
        public=bool(mailbox.public),
        ttl=mailbox.ttl_s,
        expires_at=_seconds(mailbox.expires_ms),
        stored=mailbox.messages - mailbox.delayed,
        stored_bytes=mailbox.bytes,
        delayed=mailbox.delayed,
        next_due=_seconds(mailboxes.next_due(connection, mailbox)),
        removed=Removed(mailbox.expired, mailbox.replaced, mailbox.deleted, mailbox.evicted),
        group=_group(connection, mailbox, group_name, now) if group_name is not None else None,
        message=history(connection, mailbox, msg_id, now) if msg_id is not None else None,
        own=_is_own(mailbox, call.actor),
        send_policy=SendPolicy(mailbox.send_policy),
        enforced=call.actor.is_known,
        rights=_rights(mailbox, call.actor),
    )


def _rights(mailbox: Mailbox, actor: Actor) -> tuple[str, ...]:
    may = {
        "look": mailbox.may_look(actor),
        "take": mailbox.may_take(actor),
        "send": mailbox.may_send(actor),
        "grant": mailbox.may_grant(actor),
    }
    return tuple(right for right, has in may.items() if has)


def _is_own(mailbox: Mailbox, actor: Actor) -> bool | None:
    if actor.agent is None:
        return None
    return actor.agent == (actor.owner or mailbox.creator)


@handlers.query(WhyEmpty)
def why_empty(connection: sqlite3.Connection, call: Call[WhyEmpty], now: int) -> Waiting:
    """Say why a FETCH found nothing."""
    mailbox = mailboxes.current(connection, call.address, now)
    group_name = call.request.group_name
    stored = mailbox.messages - mailbox.delayed
    group = None if group_name is None else groups.find(connection, mailbox, group_name, now)
    start = call.request.position if group is None else group.start
    concerning = _concerning(connection, mailbox, stored, start)
    leased: tuple[Leased, ...] = ()
    acked = moved = 0
    if group is not None:
        outstanding, _, leased = _leases(connection, group, now)
        moved = _moved(connection, group)
        fresh = sum(counts.by_lane(connection, mailbox, group.cursors))
        acked = concerning - outstanding - fresh - moved
    return Waiting(
        stored=stored,
        delayed=mailbox.delayed,
        next_due=_seconds(mailboxes.next_due(connection, mailbox)),
        leased=leased,
        acked=acked,
        skipped=stored - concerning,
        moved=moved,
    )


@handlers.query(CountUnread)
def count_unread(
    connection: sqlite3.Connection, call: Call[CountUnread], now: int
) -> Unread | None:
    """Count what a group could be given; None when the mailbox is not there."""
    if mailboxes.look(connection, call.address, now) is None:
        return None
    mailbox = mailboxes.current(connection, call.address, now)
    group = groups.find(connection, mailbox, call.request.group_name, now)
    if group is None:
        return _never_read(connection, mailbox)
    counted = counts.by_lane(connection, mailbox, group.cursors)
    free = connection.execute(
        f"SELECT priority, count(*) FROM {batches.LEASES}"  # noqa: S608  # constant text
        " WHERE group_id=? AND (until_ms IS NULL OR until_ms<=?) GROUP BY priority",
        (group.id, now),
    )
    for lane, count in free:
        counted[lane] += count
    return Unread(*counted)


def _never_read(connection: sqlite3.Connection, mailbox: Mailbox) -> Unread:
    """Count what a group could be given that is not there, and so counts as ``earliest``."""
    return Unread(*counts.by_lane(connection, mailbox, [0] * len(PRIORITIES)))


_MOST_BACKLOG = 1_000  # messages that are counted


def backlog(connection: sqlite3.Connection, address: str, actor: Actor, now: int) -> int | None:
    """Count what waits for the group that is called like its mailbox, up to a thousand.

    Returns:
        The count; None when the mailbox is not there, or is not the actor's to read.
    """
    mailbox = mailboxes.look(connection, address, now)
    if mailbox is None or not (actor.owns(address) or mailbox.may_look(actor)):
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
    if group is None:
        return GroupStatus(name, exists=False, pending=_never_read(connection, mailbox))
    fresh = counts.by_lane(connection, mailbox, group.cursors)
    outstanding, free, leased = _leases(connection, group, now)
    stored = mailbox.messages - mailbox.delayed
    concerning = _concerning(connection, mailbox, stored, group.start)
    moved = _moved(connection, group)
    return GroupStatus(
        name,
        exists=True,
        pending=Unread(*map(operator.add, fresh, free)),
        leased=leased,
        acked=concerning - outstanding - sum(fresh) - moved,
        moved=moved,
    )


def _moved(connection: sqlite3.Connection, group: Group) -> int:
    """Count the stored messages that a group has moved to another mailbox."""
    (count,) = connection.execute(
        "SELECT count(*) FROM moves WHERE group_id=?", (group.id,)
    ).fetchone()
    return int(count)


def _seconds(instant: int | None) -> float | None:
    return None if instant is None else instant / 1000


def _concerning(connection: sqlite3.Connection, mailbox: Mailbox, stored: int, start: int) -> int:
    """Count what is stored from the first msg_id on that concerns a group."""
    if start == 0:
        return stored
    return sum(counts.by_lane(connection, mailbox, [start] * len(PRIORITIES)))


_FREE = ",".join(
    f" coalesce(sum((until_ms IS NULL OR until_ms<=:now) AND priority={lane}), 0)"
    for lane in range(len(PRIORITIES))
)
_LEASES = (
    "WITH ones AS MATERIALIZED (SELECT holder, priority, until_ms"  # noqa: S608  # constant text
    f" FROM {batches.LEASES} WHERE group_id=:group)"
    f" SELECT count(*), {_FREE},"
    " (SELECT json_group_array(json_array(nullif(holder, ''), count, ends)) FROM ("
    "SELECT holder, count(*) AS count, min(until_ms) AS ends FROM ones WHERE until_ms>:now"
    " GROUP BY holder ORDER BY min(until_ms), holder LIMIT :most)) FROM ones"
)


def _leases(
    connection: sqlite3.Connection, group: Group, now: int
) -> tuple[int, list[int], tuple[Leased, ...]]:
    """Look at the leases of a group, at each of them once.

    Returns:
        How many there are, how many of each lane are over, and who holds the others.
    """
    count, *free, holders = connection.execute(
        _LEASES, {"group": group.id, "now": now, "most": _MOST_HOLDERS}
    ).fetchone()
    leased = (Leased(holder, held, end / 1000) for holder, held, end in orjson.loads(holders))
    return count, free, tuple(leased)
