"""The state of a mailbox, its groups, a message and the whole broker, read without changes."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from sqlite3 import Connection
from typing import NamedTuple

import orjson

from mq9.engine import groups, mailboxes, messages, notices
from mq9.engine.commands import (
    MOST_HELD,
    Actor,
    Call,
    CountAll,
    CountUnread,
    ListHeld,
    Look,
    WhyEmpty,
)
from mq9.engine.groups import Group
from mq9.engine.mailbox_counts import count_named
from mq9.engine.mailboxes import MailboxRow
from mq9.models import (
    PRIORITIES,
    GroupStatus,
    Held,
    Leased,
    LookPolicy,
    MailboxStatus,
    MailboxType,
    MessageHistory,
    Moved,
    Promise,
    Removed,
    SendPolicy,
    Standing,
    Totals,
    Unread,
    Waiting,
)
from mq9.protocol.requests import Status
from mq9.protocol.reserved import REDRIVE_GROUP

_MOST_HOLDERS = 20  # of one group in a reply
_LIVE = "(m.expires_ms IS NULL OR m.expires_ms>:now)"
_MOST_GROUPS = 100
_EXISTS = "(b.expires_ms IS NULL OR b.expires_ms>:now)"  # whether a mailbox b has not expired


def status(db: Connection, call: Call[Status], now: int) -> MailboxStatus:
    """Return the state of a mailbox."""
    mailbox = messages.current(db, call.address, now)
    group_name, msg_id, actor = call.request.group_name, call.request.msg_id, call.actor
    creator = actor.owner or mailbox.creator
    rights = {
        "look": mailbox.may_look(actor),
        "take": mailbox.may_take(actor),
        "send": mailbox.may_send(actor),
        "grant": mailbox.may_grant(actor),
    }
    shows_grants = rights["grant"] or actor.is_reader
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
        next_due=_seconds(messages.next_due(db, mailbox)),
        removed=Removed(mailbox.expired, mailbox.replaced, mailbox.deleted, mailbox.evicted),
        group=_group(db, mailbox, group_name, now) if group_name is not None else None,
        message=_history(db, mailbox, msg_id, now) if msg_id is not None else None,
        own=None if actor.agent is None else actor.agent == creator,
        send_policy=SendPolicy(mailbox.send_policy),
        look_policy=LookPolicy(mailbox.look_policy),
        readers=mailboxes.agents_in(mailbox.readers) if shows_grants else None,
        viewers=mailboxes.agents_in(mailbox.viewers) if shows_grants else None,
        senders=mailboxes.agents_in(mailbox.senders) if shows_grants else None,
        enforced=actor.is_known,
        rights=tuple(right for right, has in rights.items() if has),
        turns=notices.turns(db, mailbox, now) if rights["take"] else None,
    )


def why_empty(db: Connection, call: Call[WhyEmpty], now: int) -> Waiting:
    """Return why a FETCH found nothing."""
    mailbox = messages.current(db, call.address, now)
    group_name = call.request.group_name
    stored = mailbox.messages - mailbox.delayed
    group = None if group_name is None else groups.find(db, mailbox, group_name, now)
    start = call.request.position if group is None else group.start
    concerning = _concerning(db, mailbox, stored, start)
    leased: tuple[Leased, ...] = ()
    acked = moved = 0
    if group is not None:
        outstanding, _, leased = _leases(db, group, now)
        moved = _moved(db, group)
        fresh = sum(messages.count_by_lane(db, mailbox, group.cursors))
        acked = concerning - outstanding - fresh - moved
    return Waiting(
        stored=stored,
        delayed=mailbox.delayed,
        next_due=_seconds(messages.next_due(db, mailbox)),
        leased=leased,
        acked=acked,
        skipped=stored - concerning,
        moved=moved,
    )


def list_held(db: Connection, call: Call[ListHeld], now: int) -> tuple[Held, ...]:
    """List the messages that consumers of a group hold, up to one more than fits into a reply.

    The one whose lease ends first comes first.
    """
    mailbox = messages.current(db, call.address, now)
    group = groups.find(db, mailbox, call.request.group_name, now)
    if group is None:
        return ()
    rows = db.execute(
        f"SELECT msg_id, priority, holder, until_ms, deliveries FROM {groups.LEASES}"  # noqa: S608  # constant text
        " WHERE group_id=? AND holder<>'' AND until_ms>?"
        " AND msg_id NOT IN (SELECT value FROM json_each(?)) ORDER BY until_ms, msg_id LIMIT ?",
        (group.id, now, orjson.dumps(call.request.without).decode(), MOST_HELD + 1),
    ).fetchall()
    return tuple(
        Held(
            msg_id=msg_id,
            priority=PRIORITIES[lane],
            consumer=holder,
            until=until_ms / 1000,
            deliveries=deliveries,
        )
        for msg_id, lane, holder, until_ms, deliveries in rows
    )


def count_unread(db: Connection, call: Call[CountUnread], now: int) -> Unread | None:
    """Count the messages that a group could get; None if the mailbox does not exist."""
    if mailboxes.look(db, call.address, now) is None:
        return None
    mailbox = messages.current(db, call.address, now)
    group = groups.find(db, mailbox, call.request.group_name, now)
    return Unread(*messages.count_waiting(db, mailbox, group, now))


_MOST_BACKLOG = 1_000  # messages that are counted


def backlog(db: Connection, address: str, actor: Actor, now: int) -> int | None:
    """Count the waiting messages of the group named like its mailbox, up to 1 000."""
    mailbox = mailboxes.look(db, address, now)
    if mailbox is None or not (actor.owns(address) or mailbox.may_look(actor)):
        return None
    group = groups.find(db, mailbox, address, now)
    count = 0
    for lane, cursor in enumerate(group.cursors if group is not None else [0, 0, 0]):
        (fresh,) = db.execute(
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
        (held,) = db.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {groups.LEASES} WHERE group_id=? LIMIT ?)",  # noqa: S608  # constant text
            (group.id, _MOST_BACKLOG),
        ).fetchone()
        count += held
    return min(count, _MOST_BACKLOG)


def _group(db: Connection, mailbox: MailboxRow, name: str, now: int) -> GroupStatus:
    group = groups.find(db, mailbox, name, now)
    if group is None:
        waiting = Unread(*messages.count_waiting(db, mailbox, None, now))
        return GroupStatus(name, exists=False, pending=waiting)
    fresh = messages.count_by_lane(db, mailbox, group.cursors)
    outstanding, free, leased = _leases(db, group, now)
    stored = mailbox.messages - mailbox.delayed
    concerning = _concerning(db, mailbox, stored, group.start)
    moved = _moved(db, group)
    return GroupStatus(
        name,
        exists=True,
        pending=Unread(*map(operator.add, fresh, free)),
        leased=leased,
        acked=concerning - outstanding - sum(fresh) - moved,
        moved=moved,
    )


def _moved(db: Connection, group: Group) -> int:
    """Count the stored messages that a group has moved to another mailbox."""
    (count,) = db.execute("SELECT count(*) FROM moves WHERE group_id=?", (group.id,)).fetchone()
    return int(count)


def _seconds(instant: int | None) -> float | None:
    return None if instant is None else instant / 1000


def _concerning(db: Connection, mailbox: MailboxRow, stored: int, start: int) -> int:
    """Count the stored messages from the start of a group on."""
    if start == 0:
        return stored
    return sum(messages.count_by_lane(db, mailbox, [start] * len(PRIORITIES)))


_FREE = ",".join(
    f" coalesce(sum((until_ms IS NULL OR until_ms<=:now) AND priority={lane}), 0)"
    for lane in range(len(PRIORITIES))
)
_LEASES = (
    "WITH ones AS MATERIALIZED (SELECT holder, priority, until_ms"  # noqa: S608  # constant text
    f" FROM {groups.LEASES} WHERE group_id=:group)"
    f" SELECT count(*), {_FREE},"
    " (SELECT json_group_array(json_array(nullif(holder, ''), count, ends)) FROM ("
    "SELECT holder, count(*) AS count, min(until_ms) AS ends FROM ones WHERE until_ms>:now"
    " GROUP BY holder ORDER BY min(until_ms), holder LIMIT :most)) FROM ones"
)


def _leases(db: Connection, group: Group, now: int) -> tuple[int, list[int], tuple[Leased, ...]]:
    """Count the leases of a group, reading each once."""
    count, *free, holders = db.execute(
        _LEASES, {"group": group.id, "now": now, "most": _MOST_HOLDERS}
    ).fetchone()
    leased = (Leased(holder, held, end / 1000) for holder, held, end in orjson.loads(holders))
    return count, free, tuple(leased)


def _history(db: Connection, mailbox: MailboxRow, msg_id: int, now: int) -> MessageHistory:
    """Return the history of a message."""
    receipts = notices.of_message(db, mailbox, msg_id)
    stored = db.execute(
        "SELECT sent_ms, visible_ms, priority, expires_ms, key, moved, answer_by_ms FROM messages"
        " WHERE mailbox=? AND msg_id=?",
        (mailbox.id, msg_id),
    ).fetchone()
    if stored is not None:
        sent_ms, visible_ms, lane, expires_ms, key, moved, answer_by_ms = stored
        return MessageHistory(
            msg_id=msg_id,
            state="stored",
            since=visible_ms / 1000,
            sent=sent_ms / 1000,
            visible=visible_ms / 1000,
            expires=None if expires_ms is None else expires_ms / 1000,
            priority=PRIORITIES[lane],
            key=key,
            answer_by=None if answer_by_ms is None else answer_by_ms // 1000,
            moved=None if moved is None else Moved(**orjson.loads(moved)),
            groups=_standings(db, mailbox, msg_id, lane, now),
            notices=receipts,
        )
    if msg_id >= mailbox.next_msg_id:
        return MessageHistory(msg_id=msg_id, state="unassigned")
    tombstone = db.execute(
        "SELECT reason, removed_ms, sent_ms, visible_ms, priority, replaced_by FROM tombstones"
        " WHERE mailbox=? AND msg_id=?",
        (mailbox.id, msg_id),
    ).fetchone()
    if tombstone is None:
        return MessageHistory(msg_id=msg_id, state="unknown")
    reason, removed_ms, sent_ms, visible_ms, lane, replaced_by = tombstone
    return MessageHistory(
        msg_id=msg_id,
        state=reason,
        since=removed_ms / 1000,
        sent=sent_ms / 1000,
        visible=visible_ms / 1000,
        expires=removed_ms / 1000 if reason == "expired" else None,
        priority=PRIORITIES[lane],
        replaced_by=replaced_by,
        groups=_last_seen(db, mailbox, msg_id, now),
        notices=receipts,
    )


@dataclass(frozen=True, slots=True)
class _Group:
    id: int
    name: str
    start: int
    first_reply: int
    cursors: tuple[int, int, int]


def _known_groups(db: Connection, mailbox: MailboxRow, now: int) -> list[_Group]:
    rows = db.execute(
        "SELECT id, name, start, first_reply, critical, urgent, normal FROM groups"
        " WHERE mailbox=? AND used_ms>? ORDER BY name LIMIT ?",
        (mailbox.id, now - groups.FORGOTTEN_MS, _MOST_GROUPS),
    )
    return [_Group(row[0], row[1], row[2], row[3], row[4:]) for row in rows]


def _standings(
    db: Connection, mailbox: MailboxRow, msg_id: int, lane: int, now: int
) -> tuple[Standing, ...]:
    standings = (
        _standing(db, mailbox, group, msg_id, lane, now)
        for group in _known_groups(db, mailbox, now)
    )
    return tuple(
        one
        for one in standings
        if (one.group_name, one.state) != (REDRIVE_GROUP, "pending")  # no consumer waits for it
    )


def _standing(
    db: Connection, mailbox: MailboxRow, group: _Group, msg_id: int, lane: int, now: int
) -> Standing:
    lease = _lease(db, mailbox, group, msg_id)
    holder, until_ms, deliveries, reason, promise = lease or _Lease(None, None, 0)
    if until_ms is not None and until_ms > now:
        return Standing(
            group_name=group.name,
            state="leased" if holder else "given_back",
            consumer=holder or None,
            until=until_ms / 1000,
            deliveries=deliveries,
            reason=reason,
            promise=promise,
        )
    if lease is not None or msg_id >= group.cursors[lane]:
        return Standing(
            group_name=group.name,
            state="pending",
            deliveries=deliveries,
            reason=reason,
            promise=promise,
            ahead=_count_ahead(db, mailbox, group, msg_id, lane, now),
        )
    if msg_id < group.start:
        return Standing(group_name=group.name, state="skipped")
    row = db.execute(
        "SELECT target, copy, moved FROM moves WHERE group_id=? AND msg_id=?", (group.id, msg_id)
    ).fetchone()
    if row is None:
        return Standing(group_name=group.name, state="acked")
    target, copy, moved = row
    return Standing(
        group_name=group.name,
        state="moved",
        moved_to=target,
        moved_as=copy,
        moved=Moved(**orjson.loads(moved)),
    )


class _Lease(NamedTuple):
    """The lease of a message that a group has received and not acked."""

    holder: str | None
    until_ms: int | None
    deliveries: int
    reason: str | None = None
    promise: Promise | None = None


def _lease(db: Connection, mailbox: MailboxRow, group: _Group, msg_id: int) -> _Lease | None:
    """Return the lease of a stored message in a group, or None."""
    row = db.execute(
        "SELECT holder, until_ms, deliveries, reason, promised_ms, done, promised_by FROM leases"
        " WHERE group_id=? AND msg_id=?",
        (group.id, msg_id),
    ).fetchone()
    if row is not None:
        holder, until_ms, deliveries, reason, *promised = row
        return _Lease(holder, until_ms, deliveries, reason, groups.promise(*promised))
    batch = groups.batch_of_message(
        db, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
    )
    if batch is None or batch.until_ms is None:
        return None
    return _Lease(batch.consumer, batch.until_ms, 1)


def _count_ahead(
    db: Connection, mailbox: MailboxRow, group: _Group, msg_id: int, lane: int, now: int
) -> int:
    """Count the messages that the group would get before a message."""
    (ahead,) = db.execute(
        f"SELECT count(*) FROM {groups.LEASES} WHERE group_id=?"  # noqa: S608  # constant text
        " AND (until_ms IS NULL OR until_ms<=?)"
        " AND (priority, msg_id)<(?, ?)",
        (group.id, now, lane, msg_id),
    ).fetchone()
    ahead += sum(messages.count_by_lane(db, mailbox, group.cursors[:lane]))
    cursor = group.cursors[lane]
    if msg_id > cursor:
        ahead += messages.count_stored(db, mailbox, lane, cursor)
        ahead -= messages.count_stored(db, mailbox, lane, msg_id)
    return int(ahead)


def _last_seen(db: Connection, mailbox: MailboxRow, msg_id: int, now: int) -> tuple[Standing, ...]:
    """Return the last known states of a removed message in the groups that received it."""
    standings = []
    for group in _known_groups(db, mailbox, now):
        deliveries, acked = db.execute(
            "SELECT max(count), max(acked OR acked_by IS NOT NULL) FROM deliveries"
            " WHERE group_id=? AND msg_id=? AND previous IS NULL",
            (group.id, msg_id),
        ).fetchone()
        moved = db.execute(
            "SELECT moved_to, moved_as FROM deliveries"
            " WHERE group_id=? AND msg_id=? AND moved_to IS NOT NULL ORDER BY reply DESC LIMIT 1",
            (group.id, msg_id),
        ).fetchone()
        for batch in groups.batches_ever_of_message(db, mailbox.id, group.id, msg_id):
            deliveries, acked = deliveries or 1, acked or batch.acked_by is not None
        if deliveries is not None:
            state = "acked" if acked else "delivered"
            standing = Standing(group_name=group.name, state=state, deliveries=deliveries)
            if moved is not None:
                standing = replace(standing, state="moved", moved_to=moved[0], moved_as=moved[1])
            standings.append(standing)
    return tuple(standings)


def look(db: Connection, _call: Call[Look], _now: int) -> None:
    """Read something small, to check that reads work."""
    db.execute("SELECT 1 FROM mailboxes LIMIT 1").fetchone()


def count_all(db: Connection, call: Call[CountAll], now: int) -> Totals:
    """Count the contents of the broker.

    Expired mailboxes, groups and agents that are not removed yet do not count; expired messages
    may.
    """
    patterns = call.request.patterns
    at: dict[str, int | str] = {
        "now": now,
        "unused": now - groups.FORGOTTEN_MS,
        "redrive": REDRIVE_GROUP,
    }
    mailbox_count, count, delayed, size = db.execute(
        "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(delayed), 0),"  # noqa: S608  # constant text
        f" coalesce(sum(bytes), 0) FROM mailboxes b WHERE {_EXISTS}",
        at,
    ).fetchone()
    (agent_count,) = db.execute(
        "SELECT count(*) FROM agents WHERE expires_ms IS NULL OR expires_ms>:now", at
    ).fetchone()
    known = f"groups g JOIN mailboxes b ON b.id=g.mailbox WHERE g.used_ms>:unused AND {_EXISTS}"
    (group_count,) = db.execute(
        f"SELECT count(*) FROM {known}",  # noqa: S608  # constant text
        at,
    ).fetchone()
    *removed, dropped = db.execute(
        "SELECT s.expired+sum(m.expired), s.replaced+sum(m.replaced), s.deleted+sum(m.deleted),"
        " s.evicted+sum(m.evicted), s.dropped FROM state s, (SELECT expired, replaced, deleted,"
        " evicted FROM mailboxes UNION ALL SELECT 0, 0, 0, 0) m"
    ).fetchone()
    leases = (_leases_of_source(db, source, at) for source in groups.SOURCES)
    held, *free = map(sum, zip(*leases, strict=True))
    backlog = []
    for lane, (priority, again) in enumerate(zip(PRIORITIES, free, strict=True)):
        waiting = messages.stored_from("b.id", "b.next_msg_id", str(lane), f"g.{priority.value}")
        (fresh,) = db.execute(
            f"SELECT coalesce(sum({waiting}), 0) FROM {known} AND g.name<>:redrive",  # noqa: S608  # constant names
            at,
        ).fetchone()
        backlog.append(fresh + again)
    return Totals(
        mailboxes=mailbox_count,
        agents=agent_count,
        groups=group_count,
        messages=count - delayed,
        delayed=delayed,
        bytes=size,
        leases=held,
        backlog=Unread(*backlog),
        removed=Removed(*removed),
        dropped=dropped,
        named=count_named(db, patterns, call.request.most, now) if patterns else None,
    )


def _leases_of_source(db: Connection, source: str, at: dict[str, int | str]) -> tuple[int, ...]:
    """Count the running leases and, for each priority, the ended ones."""
    counted: tuple[int, ...] = db.execute(
        "SELECT coalesce(sum(l.until_ms>:now AND l.holder<>''), 0),"  # noqa: S608  # constant text
        + ",".join(
            " coalesce(sum((l.until_ms IS NULL OR l.until_ms<=:now) AND g.name<>:redrive"
            f" AND l.priority={lane}), 0)"
            for lane in range(len(PRIORITIES))
        )
        + f" FROM {source} l JOIN groups g ON g.id=l.group_id JOIN mailboxes b ON b.id=l.mailbox"
        f" WHERE g.used_ms>:unused AND {_EXISTS}",
        at,
    ).fetchone()
    return counted
