"""Idempotency ids: what the first SEND under each was answered, for seven days."""

from __future__ import annotations

import sqlite3
from collections import Counter
from hashlib import blake2b

from mq9.engine.commands import Call
from mq9.engine.limits import Limits
from mq9.engine.mailboxes import Mailbox
from mq9.errors import IdConflict, LimitReached
from mq9.protocol.requests import Send

REMEMBERED_MS = 7 * 86_400_000
_FORGOTTEN_AT_ONCE = 1_000  # ids that a SEND makes room by removing


def key(sender: str, id_: str) -> bytes:
    """Return what an id of a sender is stored as: as short for a long one as for any other."""
    return _digest(f"{sender}\n{id_}".encode())


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def first_answer(
    connection: sqlite3.Connection, mailbox: Mailbox, call: Call[Send], now: int
) -> int | None:
    """Return what the first SEND under this id was answered, if there was one.

    Raises:
        IdConflict: It had another body.
    """
    if call.request.id is None:
        return None
    row = connection.execute(
        "SELECT digest, answer FROM sent_ids WHERE mailbox=? AND id=? AND sent_ms>?",
        (mailbox.id, key(call.agent or "", call.request.id), now - REMEMBERED_MS),
    ).fetchone()
    if row is None:
        return None
    known, answer = row
    if known != _digest(call.payload):
        raise IdConflict(
            f"id: {call.request.id!r} was used before in {mailbox.address} with another body"
        )
    return int(answer)


def remember(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    call: Call[Send],
    answer: int,
    now: int,
    limits: Limits,
) -> None:
    """Keep the answer to a SEND for those that repeat it; saving the mailbox is the caller's.

    Raises:
        LimitReached: The mailbox has as many ids as it may.
    """
    if call.request.id is None:
        return
    stored_as = key(call.agent or "", call.request.id)
    mailbox.ids -= connection.execute(
        "DELETE FROM sent_ids WHERE mailbox=? AND id=?", (mailbox.id, stored_as)
    ).rowcount
    if mailbox.ids >= limits.max_ids:
        forgotten = _remove_old(connection, now, _FORGOTTEN_AT_ONCE)
        mailbox.ids -= forgotten[mailbox.id]
    if mailbox.ids >= limits.max_ids:
        raise LimitReached(
            f"max_ids: {mailbox.ids} idempotency ids in {mailbox.address} reach the limit of "
            f"{limits.max_ids}; each is remembered for 7 days"
        )
    connection.execute(
        "INSERT INTO sent_ids VALUES (?,?,?,?,?)",
        (mailbox.id, stored_as, _digest(call.payload), answer, now),
    )
    mailbox.ids += 1


def forget(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Remove ids that need no longer be remembered, the oldest first; how many."""
    return _remove_old(connection, now, most).total()


def _remove_old(connection: sqlite3.Connection, now: int, most: int) -> Counter[int]:
    """Remove old ids and count them by mailbox."""
    old = connection.execute(
        "SELECT mailbox, id FROM sent_ids WHERE sent_ms<=? ORDER BY sent_ms, mailbox, id LIMIT ?",
        (now - REMEMBERED_MS, most),
    ).fetchall()
    connection.executemany("DELETE FROM sent_ids WHERE mailbox=? AND id=?", old)
    removed = Counter(mailbox for mailbox, _ in old)
    connection.executemany(
        "UPDATE mailboxes SET ids=ids-? WHERE id=?",
        [(count, mailbox) for mailbox, count in removed.items()],
    )
    return removed
