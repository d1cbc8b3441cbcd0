"""What is remembered of FETCH replies, how much that takes, and when it is forgotten.

Each message that is delivered for the first time has its place in a reply, so that these grow with
what is sent. What a group is given again has a budget, since it can fetch that as often as it
likes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from mq9.engine import batches
from mq9.engine.commands import Call, consumer_of
from mq9.engine.groups import Group
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.errors import LimitReached
from mq9.protocol.requests import Fetch

# A lost reply is asked for again within seconds; a finished one is remembered for much longer.
REMEMBERED_MS = 3_600_000
_FORGOTTEN_AT_ONCE = 1_000  # replies that a FETCH makes room by removing
_REPLY_BYTES = 256  # of a reply in the tables and their indexes, beside the names in it
_MESSAGE_BYTES = 64  # at the most, of each message in it


def cost(group: Group, call: Call[Fetch], given: Sequence[tuple[int, int, int, bool, int]]) -> int:
    """Return how many bytes a reply takes for what the group had been given before.

    Args:
        group: The group, as it was before.
        call: What asks for the reply.
        given: What is in it, each beginning with lane and msg_id.
    """
    new_from = [max(cursor, group.reached) for cursor in group.cursors]
    again = sum(one[1] < new_from[one[0]] for one in given)
    size = again * _MESSAGE_BYTES
    if again == len(given):
        names = len(consumer_of(call).encode()) + len((call.request.request_id or "").encode())
        size += _REPLY_BYTES + 4 * names  # in an index as well, long ones in pages of their own
    return size


def charge(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    call: Call[Fetch],
    size: int,
    now: int,
    limits: Limits,
) -> None:
    """Count what a reply takes for what the group had been given before.

    Raises:
        LimitReached: Together with what is remembered it would be too much.
    """
    if group.redelivered + size > limits.max_redelivered:
        finished = _finished(connection, now, _FORGOTTEN_AT_ONCE, group)
        group.redelivered -= _remove(connection, finished)[group.id]
    if group.redelivered + size > limits.max_redelivered:
        raise LimitReached(
            f"max_redelivered: {group.redelivered} bytes for redeliveries to group "
            f"{call.request.group_name} of {mailbox.address}, and {size} for this one, are more "
            f"than {limits.max_redelivered}; ack what is held, or wait: they are kept for an hour"
        )
    group.redelivered += size
    group.save(connection)


def forget(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Forget replies that need no longer be remembered, the oldest first; how many."""
    finished = _finished(connection, now, most)
    _remove(connection, finished)
    return len(finished)


_Finished = tuple[int, int, int, int]  # a reply's mailbox, number, group and cost


def _finished(
    connection: sqlite3.Connection, now: int, most: int, group: Group | None = None
) -> list[_Finished]:
    """Find old replies of which nothing is outstanding that was not delivered again since."""
    of_group, order = "", "made_ms, mailbox, number"
    if group is not None:
        of_group, order = "group_id=? AND", "number"
    values = (() if group is None else (group.id,)) + (now - REMEMBERED_MS, most)
    return connection.execute(
        f"SELECT mailbox, number, group_id, cost FROM replies r WHERE {of_group} made_ms<=?"  # noqa: S608  # constant text
        f" AND NOT {batches.IS_LEASED}"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id AND d.reply IN (l.reply, l.granted)"
        " WHERE d.mailbox=r.mailbox AND d.reply=r.number)"
        # By this one a later one is found.
        " AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN replies n"
        " ON n.mailbox=d.mailbox AND n.number=d.latest"
        f" WHERE d.mailbox=r.mailbox AND d.reply=r.number) ORDER BY {order} LIMIT ?",
        values,
    ).fetchall()


def _remove(connection: sqlite3.Connection, finished: list[_Finished]) -> Counter[int]:
    """Remove replies; what they took, by group."""
    numbers = [(mailbox, number) for mailbox, number, *_ in finished]
    connection.executemany("DELETE FROM deliveries WHERE mailbox=? AND reply=?", numbers)
    connection.executemany("DELETE FROM replies WHERE mailbox=? AND number=?", numbers)
    freed: Counter[int] = Counter()
    for _, _, group_id, size in finished:
        freed[group_id] += size
    connection.executemany(
        "UPDATE groups SET redelivered=redelivered-? WHERE id=?",
        [(size, group_id) for group_id, size in freed.items() if size],
    )
    return freed
