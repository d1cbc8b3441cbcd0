"""What is forgotten, and when: one bounded pass over everything that has an age."""

from __future__ import annotations

import sqlite3

from mq9.engine import agents, erasure, groups, handlers, idempotency, mailboxes, replies
from mq9.engine.commands import Call, Sweep
from mq9.engine.limits import Limits

DAY_MS = 86_400_000
TOMBSTONES_MS = 7 * DAY_MS


@handlers.command(Sweep)
def sweep(connection: sqlite3.Connection, call: Call[Sweep], now: int, _limits: Limits) -> int:
    """Remove what has expired or need no longer be remembered; how many rows went."""
    most = call.request.most
    swept = erasure.erase_expired(connection, now, most)
    swept += erasure.erase_rest(connection, most)
    swept += mailboxes.advance_due(connection, now, most)
    swept += agents.remove_expired(connection, now, most)
    swept += idempotency.forget(connection, now, most)
    swept += _forget_fates(connection, now, most)
    swept += _forget_groups(connection, now, most)
    return swept + replies.forget(connection, now, most)


def _forget_fates(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Forget what became of messages that went long ago."""
    old = connection.execute(
        "SELECT mailbox, msg_id FROM tombstones WHERE removed_ms<=?"
        " ORDER BY removed_ms, mailbox, msg_id LIMIT ?",
        (now - TOMBSTONES_MS, most),
    ).fetchall()
    connection.executemany("DELETE FROM tombstones WHERE mailbox=? AND msg_id=?", old)
    return len(old)


def _forget_groups(connection: sqlite3.Connection, now: int, most: int) -> int:
    unused = connection.execute(
        "SELECT id FROM groups WHERE used_ms<=? ORDER BY used_ms, id LIMIT ?",
        (now - groups.FORGOTTEN_MS, most),
    ).fetchall()
    return sum(groups.erase(connection, group_id) for (group_id,) in unused)
