"""The state of mailboxes, consumer groups and messages, as STATUS and PUBLIC.LIST tell it."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.models.leases import Leased
from mq9.models.messages import Priority


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
