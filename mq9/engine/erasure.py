"""Mailboxes removed with all that is in them, a bounded part at a time."""

from __future__ import annotations

import sqlite3

from mq9.engine import registry

# What belongs to a mailbox: table and key.
_OF_A_MAILBOX = (
    ("messages", "mailbox, msg_id"),
    ("delayed", "id"),
    ("sent_ids", "mailbox, id"),
    ("tombstones", "mailbox, msg_id"),
    ("leases", "group_id, msg_id"),
    ("moves", "group_id, msg_id"),
    ("replies", "mailbox, number"),
    ("deliveries", "mailbox, reply, msg_id"),
    ("groups", "id"),
)
_ERASED_AT_ONCE = 1_000  # rows of a mailbox; what is more is left to the sweep
_ERASED_BYTES = 16 * 1024 * 1024  # and of their payloads


def erase(connection: sqlite3.Connection, mailbox_id: int) -> int:
    """Remove a mailbox with all that is in it and the registrations bound to it.

    It is removed at once. Of what was in it the rows that are too many go with the next sweeps.

    Returns:
        How many rows were removed.
    """
    removed = registry.remove(
        connection,
        "(mailbox, generation)=(SELECT address, generation FROM mailboxes WHERE id=?)",
        (mailbox_id,),
    )
    connection.execute(
        "UPDATE state SET expired=state.expired+m.expired, replaced=state.replaced+m.replaced,"
        " deleted=state.deleted+m.deleted, evicted=state.evicted+m.evicted,"
        " dropped=dropped+m.messages FROM mailboxes m WHERE m.id=?",
        (mailbox_id,),
    )
    connection.execute("DELETE FROM mailboxes WHERE id=?", (mailbox_id,))
    rows, is_all = _erase_rows(connection, mailbox_id, _ERASED_AT_ONCE)
    if not is_all:
        connection.execute("INSERT INTO erased VALUES (?)", (mailbox_id,))
    return len(removed) + 1 + rows


def _erase_rows(connection: sqlite3.Connection, mailbox_id: int, most: int) -> tuple[int, bool]:
    """Remove some of what was in a mailbox; how many rows, and whether that was all."""
    removed = 0
    for table, key in _OF_A_MAILBOX:
        room = most - removed
        if table in {"messages", "delayed"}:
            room = min(room, _first_rows(connection, table, key, mailbox_id, room))
        removed += connection.execute(
            f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  # constant names
            f" (SELECT {key} FROM {table} WHERE mailbox=? ORDER BY {key} LIMIT ?)",
            (mailbox_id, room),
        ).rowcount
        if removed == most or _holds(connection, table, mailbox_id):
            return removed, False
    return removed, True


def _holds(connection: sqlite3.Connection, table: str, mailbox_id: int) -> bool:
    row = connection.execute(
        f"SELECT 1 FROM {table} WHERE mailbox=? LIMIT 1",  # noqa: S608  # constant names
        (mailbox_id,),
    ).fetchone()
    return row is not None


def _first_rows(
    connection: sqlite3.Connection, table: str, key: str, mailbox_id: int, most: int
) -> int:
    """Count the rows, at least one, whose payloads are together not too large."""
    sizes = connection.execute(
        f"SELECT size FROM {table} WHERE mailbox=? ORDER BY {key} LIMIT ?",  # noqa: S608  # constant names
        (mailbox_id, most),
    )
    count = total = 0
    for (size,) in sizes:
        total += size
        if count and total > _ERASED_BYTES:
            break
        count += 1
    return count


def erase_rest(connection: sqlite3.Connection, most: int) -> int:
    """Remove some of what is left of removed mailboxes.

    Returns:
        How many rows; at least ``most`` while something is left.
    """
    removed = 0
    while removed < most:
        row = connection.execute("SELECT mailbox FROM erased ORDER BY mailbox LIMIT 1").fetchone()
        if row is None:
            return removed
        rows, is_all = _erase_rows(connection, row[0], most - removed)
        removed += rows
        if not is_all:
            return max(removed, most)
        connection.execute("DELETE FROM erased WHERE mailbox=?", row)
    return removed


def erase_expired(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Remove mailboxes whose TTL has passed, the oldest first; how many rows."""
    expired = connection.execute(
        "SELECT id FROM mailboxes WHERE expires_ms<=? ORDER BY expires_ms, id LIMIT ?", (now, most)
    ).fetchall()
    removed = 0
    for (mailbox_id,) in expired:
        removed += erase(connection, mailbox_id)
        if removed >= most:
            break
    return removed
