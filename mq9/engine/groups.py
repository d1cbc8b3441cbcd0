"""Consumer groups: their starts, cursors and whole batches.

Within a lane a new message has the highest id so far. So the progress of a group is one cursor per
lane, and one row of leases for each delivered message without an ack.

A FETCH reply of messages that are all new to the group is stored as one row: a whole batch. It
stands for the leases and deliveries of its messages. The ACK of the whole batch changes that row.
Code that treats a message of a batch apart from the others splits the batch first. Then the same
rows exist as without batches.

In each lane, a whole batch has all stored messages between two cursors of its group. Between two
resets the cursors never go back from one reply to the next, so a binary search finds the batch of a
message. A removed message is no longer leased and its msg_id is never reused. So a removal does not
change whole batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

import orjson

from mq9.engine.commands import Limits
from mq9.engine.mailboxes import MailboxRow
from mq9.errors import LimitReached
from mq9.models import Deliver, Promise
from mq9.protocol.requests import Fetch

# A group is kept for a month after its last use, which is stored at most once an hour.
USE_GRAIN_MS = 3_600_000
FORGOTTEN_MS = 30 * 86_400_000 + USE_GRAIN_MS  # without use
_CURSORS = ("critical", "urgent", "normal")  # columns of groups and replies, by lane
_BY_LANE = "CASE lane WHEN 0 THEN r.critical{0} WHEN 1 THEN r.urgent{0} ELSE r.normal{0} END"
# The messages of a whole batch r that are still stored. Because of the cross joins, SQLite does not
# begin with the messages, and skips the lanes without messages of the batch.
STORED = (
    "(SELECT 0 AS lane UNION ALL SELECT 1 UNION ALL SELECT 2)"
    f" CROSS JOIN messages m ON {_BY_LANE.format('_from')}<{_BY_LANE.format('')}"
    " AND m.mailbox=r.mailbox AND m.priority=lane"
    f" AND m.msg_id>={_BY_LANE.format('_from')} AND m.msg_id<{_BY_LANE.format('')}"
)
# Whether a whole batch r has leases.
IS_LEASED = f"(r.until_ms IS NOT NULL AND EXISTS (SELECT 1 FROM {STORED}))"  # noqa: S608  # constant text
# Whether a whole batch r has leases and contains the message w of the lane w.lane.
HOLDS_MESSAGE = (
    "r.until_ms IS NOT NULL AND w.msg_id BETWEEN r.lowest AND r.highest AND w.msg_id>="
    f"{_BY_LANE.format('_from').replace(' lane ', ' w.lane ')} AND w.msg_id<"
    f"{_BY_LANE.format('').replace(' lane ', ' w.lane ')}"
)
_LEASES = (
    "SELECT r.group_id, m.msg_id, r.mailbox, m.priority, r.consumer AS holder, r.until_ms,"  # noqa: S608  # constant text
    " 1 AS deliveries, r.number AS reply, r.number AS granted, 0 AS returned, r.begun, 0 AS deaths,"
    " NULL AS reason, NULL AS promised_ms, NULL AS done, NULL AS promised_by"
    f" FROM replies r CROSS JOIN {STORED} WHERE r.until_ms IS NOT NULL"
)
# All leases, for reading: of single messages, and of those in whole batches.
LEASES = (
    "(SELECT group_id, msg_id, mailbox, priority, holder, until_ms, deliveries, reply, granted,"  # noqa: S608  # constant text
    " returned, begun, deaths, reason, promised_ms, done, promised_by FROM leases"
    f" UNION ALL {_LEASES})"
)
SOURCES = ("leases", f"({_LEASES})")  # the same, as two sources
_DELIVERIES = (
    "SELECT r.mailbox, r.number, j.value, j.key, r.group_id, NULL, NULL, 1, 0, r.acked_by, NULL,"
    " NULL FROM replies r CROSS JOIN json_each(r.ids) j WHERE r.ids IS NOT NULL"
)
_BATCH_COLUMNS = "mailbox, number, consumer, ids, until_ms, acked_by"


@dataclass(slots=True)
class Group:
    """A row of groups; ``cursors`` are by lane."""

    id: int
    start: int
    cursors: list[int]
    first_reply: int
    used_ms: int
    reached: int = 0
    redelivered: int = 0

    def save(self, db: Connection) -> None:
        """Write all columns that can change."""
        db.execute(
            "UPDATE groups SET start=?, critical=?, urgent=?, normal=?, first_reply=?, used_ms=?,"
            " reached=?, redelivered=? WHERE id=?",
            (
                *(self.start, *self.cursors, self.first_reply, self.used_ms),
                *(self.reached, self.redelivered, self.id),
            ),
        )

    def note_use(self, db: Connection, now: int) -> None:
        """Store the instant of the last use, if that is due."""
        if self.is_use_due(now):
            self.used_ms = now
            self.save(db)

    def is_use_due(self, now: int) -> bool:
        """Tell whether the use of the group must be stored."""
        return now - self.used_ms >= USE_GRAIN_MS


def find(db: Connection, mailbox: MailboxRow, name: str, now: int) -> Group | None:
    """Return a group of a mailbox, unless it has not been used for a month."""
    row = db.execute(
        "SELECT id, start, critical, urgent, normal, first_reply, used_ms, reached, redelivered"
        " FROM groups WHERE mailbox=? AND name=? AND used_ms>?",
        (mailbox.id, name, now - FORGOTTEN_MS),
    ).fetchone()
    if row is None:
        return None
    group_id, start, *cursors, first_reply, used_ms, reached, redelivered = row
    return Group(group_id, start, cursors, first_reply, used_ms, reached, redelivered)


def create(
    db: Connection, mailbox: MailboxRow, name: str, start: int, now: int, limits: Limits
) -> Group:
    """Create a group that starts at a msg_id."""
    forgotten = db.execute(
        "SELECT id FROM groups WHERE mailbox=? AND name=?", (mailbox.id, name)
    ).fetchone()
    if forgotten is not None:
        erase(db, *forgotten)
        mailbox.evict_from = 0
    _refuse_too_many(db, mailbox, now, limits)
    group_id = db.execute(
        "INSERT INTO groups (mailbox, name, start, critical, urgent, normal, first_reply, used_ms)"
        " VALUES (?,?,?,?,?,?,?,?)",
        (mailbox.id, name, start, start, start, start, mailbox.next_reply, now),
    ).lastrowid
    assert group_id is not None  # noqa: S101  # a row was inserted
    return Group(group_id, start, [start] * 3, mailbox.next_reply, now)


def _refuse_too_many(db: Connection, mailbox: MailboxRow, now: int, limits: Limits) -> None:
    (count,) = db.execute(
        "SELECT count(*) FROM groups WHERE mailbox=? AND used_ms>?",
        (mailbox.id, now - FORGOTTEN_MS),
    ).fetchone()
    if count >= limits.max_groups:
        raise LimitReached(
            f"max_groups: {count} groups of {mailbox.address} reach the limit of "
            f"{limits.max_groups}"
        )


def erase(db: Connection, group_id: int) -> int:
    """Remove a group with all its rows; return how many."""
    db.execute(
        "UPDATE mailboxes SET evict_from=0 WHERE id=(SELECT mailbox FROM groups WHERE id=?)",
        (group_id,),
    )
    removed = 1
    for condition in (
        "leases WHERE group_id=?",
        "moves WHERE group_id=?",
        (
            "deliveries WHERE (mailbox, reply) IN"
            " (SELECT mailbox, number FROM replies WHERE group_id=?)"
        ),
        "replies WHERE group_id=?",
    ):
        removed += db.execute(
            f"DELETE FROM {condition}",  # noqa: S608  # constant text
            (group_id,),
        ).rowcount
    db.execute("DELETE FROM groups WHERE id=?", (group_id,))
    return removed


def reset(db: Connection, mailbox: MailboxRow, group: Group, start: int, now: int) -> None:
    """Remove a group's cursors, leases and acks, and void its batch tokens."""
    db.execute("DELETE FROM leases WHERE group_id=?", (group.id,))
    db.execute("DELETE FROM moves WHERE group_id=?", (group.id,))
    db.execute(
        "UPDATE replies SET until_ms=NULL WHERE group_id=? AND until_ms IS NOT NULL", (group.id,)
    )
    mailbox.may_evict(db, 0)
    group.start = start
    group.reached = max(group.reached, *group.cursors)
    group.cursors = [start] * 3
    group.first_reply = mailbox.next_reply
    group.used_ms = now
    group.save(db)


def start_position(db: Connection, mailbox: MailboxRow, wanted: Fetch, now: int) -> int:
    """Return the first msg_id for a group or a read; it may be the next to arrive."""
    if wanted.deliver is Deliver.EARLIEST:
        return 0
    if wanted.deliver is Deliver.FROM_ID and wanted.from_id is not None:
        return min(wanted.from_id, mailbox.next_msg_id)
    row = None
    if wanted.deliver is Deliver.LATEST:
        row = db.execute(
            "SELECT msg_id FROM messages WHERE mailbox=?"
            " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id DESC LIMIT 1",
            (mailbox.id, now),
        ).fetchone()
    elif wanted.deliver is Deliver.FROM_TIME and wanted.from_time is not None:
        row = db.execute(
            "SELECT msg_id FROM messages WHERE mailbox=? AND msg_id>=?"
            " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id LIMIT 1",
            (mailbox.id, first_since(db, mailbox, wanted.from_time * 1000), now),
        ).fetchone()
    return mailbox.next_msg_id if row is None else int(row[0])


def first_since(db: Connection, mailbox: MailboxRow, instant: int) -> int:
    """Return the first msg_id that became visible at an instant or later."""
    low, high = 0, mailbox.next_msg_id
    while low < high:
        middle = (low + high) // 2
        row = db.execute(
            "SELECT msg_id, visible_ms FROM messages WHERE mailbox=? AND msg_id>=?"
            " ORDER BY msg_id LIMIT 1",
            (mailbox.id, middle),
        ).fetchone()
        if row is None or row[1] >= instant:
            high = middle
        else:
            low = int(row[0]) + 1
    return low


def promise(promised_ms: int | None, done: str | None, by: str | None) -> Promise | None:
    """Return the promise in the columns of a lease, or None."""
    return None if promised_ms is None else Promise(until=promised_ms // 1000, done=done, by=by)


def token(mailbox: MailboxRow, number: int) -> str:
    """Return the batch token of a reply."""
    return f"{mailbox.generation}-{number}"


@dataclass(frozen=True, slots=True)
class Batch:
    """A whole batch: a reply that is stored as one row."""

    mailbox: int
    number: int  # of the reply
    consumer: str
    msg_ids: list[int]
    until_ms: int | None  # the end of its lease; None after an ack or a reset
    acked_by: int | None  # the msg_id of the ACK that confirmed all of it

    def is_held(self, now: int) -> bool:
        """Tell whether its lease still runs."""
        return self.until_ms is not None and self.until_ms > now


def batch_at(db: Connection, mailbox_id: int, number: int) -> Batch | None:
    """Return a reply as a whole batch; None if it is not one."""
    row = db.execute(
        f"SELECT {_BATCH_COLUMNS} FROM replies WHERE mailbox=? AND number=? AND ids IS NOT NULL",  # noqa: S608  # constant columns
        (mailbox_id, number),
    ).fetchone()
    if row is None:
        return None
    mailbox, number, consumer, ids, until_ms, acked_by = row
    return Batch(mailbox, number, consumer, orjson.loads(ids), until_ms, acked_by)


def batch_of_message(
    db: Connection, mailbox_id: int, group_id: int, msg_id: int, first: int, end: int
) -> Batch | None:
    """Find a message's whole batch among replies between two resets, ``end`` excluded."""
    row = db.execute(
        "SELECT priority FROM messages WHERE mailbox=? AND msg_id=?", (mailbox_id, msg_id)
    ).fetchone()
    for cursor in _CURSORS if row is None else (_CURSORS[row[0]],):
        number = _first_beyond(db, group_id, cursor, msg_id, first, end)
        batch = None if number is None else batch_at(db, mailbox_id, number)
        if batch is not None and msg_id in batch.msg_ids:
            return batch
    return None


def _first_beyond(
    db: Connection, group_id: int, cursor: str, msg_id: int, first: int, end: int
) -> int | None:
    """Return the number of the first reply with a cursor beyond a message."""
    low, high, found, step = first, end, None, 1
    while low < high:
        # Growing steps from the end, because most wanted messages are recent.
        middle = max((low + high) // 2, high - step)
        step *= 2
        row = db.execute(
            f"SELECT number, {cursor} FROM replies WHERE group_id=? AND number>=? AND number<?"  # noqa: S608  # our own columns
            " ORDER BY number LIMIT 1",
            (group_id, middle, high),
        ).fetchone()
        if row is not None and row[1] <= msg_id:
            low = row[0] + 1
        else:
            high = middle
            found = found if row is None else row[0]
    return found


def batches_ever_of_message(
    db: Connection, mailbox_id: int, group_id: int, msg_id: int
) -> Iterator[Batch]:
    """Yield all whole batches of a message, including those from before resets."""
    end: int | None = None
    while True:
        last = db.execute(
            "SELECT number, first_reply FROM replies WHERE group_id=? AND number<?"
            " ORDER BY number DESC LIMIT 1",
            (group_id, 1 << 62 if end is None else end),
        ).fetchone()
        if last is None:
            return
        batch = batch_of_message(db, mailbox_id, group_id, msg_id, last[1], last[0] + 1)
        if batch is not None:
            yield batch
        end = last[1]


def first_batch_end(db: Connection, group_id: int) -> int | None:
    """Return when the first lease of a group's whole batches ends; None if there is none."""
    row = db.execute(
        f"SELECT r.until_ms FROM replies r WHERE r.group_id=? AND {IS_LEASED}"  # noqa: S608  # constant text
        " ORDER BY r.until_ms LIMIT 1",
        (group_id,),
    ).fetchone()
    return None if row is None else int(row[0])


def confirm_batch(db: Connection, batch: Batch, named: int) -> bool:
    """Confirm a batch by its last message, if it is still complete; return whether it was."""
    if named != batch.msg_ids[-1] or batch.until_ms is None or not _is_stored(db, batch):
        return False
    db.execute(
        "UPDATE replies SET until_ms=NULL, acked_by=? WHERE mailbox=? AND number=?",
        (named, batch.mailbox, batch.number),
    )
    return True


def extend_batch(
    db: Connection, batch: Batch, msg_ids: Iterable[int], until_ms: int, *, begun: bool | None
) -> bool:
    """Renew the leases of a batch that is complete and entirely among ``msg_ids``."""
    if not set(batch.msg_ids).issubset(msg_ids) or not _is_stored(db, batch):
        return False
    db.execute(
        "UPDATE replies SET until_ms=?, begun=coalesce(?,begun) WHERE mailbox=? AND number=?",
        (until_ms, begun, batch.mailbox, batch.number),
    )
    return True


def _is_stored(db: Connection, batch: Batch) -> bool:
    """Tell whether all messages of a batch are still stored."""
    (stored,) = db.execute(
        f"SELECT count(*) FROM replies r CROSS JOIN {STORED} WHERE r.mailbox=? AND r.number=?",  # noqa: S608  # constant text
        (batch.mailbox, batch.number),
    ).fetchone()
    return bool(stored == len(batch.msg_ids))


def is_any_batch(db: Connection, which: str, values: tuple[Any, ...]) -> bool:
    """Tell whether a whole batch ``r`` meets a condition."""
    found = db.execute(
        f"SELECT 1 FROM replies r WHERE r.ids IS NOT NULL AND {which} LIMIT 1",  # noqa: S608  # constant text
        values,
    )
    return found.fetchone() is not None


def split_batches(db: Connection, which: str, values: tuple[Any, ...]) -> None:
    """Replace whole batches ``r`` that meet a condition by rows of leases and deliveries."""
    if not is_any_batch(db, which, values):
        return
    # Columns are named, because their order is different in a migrated file.
    db.execute(
        "INSERT INTO leases (group_id, msg_id, mailbox, priority, holder, until_ms, deliveries,"
        " reply, granted, returned, begun, deaths, reason, promised_ms, done, promised_by)"
        f" {_LEASES} AND {which}",
        values,
    )
    db.execute(
        "INSERT INTO deliveries (mailbox, reply, msg_id, position, group_id, previous, latest,"
        f" count, acked, acked_by, moved_to, moved_as) {_DELIVERIES} AND {which}",
        values,
    )
    db.execute(
        "UPDATE replies AS r SET ids=NULL, critical_from=NULL, urgent_from=NULL, normal_from=NULL,"  # noqa: S608  # constant text
        " lowest=NULL, highest=NULL, until_ms=NULL, acked_by=NULL, begun=0"
        f" WHERE ids IS NOT NULL AND {which}",
        values,
    )


def split_batch(db: Connection, mailbox_id: int, number: int) -> None:
    """Split a reply if it is a whole batch."""
    split_batches(db, "r.mailbox=? AND r.number=?", (mailbox_id, number))


class LeasedInBatches:
    """A test for messages in leased whole batches, in ascending order of msg_ids from ``first``."""

    def __init__(self, db: Connection, mailbox_id: int, first: int) -> None:
        self._coming: Iterator[tuple[int, ...]] = db.execute(
            "SELECT lowest, highest, critical_from, critical, urgent_from, urgent, normal_from,"
            " normal FROM replies WHERE mailbox=? AND until_ms IS NOT NULL AND highest>=?"
            " ORDER BY lowest, number",
            (mailbox_id, first),
        )
        self._next = next(self._coming, None)
        self._open: list[tuple[int, ...]] = []

    def holds(self, msg_id: int, lane: int) -> bool:
        """Tell whether a batch holds a message. Ids must ascend from call to call."""
        while self._next is not None and self._next[0] <= msg_id:
            self._open.append(self._next)
            self._next = next(self._coming, None)
        self._open = [one for one in self._open if one[1] >= msg_id]
        return any(one[2 + 2 * lane] <= msg_id < one[3 + 2 * lane] for one in self._open)


def keep_latest(db: Connection, over: str, values: tuple[Any, ...], *, acked: bool = False) -> None:
    """Store the last delivery of leases ``l`` with their first one, before the leases end."""
    db.execute(
        "UPDATE deliveries AS d SET latest=l.reply, count=l.deliveries, acked=? FROM leases l"  # noqa: S608  # constant text
        " WHERE l.reply<>l.granted"
        " AND d.mailbox=l.mailbox AND d.reply=l.granted AND d.msg_id=l.msg_id"
        f" AND {over}",
        (int(acked), *values),
    )
