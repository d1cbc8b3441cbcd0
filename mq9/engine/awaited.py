"""Awaited answers: their deadlines, and the messages that end the wait.

A SEND with ``tell_overdue`` adds a row to the mailbox that gets the answer. The first message there
with the same correlation id from another sender ends the wait. If none has come when the row is
due, `messages` stores a notice there. The counter ``MailboxRow.awaited`` says whether a mailbox has
rows, so that other mailboxes need no query.

A row follows its question from mailbox to mailbox, because a promise is about the message that a
consumer holds now. The notice names the question by the address and number that its sender knows.
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

# The latest promise of a holder. A lease keeps it until the message is given back.
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
    """Await the answer to a question, and save the mailbox that gets it.

    The msg_id of a delayed question is negative.
    """
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
    """End the wait for an answer if a message that became visible is that answer. Saves nothing."""
    mailbox.awaited -= db.execute(
        "DELETE FROM awaited WHERE mailbox=? AND correlation_id=?"
        # If the sender of the question is unknown, any sender may answer.
        " AND (sender IS NULL OR sender IS NOT ?) AND (asked, question)<>(?, ?)",
        (mailbox.id, correlation_id, sender, mailbox.id, msg_id),
    ).rowcount


def withdraw(
    db: Connection, mailbox: MailboxRow, msg_id: int, sender: str | None, now: int
) -> None:
    """End the wait for an answer to a question that its sender has taken back. Saves nothing."""
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
    """Store the msg_ids of questions that became visible, and find the answers. Saves nothing."""
    for one in shown:
        if one.answer_by_ms is not None:
            db.execute(
                "UPDATE awaited SET question=? WHERE asked=? AND question=?",
                (one.msg_id, mailbox.id, -1 - one.delayed_id),
            )
        if mailbox.awaited and one.correlation_id is not None:
            end(db, mailbox, one.msg_id, one.correlation_id, one.sender)


def follow(db: Connection, mailbox: MailboxRow, msg_id: int, target: MailboxRow, copy: int) -> None:
    """Store the new place of a question that was moved."""
    db.execute(
        "UPDATE awaited SET asked=?, question=? WHERE asked=? AND question=?",
        (target.id, copy, mailbox.id, msg_id),
    )


def promise(db: Connection, mailbox: MailboxRow, msg_id: int, until_ms: int, now: int) -> None:
    """Postpone the deadline of an answer until the instant that a holder has promised."""
    db.execute(
        "UPDATE awaited SET due_ms=? WHERE asked=? AND question=? AND due_ms>? AND due_ms<?",
        (until_ms, mailbox.id, msg_id, now, until_ms),
    )


def give_up_promise(db: Connection, mailbox: MailboxRow, msg_id: int, now: int) -> str | None:
    """Reset the deadline of an answer whose holder gave the question up.

    Returns the address of the mailbox in which the answer is due sooner now.
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
    """An answer that did not come in time."""

    id: int
    due_ms: int
    answer_by_ms: int
    correlation_id: str
    address: str
    msg_id: int
    asked: int
    question: int

    def notice(self, db: Connection) -> bytes:
        """Return the body of the notice to the sender of the question."""
        number = {"msg_id": self.msg_id} if self.msg_id >= 0 else {"delayed_id": -1 - self.msg_id}
        fields = {
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
            fields["promise"] = {"until": until_ms // 1000} | ({"done": done} if done else {})
        return orjson.dumps(fields)


def first_overdue(db: Connection, mailbox: MailboxRow, now: int) -> Overdue | None:
    """Return the awaited answer of a mailbox that was due first, if one is overdue."""
    row = db.execute(
        "SELECT id, due_ms, answer_by_ms, correlation_id, address, msg_id, asked, question"
        " FROM awaited WHERE mailbox=? AND due_ms<=? ORDER BY due_ms, id LIMIT 1",
        (mailbox.id, now),
    ).fetchone()
    return None if row is None else Overdue(*row)


def forget(db: Connection, mailbox: MailboxRow, overdue: Overdue) -> None:
    """End the wait for an answer. Saves nothing."""
    db.execute("DELETE FROM awaited WHERE id=?", (overdue.id,))
    mailbox.awaited -= 1


def next_due(db: Connection, mailbox: MailboxRow) -> int | None:
    """Return the instant at which the next answer is overdue; None if none is awaited."""
    if not mailbox.awaited:
        return None
    due_ms: int
    (due_ms,) = db.execute(
        "SELECT min(due_ms) FROM awaited WHERE mailbox=?", (mailbox.id,)
    ).fetchone()
    return due_ms
