"""The history of one message, and where it stands with each group."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

import orjson

from mq9.engine import batches, counts, groups
from mq9.engine.mailbox import Mailbox
from mq9.models import PRIORITIES, MessageHistory, Moved, Standing
from mq9.protocol.reserved import REDRIVE_GROUP

_MOST_GROUPS = 100


def history(
    connection: sqlite3.Connection, mailbox: Mailbox, msg_id: int, now: int
) -> MessageHistory:
    """Tell what happened to a message."""
    stored = connection.execute(
        "SELECT sent_ms, visible_ms, priority, expires_ms, key, moved FROM messages"
        " WHERE mailbox=? AND msg_id=?",
        (mailbox.id, msg_id),
    ).fetchone()
    if stored is not None:
        sent_ms, visible_ms, lane, expires_ms, key, moved = stored
        return MessageHistory(
            msg_id=msg_id,
            state="stored",
            since=visible_ms / 1000,
            sent=sent_ms / 1000,
            visible=visible_ms / 1000,
            expires=None if expires_ms is None else expires_ms / 1000,
            priority=PRIORITIES[lane],
            key=key,
            moved=None if moved is None else Moved(**orjson.loads(moved)),
            groups=_standings(connection, mailbox, msg_id, lane, now),
        )
    if msg_id >= mailbox.next_msg_id:
        return MessageHistory(msg_id=msg_id, state="unassigned")
    tombstone = connection.execute(
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
        groups=_last_seen(connection, mailbox, msg_id, now),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    id: int
    name: str
    start: int
    first_reply: int
    cursors: tuple[int, int, int]


def _known(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> list[_Group]:
    rows = connection.execute(
        "SELECT id, name, start, first_reply, critical, urgent, normal FROM groups"
        " WHERE mailbox=? AND used_ms>? ORDER BY name LIMIT ?",
        (mailbox.id, now - groups.FORGOTTEN_MS, _MOST_GROUPS),
    )
    return [_Group(row[0], row[1], row[2], row[3], row[4:]) for row in rows]


def _standings(
    connection: sqlite3.Connection, mailbox: Mailbox, msg_id: int, lane: int, now: int
) -> tuple[Standing, ...]:
    standings = (
        _standing(connection, mailbox, group, msg_id, lane, now)
        for group in _known(connection, mailbox, now)
    )
    return tuple(
        one
        for one in standings
        if (one.group_name, one.state) != (REDRIVE_GROUP, "pending")  # nobody waits for it
    )


def _standing(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: _Group,
    msg_id: int,
    lane: int,
    now: int,
) -> Standing:
    lease = _lease(connection, mailbox, group, msg_id)
    holder, until_ms, deliveries = lease or (None, None, 0)
    if until_ms is not None and until_ms > now:
        return Standing(
            group_name=group.name,
            state="leased" if holder else "given_back",
            consumer=holder or None,
            until=until_ms / 1000,
            deliveries=deliveries,
        )
    if lease is not None or msg_id >= group.cursors[lane]:
        return Standing(
            group_name=group.name,
            state="pending",
            deliveries=deliveries,
            ahead=_count_ahead(connection, mailbox, group, msg_id, lane, now),
        )
    if msg_id < group.start:
        return Standing(group_name=group.name, state="skipped")
    row = connection.execute(
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


def _lease(
    connection: sqlite3.Connection, mailbox: Mailbox, group: _Group, msg_id: int
) -> tuple[str | None, int | None, int] | None:
    """Return who got a stored message, until when, and how often the group was given it."""
    lease: tuple[str | None, int | None, int] | None = connection.execute(
        "SELECT holder, until_ms, deliveries FROM leases WHERE group_id=? AND msg_id=?",
        (group.id, msg_id),
    ).fetchone()
    if lease is None:
        batch = batches.of_message(
            connection, mailbox.id, group.id, msg_id, group.first_reply, mailbox.next_reply
        )
        if batch is not None and batch.until_ms is not None:
            lease = batch.consumer, batch.until_ms, 1
    return lease


def _count_ahead(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: _Group,
    msg_id: int,
    lane: int,
    now: int,
) -> int:
    """Count what the group would be given before a message."""
    (ahead,) = connection.execute(
        f"SELECT count(*) FROM {batches.LEASES} WHERE group_id=?"  # noqa: S608  # constant text
        " AND (until_ms IS NULL OR until_ms<=?)"
        " AND (priority, msg_id)<(?, ?)",
        (group.id, now, lane, msg_id),
    ).fetchone()
    ahead += sum(counts.by_lane(connection, mailbox, group.cursors[:lane]))
    cursor = group.cursors[lane]
    if msg_id > cursor:
        ahead += counts.stored(connection, mailbox, lane, cursor)
        ahead -= counts.stored(connection, mailbox, lane, msg_id)
    return int(ahead)


def _last_seen(
    connection: sqlite3.Connection, mailbox: Mailbox, msg_id: int, now: int
) -> tuple[Standing, ...]:
    """Tell which groups were given a message that was removed, as long as that is remembered."""
    standings = []
    for group in _known(connection, mailbox, now):
        deliveries, acked = connection.execute(
            "SELECT max(count), max(acked OR acked_by IS NOT NULL) FROM deliveries"
            " WHERE group_id=? AND msg_id=? AND previous IS NULL",
            (group.id, msg_id),
        ).fetchone()
        moved = connection.execute(
            "SELECT moved_to, moved_as FROM deliveries"
            " WHERE group_id=? AND msg_id=? AND moved_to IS NOT NULL ORDER BY reply DESC LIMIT 1",
            (group.id, msg_id),
        ).fetchone()
        for batch in batches.ever_of_message(connection, mailbox.id, group.id, msg_id):
            deliveries, acked = deliveries or 1, acked or batch.acked_by is not None
        if deliveries is not None:
            state = "acked" if acked else "delivered"
            standing = Standing(group_name=group.name, state=state, deliveries=deliveries)
            if moved is not None:
                standing = replace(standing, state="moved", moved_to=moved[0], moved_as=moved[1])
            standings.append(standing)
    return tuple(standings)
