"""Counts of single mailboxes, for metrics."""

from __future__ import annotations

from sqlite3 import Connection

import orjson

from mq9.engine import groups, messages
from mq9.models import PRIORITIES, MailboxTotals, NamedTotals
from mq9.protocol.reserved import REDRIVE_GROUP

_NAMED = (
    "(b.expires_ms IS NULL OR b.expires_ms>:now)"
    " AND EXISTS (SELECT 1 FROM json_each(:patterns) WHERE b.address GLOB value)"
)
_OF_GROUPS = (
    " JOIN mailboxes b ON b.id=g.mailbox WHERE g.used_ms>:unused AND b.id IN"
    " (SELECT value FROM json_each(:ids)) "
)


def count_named(db: Connection, patterns: tuple[str, ...], most: int, now: int) -> NamedTotals:
    """Count the first mailboxes, by address, that match one of the patterns."""
    # GLOB writes the complement of a set with ^, and patterns of addresses with !.
    globs = orjson.dumps([one.replace("[!", "[^") for one in patterns]).decode()
    at: dict[str, int | str] = {"now": now, "patterns": globs, "most": most}
    rows = db.execute(
        "SELECT b.id, b.address, b.messages-b.delayed, b.delayed, b.bytes FROM mailboxes b"  # noqa: S608  # constant text
        f" WHERE {_NAMED} ORDER BY b.address LIMIT :most",
        at,
    ).fetchall()
    (matching,) = db.execute(
        f"SELECT count(*) FROM mailboxes b WHERE {_NAMED}",  # noqa: S608  # constant text
        at,
    ).fetchone()
    at |= {
        "ids": orjson.dumps([row[0] for row in rows]).decode(),
        "unused": now - groups.FORGOTTEN_MS,
        "redrive": REDRIVE_GROUP,
    }
    held, backlog = _leases(db, at)
    for lane, priority in enumerate(PRIORITIES):
        waiting = messages.stored_from("b.id", "b.next_msg_id", str(lane), f"g.{priority.value}")
        for mailbox, fresh in db.execute(
            f"SELECT b.id, sum({waiting}) FROM groups g{_OF_GROUPS}"  # noqa: S608  # constant names
            "AND g.name<>:redrive GROUP BY b.id",
            at,
        ):
            backlog[mailbox] = backlog.get(mailbox, 0) + fresh
    counted = tuple(
        MailboxTotals(
            mail_address=address,
            messages=visible,
            delayed_messages=delayed,
            stored_bytes=size,
            leases=held.get(mailbox, 0),
            backlog=backlog.get(mailbox, 0),
        )
        for mailbox, address, visible, delayed, size in rows
    )
    return NamedTotals(counted, matching - len(counted))


def _leases(db: Connection, at: dict[str, int | str]) -> tuple[dict[int, int], dict[int, int]]:
    """Count the running and the ended leases of each mailbox."""
    running: dict[int, int] = {}
    ended: dict[int, int] = {}
    for source in groups.SOURCES:
        for mailbox, held, free in db.execute(
            "SELECT l.mailbox, sum(l.until_ms>:now AND l.holder<>''),"  # noqa: S608  # constant text
            " sum((l.until_ms IS NULL OR l.until_ms<=:now) AND g.name<>:redrive)"
            f" FROM {source} l JOIN groups g ON g.id=l.group_id{_OF_GROUPS}GROUP BY l.mailbox",
            at,
        ):
            running[mailbox] = running.get(mailbox, 0) + (held or 0)
            ended[mailbox] = ended.get(mailbox, 0) + (free or 0)
    return running, ended
