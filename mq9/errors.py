"""Every error that mq9 raises, in one tree.

::

    Mq9Error
    ├── InvalidRequest            invalid_request    (also a ValueError)
    │   └── InvalidAddress        invalid_address
    ├── MailboxExists             mailbox_exists
    ├── MailboxNotFound           mailbox_not_found
    │   └── ReplyMailboxNotFound  reply_mailbox_not_found  (raised by the client)
    ├── MessageNotFound           message_not_found
    ├── AgentNotFound             agent_not_found
    ├── LimitReached              limit_reached
    │   ├── MailboxFull           mailbox_full
    │   └── PayloadTooLarge       payload_too_large
    ├── IdConflict                id_conflict
    ├── Unauthorized              unauthorized
    ├── Forbidden                 forbidden
    │   └── ReplyForbidden        reply_forbidden    (raised by the client)
    ├── Unavailable               unavailable        (nothing was done: try again soon)
    │   ├── OutcomeUnknown        outcome_unknown    (it may have been done)
    │   ├── BrokerFailed          broker_failed      (nothing was done: an operator must act)
    │   └── TooExpensive          too_expensive      (nothing was done: ask for less)
    ├── BadReply                  bad_reply          (the broker does not speak the protocol)
    ├── NotConnected              not_connected      (nothing was sent)
    │   └── Unreachable           unreachable        (no broker answers there)
    ├── NoReply                   no_reply           (also a TimeoutError)
    ├── RequestFailed             request_failed     (the other agent gave it up)
    └── UnusableFile              unusable_file      (nothing was changed)

The codes down to ``too_expensive`` travel on the wire. The last six arise in the client. The text
of an error is for people and may change. Its ``code`` is for programs and stays the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AgentNotFound",
    "BadReply",
    "BrokerFailed",
    "Forbidden",
    "IdConflict",
    "InvalidAddress",
    "InvalidRequest",
    "LimitReached",
    "MailboxExists",
    "MailboxFull",
    "MailboxNotFound",
    "MessageNotFound",
    "Mq9Error",
    "NoReply",
    "NotConnected",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "ReplyForbidden",
    "ReplyMailboxNotFound",
    "RequestFailed",
    "TooExpensive",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "UnusableFile",
    "from_reply",
]


class Mq9Error(Exception):
    """The broker refused a request, or the client could not make it.

    Attributes:
        code: A stable word for programs, such as ``mailbox_not_found``.
        broker: The URL of the broker that was asked, without credentials: of several servers, the
            one that got the request. None if no broker was asked.
    """

    code: ClassVar[str] = "error"
    broker: str | None = None


class InvalidRequest(Mq9Error, ValueError):
    """A field is missing, of the wrong type or out of range. Nothing was changed."""

    code = "invalid_request"


class InvalidAddress(InvalidRequest):
    """A mail_address breaks the rules for addresses. Nothing was sent."""

    code = "invalid_address"


class MailboxExists(Mq9Error):
    """A mailbox of that name exists."""

    code = "mailbox_exists"


class MailboxNotFound(Mq9Error):
    """The mailbox was never created, was dropped, or has expired."""

    code = "mailbox_not_found"


class ReplyMailboxNotFound(MailboxNotFound):
    """The mailbox for the answer to a message does not exist: no client waits for it."""

    code = "reply_mailbox_not_found"


class MessageNotFound(Mq9Error):
    """The message does not exist, or was not delivered to that consumer group."""

    code = "message_not_found"


class AgentNotFound(Mq9Error):
    """No agent is registered under that name or mailbox."""

    code = "agent_not_found"


class LimitReached(Mq9Error):
    """The request exceeds a limit of the broker. The text has the limit and the value."""

    code = "limit_reached"


class MailboxFull(LimitReached):
    """The mailbox is at its limit, and no message in it may be evicted."""

    code = "mailbox_full"


class PayloadTooLarge(LimitReached):
    """The payload is larger than the broker accepts."""

    code = "payload_too_large"


class IdConflict(Mq9Error):
    """The idempotency id was used before with another body."""

    code = "id_conflict"


class Unauthorized(Mq9Error):
    """The broker refuses the credentials of the client."""

    code = "unauthorized"


class Forbidden(Mq9Error):
    """The broker knows the agent, and that agent may not do this."""

    code = "forbidden"


class ReplyForbidden(Forbidden):
    """The agent may not send to the mailbox in ``reply_to``."""

    code = "reply_forbidden"


class Unavailable(Mq9Error):
    """The broker cannot serve the request now.

    The class itself means that nothing was done: try again soon. Each subclass has its own next
    step.
    """

    code = "unavailable"


class OutcomeUnknown(Unavailable):
    """No reply arrived. The outcome is unknown, so repeat idempotent requests only."""

    code = "outcome_unknown"


class BrokerFailed(Unavailable):
    """The broker failed, for example with a full disk. Nothing was done: an operator must act."""

    code = "broker_failed"


class TooExpensive(Unavailable):
    """The request takes more work than the broker allows. Nothing was done: ask for less."""

    code = "too_expensive"


class BadReply(Mq9Error):
    """The broker sent a reply that breaks the protocol."""

    code = "bad_reply"


class NotConnected(Mq9Error):
    """The client is not connected, or was closed. Nothing was sent."""

    code = "not_connected"


class Unreachable(NotConnected):
    """No broker answers at that URL. Nothing was sent, so you can safely try again later."""

    code = "unreachable"


class NoReply(Mq9Error, TimeoutError):
    """The question was delivered, and no answer arrived in time.

    Args:
        text: The message of the error.
        gathered: For several questions, the answers that arrived, as a ``Gathered``, or None.
    """

    code = "no_reply"

    def __init__(self, text: str, gathered: Any = None) -> None:
        super().__init__(text)
        self.gathered = gathered


class RequestFailed(Mq9Error):
    """The agent gave the request up and answered with an error.

    Args:
        text: The message of the error.
        failure: The reason for programs: ``rejected``, ``failed`` or ``expired``.
        reason: The reason in the words of the agent, or the class of its error.
        reference: An id that is also in that agent's log.
        gathered: For several questions, the answers that arrived, as a ``Gathered``, or None.
    """

    code = "request_failed"

    def __init__(
        self,
        text: str,
        *,
        failure: str = "failed",
        reason: str = "",
        reference: str = "",
        gathered: Any = None,
    ) -> None:
        super().__init__(text)
        self.failure = failure
        self.reason = reason
        self.reference = reference
        self.gathered = gathered


class UnusableFile(Mq9Error):
    """The broker's file is damaged, of a newer version or not mq9's. mq9 left it unchanged."""

    code = "unusable_file"


def _tree(root: type[Mq9Error]) -> dict[str, type[Mq9Error]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(Mq9Error)

# Earlier releases of our broker have one code for all of ``Unavailable``.
_UNKNOWN_PHRASE = "unknown"

# Other brokers send only the sentence. The first phrase in it decides.
_BY_SENTENCE = (
    ("already exists", MailboxExists),
    ("mailbox not found", MailboxNotFound),
    ("message not found", MessageNotFound),
    ("invalid mail_address", InvalidAddress),
    ("agent not found", AgentNotFound),
    ("unknown variant", InvalidRequest),  # RobustMQ does not know a word, such as deliver=new
)


def from_reply(sentence: str, code: str | None = None) -> Mq9Error:
    """Return the error of a reply."""
    if code == Unavailable.code and _UNKNOWN_PHRASE in sentence:
        return OutcomeUnknown(sentence)
    if code in _BY_CODE:
        return _BY_CODE[code](sentence)
    for phrase, kind in _BY_SENTENCE:
        if phrase in sentence:
            return kind(sentence)
    return Mq9Error(sentence)
