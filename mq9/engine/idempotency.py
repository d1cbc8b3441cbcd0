"""Idempotency ids: what the first SEND under each was answered, for seven days."""

from __future__ import annotations

import sqlite3
from collections import Counter
from hashlib import blake2b

from mq9.engine.commands import Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.errors import IdConflict, LimitReached
from mq9.protocol.requests import Send

REMEMBERED_MS = 7 * 86_400_000
_FORGOTTEN_AT_ONCE = 1_000  # ids that a SEND makes room by removing
_AS_IT_IS = 40  # bytes that are stored as they are
_BEGINNING_BYTES = 12  # of the digest of all but the end of what is longer
_END_BYTES = 8  # which is stored as it is


def key(sender: str, id_: str) -> bytes:
    """Return what an id of a sender is stored as: for a long one hardly longer than for any other.

    Ids that differ in their last bytes alone, as those that a client numbers, are stored beside
    each other, and not each in another page.
    """
    named = f"{sender}\n{id_}".encode()
    if len(named) <= _AS_IT_IS:
        return b"\1" + named
    return b"\2" + _digest(named[:-_END_BYTES], _BEGINNING_BYTES) + named[-_END_BYTES:]


def _digest(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size).digest()


def remember(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    call: Call[Send],
    answer: int,
    now: int,
    limits: Limits,
) -> int | None:
    """Keep the answer to a SEND for those that repeat it; saving the mailbox is the caller's.

    Returns:
        What the first SEND under this id was answered; None where this is the first.

    Raises:
        IdConflict: The first had another body.
        LimitReached: The mailbox has as many ids as it may.
    """
    if call.request.id is None:
        return None
    stored_as, digest = key(call.agent or "", call.request.id), _digest(call.payload, 16)
    is_new = connection.execute(
        "INSERT INTO sent_ids (mailbox, id, digest, answer, sent_ms) VALUES (?,?,?,?,?)"
        " ON CONFLICT DO NOTHING",
        (mailbox.id, stored_as, digest, answer, now),
    ).rowcount
    if is_new:
        if mailbox.ids >= limits.max_ids:
            forgotten = _remove_old(connection, now, _FORGOTTEN_AT_ONCE)
            mailbox.ids -= forgotten[mailbox.id]
        if mailbox.ids >= limits.max_ids:
            raise LimitReached(
                f"max_ids: {mailbox.ids} idempotency ids in {mailbox.address} reach the limit of "
                f"{limits.max_ids}; each is remembered for 7 days"
            )
        mailbox.ids += 1
        return None
    known, first, sent_ms = connection.execute(
        "SELECT digest, answer, sent_ms FROM sent_ids WHERE mailbox=? AND id=?",
        (mailbox.id, stored_as),
    ).fetchone()
    if sent_ms <= now - REMEMBERED_MS:
        connection.execute(
            "UPDATE sent_ids SET digest=?, answer=?, sent_ms=? WHERE mailbox=? AND id=?",
            (digest, answer, now, mailbox.id, stored_as),
        )
        return None
    if known != digest:
        raise IdConflict(
            f"id: {call.request.id!r} was used before in {mailbox.address} with another body"
        )
    return int(first)


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
