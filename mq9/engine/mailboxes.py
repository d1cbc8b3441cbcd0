"""Mailboxes: found, and brought up to date.

Whatever touches a mailbox advances it first: what has fallen due becomes visible in due order, then
what has expired is removed. ``changes_ms`` is a lower bound of the next such instant, so that a
mailbox in which nothing is due costs one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from mq9.engine import counts, deliveries, handlers
from mq9.engine.commands import Advance, Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import COLUMNS, Mailbox
from mq9.errors import MailboxNotFound
from mq9.models import MailboxType

_MOST_FATES = 100_000  # messages of one mailbox, counted from the newest, whose end is remembered


class Outdated(Exception):  # not a failure: a hint to the backend
    """Something in the mailbox has fallen due; ``Advance`` it before reading."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def not_found(address: str) -> MailboxNotFound:
    """Make the error for a mailbox that is not there."""
    return MailboxNotFound(f"mailbox not found: {address} does not exist")


def look(connection: sqlite3.Connection, address: str, now: int) -> Mailbox | None:
    """Return a mailbox as it is stored, or None when it is not there or has expired."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM mailboxes WHERE address=?",  # noqa: S608  # constant columns
        (address,),
    ).fetchone()
    if row is None:
        return None
    mailbox = Mailbox(*row)
    return None if mailbox.is_expired(now) else mailbox


def is_current(mailbox: Mailbox, now: int) -> bool:
    """Tell whether nothing has fallen due or expired since the mailbox was last advanced."""
    return mailbox.changes_ms is None or mailbox.changes_ms > now


def refuse_another(mailbox: Mailbox, generation: str | None) -> None:
    """Refuse a mailbox that has taken the address of the one that was meant.

    Raises:
        MailboxNotFound: The one that was meant was dropped or has expired.
    """
    if generation is not None and generation != mailbox.generation:
        raise not_found(mailbox.address)


def advance(connection: sqlite3.Connection, address: str, now: int) -> Mailbox:
    """Bring a mailbox up to date and return it.

    Raises:
        MailboxNotFound: It is not there, or its TTL has passed.
    """
    mailbox = look(connection, address, now)
    if mailbox is None:
        raise not_found(address)
    if not is_current(mailbox, now):
        _advance(connection, mailbox, now)
    return mailbox


@handlers.command(Advance)
def advance_now(
    connection: sqlite3.Connection, call: Call[Advance], now: int, _limits: Limits
) -> None:
    """Bring a mailbox up to date."""
    advance(connection, call.address, now)


def current(connection: sqlite3.Connection, address: str, now: int) -> Mailbox:
    """Return a mailbox that is up to date.

    Raises:
        MailboxNotFound: It is not there, or its TTL has passed.
        Outdated: It is not up to date.
    """
    mailbox = look(connection, address, now)
    if mailbox is None:
        raise not_found(address)
    if not is_current(mailbox, now):
        raise Outdated(address)
    return mailbox


def advance_due(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Advance mailboxes that nobody touches; how many messages fell due or expired."""
    outdated = connection.execute(
        "SELECT address FROM mailboxes WHERE changes_ms<=? AND (expires_ms IS NULL OR expires_ms>?)"
        " ORDER BY changes_ms, id LIMIT ?",
        (now, now, most),
    ).fetchall()
    changed = 0
    for (address,) in outdated:
        mailbox = look(connection, address, now)
        assert mailbox is not None  # noqa: S101  # it has just been listed
        changed += max(1, _advance(connection, mailbox, now))
        if changed >= most:
            break
    return changed


def _advance(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> int:
    changed = _make_due_visible(connection, mailbox, now)
    changed += _remove_expired(connection, mailbox, now)
    (mailbox.changes_ms,) = connection.execute(
        "SELECT min(instant) FROM ("
        " SELECT min(due_ms) AS instant FROM delayed WHERE mailbox=:id UNION ALL"
        " SELECT min(expires_ms) FROM messages WHERE mailbox=:id AND expires_ms IS NOT NULL)",
        {"id": mailbox.id},
    ).fetchone()
    mailbox.save(connection)
    return changed


def next_due(connection: sqlite3.Connection, mailbox: Mailbox) -> int | None:
    """Return the instant at which the next delayed message falls due; None where there is none."""
    if not mailbox.delayed:
        return None
    due_ms: int
    (due_ms,) = connection.execute(
        "SELECT min(due_ms) FROM delayed WHERE mailbox=?", (mailbox.id,)
    ).fetchone()
    return due_ms


def _make_due_visible(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> int:
    """Make visible what has fallen due; how many messages: there may be a whole mailbox of them."""
    due = connection.execute(
        "SELECT id, due_ms, key, expires_ms, sender, sender_verified FROM delayed"
        " WHERE mailbox=? AND due_ms<=? ORDER BY due_ms, id",
        (mailbox.id, now),
    ).fetchall()
    if not due:
        return 0
    visible: dict[str, _Older | None] = {}  # by place
    first = mailbox.next_msg_id
    keys: dict[int, str | None] = {}  # of those that stay visible
    shown: list[tuple[int, int, int]] = []
    removals: list[Removal] = []
    for row_id, due_ms, wanted, expires_ms, sender, verified in due:
        key, msg_id = wanted, mailbox.next_msg_id
        place = _place(mailbox, key)
        older = None
        if place is not None:
            if place not in visible:
                visible[place] = _at_place(connection, mailbox, key)
            older = visible[place]
        if older is not None and not _yields(mailbox, older, sender, verified, due_ms):
            key = place = older = None  # another sender has it by now, and nothing may be lost
        if older is not None:
            removals.append(Removal(older.msg_id, due_ms, msg_id))
            keys.pop(older.msg_id, None)
        if place is not None:
            visible[place] = _Older(msg_id, expires_ms, sender, verified)
        mailbox.visible_ms = max(mailbox.visible_ms, due_ms)
        shown.append((row_id, msg_id, mailbox.visible_ms))
        keys[msg_id] = key
        mailbox.next_msg_id += 1
    remove(connection, mailbox, [one for one in removals if one.msg_id < first], "replaced")
    # A cross join: SQLite cannot know how little is in the JSON, and might begin with the table.
    connection.execute(
        "WITH shown (row_id, new_id, shown_ms, new_key) AS (SELECT json_extract(value, '$[0]'),"
        " json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')"
        " FROM json_each(?))"
        " INSERT INTO messages (mailbox, msg_id, priority, visible_ms, sent_ms, expires_ms, key,"
        " tags, sender, sender_verified, reply_to, correlation_id, path, headers, from_mailbox,"
        " size, payload)"
        " SELECT mailbox, new_id, priority, shown_ms, sent_ms, expires_ms, new_key,"
        " tags, sender, sender_verified, reply_to, correlation_id, path, headers, from_mailbox,"
        " size, payload"
        " FROM shown CROSS JOIN delayed ON id=row_id",
        (orjson.dumps([(*one, keys.get(one[1])) for one in shown]).decode(),),
    )
    connection.execute("DELETE FROM delayed WHERE mailbox=? AND due_ms<=?", (mailbox.id, now))
    mailbox.delayed -= len(due)
    remove(connection, mailbox, [one for one in removals if one.msg_id >= first], "replaced")
    counts.complete_blocks(connection, mailbox, first)
    return len(due)


def _remove_expired(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> int:
    expired = connection.execute(
        "SELECT msg_id FROM messages WHERE mailbox=? AND expires_ms<=?", (mailbox.id, now)
    )
    return remove(connection, mailbox, [Removal(msg_id, now) for (msg_id,) in expired], "expired")


class _Older(NamedTuple):
    """A message whose place a newer one may take."""

    msg_id: int
    expires_ms: int | None
    sender: str | None
    sender_verified: bool


def _place(mailbox: Mailbox, key: str | None) -> str | None:
    """Return what only one visible message can have: its key, or in some mailboxes all the same."""
    return "" if mailbox.type == MailboxType.LATEST else key


def _at_place(connection: sqlite3.Connection, mailbox: Mailbox, key: str | None) -> _Older | None:
    """Return the visible message whose place one of a key would take, if there is one."""
    values: tuple[object, ...]
    if mailbox.type == MailboxType.LATEST:
        where, values = "mailbox=?", (mailbox.id,)
    elif key is not None:
        where, values = "mailbox=? AND key=?", (mailbox.id, key)
    else:
        return None
    row = connection.execute(
        f"SELECT msg_id, expires_ms, sender, sender_verified FROM messages WHERE {where}",  # noqa: S608  # constant text
        values,
    ).fetchone()
    return None if row is None else _Older(*row)


def _yields(
    mailbox: Mailbox, older: _Older, sender: str | None, verified: bool, instant: int
) -> bool:
    """Tell whether a message that becomes visible at an instant may replace another.

    Under a key, what is from a verified sender is replaced only by that sender, and a verified
    sender replaces only what bears its name. In a mailbox that keeps the newest only, whoever may
    send may replace.
    """
    if mailbox.type == MailboxType.LATEST:
        return True
    if older.expires_ms is not None and older.expires_ms <= instant:
        return True
    return older.sender == sender if verified else not older.sender_verified


def may_replace(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    key: str | None,
    sender: str | None,
    verified: bool,
    instant: int,
) -> bool:
    """Tell whether a message may take the place of what is there, if anything is.

    Args:
        connection: The database.
        mailbox: Where the message goes.
        key: Its key, if it has one.
        sender: Who sends it.
        verified: Whether that is known, and not a claim.
        instant: When it becomes visible, in milliseconds since the Unix epoch.
    """
    older = _at_place(connection, mailbox, key)
    return older is None or _yields(mailbox, older, sender, verified, instant)


def replace_older(
    connection: sqlite3.Connection, mailbox: Mailbox, key: str | None, instant: int, newer: int
) -> bool:
    """Remove what a message takes the place of when it becomes visible.

    That is the message of its key, or, in a mailbox that keeps the newest only, whatever is there.

    Args:
        connection: The database.
        mailbox: Where the message goes; ``save`` is the caller's.
        key: Its key, if it has one.
        instant: When it becomes visible, in milliseconds since the Unix epoch.
        newer: Its msg_id.

    Returns:
        Whether there was anything.
    """
    older = _at_place(connection, mailbox, key)
    if older is None:
        return False
    remove(connection, mailbox, [Removal(older.msg_id, instant, newer)], "replaced")
    return True


def first_since(connection: sqlite3.Connection, mailbox: Mailbox, instant: int) -> int:
    """Return the msg_id from which messages became visible at an instant or later.

    It is searched for by halves, since they became visible in the order of their ids.
    """
    low, high = 0, mailbox.next_msg_id
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT msg_id, visible_ms FROM messages WHERE mailbox=? AND msg_id>=?"
            " ORDER BY msg_id LIMIT 1",
            (mailbox.id, middle),
        ).fetchone()
        if row is None or row[1] >= instant:
            high = middle
        else:
            low = int(row[0]) + 1
    return low


class Removal(NamedTuple):
    """A message that is removed.

    Attributes:
        msg_id: The message.
        instant: When it goes, in milliseconds since the Unix epoch.
        replaced_by: The message that takes its place.
    """

    msg_id: int
    instant: int
    replaced_by: int | None = None


def remove(
    connection: sqlite3.Connection, mailbox: Mailbox, removals: Sequence[Removal], reason: str
) -> int:
    """Remove visible messages, void their leases and remember why; ``save`` is the caller's.

    Args:
        connection: The database.
        mailbox: Their mailbox.
        removals: There may be as many as the mailbox has messages: this takes a few statements.
        reason: ``expired``, ``replaced``, ``deleted`` or ``evicted``; what had expired by the
            instant at which it is to go has expired, whatever else is said.

    Returns:
        How many of the messages there were.
    """
    if not removals:
        return 0
    values: tuple[object, ...]
    which: tuple[int, int | str]
    if len(removals) == 1:  # by far the most frequent
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
    count, size, expired = connection.execute(
        f"WITH went (id, instant, newer) AS ({went})"  # noqa: S608  # constant text
        " SELECT count(*), coalesce(sum(size), 0), coalesce(sum(expires_ms<=instant), 0)"
        " FROM went CROSS JOIN messages WHERE mailbox=? AND msg_id=id",
        (*values, mailbox.id),
    ).fetchone()
    connection.execute(
        f"WITH went (id, instant, newer) AS ({went}) INSERT INTO tombstones"  # noqa: S608  # constant text
        " SELECT mailbox, msg_id, iif(expires_ms<=instant, 'expired', ?),"
        " iif(expires_ms<=instant, expires_ms, instant), sent_ms, visible_ms, priority,"
        " iif(expires_ms<=instant, NULL, newer) FROM went CROSS JOIN messages"
        " WHERE mailbox=? AND msg_id=id",
        (*values, reason, mailbox.id),
    )
    connection.execute(f"DELETE FROM messages WHERE {chosen}", which)  # noqa: S608  # constant text
    deliveries.keep_latest(connection, f"l.mailbox=? AND l.{is_chosen}", which)
    connection.execute(f"DELETE FROM leases WHERE {chosen}", which)  # noqa: S608  # constant text
    connection.execute(f"DELETE FROM moves WHERE {chosen}", which)  # noqa: S608  # constant text
    connection.execute(
        "DELETE FROM tombstones WHERE mailbox=? AND msg_id<?",
        (mailbox.id, mailbox.next_msg_id - _MOST_FATES),
    )
    mailbox.messages -= count
    mailbox.bytes -= size
    mailbox.count_removed("expired", expired)
    mailbox.count_removed(reason, count - expired)
    return int(count)
