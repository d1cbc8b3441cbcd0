"""The state of mailboxes, consumer groups and messages, as STATUS and PUBLIC.LIST tell it."""

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

    ``everyone``. ``granted``: its creator, and those it is granted to as ``senders`` or
    ``readers``. ``creator``: its creator only.
    """

    EVERYONE = "everyone"
    GRANTED = "granted"
    CREATOR = "creator"


class LookPolicy(StrEnum):
    """The agents that may look into a mailbox without leasing messages.

    ``granted``: its creator, and those it is granted to as ``readers`` or ``viewers``.
    ``everyone``: all agents.
    """

    GRANTED = "granted"
    EVERYONE = "everyone"


class Granted(list[str]):
    """Whom a mailbox is granted to: its readers, and beside them the rest of GRANT's reply.

    Attributes:
        readers: The agents that may use it as its creator may, but for granting it.
        viewers: The agents that may look at its messages, and take none.
        senders: The agents that may send to it under the policy ``granted``.
        send_policy: Who may send to it.
        look_policy: Who may look into it.
        enforced: Whether the broker tells agents apart, and so can enforce all of this.
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
        """All of them together."""
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
        deleted: Somebody deleted them.
        evicted: They made room in a full mailbox, when every group was done with them.
    """

    expired: int = 0
    replaced: int = 0
    deleted: int = 0
    evicted: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.expired + self.replaced + self.deleted + self.evicted


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The state of a consumer group.

    Attributes:
        group_name: The group.
        exists: False when no FETCH has created it; the rest then says what ``earliest`` would see.
        pending: What could be delivered to it now.
        leased: What is leased to whom.
        acked: How many of the stored messages it has acked.
        moved: How many of the stored messages it has moved to another mailbox.
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
        state: ``stored``, or why it is not: ``expired``, ``deleted``, ``replaced``, ``evicted``;
            ``unassigned`` when no message has had that id yet; ``unknown`` when that was so long
            ago that it is not remembered.
        since: When it became what ``state`` says.
        sent: When it was sent.
        visible: When it became visible: when it was sent, or when its delay was over.
        expires: When it expires.
        priority: Its priority.
        key: Its key.
        answer_by: Until when its sender wants an answer; None when it is no longer stored.
        replaced_by: The newer message that took its key, or its place in a mailbox that keeps the
            newest only.
        moved: Where it was before it was moved to this mailbox, if it was; None when it is no
            longer stored.
        groups: Where it stands with each group, by name; at most 100 of them. Of a message that is
            no longer stored it is known for an hour after it was delivered.
        notices: Which sessions of hosts were told of it, or were not, oldest first; at most 100.
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
        type: What it keeps.
        desc: What its creator says of it.
        public: Whether PUBLIC.LIST names it.
        ttl: Its lifetime in seconds; 0 means that it never expires.
        expires_at: When it expires, in Unix seconds.
        stored: How many messages are visible.
        stored_bytes: How much all messages count, delayed ones included: payloads, and all text
            that is stored with them.
        delayed: How many wait for their due time.
        next_due: When the next of those is due, in Unix seconds.
        removed: How many were removed so far, by reason.
        group: The asked-for group.
        message: The asked-for message.
        own: Whether the agent that asks created it, or has its address; None for who asks as no
            agent.
        send_policy: Who may send to it.
        look_policy: Who may look into it.
        readers: The agents that it is granted to; None where the caller may not grant it.
        viewers: The agents that may look into it; None likewise.
        senders: The agents that may send to it under the policy ``granted``; None likewise.
        enforced: Whether the broker tells agents apart, and so can enforce policies and grants.
        rights: What the client that asks may do here, out of ``look``, ``take``, ``send`` and
            ``grant``; ``take`` is every verb that leases, confirms or removes. Empty where the
            broker does not say.
        turns: How many automatic turns its mail began in the last hour, in sessions of hosts; None
            where the caller may not take.
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
class Totals:
    """Totals of a broker.

    Attributes:
        mailboxes: How many mailboxes.
        agents: How many registered agents.
        groups: How many consumer groups.
        messages: How many messages are visible.
        delayed: How many wait for their due time.
        bytes: How much all messages count, delayed ones included: payloads, and all text beside.
        leases: How many messages consumers hold.
        backlog: How many messages could be delivered now, each counted once for each group but
            that of redrives.
        removed: How many messages were removed so far, by reason.
        dropped: How many went with their mailbox.
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


@dataclass(frozen=True, slots=True)
class PublicMailbox:
    """A line of PUBLIC.LIST."""

    mail_address: str
    desc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMailbox:
    """A mailbox in a list of its owner's.

    Attributes:
        mail_address: The mailbox.
        desc: What its creator says of it.
        creator: The authenticated agent that made it; None where none did.
        stored: How many messages are visible.
        delayed: How many wait for their due time.
        expires_at: When it expires, in Unix seconds.
        pending: With details, how many messages could be delivered to the group that is named like
            it.
        leased: With details, how many messages consumers of that group hold, or gave back with a
            delay; up to 1 000.
        oldest: With details, when the oldest message became visible that the group has not acked,
            in Unix seconds; None where there is none.
        dead: With details, whether there are dead letters in it, or were as far as is remembered.
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
        more: Whether others follow: list on ``after`` the last address.
    """

    mailboxes: tuple[ListedMailbox, ...] = ()
    more: bool = False
