"""The state of mailboxes, consumer groups and messages, as STATUS and PUBLIC.LIST report it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mq9.models.messages import Leased, Moved, Priority, Standing
from mq9.models.notices import NoticeReceipt


class MailboxType(StrEnum):
    """The kept messages: ``standard`` all of them, ``latest`` only the newest visible one."""

    STANDARD = "standard"
    LATEST = "latest"


class SendPolicy(StrEnum):
    """The senders that a mailbox accepts.

    ``everyone``: all senders. ``granted``: its creator, and its ``senders`` and ``readers``.
    ``creator``: its creator only.
    """

    EVERYONE = "everyone"
    GRANTED = "granted"
    CREATOR = "creator"


class LookPolicy(StrEnum):
    """The agents that may look into a mailbox without leasing messages.

    ``granted``: its creator, and its ``readers`` and ``viewers``. ``everyone``: all agents.
    """

    GRANTED = "granted"
    EVERYONE = "everyone"


class Granted(list[str]):
    """The readers of a mailbox, with the other grants in GRANT's reply.

    Attributes:
        readers: The agents with all rights of its creator, except granting.
        viewers: The agents that may look at its messages, and take none.
        senders: The agents that may send to it under the policy ``granted``.
        send_policy: The senders that it accepts.
        look_policy: The agents that may look into it.
        enforced: Whether the broker authenticates agents, and so can enforce all of this.
    """

    def __init__(
        self,
        readers: Iterable[str],
        *,
        viewers: Iterable[str] = (),
        senders: Iterable[str] = (),
        send_policy: SendPolicy = SendPolicy.EVERYONE,
        look_policy: LookPolicy = LookPolicy.GRANTED,
        enforced: bool = True,
    ) -> None:
        super().__init__(readers)
        self.readers = tuple(self)
        self.viewers = tuple(viewers)
        self.senders = tuple(senders)
        self.send_policy = send_policy
        self.look_policy = look_policy
        self.enforced = enforced

    def __repr__(self) -> str:
        return (
            f"Granted({super().__repr__()}, viewers={self.viewers}, senders={self.senders},"
            f" send_policy={self.send_policy.value!r}, look_policy={self.look_policy.value!r},"
            f" enforced={self.enforced})"
        )


@dataclass(frozen=True, slots=True)
class Unread:
    """Number of messages that could be delivered to a group now, by priority."""

    critical: int = 0
    urgent: int = 0
    normal: int = 0

    @property
    def total(self) -> int:
        """The sum of all priorities."""
        return self.critical + self.urgent + self.normal

    def __add__(self, other: Unread) -> Unread:
        return Unread(
            self.critical + other.critical, self.urgent + other.urgent, self.normal + other.normal
        )


@dataclass(frozen=True, slots=True)
class Removed:
    """Number of messages that are no longer stored, by reason.

    Attributes:
        expired: Their TTL had passed.
        replaced: A newer message took their key, or their place in a mailbox of type ``latest``.
        deleted: A client deleted them.
        evicted: They made room in a full mailbox, after every group had finished with them.
    """

    expired: int = 0
    replaced: int = 0
    deleted: int = 0
    evicted: int = 0

    @property
    def total(self) -> int:
        """The sum of all reasons."""
        return self.expired + self.replaced + self.deleted + self.evicted


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The state of a consumer group.

    Attributes:
        group_name: The group.
        exists: False if no FETCH has created it. The other fields then show a group that starts
            ``earliest``.
        pending: Number of messages that could be delivered to it now.
        leased: The leased messages by consumer.
        acked: Number of stored messages that it has acked.
        moved: Number of stored messages that it has moved to another mailbox.
    """

    group_name: str
    exists: bool
    pending: Unread
    leased: tuple[Leased, ...] = ()
    acked: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHistory:
    """The history of a message. All times are Unix seconds.

    Attributes:
        msg_id: Its number.
        state: ``stored``, ``expired``, ``deleted``, ``replaced`` or ``evicted``. ``unassigned`` if
            no message has had that id yet. ``unknown`` if the message was removed too long ago.
        since: When ``state`` began.
        sent: When it was sent.
        visible: When it became visible: at the send, or after its delay.
        expires: When it expires.
        priority: Its priority.
        key: Its key.
        answer_by: The deadline for the answer. None if it is no longer stored.
        replaced_by: The newer message that took its key, or its place in a mailbox of type
            ``latest``.
        moved: Its former place, if it was moved to this mailbox. None if it is no longer stored.
        groups: Its state in each group, by name, at most 100. For a message that is no longer
            stored, it is known for an hour after the delivery.
        notices: The notices about it to sessions of hosts, reported or held back, oldest first, at
            most 100.
    """

    msg_id: int
    state: str
    since: float | None = None
    sent: float | None = None
    visible: float | None = None
    expires: float | None = None
    priority: Priority | None = None
    key: str | None = None
    answer_by: int | None = None
    replaced_by: int | None = None
    moved: Moved | None = None
    groups: tuple[Standing, ...] = ()
    notices: tuple[NoticeReceipt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatus:
    """The state of a mailbox, read without changing it.

    Attributes:
        mail_address: The mailbox.
        type: Its type, which determines the messages that it keeps.
        desc: Its description by the creator.
        public: Whether PUBLIC.LIST lists it.
        ttl: Its lifetime in seconds. 0 means that it never expires.
        expires_at: When it expires, in Unix seconds.
        stored: Number of visible messages.
        stored_bytes: The counted size of all messages, including delayed ones: payloads, and all
            text that is stored with them.
        delayed: Number of messages that wait for their due time.
        next_due: When the next of those is due, in Unix seconds.
        removed: Number of messages removed so far, by reason.
        group: The requested group.
        message: The requested message.
        own: Whether the client's agent created it, or has its address. None for a client without an
            agent.
        send_policy: The senders that it accepts.
        look_policy: The agents that may look into it.
        readers: The agents that may use it. None if the caller may not grant it.
        viewers: The agents that may look into it. None if the caller may not grant it.
        senders: The agents that may send to it under the policy ``granted``. None if the caller may
            not grant it.
        enforced: Whether the broker authenticates agents, and so can enforce policies and grants.
        rights: The client's rights here, a selection of ``look``, ``take``, ``send`` and ``grant``.
            ``take`` covers every verb that leases, acks or removes messages. Empty if the broker
            does not report them.
        turns: Number of automatic turns that its mail began in sessions of hosts, in the last hour.
            None if the caller may not take messages.
    """

    mail_address: str
    type: MailboxType = MailboxType.STANDARD
    desc: str = ""
    public: bool = False
    ttl: int = 0
    expires_at: float | None = None
    stored: int = 0
    stored_bytes: int = 0
    delayed: int = 0
    next_due: float | None = None
    removed: Removed = Removed()
    group: GroupStatus | None = None
    message: MessageHistory | None = None
    own: bool | None = None
    send_policy: SendPolicy = SendPolicy.EVERYONE
    look_policy: LookPolicy = LookPolicy.GRANTED
    readers: tuple[str, ...] | None = None
    viewers: tuple[str, ...] | None = None
    senders: tuple[str, ...] | None = None
    enforced: bool = True
    rights: tuple[str, ...] = ()
    turns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxTotals:
    """Totals of one mailbox, with all its groups."""

    mail_address: str
    messages: int = 0
    delayed_messages: int = 0
    stored_bytes: int = 0
    leases: int = 0
    backlog: int = 0


@dataclass(frozen=True, slots=True)
class NamedTotals:
    """Totals of the mailboxes that an operator named, and how many are beyond the limit."""

    mailboxes: tuple[MailboxTotals, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals of a broker.

    Attributes:
        mailboxes: Number of mailboxes.
        agents: Number of registered agents.
        groups: Number of consumer groups.
        messages: Number of visible messages.
        delayed: Number of messages that wait for their due time.
        bytes: The counted size of all messages, including delayed ones: payloads and text.
        leases: Number of leased messages.
        backlog: Number of messages that could be delivered now. Each counts once for each group.
            The group of redrives does not count.
        removed: Number of messages removed so far, by reason.
        dropped: Number of messages removed with their mailbox.
        named: The counts of the mailboxes that the operator named; None if they named none.
    """

    mailboxes: int = 0
    agents: int = 0
    groups: int = 0
    messages: int = 0
    delayed: int = 0
    bytes: int = 0
    leases: int = 0
    backlog: Unread = Unread()
    removed: Removed = Removed()
    dropped: int = 0
    named: NamedTotals | None = None


@dataclass(frozen=True, slots=True)
class PublicMailbox:
    """A mailbox in PUBLIC.LIST."""

    mail_address: str
    desc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMailbox:
    """A mailbox in a list for its owner.

    Attributes:
        mail_address: The mailbox.
        desc: Its description by the creator.
        creator: The authenticated agent that created it. None without one.
        stored: Number of visible messages.
        delayed: Number of messages that wait for their due time.
        expires_at: When it expires, in Unix seconds.
        pending: With details, the number of messages that its group of the same name could get now.
        leased: With details, the number of messages that consumers of that group hold, or gave back
            with a delay, up to 1 000.
        oldest: With details, when the oldest message without an ack of that group became visible,
            in Unix seconds. None if there is none.
        dead: With details, whether it has dead letters, or had some recently.
    """

    mail_address: str
    desc: str = ""
    creator: str | None = None
    stored: int = 0
    delayed: int = 0
    expires_at: float | None = None
    pending: int | None = None
    leased: int | None = None
    oldest: float | None = None
    dead: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxPage:
    """A page of mailboxes, by address.

    Attributes:
        mailboxes: The mailboxes.
        more: Whether another page follows. Pass the last address as ``after`` to get it.
    """

    mailboxes: tuple[ListedMailbox, ...] = ()
    more: bool = False
