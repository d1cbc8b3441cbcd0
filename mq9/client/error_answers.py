"""Ids of answers; error answers, by which a sender learns that its message was given up.

An error answer goes to ``reply_to`` under the ``correlation_id`` of the message, has no
``reply_to`` itself, a header ``error`` and a body of JSON. docs/reference/protocol.md shows it.
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
    """Return what is the same for every delivery of a message to a group; None outside groups."""
    if message.group_name is None:
        return None
    what = (message.mail_address, message.group_name, message.msg_id, message.create_time)
    digest = hashlib.sha256("\n".join(map(str, what)).encode() + b"\n" + message.payload)
    return digest.hexdigest()


def answer_id(message: StoredMessage) -> str | None:
    """Return the idempotency id of a group's answer, the same for every delivery.

    Args:
        message: The message that is answered.

    Returns:
        The id; None if no group fetched the message.
    """
    digest = answer_digest(message)
    return None if digest is None else f"answer.{digest}"


class Failure(StrEnum):
    """Why a message was given up.

    ``rejected``: a handler refused it. ``failed``: its handler failed too often, or its worker died
    of it. ``expired``: its time was over before it could be handled.
    """

    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """An error answer.

    Attributes:
        code: A word for programs: one of ``Failure``, or one that a later release knows.
        reason: Why, for people: the text of a ``Reject``, else the name of an error's class.
        reference: The reference that the log of the giving-up consumer also has.
    """

    code: str
    reason: str
    reference: str

    @classmethod
    def of(cls, message: StoredMessage, code: Failure, reason: str) -> Self:
        """Return the error answer to a message.

        Args:
            message: The message that is given up.
            code: Why, for programs.
            reason: Why, for people.
        """
        plain = reason.encode("utf-8", "backslashreplace").decode()
        return cls(code=code, reason=plain[:_MOST_REASON], reference=reference_of(message))

    @classmethod
    def read(cls, message: StoredMessage) -> Self | None:
        """Return what an error answer says; None of any other message."""
        code = message.headers.get(HEADER)
        if code is None:
            return None
        try:
            return cls.of_value(message.json())
        except ValueError:
            return None

    @classmethod
    def of_value(cls, value: object) -> Self | None:
        """Return what the body of an error answer says; None of any other value."""
        if not isinstance(value, Mapping) or value.get("type") != _TYPE:
            return None
        code, reason, reference = (value.get(name) for name in ("code", "reason", "reference"))
        if not (isinstance(code, str) and isinstance(reason, str) and isinstance(reference, str)):
            return None
        return cls(code=code, reason=reason, reference=reference)

    def value(self) -> dict[str, Any]:
        """Return the body of the error answer, before it is written as JSON."""
        return {
            "type": _TYPE,
            "code": str(self.code),
            "reason": self.reason,
            "reference": self.reference,
        }

    @property
    def headers(self) -> dict[str, str]:
        """The header that tells the error answer from others."""
        return {HEADER: str(self.code)}

    def as_error(self, asked: str | None) -> RequestFailed:
        """Return the exception that the sender of the request raises.

        Args:
            asked: Who was asked: an address or a name; None where that is not known.
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
    """Return what stands for a message in an error answer and in the log: ten hexadecimal digits.

    It is the same for each delivery to a group.
    """
    return (answer_digest(message) or "")[:_REFERENCE_CHARS]


async def send_error_answer(
    client: MessageClient, message: StoredMessage, failed: ErrorAnswer, *, sender: str | None
) -> bool:
    """Answer a message with an error, once however often this is called; tell whether it was now.

    What keeps it from being sent is logged: nobody can be told of it in another way.
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
    except (ReplyMailboxNotFound, IdConflict) as error:  # nobody waits, or it was told before
        _logger.debug("message %d gets no error answer: %s", message.msg_id, error)
        return False
    except Mq9Error as error:
        _logger.warning("message %d gets no error answer: %s", message.msg_id, error)
        return False
    return True
