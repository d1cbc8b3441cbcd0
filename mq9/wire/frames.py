"""What a NATS client says, one immutable class for each kind of frame.

Subjects, queue groups and sids may be any bytes without spaces. They are text here in which
``surrogateescape`` stands for what is not UTF-8, so that they are written as they were read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class ProtocolError(Exception):
    """The client does not speak the protocol; the text is what it is told after ``-ERR``."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Who the client is, and how it wishes to be spoken to."""

    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Pong:
    """I am here."""


class Publish(NamedTuple):  # of which there are many, and which is made twice as fast so
    """A message to whoever listens to a subject.

    Attributes:
        subject: Where it goes.
        reply: Where an answer is to go.
        block: The block of headers as the client wrote it, empty where there is none.
        payload: The message itself.
    """

    subject: str
    reply: str | None
    block: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen to a subject, which may have wildcards.

    Attributes:
        subject: What to listen to.
        queue: The queue group, of which one member gets each message.
        sid: How the client calls this subscription.
    """

    subject: str
    queue: str | None
    sid: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Listen no longer.

    Attributes:
        sid: The subscription.
        max_messages: End it only after so many messages, counted from its beginning.
    """

    sid: str
    max_messages: int | None


Frame = Connect | Ping | Pong | Publish | Subscribe | Unsubscribe
