"""Answers that are awaited: until when, and what ends the wait.

A SEND that wants to be told of an overdue answer adds a row to the mailbox where the answer is to
come. The first message there with the same correlation id by another sender ends the wait. If none
came when the row is due, `messages` stores a notice there. The counter ``MailboxRow.awaited`` says
whether there are rows, so that other mailboxes pay nothing for them.

A row follows its question from mailbox to mailbox, since a promise is of what is held by now. The
notice names the question as its sender knows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import NamedTuple

import orjson

from mq9.engine.commands import Call, Limits
from mq9.engine.mailboxes import MailboxRow
from mq9.errors import LimitReached
from mq9.protocol.requests import Send

# What a promise of a holder moves the instant to. A lease keeps it until the message is given back.
_PROMISED = (
    "(SELECT max(promised_ms) FROM leases WHERE mailbox=awaited.asked AND msg_id=awaited.question)"
)


def begin(
    db: Connection,
    call: Call[Send],
    asked: MailboxRow,
    msg_id: int,
    awaiting: MailboxRow,
    now: int,
    limits: Limits,
) -> None:
    """Await the answer to a question, whose msg_id is below 0 while it is delayed; save that."""
    if awaiting.awaited >= limits.max_messages:
        raise LimitReached(
            f"max_messages: {awaiting.awaited} answers that are awaited in {awaiting.address} "
            f"reach the limit of {limits.max_messages}"
        )
    request = call.request
    assert request.answer_by is not None  # noqa: S101  # the request was checked
    answer_by_ms = request.answer_by * 1000
    due_ms = max(answer_by_ms, now)
    db.execute(
        "INSERT INTO awaited (mailbox, due_ms, answer_by_ms, sent_ms, correlation_id, sender,"
        " address, msg_id, asked, question) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            *(awaiting.id, due_ms, answer_by_ms, now, request.correlation_id, call.agent),
            *(asked.address, msg_id, asked.id, msg_id),
        ),
    )
    awaiting.awaited += 1
    awaiting.expect_change(due_ms)
    awaiting.save(db)


def end(
    db: Connection, mailbox: MailboxRow, msg_id: int, correlation_id: str, sender: str | None
) -> None:
    """Let a message that is visible now end the wait for an answer, if it is one. Saves nothing."""
    mailbox.awaited -= db.execute(
        "DELETE FROM awaited WHERE mailbox=? AND correlation_id=?"
        # Where the sender of the question is unknown, anybody may be the one who answers.
        " AND (sender IS NULL OR sender IS NOT ?) AND (asked, question)<>(?, ?)",
        (mailbox.id, correlation_id, sender, mailbox.id, msg_id),
    ).rowcount


def withdraw(
    db: Connection, mailbox: MailboxRow, msg_id: int, sender: str | None, now: int
) -> None:
    """Await no answer to a question that its own sender has taken back. Saves nothing."""
    row = db.execute(
        "DELETE FROM awaited WHERE asked=? AND question=? AND sender IS ? AND due_ms>?"
        " RETURNING mailbox",
        (mailbox.id, msg_id, sender, now),
    ).fetchone()
    if row is None:
        return
    if row[0] == mailbox.id:
        mailbox.awaited -= 1
    else:
        db.execute("UPDATE mailboxes SET awaited=awaited-1 WHERE id=?", row)


class Shown(NamedTuple):
    """A delayed message that has become visible."""

    delayed_id: int
    msg_id: int
    sender: str | None
    correlation_id: str | None
    answer_by_ms: int | None


def note_visible(db: Connection, mailbox: MailboxRow, shown: Iterable[Shown]) -> None:
    """Note the msg_ids of questions, and which messages are answers. Saves nothing."""
    for one in shown:
        if one.answer_by_ms is not None:
            db.execute(
                "UPDATE awaited SET question=? WHERE asked=? AND question=?",
                (one.msg_id, mailbox.id, -1 - one.delayed_id),
            )
        if mailbox.awaited and one.correlation_id is not None:
            end(db, mailbox, one.msg_id, one.correlation_id, one.sender)


def follow(db: Connection, mailbox: MailboxRow, msg_id: int, target: MailboxRow, copy: int) -> None:
    """Note where a question was moved to."""
    db.execute(
        "UPDATE awaited SET asked=?, question=? WHERE asked=? AND question=?",
        (target.id, copy, mailbox.id, msg_id),
    )


def promise(db: Connection, mailbox: MailboxRow, msg_id: int, until_ms: int, now: int) -> None:
    """Have an answer be overdue not before a holder has promised it."""
    db.execute(
        "UPDATE awaited SET due_ms=? WHERE asked=? AND question=? AND due_ms>? AND due_ms<?",
        (until_ms, mailbox.id, msg_id, now, until_ms),
    )


def give_up_promise(db: Connection, mailbox: MailboxRow, msg_id: int, now: int) -> str | None:
    """Have an answer be overdue as if a holder that gave the question up had promised nothing.

    Returns the address of the mailbox in which it is due sooner now.
    """
    sooner = f"max(answer_by_ms, ?, coalesce({_PROMISED}, 0))"
    row = db.execute(
        f"UPDATE awaited SET due_ms={sooner} WHERE asked=? AND question=? AND due_ms>{sooner}"  # noqa: S608  # constant text
        " RETURNING mailbox, due_ms",
        (now, mailbox.id, msg_id, now),
    ).fetchone()
    if row is None:
        return None
    awaiting, due_ms = row
    there = db.execute(
        "UPDATE mailboxes SET changes_ms=min(changes_ms, ?) WHERE id=? RETURNING address",
        (due_ms, awaiting),
    ).fetchone()
    return None if there is None else str(there[0])


class Overdue(NamedTuple):
    """An answer that has not come in time."""

    id: int
    due_ms: int
    answer_by_ms: int
    correlation_id: str
    address: str
    msg_id: int
    asked: int
    question: int

    def notice(self, db: Connection) -> bytes:
        """Return the body of the notice that the sender of the question gets."""
        number = {"msg_id": self.msg_id} if self.msg_id >= 0 else {"delayed_id": -1 - self.msg_id}
        told = {
            "type": "overdue",
            "mail_address": self.address,
            **number,
            "correlation_id": self.correlation_id,
            "answer_by": self.answer_by_ms // 1000,
        }
        promised = db.execute(
            "SELECT promised_ms, done FROM leases WHERE mailbox=? AND msg_id=?"
            " AND promised_ms IS NOT NULL ORDER BY promised_ms DESC, group_id LIMIT 1",
            (self.asked, self.question),
        ).fetchone()
        if promised is not None:
            until_ms, done = promised
            told["promise"] = {"until": until_ms // 1000} | ({"done": done} if done else {})
        return orjson.dumps(told)


def first_overdue(db: Connection, mailbox: MailboxRow, now: int) -> Overdue | None:
    """Return the answer to a mailbox that was overdue first, if one is."""
    row = db.execute(
        "SELECT id, due_ms, answer_by_ms, correlation_id, address, msg_id, asked, question"
        " FROM awaited WHERE mailbox=? AND due_ms<=? ORDER BY due_ms, id LIMIT 1",
        (mailbox.id, now),
    ).fetchone()
    return None if row is None else Overdue(*row)


def forget(db: Connection, mailbox: MailboxRow, overdue: Overdue) -> None:
    """Await an answer no longer. Saves nothing."""
    db.execute("DELETE FROM awaited WHERE id=?", (overdue.id,))
    mailbox.awaited -= 1


def next_due(db: Connection, mailbox: MailboxRow) -> int | None:
    """Return the instant at which the next answer is overdue; None where none is awaited."""
    if not mailbox.awaited:
        return None
    due_ms: int
    (due_ms,) = db.execute(
        "SELECT min(due_ms) FROM awaited WHERE mailbox=?", (mailbox.id,)
    ).fetchone()
    return due_ms
