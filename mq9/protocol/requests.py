"""The requests of the protocol, one class each, with the same checks for sender and receiver.

Their fields have the same names on the wire, in the client and in the engine.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from mq9 import address as addresses
from mq9.errors import InvalidRequest
from mq9.models import (
    CONVERSATION_STATES,
    STUCK_KINDS,
    AgentEntry,
    ConversationPage,
    Deliver,
    Extended,
    Identity,
    Link,
    LookPolicy,
    MailboxPage,
    MailboxStatus,
    MailboxType,
    Notice,
    Occasion,
    Priority,
    Promise,
    SendOutcome,
    SendPolicy,
    SentPage,
    StuckPage,
)
from mq9.protocol import checks
from mq9.protocol.body import Body, ByConsumer, given, needed
from mq9.protocol.checks import (
    MAX_MSG_ID,
    MAX_REASON,
    MAX_SECONDS,
    MAX_UNIX_SECONDS,
    optional,
    otherwise,
    whole,
)
from mq9.protocol.headers import RequestHeaders
from mq9.protocol.outcomes import (
    Created,
    Discovered,
    Fetched,
    Found,
    Grants,
    MoveOutcome,
    PublicPage,
    ReadPart,
)

DEFAULT_LEASE_MS = 60_000
MAX_LEASE_MS = 86_400_000
MAX_WAIT_MS = 86_400_000
MAX_LINGER_MS = 60_000
DEFAULT_MAX_BYTES = 4 * 1024 * 1024
DEFAULT_LIMIT = 100  # messages of a QUERY
DEFAULT_SENT = 20  # messages of a SENT
DEFAULT_CONVERSATIONS = 50
DEFAULT_LINKS = 200
DEFAULT_LEASED_LONGER_S = 600
# Limits of automatic turns, which a NOTICE begins.
DEFAULT_IN_A_ROW = 3
DEFAULT_PER_HOUR = 12
DEFAULT_COOLDOWN_S = 30
# States of a stored message in a group.
STATES = ("pending", "leased", "given_back", "acked", "moved", "skipped")

_msg_id = whole(0, MAX_MSG_ID)
_lease_ms = whole(1_000, MAX_LEASE_MS)
_max_bytes = whole(1, 64 * 1024 * 1024)
_count = whole(1, 1_000)
_turns = whole(0, 100)
_position = whole(0, (1 << 63) - 1)


@dataclass(frozen=True, kw_only=True)
class CreateMailbox(Body[Created]):
    """MAILBOX.CREATE."""

    # Without the field, an older generation takes the request for its own and renews a public one.
    ALWAYS: ClassVar[frozenset[str]] = frozenset({"renew"})

    name: str | None = given(None, optional(checks.mail_address))
    type: MailboxType = given(
        MailboxType.STANDARD, otherwise(MailboxType.STANDARD, checks.member(MailboxType))
    )
    ttl: int = given(0, otherwise(0, whole(0, MAX_SECONDS)))
    desc: str = given("", checks.prose(1_024))
    public: bool = given(False, checks.flag)
    prefix: str | None = given(None, optional(checks.mail_address))
    renew: bool = given(False, checks.flag)
    send_policy: SendPolicy = given(
        SendPolicy.EVERYONE, otherwise(SendPolicy.EVERYONE, checks.member(SendPolicy))
    )
    look_policy: LookPolicy = given(
        LookPolicy.GRANTED, otherwise(LookPolicy.GRANTED, checks.member(LookPolicy))
    )
    viewers: tuple[str, ...] = given((), otherwise((), checks.agents))

    def check_together(self) -> None:
        """Check that name and prefix are not both present."""
        if self.name is not None and self.prefix is not None:
            raise InvalidRequest(
                f"prefix: {self.prefix!r} goes with a generated name, not with one"
            )


@dataclass(frozen=True, kw_only=True)
class DropMailbox(Body[None]):
    """MAILBOX.DROP."""

    is_private: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Status(Body[MailboxStatus]):
    """MAILBOX.STATUS."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True

    group_name: str | None = given(None, optional(checks.header_text))
    msg_id: int | None = given(None, optional(_msg_id))


@dataclass(frozen=True, kw_only=True)
class GrantMailbox(Body[Grants]):
    """MAILBOX.GRANT. A list replaces the stored one; an absent list stays as it is."""

    readers: tuple[str, ...] | None = given(None, optional(checks.agents))
    viewers: tuple[str, ...] | None = given(None, optional(checks.agents))
    senders: tuple[str, ...] | None = given(None, optional(checks.agents))
    send_policy: SendPolicy | None = given(None, optional(checks.member(SendPolicy)))
    look_policy: LookPolicy | None = given(None, optional(checks.member(LookPolicy)))

    def check_together(self) -> None:
        """Check that at least one field is present."""
        lists = self.readers, self.viewers, self.senders
        if (*lists, self.send_policy, self.look_policy) == (None,) * 5:
            raise InvalidRequest(
                "readers: nothing is granted; give readers, viewers, senders, send_policy or "
                "look_policy"
            )


@dataclass(frozen=True, kw_only=True)
class ListMailboxes(Body[MailboxPage]):
    """OWN.LIST."""

    lists_addresses: ClassVar[bool] = True

    after: str | None = given(None, optional(checks.mail_address))
    limit: int = given(DEFAULT_LIMIT, otherwise(DEFAULT_LIMIT, _count))
    desc_prefix: str | None = given(None, optional(checks.prose(1_024)))
    details: bool = given(False, checks.flag)
    text: str | None = given(None, optional(checks.prose(1_024)))


@dataclass(frozen=True, kw_only=True)
class ListPublic(Body[PublicPage]):
    """PUBLIC.LIST."""

    after: str | None = given(None, optional(checks.mail_address))


@dataclass(frozen=True, kw_only=True)
class Send(Body[int | SendOutcome]):
    """MSG.SEND: its options as headers; the message is the payload.

    The outcome is the msg_id, or a ``SendOutcome`` with ``details``. The msg_id of a delayed
    message is -1.

    Names of headers are case-insensitive. A repeated or empty ``mq9-*`` header is an error. All
    other headers, except those of NATS itself, are stored with the message.
    """

    shows_life: ClassVar[bool] = True

    priority: Priority = given(Priority.NORMAL, checks.member(Priority), header="mq9-priority")
    key: str | None = given(None, optional(checks.header_text), header="mq9-key")
    delay: int | None = given(None, optional(whole(0, MAX_SECONDS)), header="mq9-delay")
    ttl: int | None = given(None, optional(whole(1, MAX_SECONDS)), header="mq9-ttl")
    tags: tuple[str, ...] = given((), checks.tags, header="mq9-tags")
    id: str | None = given(None, optional(checks.header_text), header="mq9-id")
    sender: str | None = given(None, optional(checks.header_text), header="mq9-from")
    from_mailbox: str | None = given(None, optional(checks.mail_address), header="mq9-from-mailbox")
    reply_to: str | None = given(None, optional(checks.mail_address), header="mq9-reply-to")
    correlation_id: str | None = given(
        None, optional(checks.header_text), header="mq9-correlation-id"
    )
    path: tuple[str, ...] = given((), checks.path, header="mq9-path")
    answer_by: int | None = given(None, optional(checks.unix_seconds), header="mq9-answer-by")
    tell_overdue: bool = given(False, checks.flag, header="mq9-tell-overdue")
    details: bool = given(False, checks.flag, header="mq9-details")
    headers: tuple[tuple[str, str], ...] = given((), checks.message_headers)

    def check_together(self) -> None:
        """Check that fields come with those that they need, and that the TTL exceeds the delay."""
        if self.tell_overdue:
            for name in ("answer_by", "correlation_id", "reply_to"):
                if getattr(self, name) is None:
                    raise InvalidRequest(f"{name}: needed with tell_overdue")
        if self.ttl is not None and self.delay and self.ttl <= self.delay:
            raise InvalidRequest(f"ttl: {self.ttl} s is not more than the delay of {self.delay} s")

    def encode_headers(self) -> list[tuple[str, str]]:
        """Return the headers, without options that hold their default."""
        encoded = []
        for name, value in vars(self).items():
            header, default = _OPTIONS.get(name, (None, value))
            if header is not None and value != default:
                encoded.append((header, _text(value)))
        return [*encoded, *self.headers]

    @classmethod
    def read(cls, payload: bytes, headers: RequestHeaders, msg_id: int | None) -> Self:
        """Read the options from a request's headers."""
        options: dict[str, Any] = {}
        for header, text in headers.protocol.items():
            name = _OPTION_OF.get(header)
            if name is not None:
                _, default = _OPTIONS[name]
                options[name] = _parse(header, text, default, name)
        return cls(**options, headers=headers.free)

    @property
    def claimed_agent(self) -> str | None:
        """The agent that the message claims as its sender."""
        return self.sender

    @property
    def other_address(self) -> str | None:
        """The mailbox that the message claims to come from."""
        return self.from_mailbox

    @property
    def overdue_address(self) -> str | None:
        """The mailbox that gets the notice of an overdue answer, or None."""
        return self.reply_to if self.tell_overdue else None

    def destination(self, mail_address: str) -> str | None:
        """Return the mailbox in the subject."""
        return mail_address


# The header and the default of each option that has its own header.
_OPTIONS = {
    field.name: (field.metadata["header"], field.default)
    for field in dataclasses.fields(Send)
    if "header" in field.metadata
}
_OPTION_OF = {header: name for name, (header, _) in _OPTIONS.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _parse(header: str, text: str, default: object, name: str) -> Any:
    if not text:
        raise InvalidRequest(f"{header}: the header is empty")
    if isinstance(default, tuple):
        return text.split(",")
    if isinstance(default, bool):
        if text not in {"true", "false"}:
            raise InvalidRequest(f"{header}: {checks.shown(text)} is neither true nor false")
        return text == "true"
    if name in {"delay", "ttl", "answer_by"}:
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise InvalidRequest(f"{header}: {checks.shown(text)} is not a whole number of seconds")
        return int(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Fetch(ByConsumer[Fetched]):
    """MSG.FETCH."""

    reads_messages: ClassVar[bool] = True
    CONFIG: ClassVar[frozenset[str]] = frozenset(
        {
            *("num_msgs", "max_bytes", "max_wait_ms", "lease_ms", "consumer", "redeliver_own"),
            *("begun", "list_held", "min_msgs", "linger_ms"),
        }
    )
    ALWAYS: ClassVar[frozenset[str]] = frozenset({"deliver"})

    group_name: str | None = given(None, optional(checks.header_text))
    deliver: Deliver = given(Deliver.EARLIEST, otherwise(Deliver.EARLIEST, checks.member(Deliver)))
    from_time: int | None = given(None, optional(whole(0, MAX_UNIX_SECONDS)))
    from_id: int | None = given(None, optional(_msg_id))
    priority: Priority | None = given(None, optional(checks.member(Priority)))
    force_deliver: bool = given(False, checks.flag)
    request_id: str | None = given(None, optional(checks.header_text))
    num_msgs: int = given(100, _count)
    max_bytes: int = given(DEFAULT_MAX_BYTES, _max_bytes)
    max_wait_ms: int = given(500, whole(0, MAX_WAIT_MS))
    lease_ms: int = given(DEFAULT_LEASE_MS, _lease_ms)
    redeliver_own: bool = given(True, checks.flag)
    begun: bool = given(False, checks.flag)
    list_held: bool = given(False, checks.flag)
    min_msgs: int = given(1, _count)
    linger_ms: int = given(0, whole(0, MAX_LINGER_MS))

    def check_together(self) -> None:
        """Check that fields that need each other are present."""
        if self.min_msgs > self.num_msgs:
            raise InvalidRequest(f"min_msgs: {self.min_msgs} is more than num_msgs {self.num_msgs}")
        if self.collects and self.group_name is None:
            raise InvalidRequest(
                "min_msgs: a read without a group does not collect; name a group in group_name"
            )
        if self.deliver is Deliver.FROM_TIME and self.from_time is None:
            raise InvalidRequest("from_time: needed with deliver=from_time")
        if self.deliver is Deliver.FROM_ID and self.from_id is None:
            raise InvalidRequest("from_id: needed with deliver=from_id")
        if self.priority is not None and self.group_name is not None:
            raise InvalidRequest(f"priority: {self.priority} goes with a read without a group")
        if self.list_held and self.group_name is None:
            raise InvalidRequest("list_held: only a group holds messages; name it in group_name")

    @property
    def collects(self) -> bool:
        """Whether it may wait although messages could be delivered."""
        return self.min_msgs > 1 or self.linger_ms > 0


@dataclass(frozen=True, kw_only=True)
class Ack(ByConsumer[tuple[int, ...]]):
    """MSG.ACK. The outcome is the confirmed ids."""

    group_name: str = needed(checks.header_text)
    mail_address: str | None = given(None, optional(checks.mail_address))
    msg_id: int = needed(_msg_id)
    batch: str | None = given(None, optional(checks.header_text))
    individual: bool = given(False, checks.flag)

    def check_address(self, mail_address: str) -> None:
        """Refuse a mailbox other than the one in the body."""
        if self.mail_address is not None and self.mail_address != mail_address:
            raise InvalidRequest(
                f"mail_address: {self.mail_address!r} is not the subject's {mail_address!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Nack(ByConsumer[str | None]):
    """MSG.NACK. The outcome is the mailbox in which an answer is due sooner now, or None.

    The reply does not contain it. It wakes the clients that wait in that mailbox.
    """

    group_name: str = needed(checks.header_text)
    msg_id: int = needed(_msg_id)
    batch: str | None = given(None, optional(checks.header_text))
    delay_ms: int = given(0, otherwise(0, whole(0, MAX_LEASE_MS)))
    reason: str | None = given(None, optional(checks.prose(MAX_REASON)))


@dataclass(frozen=True, kw_only=True)
class Move(ByConsumer[MoveOutcome]):
    """MSG.MOVE."""

    group_name: str = needed(checks.header_text)
    msg_id: int = needed(_msg_id)
    batch: str | None = given(None, optional(checks.header_text))
    to: str = needed(checks.mail_address)
    reason: str | None = given(None, optional(checks.prose(MAX_REASON)))

    @property
    def other_address(self) -> str | None:
        """The mailbox that the message is moved to."""
        return self.to

    def destination(self, mail_address: str) -> str | None:
        """Return the mailbox that the message is moved to."""
        return self.to

    def check_address(self, mail_address: str) -> None:
        """Refuse to move a message to its own mailbox."""
        if self.to == mail_address:
            raise InvalidRequest(f"to: {self.to} is the mailbox itself")


@dataclass(frozen=True, kw_only=True)
class Extend(ByConsumer[Extended]):
    """MSG.EXTEND."""

    group_name: str = needed(checks.header_text)
    msg_ids: tuple[int, ...] = needed(checks.msg_ids)
    lease_ms: int = given(DEFAULT_LEASE_MS, _lease_ms)
    begun: bool | None = given(None, optional(checks.flag))
    promise: Promise | None = given(None, optional(checks.promise))


@dataclass(frozen=True, kw_only=True)
class Release(ByConsumer[None]):
    """MSG.RELEASE."""

    shows_life: ClassVar[bool] = False

    group_name: str = needed(checks.header_text)
    request_id: str = needed(checks.header_text)


@dataclass(frozen=True, kw_only=True)
class Query(Body[Found]):
    """MSG.QUERY."""

    reads_messages: ClassVar[bool] = True
    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    key: str | None = given(None, optional(checks.header_text))
    tags: tuple[str, ...] = given((), checks.tags)
    correlation_id: str | None = given(None, optional(checks.header_text))
    since: int | None = given(None, optional(whole(0, MAX_UNIX_SECONDS)))
    limit: int = given(DEFAULT_LIMIT, otherwise(DEFAULT_LIMIT, _count))
    msg_id: int | None = given(None, optional(_msg_id))
    max_bytes: int = given(DEFAULT_MAX_BYTES, _max_bytes)
    group_name: str | None = given(None, optional(checks.header_text))
    state: str | None = given(None, optional(checks.word(*STATES)))
    before_id: int | None = given(None, optional(_msg_id))

    def check_together(self) -> None:
        """Check that a state comes with a group."""
        if self.state is not None and self.group_name is None:
            raise InvalidRequest(
                f"state: a message is {self.state} for a group only; name it in group_name"
            )


def _place(pattern: str) -> checks.Check:
    """Return a check for the place at which a page ended, the field ``more`` of its reply."""
    expected = re.compile(pattern, re.ASCII)

    def check(name: str, value: Any) -> str:
        text: str = checks.header_text(name, value)
        if not expected.fullmatch(text):
            raise InvalidRequest(f"{name}: {checks.shown(text)} is not the field more of a reply")
        return text

    return check


@dataclass(frozen=True, kw_only=True)
class ListSent(Body[SentPage]):
    """MSG.SENT."""

    lists_addresses: ClassVar[bool] = True

    sender: str | None = given(None, optional(checks.header_text))
    correlation_ids: tuple[str, ...] | None = given(None, optional(checks.correlation_ids))
    before: str | None = given(None, optional(_place(r"\d{1,18}(\.\d{1,18}){3}")))
    limit: int = given(DEFAULT_SENT, otherwise(DEFAULT_SENT, _count))

    @property
    def claimed_agent(self) -> str | None:
        """The agent whose messages are listed."""
        return self.sender


@dataclass(frozen=True, kw_only=True)
class ListConversations(Body[ConversationPage]):
    """CONVERSATION.LIST."""

    lists_addresses: ClassVar[bool] = True

    agent: str | None = given(None, optional(checks.header_text))
    mail_address: str | None = given(None, optional(checks.mail_address))
    state: str | None = given(None, optional(checks.word(*CONVERSATION_STATES)))
    text: str | None = given(None, optional(checks.prose(1_024)))
    before: str | None = given(None, optional(_place(r"\d{1,18}\.\d{1,18}")))
    limit: int = given(DEFAULT_CONVERSATIONS, otherwise(DEFAULT_CONVERSATIONS, _count))
    if_changed_from: int | None = given(None, optional(_position))


@dataclass(frozen=True, kw_only=True)
class ReadConversation(Body[ReadPart]):
    """CONVERSATION.READ."""

    lists_addresses: ClassVar[bool] = True
    reads_messages: ClassVar[bool] = True

    id: str = needed(checks.prose(1_024))
    after: str | None = given(None, optional(_place(r"\d{1,18}\.\d{1,18}\.-?\d{1,18}")))
    limit: int = given(DEFAULT_LIMIT, otherwise(DEFAULT_LIMIT, _count))
    max_bytes: int = given(DEFAULT_MAX_BYTES, _max_bytes)
    if_changed_from: int | None = given(None, optional(_position))


@dataclass(frozen=True, kw_only=True)
class ListLinks(Body[tuple[Link, ...]]):
    """CONVERSATION.LINKS."""

    lists_addresses: ClassVar[bool] = True

    since: int | None = given(None, optional(whole(0, MAX_UNIX_SECONDS)))
    limit: int = given(DEFAULT_LINKS, otherwise(DEFAULT_LINKS, _count))


@dataclass(frozen=True, kw_only=True)
class ListStuck(Body[StuckPage]):
    """STUCK.LIST."""

    lists_addresses: ClassVar[bool] = True

    kind: str | None = given(None, optional(checks.word(*STUCK_KINDS)))
    mail_address: str | None = given(None, optional(checks.mail_address))
    after: str | None = given(
        None, optional(_place(rf"({'|'.join(STUCK_KINDS)})(\.-?\d{{1,19}}){{1,5}}"))
    )
    limit: int = given(DEFAULT_LIMIT, otherwise(DEFAULT_LIMIT, _count))
    leased_longer_s: int = given(
        DEFAULT_LEASED_LONGER_S, otherwise(DEFAULT_LEASED_LONGER_S, whole(1, MAX_SECONDS))
    )
    if_changed_from: int | None = given(None, optional(_position))


@dataclass(frozen=True, kw_only=True)
class QueryUnread(Body[Fetched]):
    """Read the messages that a group has not received, without changes; of an older generation."""

    reads_messages: ClassVar[bool] = True
    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str = needed(checks.header_text)
    # The generation of the mailbox, which only its readers know.
    generation: str = needed(checks.header_text)


@dataclass(frozen=True, kw_only=True)
class Delete(Body[None]):
    """MSG.DELETE. The subject names the message."""

    is_private: ClassVar[bool] = True

    msg_id: int = needed(_msg_id)

    @property
    def subject_msg_id(self) -> int:
        """The message to delete."""
        return self.msg_id

    def encode(self) -> bytes:
        """Return the payload, which is empty."""
        return b""

    @classmethod
    def read(cls, payload: bytes, headers: RequestHeaders, msg_id: int | None) -> Self:
        """Read a request from its subject."""
        return cls(msg_id=msg_id)  # type: ignore[arg-type]  # None is refused like any other value


@dataclass(frozen=True, kw_only=True)
class Cancel(Body[None]):
    """MSG.CANCEL."""

    delayed_id: int = needed(whole(1, MAX_MSG_ID))
    sender: str | None = given(None, optional(checks.header_text))

    @property
    def claimed_agent(self) -> str | None:
        """The agent that claims to have sent the message."""
        return self.sender


@dataclass(frozen=True, kw_only=True)
class Notify(Body[Notice]):
    """MSG.NOTICE."""

    is_private: ClassVar[bool] = True

    host: str = needed(checks.printable(64))
    session: str = needed(checks.printable(128))
    occasion: Occasion = needed(checks.member(Occasion))
    may_wake: str | tuple[str, ...] = given(checks.KNOWN, otherwise(checks.KNOWN, checks.wakers))
    max_in_a_row: int = given(DEFAULT_IN_A_ROW, otherwise(DEFAULT_IN_A_ROW, _turns))
    max_per_hour: int = given(DEFAULT_PER_HOUR, otherwise(DEFAULT_PER_HOUR, _turns))
    cooldown_s: int = given(DEFAULT_COOLDOWN_S, otherwise(DEFAULT_COOLDOWN_S, whole(0, 3_600)))


@dataclass(frozen=True, kw_only=True)
class Register(Body[str]):
    """AGENT.REGISTER: the fields that the broker reads. It stores all fields.

    The outcome is the agent's mailbox.
    """

    name: str | None = given(None, optional(checks.agent_name))
    mailbox: str | None = given(None, optional(checks.mail_address))
    ttl: int = given(0, otherwise(0, whole(0, MAX_SECONDS)))

    def check_together(self) -> None:
        """Check that a name or a mailbox is present."""
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: an agent needs a name or a mailbox")

    @property
    def mail_address(self) -> str:
        """The agent's mailbox. Default: the slug of the name."""
        return self.mailbox or addresses.slug(self.name or "")


@dataclass(frozen=True, kw_only=True)
class _OfAgent(Body[None]):
    """A request about a registered agent."""

    name: str | None = given(None, optional(checks.agent_name))
    mailbox: str | None = given(None, optional(checks.mail_address))

    def check_together(self) -> None:
        """Check that a name or a mailbox is present."""
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: give the agent's name or its mailbox")


@dataclass(frozen=True, kw_only=True)
class Unregister(_OfAgent):
    """AGENT.UNREGISTER."""


@dataclass(frozen=True, kw_only=True)
class Report(_OfAgent):
    """AGENT.REPORT: the fields that the broker reads. It stores the whole object."""


@dataclass(frozen=True, kw_only=True)
class Discover(Body[Discovered]):
    """AGENT.DISCOVER."""

    text: str | None = given(None, optional(checks.prose(4_096)))
    semantic: str | None = given(None, optional(checks.prose(4_096)))
    min_score: float | None = given(None, optional(checks.number(0, 2)))
    limit: int = given(20, _count)
    page: int = given(1, whole(1, 1_000_000))


@dataclass(frozen=True, kw_only=True)
class Lookup(Body[tuple[AgentEntry, ...]]):
    """AGENT.LOOKUP."""

    # Both apply to the mailbox ``wrote_to``.
    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    names: tuple[str, ...] = given((), otherwise((), checks.senders))
    mailboxes: tuple[str, ...] = given((), otherwise((), checks.mail_addresses))
    wrote_to: str | None = given(None, optional(checks.mail_address))
    before: int | None = given(None, optional(_msg_id))

    def check_together(self) -> None:
        """Check that there is something to look up."""
        if not self.names and not self.mailboxes:
            raise InvalidRequest("names: there is nothing to look up; give names or mailboxes")
        if self.before is not None and self.wrote_to is None:
            raise InvalidRequest(
                f"before: message {self.before} is one of a mailbox; name it in wrote_to"
            )


@dataclass(frozen=True, kw_only=True)
class Whoami(Body[Identity]):
    """AGENT.WHOAMI. The outcome is the client's identity, as the broker knows it."""
