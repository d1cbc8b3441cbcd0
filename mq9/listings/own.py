"""Mailboxes with the number and age of their waiting messages."""

from __future__ import annotations

from dataclasses import replace
from sqlite3 import Connection

from mq9.engine import groups, mailboxes, messages
from mq9.engine.commands import Call
from mq9.engine.mailboxes import MailboxRow
from mq9.listings import index
from mq9.models import ListedMailbox, MailboxPage
from mq9.protocol.requests import ListMailboxes

_MOST_LEASED = 1_000  # counted leases
_HELD = (
    "SELECT count(*), coalesce(sum(until_ms>:now), 0), min(msg_id) FROM"  # noqa: S608  # constant text
    f" (SELECT until_ms, msg_id FROM {groups.LEASES} WHERE group_id=:group LIMIT :most)"
)
_FIRST = (
    "SELECT msg_id FROM messages WHERE mailbox=? AND priority=? AND msg_id>=?"
    " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY msg_id LIMIT 1"
)


def page(db: Connection, call: Call[ListMailboxes], now: int) -> MailboxPage:
    """Return a page of mailboxes with details."""
    listed = mailboxes.list_own(db, call, now)
    has_index = index.is_usable(db)
    return MailboxPage(
        mailboxes=tuple(_detailed(db, one, now, has_index=has_index) for one in listed.mailboxes),
        more=listed.more,
    )


def _detailed(db: Connection, listed: ListedMailbox, now: int, *, has_index: bool) -> ListedMailbox:
    mailbox = mailboxes.look(db, listed.mail_address, now)
    if mailbox is None:
        return listed
    group = groups.find(db, mailbox, mailbox.address, now)
    cursors = [0, 0, 0] if group is None else group.cursors
    pending = sum(messages.count_by_lane(db, mailbox, cursors))
    held, leased, oldest = (0, 0, None)
    if group is not None:
        held, leased, oldest = db.execute(
            _HELD, {"now": now, "group": group.id, "most": _MOST_LEASED}
        ).fetchone()
    firsts = [
        row[0]
        for lane, cursor in enumerate(cursors)
        if (row := db.execute(_FIRST, (mailbox.id, lane, cursor, now)).fetchone()) is not None
    ]
    if oldest is not None:
        firsts.append(oldest)
    is_dead = (
        has_index
        and db.execute(
            "SELECT 1 FROM conversation_dead WHERE mailbox=? LIMIT 1", (mailbox.id,)
        ).fetchone()
    )
    return replace(
        listed,
        pending=pending + held - leased,
        leased=leased,
        oldest=_visible(db, mailbox, min(firsts)) if firsts else None,
        dead=bool(is_dead),
    )


def _visible(db: Connection, mailbox: MailboxRow, msg_id: int) -> float | None:
    """Return when a message became visible, in Unix seconds."""
    row = db.execute(
        "SELECT visible_ms FROM messages WHERE mailbox=? AND msg_id=?", (mailbox.id, msg_id)
    ).fetchone()
    return None if row is None else row[0] / 1000
