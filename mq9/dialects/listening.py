"""Subscriptions of older generations, and the messages that they receive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mq9.protocol.older_priorities import rank, stored_as
from mq9.protocol.outcomes import Stored

ALL = ("*", ">")  # after a mailbox in a subscription: all priorities


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A subscription to broadcasts, which are not stored."""

    pattern: str  # with the wildcards of NATS


@dataclass(frozen=True, slots=True)
class Mail:
    """A subscription to a mailbox: its stored messages, then new ones."""

    mail_address: str
    subject_of: Callable[[Stored], str]  # the subject that a message is sent with
    wants: Callable[[Stored], bool] | None = None  # None if all messages are sent
    read_by: str | None = None  # the group for which all sent messages count as read

    def chosen(self, messages: Iterable[Stored]) -> list[Stored]:
        """Return the wanted ones of some messages, the most urgent first."""
        return sorted(messages if self.wants is None else filter(self.wants, messages), key=place)


Listening = Broadcast | Mail


def place(message: Stored) -> int:
    """Return the rank of a message in the order of delivery, 0 for the most urgent."""
    envelope = message.envelope or {}
    return rank(message.priority, envelope.get("headers", {}))


def place_of(priority: str) -> int:
    """Return the rank of messages with a priority of an older generation."""
    stored, headers = stored_as(priority)
    return rank(stored, dict(headers))


_HEADERS = {
    "key": "mq9-key",
    "from": "mq9-from",
    "from_mailbox": "mq9-from-mailbox",
    "reply_to": "mq9-reply-to",
    "correlation_id": "mq9-correlation-id",
    "answer_by": "mq9-answer-by",
}
_LISTS = {"tags": "mq9-tags", "path": "mq9-path"}


def headers_of(message: Stored) -> list[tuple[str, str]]:
    """Return the headers of a message for a subscription: its own, and those of a SEND.

    In addition there are ``mq9-msg-id``, ``mq9-create-time``, ``mq9-from-verified`` if the broker
    knows the sender, and ``mq9-overdue`` for a notice of the broker.
    """
    headers = [
        ("mq9-msg-id", str(message.msg_id)),
        ("mq9-priority", message.priority.value),
        ("mq9-create-time", str(message.create_time)),
    ]
    envelope = message.envelope
    if envelope is None:
        return headers
    headers += [
        (_HEADERS[name], str(value)) for name, value in envelope.items() if name in _HEADERS
    ]
    headers += [
        (_LISTS[name], ",".join(value)) for name, value in envelope.items() if name in _LISTS
    ]
    if envelope.get("from_verified"):
        headers.append(("mq9-from-verified", "true"))
    if envelope.get("overdue"):
        headers.append(("mq9-overdue", "true"))
    return [*headers, *envelope.get("headers", {}).items()]
