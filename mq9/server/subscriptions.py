"""The subscriptions of one client, and the messages that they are sent."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mq9.protocol import subjects
from mq9.server.limits import ServerLimits
from mq9.server.outgoing import Body
from mq9.server.router import Router
from mq9.wire import encoder
from mq9.wire.parser import Publish
from mq9.wire.subjects import has_wildcards, is_pattern

RESERVED = subjects.ROOT.partition(".")[0]  # the first token of what is mq9's alone


class Refused(Exception):  # what the client is told
    """A subscription may not be; its text is what the client is told."""

    @classmethod
    def of(cls, subject: str, why: str = "") -> Refused:
        """Return the refusal of a subject, and why."""
        text = f'Permissions Violation for Subscription to "{subject}"'
        return cls(f"{text}, {why}" if why else text)

    @classmethod
    def too_many(cls) -> Refused:
        """Return the refusal of one more subscription."""
        return cls("maximum subscriptions exceeded")


# The generation of a mailbox and the msg_id, and whether headers are in the body.
BodyName: TypeAlias = tuple[tuple[str, int], bool]


class Message:
    """A published message, whose body is encoded once for all subscriptions.

    Args:
        frame: The subject, headers and payload.
        bodies: The bodies of stored messages that others have encoded; None for none.
        name: The generation of the mailbox and the msg_id; the same message has the same name.
    """

    __slots__ = ("_bodies", "_name", "frame")

    def __init__(
        self,
        frame: Publish,
        bodies: MutableMapping[BodyName, Body] | None = None,
        name: tuple[str, int] = ("", 0),
    ) -> None:
        self.frame = frame
        self._bodies = {} if bodies is None else bodies
        self._name = name

    @property
    def whole(self) -> Body:
        """The body for clients that read headers."""
        return self._encoded(self.frame.block, has_headers=True)

    @property
    def bare(self) -> Body:
        """The body for clients that do not."""
        return self._encoded(b"", has_headers=False)

    def _encoded(self, block: bytes, *, has_headers: bool) -> Body:
        name = (self._name, has_headers)
        body = self._bodies.get(name)
        if body is None:
            body = self._bodies[name] = Body(encoder.body(block, self.frame.payload))
        return body


class Receiver(Protocol):
    """A session, as far as a subscription knows it."""

    def deliver(self, subscription: Subscription, message: Message) -> None:
        """Send a message to one of the client's subscriptions."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A subject that a client is subscribed to.

    Attributes:
        session: The client's.
        subject: The subject, which may have wildcards.
        queue: The queue group, of which one member gets each message.
        sid: The client's name for it.
        wild: Whether the subject has wildcards.
        left: Messages until it ends by itself; None if it does not.
        delivered: Messages that it has been sent.
    """

    session: Receiver
    subject: str
    queue: str | None
    sid: str
    wild: bool
    left: int | None = None
    delivered: int = 0


class Subscriptions:
    """The subscriptions of one client, which count among those of the server.

    Args:
        everybody: The subscriptions of all clients.
        limits: How many a client and the server may have, and of which subjects.
    """

    def __init__(self, everybody: Router[Subscription], limits: ServerLimits) -> None:
        self._everybody = everybody
        self._limits = limits
        self._by_sid: dict[str, Subscription] = {}
        self._wildcards = 0  # how many of them have wildcards
        self._own: Router[Subscription] = Router(lambda members: members[0])

    def __contains__(self, sid: str) -> bool:
        return sid in self._by_sid

    def get(self, sid: str) -> Subscription | None:
        """Return a subscription; None where there is none of that name."""
        return self._by_sid.get(sid)

    def check(self, subject: str, *, is_of_mq9: bool) -> None:
        """Refuse a subject that may not be subscribed to.

        Args:
            subject: What is subscribed to.
            is_of_mq9: Whether mq9 itself sends something there.

        Raises:
            Refused: It may not be.
        """
        if not is_pattern(subject):
            raise Refused("Invalid Subject")
        limits = self._limits
        if subject.partition(".")[0] == RESERVED and not is_of_mq9:
            # Nothing is ever published there, and listening would look as if something might be.
            raise Refused.of(subject)
        if subject.count(".") >= limits.max_tokens:
            raise Refused.of(subject, "too many tokens")
        if len(subject.encode(errors="surrogateescape")) > limits.max_subject:
            raise Refused.of(subject, "too long")
        if (
            len(self._by_sid) >= limits.max_subscriptions
            or len(self._everybody) >= limits.max_total_subscriptions
            or (has_wildcards(subject) and self._wildcards >= limits.max_wildcards)
        ):
            raise Refused.too_many()

    def add(self, subscription: Subscription) -> None:
        """Begin a subscription whose name is not taken."""
        self._by_sid[subscription.sid] = subscription
        self._wildcards += subscription.wild
        self._own.add(subscription)
        self._everybody.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """End a subscription."""
        del self._by_sid[subscription.sid]
        self._wildcards -= subscription.wild
        self._own.remove(subscription)
        self._everybody.remove(subscription)

    def clear(self) -> None:
        """End all of them."""
        for subscription in list(self._by_sid.values()):
            self.remove(subscription)

    def has_interest(self, subject: str) -> bool:
        """Tell whether the client itself is subscribed to a subject."""
        return self._own.has_interest(subject)

    def matching(self, subject: str) -> list[Subscription]:
        """Return every subscription of the client to a subject."""
        return self._own.matching(subject)

    def route(self, subject: str) -> list[Subscription]:
        """Return which of them get a message: each, but one of each queue group."""
        return self._own.route(subject)
