"""The messages of a mailbox: shown when due, read, counted, replaced and removed.

Every access to a mailbox advances it first: due messages become visible in due order, then expired
ones are removed. ``changes_ms`` is a lower bound of the next such instant. So a mailbox without due
messages costs the read of one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from mq9.engine import awaited, groups, mailboxes
from mq9.engine.awaited import Overdue, Shown
from mq9.engine.commands import Advance, Call, Limits
from mq9.engine.groups import Group
from mq9.engine.mailboxes import MailboxRow
from mq9.errors import MessageNotFound
from mq9.models import PRIORITIES, MailboxType, Priority
from mq9.protocol.outcomes import Stored
from mq9.protocol.requests import Delete

LANES = {priority: lane for lane, priority in enumerate(PRIORITIES)}
# One JSON value for all options, since Python is slow at fetching ten values. It is NULL for a
# message that has only a payload.
COLUMNS = (
    "msg_id, payload, priority, visible_ms/1000, CASE WHEN coalesce(key, sender, reply_to,"
    " correlation_id, headers, moved, from_mailbox, answer_by_ms) IS NOT NULL OR tags<>''"
    " OR path<>'' OR overdue THEN json_array(key, tags, sender, sender_verified, from_mailbox,"
    " reply_to, correlation_id, path, headers, moved, answer_by_ms/1000, overdue) END"
)
_MOST_ESCAPED = 6  # bytes of JSON for a byte of a payload, as in "\u0000"
_LEAST = 4  # bytes that are counted for an empty payload
_OVERHEAD = 256  # bytes of a message in a reply, in addition to payload and envelope
_CONTROL = bytes(range(0x20))
_ESCAPED = _CONTROL + b'"\\'  # bytes that JSON escapes
_MOST_FATES = 100_000  # newest msg_ids of a mailbox whose tombstones are kept
_BLOCK_BITS = 9  # of a msg_id, within its block
_BLOCK_MASK = (1 << _BLOCK_BITS) - 1


class Outdated(Exception):  # no failure: the backend reacts to it
    """Something is due in some mailboxes; ``Advance`` them before the read."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(*addresses)
        self.addresses = addresses


def advance(db: Connection, address: str, now: int) -> MailboxRow:
    """Bring a mailbox up to date and return it."""
    mailbox = mailboxes.look(db, address, now)
    if mailbox is None:
        raise mailboxes.not_found(address)
    if not mailboxes.is_current(mailbox, now):
        _advance(db, mailbox, now)
    return mailbox


def advance_now(db: Connection, call: Call[Advance], now: int, _limits: Limits) -> None:
    """Bring a mailbox up to date."""
    advance(db, call.address, now)


def current(db: Connection, address: str, now: int) -> MailboxRow:
    """Return a mailbox that is up to date."""
    mailbox = mailboxes.look(db, address, now)
    if mailbox is None:
        raise mailboxes.not_found(address)
    if not mailboxes.is_current(mailbox, now):
        raise Outdated(address)
    return mailbox


def advance_due(db: Connection, now: int, most: int) -> int:
    """Advance mailboxes with due messages; return how many messages were due or expired."""
    changed = 0
    for address in due_mailboxes(db, now, most):
        mailbox = mailboxes.look(db, address, now)
        assert mailbox is not None  # noqa: S101  # it was just listed
        changed += max(1, _advance(db, mailbox, now))
        if changed >= most:
            break
    return changed


def due_mailboxes(db: Connection, now: int, most: int) -> list[str]:
    """Return the addresses of mailboxes in which something may be due or expired."""
    found = db.execute(
        "SELECT address FROM mailboxes WHERE changes_ms<=? AND (expires_ms IS NULL OR expires_ms>?)"
        " ORDER BY changes_ms, id LIMIT ?",
        (now, now, most),
    )
    return [address for (address,) in found]


def _advance(db: Connection, mailbox: MailboxRow, now: int) -> int:
    changed = 0
    while mailbox.awaited and (overdue := awaited.first_overdue(db, mailbox, now)) is not None:
        # An answer with a delay until this instant is in time.
        shown = _make_due_visible(db, mailbox, overdue.due_ms)
        if not shown:
            _store_overdue_notice(db, mailbox, overdue)
        changed += max(1, shown)
    changed += _make_due_visible(db, mailbox, now)
    changed += _remove_expired(db, mailbox, now)
    (mailbox.changes_ms,) = db.execute(
        "SELECT min(instant) FROM ("
        " SELECT min(due_ms) AS instant FROM delayed WHERE mailbox=:id UNION ALL"
        " SELECT min(due_ms) FROM awaited WHERE mailbox=:id UNION ALL"
        " SELECT min(expires_ms) FROM messages WHERE mailbox=:id AND expires_ms IS NOT NULL)",
        {"id": mailbox.id},
    ).fetchone()
    mailbox.save(db)
    return changed


def _store_overdue_notice(db: Connection, mailbox: MailboxRow, overdue: Overdue) -> None:
    """Store the notice of an overdue answer, even if the mailbox is full."""
    notice = overdue.notice(db)
    msg_id = mailbox.next_msg_id
    mailbox.next_msg_id += 1
    mailbox.visible_ms = max(mailbox.visible_ms, overdue.due_ms)
    db.execute(
        "INSERT INTO messages (mailbox, msg_id, priority, visible_ms, sent_ms, tags,"
        " sender_verified, path, overdue, size, payload) VALUES (?,?,?,?,?,'',0,'',1,?,?)",
        (
            *(mailbox.id, msg_id, LANES[Priority.NORMAL], mailbox.visible_ms, overdue.due_ms),
            *(len(notice), notice),
        ),
    )
    complete_blocks(db, mailbox, msg_id)
    mailbox.messages += 1
    mailbox.bytes += len(notice)
    awaited.forget(db, mailbox, overdue)


def next_due(db: Connection, mailbox: MailboxRow) -> int | None:
    """Return when the next delayed message is due; None if there are none."""
    if not mailbox.delayed:
        return None
    due_ms: int
    (due_ms,) = db.execute(
        "SELECT min(due_ms) FROM delayed WHERE mailbox=?", (mailbox.id,)
    ).fetchone()
    return due_ms


def _make_due_visible(db: Connection, mailbox: MailboxRow, now: int) -> int:
    """Make due messages visible; return how many. All messages of a mailbox may be due."""
    due = db.execute(
        "SELECT id, due_ms, key, expires_ms, sender, sender_verified, correlation_id, answer_by_ms"
        " FROM delayed"
        " WHERE mailbox=? AND due_ms<=? ORDER BY due_ms, id",
        (mailbox.id, now),
    ).fetchall()
    if not due:
        return 0
    visible: dict[str, _Older | None] = {}  # by place
    first = mailbox.next_msg_id
    keys: dict[int, str | None] = {}  # of those that stay visible
    shown: list[tuple[int, int, int]] = []
    noted: list[Shown] = []
    removals: list[Removal] = []
    for row_id, due_ms, wanted, expires_ms, sender, verified, correlation_id, answer_by_ms in due:
        key, msg_id = wanted, mailbox.next_msg_id
        place = _place(mailbox, key)
        older = None
        if place is not None:
            if place not in visible:
                visible[place] = _at_place(db, mailbox, key)
            older = visible[place]
        if older is not None and not _yields(mailbox, older, sender, verified, due_ms):
            key = place = older = None  # another sender has the key now; keep both messages
        if older is not None:
            removals.append(Removal(older.msg_id, due_ms, msg_id))
            keys.pop(older.msg_id, None)
        if place is not None:
            visible[place] = _Older(msg_id, expires_ms, sender, verified)
        mailbox.visible_ms = max(mailbox.visible_ms, due_ms)
        shown.append((row_id, msg_id, mailbox.visible_ms))
        noted.append(Shown(row_id, msg_id, sender, correlation_id, answer_by_ms))
        keys[msg_id] = key
        mailbox.next_msg_id += 1
    remove(db, mailbox, [one for one in removals if one.msg_id < first], "replaced")
    # A cross join, because SQLite might begin with the table: it cannot know that the JSON is
    # short.
    db.execute(
        "WITH shown (row_id, new_id, shown_ms, new_key) AS (SELECT json_extract(value, '$[0]'),"
        " json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')"
        " FROM json_each(?))"
        " INSERT INTO messages (mailbox, msg_id, priority, visible_ms, sent_ms, expires_ms, key,"
        " tags, sender, sender_verified, reply_to, correlation_id, path, headers, from_mailbox,"
        " answer_by_ms, size, payload)"
        " SELECT mailbox, new_id, priority, shown_ms, sent_ms, expires_ms, new_key,"
        " tags, sender, sender_verified, reply_to, correlation_id, path, headers, from_mailbox,"
        " answer_by_ms, size, payload"
        " FROM shown CROSS JOIN delayed ON id=row_id",
        (orjson.dumps([(*one, keys.get(one[1])) for one in shown]).decode(),),
    )
    db.execute("DELETE FROM delayed WHERE mailbox=? AND due_ms<=?", (mailbox.id, now))
    mailbox.delayed -= len(due)
    remove(db, mailbox, [one for one in removals if one.msg_id >= first], "replaced")
    complete_blocks(db, mailbox, first)
    awaited.note_visible(db, mailbox, noted)
    return len(due)


def _remove_expired(db: Connection, mailbox: MailboxRow, now: int) -> int:
    expired = db.execute(
        "SELECT msg_id FROM messages WHERE mailbox=? AND expires_ms<=?", (mailbox.id, now)
    )
    return remove(db, mailbox, [Removal(msg_id, now) for (msg_id,) in expired], "expired")


class _Older(NamedTuple):
    """A message that a newer one may replace."""

    msg_id: int
    expires_ms: int | None
    sender: str | None
    sender_verified: bool
    answer_by_ms: int | None = None


def _place(mailbox: MailboxRow, key: str | None) -> str | None:
    """Return the place that only one visible message can have; None for a message without one.

    It is the key. All messages of a mailbox of type ``latest`` share a place.
    """
    return "" if mailbox.type == MailboxType.LATEST else key


def _at_place(db: Connection, mailbox: MailboxRow, key: str | None) -> _Older | None:
    """Return the visible message at the place of a key; None if there is none."""
    values: tuple[object, ...]
    if mailbox.type == MailboxType.LATEST:
        where, values = "mailbox=?", (mailbox.id,)
    elif key is not None:
        where, values = "mailbox=? AND key=?", (mailbox.id, key)
    else:
        return None
    row = db.execute(
        "SELECT msg_id, expires_ms, sender, sender_verified, answer_by_ms"  # noqa: S608  # constant text
        f" FROM messages WHERE {where}",
        values,
    ).fetchone()
    return None if row is None else _Older(*row)


def _yields(
    mailbox: MailboxRow, older: _Older, sender: str | None, verified: bool, instant: int
) -> bool:
    """Tell whether a message that becomes visible at an instant may replace an older one.

    Under a key, verified senders replace only messages under their own name, and only they replace
    their verified messages.
    """
    if mailbox.type == MailboxType.LATEST:
        return True
    if older.expires_ms is not None and older.expires_ms <= instant:
        return True
    return older.sender == sender if verified else not older.sender_verified


def may_replace(
    db: Connection,
    mailbox: MailboxRow,
    key: str | None,
    sender: str | None,
    verified: bool,
    instant: int,
) -> bool:
    """Tell whether the place of a message is free or its older message may be replaced."""
    older = _at_place(db, mailbox, key)
    return older is None or _yields(mailbox, older, sender, verified, instant)


def replace_older(
    db: Connection,
    mailbox: MailboxRow,
    key: str | None,
    instant: int,
    newer: int,
    sender: str | None,
) -> int | None:
    """Remove the message that a newer one replaces; return its msg_id, or None. Saves nothing."""
    older = _at_place(db, mailbox, key)
    if older is None:
        return None
    remove(db, mailbox, [Removal(older.msg_id, instant, newer)], "replaced")
    if older.answer_by_ms is not None:
        awaited.withdraw(db, mailbox, older.msg_id, sender, instant)
    return older.msg_id


class Removal(NamedTuple):
    """The removal of a message at an instant in milliseconds."""

    msg_id: int
    instant: int
    replaced_by: int | None = None


def remove(db: Connection, mailbox: MailboxRow, removals: Sequence[Removal], reason: str) -> int:
    """Remove visible messages and their leases; return how many existed. Saves nothing.

    The reason is a counter of ``MailboxRow``. A message that had expired by its instant counts as
    ``expired``.
    """
    if not removals:
        return 0
    values: tuple[object, ...]
    which: tuple[int, int | str]
    if len(removals) == 1:  # by far the most frequent case
        went, values = "VALUES (?,?,?)", tuple(removals[0])
        is_chosen, which = "msg_id=?", (mailbox.id, removals[0].msg_id)
    else:
        went = (
            "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
            " json_extract(value, '$[2]') FROM json_each(?)"
        )
        values = (orjson.dumps([tuple(one) for one in removals]).decode(),)
        is_chosen = "msg_id IN (SELECT value FROM json_each(?))"
        which = (mailbox.id, orjson.dumps([one.msg_id for one in removals]).decode())
    chosen = f"mailbox=? AND {is_chosen}"
    # A cross join, as above.
    count, size, expired = db.execute(
        f"WITH went (id, instant, newer) AS ({went})"  # noqa: S608  # constant text
        " SELECT count(*), coalesce(sum(size), 0), coalesce(sum(expires_ms<=instant), 0)"
        " FROM went CROSS JOIN messages WHERE mailbox=? AND msg_id=id",
        (*values, mailbox.id),
    ).fetchone()
    db.execute(
        f"WITH went (id, instant, newer) AS ({went}) INSERT INTO tombstones"  # noqa: S608  # constant text
        " SELECT mailbox, msg_id, iif(expires_ms<=instant, 'expired', ?),"
        " iif(expires_ms<=instant, expires_ms, instant), sent_ms, visible_ms, priority,"
        " iif(expires_ms<=instant, NULL, newer) FROM went CROSS JOIN messages"
        " WHERE mailbox=? AND msg_id=id",
        (*values, reason, mailbox.id),
    )
    db.execute(f"DELETE FROM messages WHERE {chosen}", which)  # noqa: S608  # constant text
    groups.keep_latest(db, f"l.mailbox=? AND l.{is_chosen}", which)
    db.execute(f"DELETE FROM leases WHERE {chosen}", which)  # noqa: S608  # constant text
    db.execute(f"DELETE FROM moves WHERE {chosen}", which)  # noqa: S608  # constant text
    db.execute(
        "DELETE FROM tombstones WHERE mailbox=? AND msg_id<?",
        (mailbox.id, mailbox.next_msg_id - _MOST_FATES),
    )
    mailbox.messages -= count
    mailbox.bytes -= size
    mailbox.count_removed("expired", expired)
    mailbox.count_removed(reason, count - expired)
    return int(count)


def delete(db: Connection, call: Call[Delete], now: int, _limits: Limits) -> None:
    """Remove one message."""
    mailbox = advance(db, call.address, now)
    msg_id = call.request.msg_id
    if not remove(db, mailbox, [Removal(msg_id, now)], "deleted"):
        raise MessageNotFound(f"message not found: {msg_id} is not in {call.address}")
    mailbox.save(db)


def from_row(row: tuple[Any, ...], deliveries: int = 0) -> Stored:
    """Return the message in a row of ``COLUMNS``."""
    msg_id, payload, lane, create_time, options = row
    envelope = None if options is None else _envelope(options)
    return Stored(msg_id, payload, PRIORITIES[lane], create_time, deliveries, envelope)


def _envelope(options: str) -> dict[str, Any] | None:
    key, tags, sender, verified, from_mailbox, reply_to, correlation_id, path, *rest = orjson.loads(
        options
    )
    headers, moved, answer_by, overdue = rest
    fields = {
        "key": key,
        "tags": tags and tags.strip(",").split(","),
        "from": sender,
        "from_verified": bool(verified),
        "from_mailbox": from_mailbox,
        "reply_to": reply_to,
        "correlation_id": correlation_id,
        "path": path and path.split(","),
        "headers": headers and orjson.loads(headers),
        "moved": moved
        and {name: one for name, one in orjson.loads(moved).items() if one is not None},
        "answer_by": answer_by,
        "overdue": bool(overdue),
    }
    return {name: value for name, value in fields.items() if value} or None


def load_messages(
    db: Connection, mailbox: MailboxRow, deliveries: dict[int, int]
) -> Iterator[Stored]:
    """Yield the messages with the given msg_ids, by msg_id."""
    rows = db.execute(
        f"SELECT {COLUMNS} FROM messages WHERE mailbox=?"  # noqa: S608  # constant text
        " AND msg_id IN (SELECT value FROM json_each(?)) ORDER BY msg_id",
        (mailbox.id, orjson.dumps(list(deliveries)).decode()),
    )
    for row in rows:
        yield from_row(row, deliveries[row[0]])


def load_new(
    db: Connection, mailbox: MailboxRow, lane: int, first: int, last: int, deliveries: int
) -> Iterator[Stored]:
    """Yield all messages of a lane between two msg_ids, by msg_id.

    All have the same number of deliveries.
    """
    rows = db.execute(
        f"SELECT {COLUMNS} FROM messages"  # noqa: S608  # constant text
        " WHERE mailbox=? AND priority=? AND msg_id BETWEEN ? AND ? ORDER BY msg_id",
        (mailbox.id, lane, first, last),
    )
    for row in rows:
        yield from_row(row, deliveries)


def text_bytes(*texts: str | None) -> int:
    """Return the size of texts together in UTF-8."""
    return len("".join(filter(None, texts)).encode())


def most_reply_bytes(message: Stored) -> int:
    """Return an upper bound of `reply_bytes` in a tenth of the time."""
    if message.envelope is None:
        return _MOST_ESCAPED * len(message.payload) + _LEAST + _OVERHEAD
    return reply_bytes(message, as_text=True)


def reply_bytes(message: Stored, *, as_text: bool) -> int:
    """Return an upper bound of a message's size in a reply, as base64 or as text."""
    envelope = len(orjson.dumps(message.envelope)) if message.envelope else 0
    size = (len(message.payload) * 4) // 3 + _LEAST
    if as_text:
        size = max(size, _json_bytes(message.payload))
    return size + envelope + _OVERHEAD


def _json_bytes(text: bytes) -> int:
    if len(text.translate(None, delete=_ESCAPED)) == len(text):
        return len(text)
    control = len(text) - len(text.translate(None, delete=_CONTROL))  # each becomes "\u0000"
    return len(text) + 5 * control + text.count(b'"') + text.count(b"\\")


def stored_from(mailbox: str, next_id: str, lane: str, first: str) -> str:
    """Return an SQL expression that counts the messages of a lane from a msg_id on."""
    block = f"(({first}+{_BLOCK_MASK})>>{_BLOCK_BITS})"  # the first block from ``first`` on
    incomplete = f"(({next_id}>>{_BLOCK_BITS})<<{_BLOCK_BITS})"  # start of the incomplete block
    stored = f"SELECT count(*) FROM messages WHERE mailbox={mailbox} AND priority={lane}"  # noqa: S608  # constant text
    return (
        f"((SELECT coalesce(sum(messages), 0) FROM message_counts WHERE mailbox={mailbox}"  # noqa: S608  # constant text
        f" AND priority={lane} AND block>={block})"
        f" + ({stored} AND msg_id>={first} AND msg_id<min({block}<<{_BLOCK_BITS}, {incomplete}))"
        f" + ({stored} AND msg_id>=max({first}, {incomplete})))"
    )


_COUNT_STORED = f"SELECT {stored_from(':mailbox', ':next_id', ':lane', ':first')}"


def count_stored(db: Connection, mailbox: MailboxRow, lane: int, first: int) -> int:
    """Count the messages in a lane of a mailbox from a msg_id on."""
    # Parameters are named, because Python 3.12 deprecates sequences for numbered ones.
    given = {"mailbox": mailbox.id, "next_id": mailbox.next_msg_id, "lane": lane, "first": first}
    (count,) = db.execute(_COUNT_STORED, given).fetchone()
    return int(count)


def count_by_lane(db: Connection, mailbox: MailboxRow, cursors: Iterable[int]) -> list[int]:
    """Count the messages in each lane of a mailbox from its cursor on."""
    return [count_stored(db, mailbox, lane, cursor) for lane, cursor in enumerate(cursors)]


def count_waiting(db: Connection, mailbox: MailboxRow, group: Group | None, now: int) -> list[int]:
    """Count the messages that a group could get in each lane; a missing one starts ``earliest``."""
    if group is None:
        return count_by_lane(db, mailbox, [0] * len(PRIORITIES))
    counted = count_by_lane(db, mailbox, group.cursors)
    free = db.execute(
        f"SELECT priority, count(*) FROM {groups.LEASES}"  # noqa: S608  # constant text
        " WHERE group_id=? AND (until_ms IS NULL OR until_ms<=?) GROUP BY priority",
        (group.id, now),
    )
    for lane, count in free:
        counted[lane] += count
    return counted


def complete_blocks(db: Connection, mailbox: MailboxRow, since: int) -> None:
    """Count the messages of the blocks that were completed since ``since`` was the next msg_id."""
    begun, ended = since >> _BLOCK_BITS, mailbox.next_msg_id >> _BLOCK_BITS
    if begun == ended:
        return
    db.execute(
        "INSERT INTO message_counts (mailbox, priority, block, messages)"  # noqa: S608  # constant text
        f" SELECT mailbox, priority, msg_id>>{_BLOCK_BITS}, count(*)"
        " FROM (SELECT 0 AS lane UNION ALL SELECT 1 UNION ALL SELECT 2) CROSS JOIN messages"
        " ON mailbox=? AND priority=lane AND msg_id>=? AND msg_id<? GROUP BY 1, 2, 3",
        (mailbox.id, begun << _BLOCK_BITS, ended << _BLOCK_BITS),
    )
