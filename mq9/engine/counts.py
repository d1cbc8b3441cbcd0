"""How many messages are stored in a lane from some msg_id on, without looking at each of them.

Once all msg_ids of a block are given, the messages of each lane in it are counted, and a trigger of
the schema counts those that are removed. Of a lane, the blocks are added up, and what is stored in
the block where it begins and in the one that is not complete is counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mq9.engine.mailbox import Mailbox

_BITS = 9  # of a msg_id, within its block
_BEHIND = (1 << _BITS) - 1


def stored_from(mailbox: str, next_id: str, lane: str, first: str) -> str:
    """Return an SQL expression for how many messages a lane has from a msg_id on.

    Args:
        mailbox: An expression for the mailbox.
        next_id: For the msg_id that it will give next.
        lane: For the lane.
        first: For the msg_id, or one that is still to come.
    """
    block = f"(({first}+{_BEHIND})>>{_BITS})"  # the first that is counted whole
    incomplete = f"(({next_id}>>{_BITS})<<{_BITS})"  # where it begins
    stored = f"SELECT count(*) FROM messages WHERE mailbox={mailbox} AND priority={lane}"  # noqa: S608  # constant text
    return (
        f"((SELECT coalesce(sum(messages), 0) FROM message_counts WHERE mailbox={mailbox}"  # noqa: S608  # constant text
        f" AND priority={lane} AND block>={block})"
        f" + ({stored} AND msg_id>={first} AND msg_id<min({block}<<{_BITS}, {incomplete}))"
        f" + ({stored} AND msg_id>=max({first}, {incomplete})))"
    )


_STORED_FROM = f"SELECT {stored_from('?1', '?2', '?3', '?4')}"


def stored(connection: sqlite3.Connection, mailbox: Mailbox, lane: int, first: int) -> int:
    """Count what is stored in a lane of a mailbox from a msg_id on."""
    (count,) = connection.execute(
        _STORED_FROM, (mailbox.id, mailbox.next_msg_id, lane, first)
    ).fetchone()
    return int(count)


def by_lane(connection: sqlite3.Connection, mailbox: Mailbox, cursors: Iterable[int]) -> list[int]:
    """Count what is stored in each lane of a mailbox from its cursor on."""
    return [stored(connection, mailbox, lane, cursor) for lane, cursor in enumerate(cursors)]


def complete_blocks(connection: sqlite3.Connection, mailbox: Mailbox, since: int) -> None:
    """Count the blocks that were completed since some msg_id was the next to be given."""
    begun, ended = since >> _BITS, mailbox.next_msg_id >> _BITS
    if begun == ended:
        return
    connection.execute(
        "INSERT INTO message_counts (mailbox, priority, block, messages)"  # noqa: S608  # constant text
        f" SELECT mailbox, priority, msg_id>>{_BITS}, count(*)"
        " FROM (SELECT 0 AS lane UNION ALL SELECT 1 UNION ALL SELECT 2) CROSS JOIN messages"
        " ON mailbox=? AND priority=lane AND msg_id>=? AND msg_id<? GROUP BY 1, 2, 3",
        (mailbox.id, begun << _BITS, ended << _BITS),
    )
