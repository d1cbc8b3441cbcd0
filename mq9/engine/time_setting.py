"""Sets the time of a state that has come too far, or goes on behind, and loses no message.

This is no command: it is done by an operator, to a file that is no replica.
"""

from __future__ import annotations

import sqlite3

from mq9.engine.position import Position, move, position

# What has happened: now, where that was later. The others are put below.
PAST = {
    "mailboxes": ("visible_ms",),
    "messages": ("visible_ms", "sent_ms"),
    "delayed": ("sent_ms",),
    "sent_ids": ("sent_ms",),
    "tombstones": ("removed_ms", "sent_ms", "visible_ms"),
    "groups": ("used_ms",),
    "replies": ("made_ms",),
    "agents": ("seen_ms",),
}
# What is to come, by the column and by what it becomes where it is later than that. A duration
# counts from now: a TTL from the last renewal, that of a message and its delay from the sending.
FUTURE = {
    ("mailboxes", "expires_ms"): ":now + ttl_s * 1000",
    ("mailboxes", "changes_ms"): ":now",  # it is only a lower bound
    ("messages", "expires_ms"): ":now + expires_ms - sent_ms",
    ("delayed", "expires_ms"): ":now + expires_ms - sent_ms",
    ("delayed", "due_ms"): ":now + due_ms - sent_ms",
    ("agents", "expires_ms"): ":now + ttl_s * 1000",
    ("leases", "until_ms"): "max(:now, until_ms - :back)",
    ("replies", "until_ms"): "max(:now, until_ms - :back)",
}


def set_time(connection: sqlite3.Connection, now_ms: int) -> None:
    """Set the time of a state.

    Ahead, nothing but the time is set: what is over by then ends when it is looked at next. Back,
    everything that is stored stays; nothing has happened in the future, and what is to come is no
    further away than it was when it began.

    Args:
        connection: The database, inside a transaction.
        now_ms: The time, in milliseconds since the Unix epoch.
    """
    applied, was_ms = position(connection)
    move(connection, Position(applied + 1, now_ms))
    if now_ms >= was_ms:
        return
    values = {"now": now_ms, "back": was_ms - now_ms}
    for (table, column), limit in FUTURE.items():  # before the sending is changed
        connection.execute(
            f"UPDATE {table} SET {column}={limit} WHERE {column} > {limit}",  # noqa: S608  # constant
            values,
        )
    for table, columns in PAST.items():
        for column in columns:
            connection.execute(
                f"UPDATE {table} SET {column}=:now WHERE {column} > :now",  # noqa: S608  # constant
                values,
            )
