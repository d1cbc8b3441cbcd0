"""The subscriptions of one client, and the messages that they are sent."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mq9.protocol import subjects
from mq9.server.limits import ServerLimits
from mq9.server.outgoing import SharedBody
from mq9.server.router import Router
from mq9.wire import encoder
from mq9.wire.parser import Publish
from mq9.wire.subjects import ONE, has_wildcards, is_pattern

if TYPE_CHECKING:
    from mq9.server.session import ClientSession

_FEW = 16  # subscriptions of a client, among which it is looked for an inbox
TOO_MANY = "maximum subscriptions exceeded"
RESERVED = subjects.ROOT.partition(".")[0]  # the first token of the subjects of mq9


class Refused(Exception):  # with the text for the client
    """A subscription is refused; the text is for the client."""

    @classmethod
    def of(cls, subject: str, why: str = "") -> Refused:
        """Return the refusal of a subject, and why."""
        text = f'Permissions Violation for Subscription to "{subject}"'
        return cls(f"{text}, {why}" if why else text)


# The generation of a mailbox and the msg_id, and whether headers are in the body.
BodyName: TypeAlias = tuple[tuple[str, int], bool]


class PublishedMessage:
    """A published message, whose body is encoded once for all subscriptions."""

    __slots__ = ("_bodies", "_name", "frame")

    def __init__(
        self,
        frame: Publish,
        bodies: MutableMapping[BodyName, SharedBody] | None = None,
        name: tuple[str, int] = ("", 0),
    ) -> None:
        self.frame = frame
        self._bodies = {} if bodies is None else bodies
        self._name = name

    def body(self, *, has_headers: bool) -> SharedBody:
        """Return what follows the line, for clients that read headers or for those that do not."""
        name = (self._name, has_headers)
        body = self._bodies.get(name)
        if body is None:
            block = self.frame.block if has_headers else b""
            body = self._bodies[name] = SharedBody(encoder.body(block, self.frame.payload))
        return body


@dataclass(slots=True, eq=False)
class Subscription:
    """A subject that a client is subscribed to."""

    session: ClientSession
    subject: str  # which may have wildcards
    queue: str | None  # the queue group, of which one member gets each message
    sid: str
    wild: bool
    left: int | None = None  # messages until it ends by itself; None if it does not
    delivered: int = 0


class SharedInbox(NamedTuple):
    """The subjects of one more token than a prefix, heard by one subscription and by no other."""

    prefix: str
    subscription: Subscription | None  # None where there are no such subjects


class ClientSubscriptions:
    """The subscriptions of one client, which count among those of the server."""

    def __init__(self, everybody: Router, limits: ServerLimits) -> None:
        self._everybody = everybody
        self._limits = limits
        self.by_sid: dict[str, Subscription] = {}
        self._wildcards = 0  # how many of them have wildcards
        self._inbox: SharedInbox | None = None  # once it was looked for
        self.own = Router(lambda members: members[0])

    def check(self, subject: str, *, is_of_mq9: bool) -> None:
        """Refuse a subject that may not be subscribed to."""
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
            len(self.by_sid) >= limits.max_subscriptions
            or len(self._everybody) >= limits.max_total_subscriptions
            or (has_wildcards(subject) and self._wildcards >= limits.max_wildcards)
        ):
            raise Refused(TOO_MANY)

    def add(self, subscription: Subscription) -> None:
        """Begin a subscription whose name is not taken."""
        self._inbox = None
        self.by_sid[subscription.sid] = subscription
        self._wildcards += subscription.wild
        self.own.add(subscription)
        self._everybody.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._inbox = None
        del self.by_sid[subscription.sid]
        self._wildcards -= subscription.wild
        self.own.remove(subscription)
        self._everybody.remove(subscription)

    @property
    def inbox(self) -> SharedInbox:
        """The subjects that one subscription hears alone, as clients have for their replies."""
        if self._inbox is None:
            self._inbox = self._find_inbox() or SharedInbox("", None)
        return self._inbox

    def _find_inbox(self) -> SharedInbox | None:
        if self._wildcards != 1 or len(self.by_sid) > _FEW:
            return None
        [wild] = [one for one in self.by_sid.values() if one.wild]
        prefix = wild.subject.removesuffix(ONE)
        others = [one.subject for one in self.by_sid.values() if one is not wild]
        if (
            has_wildcards(prefix)
            or not prefix.endswith(".")
            or wild.queue is not None
            or any(subject.startswith(prefix) for subject in others)
        ):
            return None
        return SharedInbox(prefix, wild)

    def clear(self) -> None:
        """End all of them."""
        for subscription in list(self.by_sid.values()):
            self.remove(subscription)
