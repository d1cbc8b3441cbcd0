"""How many messages are stored in a lane from some msg_id on, without looking at each of them.

Triggers of the schema count the messages of each block of successive msg_ids. Of a lane, the blocks
are added up, and what is stored in the block where it begins is counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mq9.engine.mailboxes import Mailbox


def stored_from(mailbox: str, lane: str, first: str) -> str:
    """Return an SQL expression for how many messages a lane has from a msg_id on.

    Args:
        mailbox: An expression for the mailbox.
        lane: For the lane.
        first: For the msg_id, or one that is still to come.
    """
    block = f"(({first}+511)>>9)"  # the first that is counted whole
    return (
        f"((SELECT coalesce(sum(messages), 0) FROM message_counts WHERE mailbox={mailbox}"  # noqa: S608  # constant text
        f" AND priority={lane} AND block>={block})"
        f" + (SELECT count(*) FROM messages WHERE mailbox={mailbox} AND priority={lane}"
        f" AND msg_id>={first} AND msg_id<({block}<<9)))"
    )


_STORED_FROM = f"SELECT {stored_from('?1', '?2', '?3')}"


def stored(connection: sqlite3.Connection, mailbox: Mailbox, lane: int, first: int) -> int:
    """Count what is stored in a lane of a mailbox from a msg_id on."""
    (count,) = connection.execute(_STORED_FROM, (mailbox.id, lane, first)).fetchone()
    return int(count)


def by_lane(connection: sqlite3.Connection, mailbox: Mailbox, cursors: Iterable[int]) -> list[int]:
    """Count what is stored in each lane of a mailbox from its cursor on."""
    return [stored(connection, mailbox, lane, cursor) for lane, cursor in enumerate(cursors)]
