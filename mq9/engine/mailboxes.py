"""Mailboxes: found, and brought up to date.

Whatever touches a mailbox advances it first: what has fallen due becomes visible in due order, then
what has expired is removed. ``changes_ms`` is a lower bound of the next such instant, so that a
mailbox in which nothing is due costs one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from mq9.engine import deliveries, handlers
from mq9.engine.commands import Actor, Advance, Call
from mq9.engine.limits import Limits
from mq9.errors import MailboxNotFound
from mq9.models import MailboxType

_MOST_FATES = 100_000  # messages of one mailbox, counted from the newest, whose end is remembered
_COLUMNS = (
    "id, address, generation, description, public, type, creator, readers, ttl_s, expires_ms, "
    "changes_ms, next_msg_id, next_reply, visible_ms, messages, bytes, evict_from, ids"
)


@dataclass(slots=True)
class Mailbox:
    """A row of mailboxes, as far as one command knows it; ``save`` writes the counters back."""

    id: int
    address: str
    generation: str
    description: str
    public: int
    type: str
    creator: str | None
    readers: str
    ttl_s: int
    expires_ms: int | None
    changes_ms: int | None
    next_msg_id: int
    next_reply: int
    visible_ms: int
    messages: int
    bytes: int
    evict_from: int
    ids: int

    def expect_change(self, instant: int | None) -> None:
        """Remember that something falls due or expires at ``instant``."""
        if instant is not None and (self.changes_ms is None or instant < self.changes_ms):
            self.changes_ms = instant

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the counters."""
        connection.execute(
            "UPDATE mailboxes SET changes_ms=?, next_msg_id=?, next_reply=?, visible_ms=?, "
            "messages=?, bytes=?, evict_from=?, ids=? WHERE id=?",
            (
                self.changes_ms,
                self.next_msg_id,
                self.next_reply,
                self.visible_ms,
                self.messages,
                self.bytes,
                self.evict_from,
                self.ids,
                self.id,
            ),
        )

    def may_evict(self, connection: sqlite3.Connection, msg_id: int) -> None:
        """Note that a message, and for all that is known later ones too, may make room."""
        if msg_id < self.evict_from:
            self.evict_from = msg_id
            connection.execute("UPDATE mailboxes SET evict_from=? WHERE id=?", (msg_id, self.id))

    def admits(self, actor: Actor) -> bool:
        """Tell whether somebody may use it; of authenticated agents not all may."""
        if actor.agent is None or actor.agent in self.granted_to:
            return True
        creator = actor.owner or self.creator
        return not actor.closed if creator is None else creator == actor.agent

    @property
    def granted_to(self) -> tuple[str, ...]:
        """The agents that may read it beside its creator."""
        return tuple(self.readers.split("\n")) if self.readers else ()


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
        f"SELECT {_COLUMNS} FROM mailboxes WHERE address=?",  # noqa: S608  # constant columns
        (address,),
    ).fetchone()
    if row is None:
        return None
    mailbox = Mailbox(*row)
    return None if mailbox.expires_ms is not None and mailbox.expires_ms <= now else mailbox


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


def _make_due_visible(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> int:
    due = connection.execute(
        "SELECT id, due_ms, key, sender, sender_verified FROM delayed"
        " WHERE mailbox=? AND due_ms<=? ORDER BY due_ms, id",
        (mailbox.id, now),
    ).fetchall()
    for row_id, due_ms, wanted, sender, verified in due:
        key = wanted
        if not may_replace(connection, mailbox, key, sender, verified, due_ms):
            key = None  # another sender has it by now, and nothing may be lost
        replace_older(connection, mailbox, key, due_ms, mailbox.next_msg_id)
        mailbox.visible_ms = max(mailbox.visible_ms, due_ms)
        connection.execute(
            "INSERT INTO messages (mailbox, msg_id, priority, visible_ms, sent_ms, expires_ms, key,"
            " tags, sender, sender_verified, reply_to, correlation_id, path, headers, size,"
            " payload)"
            " SELECT mailbox, ?, priority, ?, sent_ms, expires_ms, ?, tags,"
            " sender, sender_verified, reply_to, correlation_id, path, headers, size, payload"
            " FROM delayed WHERE id=?",
            (mailbox.next_msg_id, mailbox.visible_ms, key, row_id),
        )
        connection.execute("DELETE FROM delayed WHERE id=?", (row_id,))
        mailbox.next_msg_id += 1
    return len(due)


def _remove_expired(connection: sqlite3.Connection, mailbox: Mailbox, now: int) -> int:
    expired = connection.execute(
        "SELECT msg_id FROM messages WHERE mailbox=? AND expires_ms<=?", (mailbox.id, now)
    )
    return remove(connection, mailbox, (msg_id for (msg_id,) in expired), "expired", now)


def may_replace(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    key: str | None,
    sender: str | None,
    verified: bool,
    instant: int,
) -> bool:
    """Tell whether a message may replace what it would take the place of at an instant.

    Under a key, what is from a verified sender is replaced only by that sender, and a verified
    sender replaces only what bears its name. In a mailbox that keeps the newest only, whoever may
    send may replace.

    Args:
        connection: The database.
        mailbox: Where the message goes.
        key: Its key, if it has one.
        sender: Who sends it.
        verified: Whether that is known, and not a claim.
        instant: When it becomes visible, in milliseconds since the Unix epoch.
    """
    if key is None or mailbox.type == MailboxType.LATEST:
        return True
    older = connection.execute(
        "SELECT sender, sender_verified FROM messages WHERE mailbox=? AND key=?"
        " AND (expires_ms IS NULL OR expires_ms>?)",
        (mailbox.id, key, instant),
    ).fetchone()
    if older is None:
        return True
    older_sender, older_verified = older
    return bool(older_sender == sender if verified else not older_verified)


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
    if mailbox.type == MailboxType.LATEST:
        older = connection.execute("SELECT msg_id FROM messages WHERE mailbox=?", (mailbox.id,))
    elif key is not None:
        older = connection.execute(
            "SELECT msg_id FROM messages WHERE mailbox=? AND key=?", (mailbox.id, key)
        )
    else:
        return False
    replaced = (msg_id for (msg_id,) in older)
    return remove(connection, mailbox, replaced, "replaced", instant, newer) > 0


def remove(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    msg_ids: Iterable[int],
    reason: str,
    instant: int,
    replaced_by: int | None = None,
) -> int:
    """Remove visible messages, void their leases and remember why; ``save`` is the caller's.

    Args:
        connection: The database.
        mailbox: Their mailbox.
        msg_ids: The messages. There may be as many as the mailbox has: this takes a few statements.
        reason: ``expired``, ``replaced``, ``deleted`` or ``evicted``; what had expired by
            ``instant`` has expired, whatever else is said.
        instant: When they went, in milliseconds since the Unix epoch.
        replaced_by: The message that takes their place.

    Returns:
        How many of them there were.
    """
    ids = list(msg_ids)
    if not ids:
        return 0
    which: tuple[int, int | str]
    if len(ids) == 1:  # by far the most frequent
        is_chosen, which = "msg_id=?", (mailbox.id, ids[0])
    else:
        is_chosen = "msg_id IN (SELECT value FROM json_each(?))"
        which = (mailbox.id, orjson.dumps(ids).decode())
    chosen = f"mailbox=? AND {is_chosen}"
    count, size = connection.execute(
        f"SELECT count(*), coalesce(sum(size), 0) FROM messages WHERE {chosen}",  # noqa: S608  # constant text
        which,
    ).fetchone()
    connection.execute(
        "INSERT INTO tombstones SELECT mailbox, msg_id, iif(expires_ms<=?, 'expired', ?),"  # noqa: S608  # constant text
        " iif(expires_ms<=?, expires_ms, ?), sent_ms, visible_ms, priority,"
        f" iif(expires_ms<=?, NULL, ?) FROM messages WHERE {chosen}",
        (instant, reason, instant, instant, instant, replaced_by, *which),
    )
    connection.execute(f"DELETE FROM messages WHERE {chosen}", which)  # noqa: S608  # constant text
    deliveries.keep_latest(connection, f"l.mailbox=? AND l.{is_chosen}", which)
    connection.execute(f"DELETE FROM leases WHERE {chosen}", which)  # noqa: S608  # constant text
    connection.execute(
        "DELETE FROM tombstones WHERE mailbox=? AND msg_id<?",
        (mailbox.id, mailbox.next_msg_id - _MOST_FATES),
    )
    mailbox.messages -= count
    mailbox.bytes -= size
    return int(count)
