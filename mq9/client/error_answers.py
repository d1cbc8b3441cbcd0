"""Ids of answers, and error answers: they tell a sender that its message was given up.

An error answer goes to ``reply_to`` with the ``correlation_id`` of the message. It has no
``reply_to``, a header ``error`` and a JSON body. docs/reference/protocol.md shows it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mq9.errors import IdConflict, Mq9Error, ReplyMailboxNotFound, RequestFailed
from mq9.models import MessageClient, StoredMessage

_logger = logging.getLogger("mq9.client")

HEADER = "error"
_TYPE = "error"
_MOST_REASON = 1_024  # characters
_MOST_SHOWN = 300
_REFERENCE_CHARS = 10  # of hexadecimal


def answer_digest(message: StoredMessage) -> str | None:
    """Return a digest that is the same for each delivery to a group. None without a group."""
    if message.group_name is None:
        return None
    what = (message.mail_address, message.group_name, message.msg_id, message.create_time)
    digest = hashlib.sha256("\n".join(map(str, what)).encode() + b"\n" + message.payload)
    return digest.hexdigest()


def answer_id(message: StoredMessage) -> str | None:
    """Return the idempotency id of a group's answer. It is the same for each delivery.

    Args:
        message: The message to answer.

    Returns:
        The id. None if no group fetched the message.
    """
    digest = answer_digest(message)
    return None if digest is None else f"answer.{digest}"


class Failure(StrEnum):
    """The reason for giving a message up.

    ``rejected``: a handler refused it. ``failed``: its handler failed too often, or its worker died
    while handling it. ``expired``: it expired before a handler finished.
    """

    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """An error answer.

    Attributes:
        code: The reason for programs: one of ``Failure``, or a code of a later release.
        reason: The reason for people: the text of a ``Reject``, else the class of the error.
        reference: The reference that is also in the log of the consumer that gave it up.
    """

    code: str
    reason: str
    reference: str

    @classmethod
    def of(cls, message: StoredMessage, code: Failure, reason: str) -> Self:
        """Return the error answer to a message.

        Args:
            message: The message that the consumer gives up.
            code: The reason for programs.
            reason: The reason for people.
        """
        plain = reason.encode("utf-8", "backslashreplace").decode()
        return cls(code=code, reason=plain[:_MOST_REASON], reference=reference_of(message))

    @classmethod
    def read(cls, message: StoredMessage) -> Self | None:
        """Return the error answer in a message. None for any other message."""
        code = message.headers.get(HEADER)
        if code is None:
            return None
        try:
            return cls.of_value(message.json())
        except ValueError:
            return None

    @classmethod
    def of_value(cls, value: object) -> Self | None:
        """Return the error answer in a message body. None for any other value."""
        if not isinstance(value, Mapping) or value.get("type") != _TYPE:
            return None
        code, reason, reference = (value.get(name) for name in ("code", "reason", "reference"))
        if not (isinstance(code, str) and isinstance(reason, str) and isinstance(reference, str)):
            return None
        return cls(code=code, reason=reason, reference=reference)

    def value(self) -> dict[str, Any]:
        """Return the body of the error answer as a JSON value."""
        return {
            "type": _TYPE,
            "code": str(self.code),
            "reason": self.reason,
            "reference": self.reference,
        }

    @property
    def headers(self) -> dict[str, str]:
        """The header that distinguishes an error answer from other answers."""
        return {HEADER: str(self.code)}

    def as_error(self, asked: str | None) -> RequestFailed:
        """Return the exception that the sender of the request raises.

        Args:
            asked: The agent, as an address or a name. None if unknown.
        """
        who = "the agent that was asked" if asked is None else asked
        match self.code:
            case Failure.REJECTED:
                what = f"{who} rejected the request"
            case Failure.EXPIRED:
                what = f"the request expired before {who} had handled it"
            case _:
                what = f"{who} gave the request up"
        shown = "".join(one if one.isprintable() else " " for one in self.reason[:_MOST_SHOWN])
        return RequestFailed(
            f"{what}: {shown} (reference {self.reference})",
            failure=self.code,
            reason=self.reason,
            reference=self.reference,
        )


def reference_of(message: StoredMessage) -> str:
    """Return the reference of a message in error answers and logs: ten hexadecimal digits.

    It is the same for each delivery to a group.
    """
    return (answer_digest(message) or "")[:_REFERENCE_CHARS]


async def send_error_answer(
    client: MessageClient, message: StoredMessage, failed: ErrorAnswer, *, sender: str | None
) -> bool:
    """Send the error answer to a message, only once for all calls. Return whether it was sent now.

    If it cannot be sent, log the error. The sender has no other way to learn it.
    """
    if message.reply_to is None:
        return False
    try:
        await client.reply(
            message,
            failed.value(),
            id=f"error.{answer_digest(message)}",
            sender=sender,
            headers=failed.headers,
            path=None,
            from_mailbox=None,
        )
    except (ReplyMailboxNotFound, IdConflict) as error:  # no sender waits, or it has an answer
        _logger.debug("message %d gets no error answer: %s", message.msg_id, error)
        return False
    except Mq9Error as error:
        _logger.warning("message %d gets no error answer: %s", message.msg_id, error)
        return False
    return True
