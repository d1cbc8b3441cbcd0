"""What is forgotten, and when: one bounded pass over everything that has an age."""

from __future__ import annotations

import sqlite3

from mq9.engine import agents, groups, mailboxes, messages, store
from mq9.engine.commands import Limits, Sweep

DAY_MS = 86_400_000
GONE_MS = 7 * DAY_MS
# A lost reply is asked for again within seconds; a finished one is remembered for much longer.
REPLY_MS = 3_600_000


def sweep(connection: sqlite3.Connection, command: Sweep, now: int, _limits: Limits) -> int:
    """Remove what has expired or need no longer be remembered; how many rows went."""
    most = command.most
    swept = mailboxes.erase_expired(connection, now, most)
    swept += mailboxes.erase_rest(connection, most)
    swept += mailboxes.settle_due(connection, now, most)
    swept += agents.remove_expired(connection, now, most)
    remembered = now - messages.IDEMPOTENCY_MS
    swept += _forget(
        connection, "sent_ids", "sent_ms", ("mailbox", "sender", "id"), remembered, most
    )
    swept += _forget(connection, "gone", "gone_ms", ("mailbox", "msg_id"), now - GONE_MS, most)
    swept += _forget_groups(connection, now, most)
    swept += _forget_replies(connection, now, most)
    return swept + store.give_back_pages(connection, most)


def _forget(
    connection: sqlite3.Connection,
    table: str,
    instant: str,
    key: tuple[str, ...],
    until: int,
    most: int,
) -> int:
    """Remove the oldest rows of a table, up to an instant; how many."""
    old = connection.execute(
        f"SELECT {', '.join(key)} FROM {table} WHERE {instant}<=? ORDER BY {instant} LIMIT ?",  # noqa: S608  # constant names
        (until, most),
    ).fetchall()
    is_it = " AND ".join(f"{column}=?" for column in key)
    connection.executemany(f"DELETE FROM {table} WHERE {is_it}", old)  # noqa: S608  # constant names
    return len(old)


def _forget_groups(connection: sqlite3.Connection, now: int, most: int) -> int:
    unused = connection.execute(
        "SELECT id FROM groups WHERE used_ms<=? ORDER BY used_ms, id LIMIT ?",
        (now - groups.FORGOTTEN_MS, most),
    ).fetchall()
    return sum(groups.erase(connection, group_id) for (group_id,) in unused)


def _forget_replies(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Forget replies of which nothing is outstanding that was not handed out again since."""
    finished = connection.execute(
        "SELECT mailbox, number FROM replies r WHERE made_ms<=? AND NOT EXISTS ("
        "SELECT 1 FROM handed h JOIN leases l"
        " ON l.group_id=h.group_id AND l.msg_id=h.msg_id AND l.reply=h.reply"
        " WHERE h.mailbox=r.mailbox AND h.reply=r.number) ORDER BY made_ms LIMIT ?",
        (now - REPLY_MS, most),
    ).fetchall()
    connection.executemany("DELETE FROM handed WHERE mailbox=? AND reply=?", finished)
    connection.executemany("DELETE FROM replies WHERE mailbox=? AND number=?", finished)
    return len(finished)
