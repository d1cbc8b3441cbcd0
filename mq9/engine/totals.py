"""How much a broker holds, of everything."""

from __future__ import annotations

import sqlite3

from mq9.engine import batches, counts, groups, handlers
from mq9.engine.commands import Call, CountAll, Look
from mq9.models import PRIORITIES, Removed, Totals, Unread
from mq9.protocol.reserved import REDRIVE_GROUP

_THERE = "(b.expires_ms IS NULL OR b.expires_ms>:now)"  # a mailbox b


@handlers.query(Look)
def look(connection: sqlite3.Connection, _call: Call[Look], _now: int) -> None:
    """Read something small."""
    connection.execute("SELECT 1 FROM mailboxes LIMIT 1").fetchone()


@handlers.query(CountAll)
def count(connection: sqlite3.Connection, _call: Call[CountAll], now: int) -> Totals:
    """Count everything, but for what has expired and was not removed yet, give or take messages."""
    at: dict[str, int | str] = {
        "now": now,
        "unused": now - groups.FORGOTTEN_MS,
        "redrive": REDRIVE_GROUP,
    }
    mailboxes, messages, delayed, size = connection.execute(
        "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(delayed), 0),"  # noqa: S608  # constant text
        f" coalesce(sum(bytes), 0) FROM mailboxes b WHERE {_THERE}",
        at,
    ).fetchone()
    (agents,) = connection.execute(
        "SELECT count(*) FROM agents WHERE expires_ms IS NULL OR expires_ms>:now", at
    ).fetchone()
    known = f"groups g JOIN mailboxes b ON b.id=g.mailbox WHERE g.used_ms>:unused AND {_THERE}"
    (group_count,) = connection.execute(
        f"SELECT count(*) FROM {known}",  # noqa: S608  # constant text
        at,
    ).fetchone()
    *removed, dropped = connection.execute(
        "SELECT s.expired+sum(m.expired), s.replaced+sum(m.replaced), s.deleted+sum(m.deleted),"
        " s.evicted+sum(m.evicted), s.dropped FROM state s, (SELECT expired, replaced, deleted,"
        " evicted FROM mailboxes UNION ALL SELECT 0, 0, 0, 0) m"
    ).fetchone()
    held, *free = map(
        sum, zip(*(_leases(connection, source, at) for source in batches.SOURCES), strict=True)
    )
    backlog = []
    for lane, (priority, again) in enumerate(zip(PRIORITIES, free, strict=True)):
        waiting = counts.stored_from("b.id", "b.next_msg_id", str(lane), f"g.{priority.value}")
        (fresh,) = connection.execute(
            f"SELECT coalesce(sum({waiting}), 0) FROM {known} AND g.name<>:redrive",  # noqa: S608  # constant names
            at,
        ).fetchone()
        backlog.append(fresh + again)
    return Totals(
        mailboxes=mailboxes,
        agents=agents,
        groups=group_count,
        messages=messages - delayed,
        delayed=delayed,
        bytes=size,
        leases=held,
        backlog=Unread(*backlog),
        removed=Removed(*removed),
        dropped=dropped,
    )


def _leases(
    connection: sqlite3.Connection, source: str, at: dict[str, int | str]
) -> tuple[int, ...]:
    """Count leases that run and, of each priority, those that are over."""
    counted: tuple[int, ...] = connection.execute(
        "SELECT coalesce(sum(l.until_ms>:now AND l.holder<>''), 0),"  # noqa: S608  # constant text
        + ",".join(
            " coalesce(sum((l.until_ms IS NULL OR l.until_ms<=:now) AND g.name<>:redrive"
            f" AND l.priority={lane}), 0)"
            for lane in range(len(PRIORITIES))
        )
        + f" FROM {source} l JOIN groups g ON g.id=l.group_id JOIN mailboxes b ON b.id=l.mailbox"
        f" WHERE g.used_ms>:unused AND {_THERE}",
        at,
    ).fetchone()
    return counted
