"""What the protocol speaks of: messages, priorities, agents, and the state of a mailbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson


class Priority(StrEnum):
    """How soon a message is handed out: critical before urgent before normal."""

    CRITICAL = "critical"
    URGENT = "urgent"
    NORMAL = "normal"


PRIORITIES = tuple(Priority)  # in the order of delivery


class Deliver(StrEnum):
    """Where a new consumer group, or a read without a group, starts.

    ``earliest``: with everything stored. ``latest``: with the newest stored message. ``new``: with
    what arrives from now on. ``from_time``: with what became visible at a Unix second or later.
    ``from_id``: with a msg_id.
    """

    EARLIEST = "earliest"
    LATEST = "latest"
    NEW = "new"
    FROM_TIME = "from_time"
    FROM_ID = "from_id"


class MessageHeaders(Mapping[str, str]):
    """The headers of a message: immutable, names in lower case, found whatever their case.

    Args:
        values: Value by name.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._values = {name.lower(): value for name, value in dict(values).items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"MessageHeaders({self._values!r})"


NO_HEADERS = MessageHeaders()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Where a message was before it was moved to the mailbox that it is in.

    Attributes:
        mailbox: The mailbox it was moved from.
        group: The consumer group that confirmed it there.
        msg_id: Its number there.
        by: Who moved it: a claim, unless ``by_verified``.
        by_verified: Whether the broker itself knows who moved it.
        reason: Why, in the words of whoever moved it.
        deliveries: How often the group had been handed it.
        at: The Unix time, in seconds, at which it was moved.
    """

    mailbox: str
    group: str
    msg_id: int
    by: str | None = None
    by_verified: bool = False
    reason: str | None = None
    deliveries: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A stored message, as FETCH and QUERY return it.

    Attributes:
        msg_id: Its number in its mailbox; grows in the order in which messages become visible.
        payload: The body, byte for byte as it was sent.
        priority: Its lane.
        create_time: The Unix second in which it became visible.
        key: Its key; at most one visible message has it.
        tags: Its tags.
        sender: Who sent it: a claim, unless ``sender_verified``.
        sender_verified: Whether the broker itself knows the sender.
        reply_to: The address that the answer goes to.
        correlation_id: Which question it answers, or is.
        path: The agents that this conversation has passed through, in order.
        headers: What was sent beside these, such as ``traceparent``.
        moved: Where it was before, if it was moved here; None for one that was sent here.
        delivery_count: How often it was handed out to this group; 0 outside groups.
        batch: The token of the FETCH reply it came in; None outside groups.
        mail_address: The mailbox it is stored in.
        group_name: The consumer group that fetched it; None outside groups.
    """

    msg_id: int
    payload: bytes
    priority: Priority = Priority.NORMAL
    create_time: int
    key: str | None = None
    tags: tuple[str, ...] = ()
    sender: str | None = None
    sender_verified: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    path: tuple[str, ...] = ()
    headers: MessageHeaders = NO_HEADERS
    moved: Moved | None = None
    delivery_count: int = 0
    batch: str | None = None
    mail_address: str = ""
    group_name: str | None = None

    @property
    def text(self) -> str:
        """The payload as UTF-8 text. Raises UnicodeDecodeError when it is not."""
        return self.payload.decode("utf-8")

    def json(self) -> Any:
        """Return the payload parsed as JSON. Raises ValueError when it is not."""
        return orjson.loads(self.payload)


@dataclass(frozen=True, slots=True)
class Leased:
    """What one consumer holds, or nobody while messages given back wait out their delay.

    Attributes:
        consumer: Who holds it; None for messages that were given back with a delay.
        count: How many messages.
        until: The Unix time, in seconds, at which the first of those leases ends.
    """

    consumer: str | None
    count: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a FETCH returned nothing.

    Attributes:
        stored: How many messages are visible in the mailbox.
        delayed: How many wait for their due time.
        next_due: The Unix time, in seconds, of the next of those.
        leased: What is leased to whom; empty for a read without a group.
        acked: How many of the stored ones this group has acked.
        skipped: How many of the stored ones lie before the group's (or the read's) start.
    """

    stored: int
    delayed: int
    next_due: float | None = None
    leased: tuple[Leased, ...] = ()
    acked: int = 0
    skipped: int = 0


class FetchResult(list[Message]):
    """The messages of one FETCH, most pressing first, with what the reply said beside them.

    Attributes:
        batch: The token that acknowledges them together; None without a group or messages.
        lease_until: The Unix time, in seconds, at which their lease ends.
        more: Whether the reply was cut, so that another FETCH would return more at once.
        waiting: Why there is nothing, when there is nothing.
    """

    def __init__(
        self,
        messages: Iterable[Message] = (),
        *,
        batch: str | None = None,
        lease_until: float | None = None,
        more: bool = False,
        waiting: Waiting | None = None,
    ) -> None:
        super().__init__(messages)
        self.batch = batch
        self.lease_until = lease_until
        self.more = more
        self.waiting = waiting

    def __repr__(self) -> str:
        told = [f"waiting={self.waiting!r}"] if self.waiting is not None else []
        told += ["more=True"] if self.more else []
        return f"FetchResult({', '.join([super().__repr__(), *told])})"


@dataclass(frozen=True, slots=True)
class Unread:
    """How many messages a group could be handed now, by priority."""

    critical: int = 0
    urgent: int = 0
    normal: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.critical + self.urgent + self.normal


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """Where one consumer group stands.

    Attributes:
        group_name: The group.
        exists: False when no FETCH has created it; the rest then says what ``earliest`` would see.
        pending: What it could be handed now.
        leased: What is leased to whom.
        acked: How many of the stored messages it has acked.
    """

    group_name: str
    exists: bool
    pending: Unread
    leased: tuple[Leased, ...] = ()
    acked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one message stands with one consumer group.

    Attributes:
        group_name: The group.
        state: ``pending`` (the group can be handed it now), ``leased``, ``given_back`` (nobody gets
            it until the delay is over), ``acked``, or ``skipped`` (it lies before the group's
            start). Of a message that is gone: ``acked``, or ``delivered`` without an ack.
        consumer: Who holds the lease.
        until: The Unix time, in seconds, at which the lease or the delay ends.
        deliveries: How often the group was handed it; 0 when it was not, or after it was acked.
        ahead: Of a pending one, how many messages the group would be handed before it.
    """

    group_name: str
    state: str
    consumer: str | None = None
    until: float | None = None
    deliveries: int = 0
    ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLife:
    """What happened to one message. All times are Unix times in seconds.

    Attributes:
        msg_id: Its number.
        state: ``stored``, or why it is gone: ``expired``, ``deleted``, ``replaced``, ``evicted``;
            ``unassigned`` when no message has had that id yet; ``unknown`` when it went so long ago
            that nobody remembers.
        since: When it became what ``state`` says.
        sent: When it was sent.
        visible: When it became visible: when it was sent, or when its delay was over.
        expires: When it expires.
        priority: Its lane.
        key: Its key.
        replaced_by: The newer message that took its key.
        groups: Where it stands with each group, by name; at most 100 of them. Of a message that is
            gone it is known for an hour after a group was handed it.
    """

    msg_id: int
    state: str
    since: float | None = None
    sent: float | None = None
    visible: float | None = None
    expires: float | None = None
    priority: Priority | None = None
    key: str | None = None
    replaced_by: int | None = None
    groups: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatus:
    """The state of a mailbox, read without changing it.

    Attributes:
        mail_address: The mailbox.
        desc: What its creator says of it.
        public: Whether PUBLIC.LIST names it.
        ttl: Its lifetime in seconds; 0 means that it never expires.
        expires_at: The Unix time, in seconds, at which it expires.
        stored: How many messages are visible.
        stored_bytes: How much all messages count, delayed ones included: payloads, and all text
            that is stored with them.
        delayed: How many wait for their due time.
        next_due: The Unix time, in seconds, of the next of those.
        group: The asked-for group.
        message: The asked-for message.
        own: Whether the agent that asks created it, or has its address; None for who asks as no
            agent.
    """

    mail_address: str
    desc: str = ""
    public: bool = False
    ttl: int = 0
    expires_at: float | None = None
    stored: int = 0
    stored_bytes: int = 0
    delayed: int = 0
    next_due: float | None = None
    group: GroupStatus | None = None
    message: MessageLife | None = None
    own: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a broker holds.

    Attributes:
        mailboxes: How many mailboxes.
        agents: How many registered agents.
        groups: How many consumer groups.
        messages: How many messages are visible.
        delayed: How many wait for their due time.
        bytes: How much all messages count, delayed ones included: payloads, and all text beside.
        leases: How many messages consumers hold.
        backlog: How many messages groups could be handed now, each counted once for each group.
    """

    mailboxes: int = 0
    agents: int = 0
    groups: int = 0
    messages: int = 0
    delayed: int = 0
    bytes: int = 0
    leases: int = 0
    backlog: Unread = Unread()


@dataclass(frozen=True, slots=True)
class PublicMailbox:
    """A line of PUBLIC.LIST."""

    mail_address: str
    desc: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """How a registered agent matched, beside the object that it registered.

    Attributes:
        name: The name it registered under, or the mailbox where it gave none.
        mailbox: The address that reaches it.
        score: Larger is better; comparable within one reply only.
        last_seen: The Unix second of its last sign of life, such as a report, a send or a fetch.
        status: What it last reported.
        mode: What ranked the answer: ``all``, ``text`` or ``semantic``.
        backlog: How many messages wait in its mailbox for the group of the same name, which is the
            one that agents read with; 1 000 means that many or more. None where there is no
            mailbox, or the broker does not say.
        weak: Whether the score is below what agents have that fit: it may well not fit at all.
    """

    name: str
    mailbox: str
    score: float = 0.0
    last_seen: int | None = None
    status: dict[str, Any] | None = None
    mode: str = "all"
    backlog: int | None = None
    weak: bool = False


class AgentMatch(dict[str, Any]):
    """The object that an agent registered, with how it matched in ``match``.

    It is a plain dict of what was registered; where the registration left ``mailbox`` out, the
    client fills in the address that the broker gave it.
    """

    def __init__(self, registered: dict[str, Any], match: Match) -> None:
        super().__init__(registered)
        self.setdefault("mailbox", match.mailbox)
        self.match = match


class AgentMatches(list[AgentMatch]):
    """The agents that were found, best first.

    Attributes:
        mode: What ranked them, and also found nobody: ``text``, ``semantic``, or ``all`` for a list
            by name; None where the broker does not say.
        has_more: Whether another page follows.
    """

    def __init__(self, found: Iterable[AgentMatch], *, mode: str | None, has_more: bool) -> None:
        super().__init__(found)
        self.mode = mode
        self.has_more = has_more


@dataclass(frozen=True, slots=True)
class Extended:
    """What EXTEND could do.

    Attributes:
        extended: The ids whose lease was renewed.
        lost: The ids that this consumer no longer holds.
    """

    extended: tuple[int, ...] = field(default=())
    lost: tuple[int, ...] = field(default=())
