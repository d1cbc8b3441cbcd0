"""Calls of the engine: a request with its client, and the broker's own commands.

A call is complete: generated addresses, tokens and consumer names are part of it. A call that
changes something is an entry of a log, with a number and an instant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

from mq9 import address as addresses
from mq9.errors import Mq9Error, PayloadTooLarge
from mq9.models import Held, Role, Totals, Unread, Waiting
from mq9.protocol import requests
from mq9.protocol.body import ByConsumer, Request
from mq9.protocol.outcomes import Fetched


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a broker; part of the state, so that all replicas refuse alike."""

    max_payload: int = 1024 * 1024  # bytes of a message
    max_registration: int = 64 * 1024  # bytes of a registration or report
    max_mailboxes: int = 100_000
    max_messages: int = 100_000  # of a mailbox, including delayed ones
    max_bytes: int = 1024 * 1024 * 1024  # of a mailbox: payloads and the text stored with them
    max_agents: int = 200_000
    max_groups: int = 1_000  # of a mailbox
    max_ids: int = 10_000_000  # idempotency ids that a mailbox remembers
    max_redelivered: int = 256 * 1024 * 1024  # bytes remembered of a group's redeliveries

    def check_size(self, limit: str, data: bytes) -> None:
        """Raise PayloadTooLarge for more bytes than a limit allows.

        Args:
            limit: The name of a field of this class, such as ``max_payload``.
            data: The bytes to measure.
        """
        most = getattr(self, limit)
        if len(data) > most:
            raise PayloadTooLarge(f"{limit}: {len(data)} bytes are more than {most}")


@dataclass(frozen=True, slots=True)
class Actor:
    """The client of a request, and the configuration that concerns the request."""

    agent: str | None = None  # None if it has not authenticated
    owner: str | None = None  # the agent that owns the address, by configuration
    own: tuple[str, ...] = ()  # names and addresses of the agent
    closed: bool = False  # whether mailboxes without a creator are closed to agents
    # The agent that the target of a MOVE belongs to, or the mailbox that a SEND comes from.
    other_owner: str | None = None
    below: str | None = None  # addresses below this one belong to the agent, except ``apart``
    apart: tuple[str, ...] = ()
    barred: bool = False  # whether the agent's allow-list excludes the mailbox of a SEND
    # Whether agents are configured and the client is neither an agent nor an operator.
    is_stranger: bool = False
    # Whether replies may contain addresses that the client does not name (``lists_addresses``).
    # Such clients are agents, operators if agents are configured, and programs in the broker's
    # process.
    may_list: bool = False
    # Set for an operator with a name and for a reader; otherwise it follows from ``agent``.
    role: Role | None = None
    # The owner of the mailbox that gets the notice of an overdue answer to a SEND.
    reply_owner: str | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it may use every mailbox, as an operator or because no agents are configured."""
        if self.role is None:
            return self.agent is None and not self.is_stranger
        return self.role is Role.OPERATOR

    @property
    def is_reader(self) -> bool:
        """Whether it may look into every mailbox and change none."""
        return self.role is Role.READER

    @property
    def adopts(self) -> bool:
        """Whether it becomes the creator of the mailboxes at its own address that it uses."""
        return self.agent is not None and self.agent == self.owner and not self.is_reader

    @property
    def is_known(self) -> bool:
        """Whether the broker tells this client apart from others, as an agent or as none."""
        return self.agent is not None or self.closed

    def owns(self, address: str) -> bool:
        """Tell whether an address belongs to the agent."""
        if address in self.own:
            return True
        roots = {self.below, *self.apart}
        nearest = next((one for one in addresses.upwards(address) if one in roots), None)
        return nearest is not None and nearest == self.below

    @property
    def elsewhere(self) -> Actor:
        """The client, as seen from the other mailbox of the request."""
        return replace(self, owner=self.other_owner, other_owner=None)

    @property
    def at_reply_to(self) -> Actor:
        """The client, as seen from the mailbox that gets the notice of an overdue answer."""
        # The allow-list does not apply to mailboxes that the client may take messages from.
        return replace(self, owner=self.reply_owner, other_owner=None, barred=False)


ANYBODY = Actor()
R = TypeVar("R")
P = TypeVar("P", bound=Request[Any])
Q_co = TypeVar("Q_co", bound=Request[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q_co]):
    """A request with its context."""

    request: Q_co
    address: str = ""  # of the mailbox, if it concerns one
    actor: Actor = ANYBODY
    default_consumer: str = ""  # if the request names none
    payload: bytes = b""  # the message of a SEND, the whole object of a REGISTER
    token: str = ""  # unique: the generation of a mailbox that it creates
    generation: str | None = None  # the expected generation of the mailbox
    as_text: bool = False  # whether the reply has payloads as text, which may exceed base64

    @property
    def agent(self) -> str | None:
        """The agent that the client works for: the authenticated one, else the claimed one."""
        return self.actor.agent or self.request.claimed_agent

    def with_request(self, request: P, generation: str | None = None) -> Call[P]:
        """Return another request by the same client, for the same mailbox."""
        return Call(
            request,
            self.address,
            self.actor,
            self.default_consumer,
            generation=generation,
            as_text=self.as_text,
        )


@dataclass(frozen=True, slots=True)
class Entry(Generic[Q_co]):
    """A call in a log: the same entries in the same order give the same state everywhere."""

    index: int  # higher than that of the entry before
    now_ms: int  # its instant; an earlier one counts as that of the previous entry
    call: Call[Q_co]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """The value or the error of a call, and its instant."""

    value: R | None
    error: Mq9Error | None
    now_ms: int

    def result(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)


class PlainSend(NamedTuple):
    """A SEND that can be stored together with others."""

    options: requests.Send  # shared by SENDs that differ only in ``id`` and payload
    id: str | None  # replaces the one in ``options``
    payload: bytes
    origin: Any = None  # opaque: the caller of the batch finds the client by it

    def call(self, batch: Call[SendBatch]) -> Call[requests.Send]:
        """Return it as a call."""
        options = self.options if self.id is None else replace(self.options, id=self.id)
        return Call(options, batch.address, batch.actor, batch.default_consumer, self.payload)


_MOST_TOGETHER = 64  # SENDs of a batch
_MOST_BYTES = 256 * 1024  # of a batch with more than one


class SendBatch(Request[Sequence[int | Mq9Error]]):
    """SENDs by one client to one mailbox, in order; the outcome is the msg_id or the error of each.

    Each SEND is an entry of its own. A batch is never in a log.

    Args:
        is_wanted: Tells whether a SEND is still wanted when its turn comes. Default: all are.
    """

    __slots__ = ("_is_wanted", "_lock", "added", "payload_bytes", "sends")

    def __init__(self, is_wanted: Callable[[PlainSend], bool] | None = None) -> None:
        self.sends: list[PlainSend] = []
        self.added = 0  # SENDs, including those that are no longer wanted
        self.payload_bytes = 0
        self._is_wanted = is_wanted
        self._lock: threading.Lock | None = threading.Lock()  # None after `close`

    @classmethod
    def of(cls, call: Call[requests.Send]) -> Call[SendBatch]:
        """Return a batch of one SEND."""
        batch = cls()
        batch.add([PlainSend(call.request, call.request.id, call.payload)])
        return Call(batch, call.address, call.actor, call.default_consumer)

    def add(self, sends: Sequence[PlainSend]) -> int:
        """Add as many of the SENDs as fit, in order; return how many. A closed batch takes none."""
        lock = self._lock
        if lock is None:
            return 0
        with lock:
            if self._lock is None:
                return 0
            before = len(self.sends)
            for send in sends:
                size = self.payload_bytes + len(send.payload)
                if self.sends and (len(self.sends) >= _MOST_TOGETHER or size > _MOST_BYTES):
                    break
                self.sends.append(send)
                self.payload_bytes = size
            added = len(self.sends) - before
            self.added += added
            return added

    def close(self) -> None:
        """Accept no more SENDs and drop the unwanted ones. May be called on any thread."""
        lock = self._lock
        if lock is not None:
            with lock:
                self._lock = None
                if self._is_wanted is not None:
                    self.sends = list(filter(self._is_wanted, self.sends))


def is_plain(options: requests.Send) -> bool:
    """Tell whether a SEND with these options may be in a batch."""
    return not (
        options.delay
        or options.key is not None
        or options.from_mailbox is not None
        or options.tell_overdue
        or options.details
    )


def consumer_of(call: Call[ByConsumer[Any]]) -> str:
    """Return the consumer of a call."""
    return call.request.consumer or call.default_consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(Request[None]):
    """Make due messages of a mailbox visible, and remove expired ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(Request[None]):
    """Undo a FETCH reply that did not reach its client."""

    batch: str
    copy: int = 1  # number of this copy of the reply; nothing is undone if a later copy exists


def undo_of(call: Call[Any], value: Any) -> Call[Undo] | None:
    """Return the call that undoes a reply; None if the reply leased nothing."""
    if not isinstance(call.request, requests.Fetch) or value is None or value.batch is None:
        return None
    return Call(Undo(batch=value.batch, copy=value.copy), call.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek(Request[Fetched]):
    """Read without a group, and lease and store nothing."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    fetch: requests.Fetch
    position: int | None = None  # the first msg_id; None: as ``fetch`` says
    cursors: tuple[int, ...] | None = None  # the first msg_id of each lane, if they differ


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRead(Request[None]):
    """Store how far a group has read without leases. Its cursors never go back."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str
    cursors: tuple[int, ...]  # of each lane, the first msg_id that is unread


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyEmpty(Request[Waiting]):
    """Explain why a FETCH returned nothing."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str | None
    position: int = 0


def changed_addresses(call: Call[Any], value: Any) -> Iterator[str]:
    """Yield the addresses of other mailboxes in which waiting clients must look again."""
    request = call.request
    if isinstance(request, requests.Send) and request.overdue_address is not None:
        yield request.overdue_address
    elif isinstance(request, requests.Nack) and value is not None:
        yield value
    elif isinstance(request, requests.Move):
        if value.msg_id is not None:
            yield request.to
        if value.sooner is not None:
            yield value.sooner


MOST_HELD = 100  # messages that one reply lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ListHeld(Request[tuple[Held, ...]]):
    """List the messages that consumers of a group hold, up to one more than fits into a reply.

    The one whose lease ends first comes first.
    """

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str
    without: tuple[int, ...] = ()  # msg_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class CountUnread(Request[Unread | None]):
    """Count the messages that a group could get; None if the mailbox does not exist."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True

    group_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckActor(Request[None]):
    """Refuse an actor that may not look into a mailbox. A missing mailbox admits all."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The outcome of a ClaimNames."""

    mailboxes: tuple[str, ...]  # addresses whose mailbox got another creator
    removed: tuple[str, ...]  # keys of registrations
    closed: int  # mailboxes that have neither creator nor readers
    first_closed: tuple[str, ...]  # addresses of some of these


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames(Request[Claimed]):
    """Give configured agents the mailboxes and registrations under their names and addresses.

    A mailbox at such an address gets its agent as creator. A registration under such a name stays
    if the agent made it. It also stays if an unauthenticated client made it and it points at the
    agent's own address. Any other is removed. A registration of another client is also removed if
    it points at such an address.
    """

    names: tuple[tuple[str, str], ...]  # key of a registration, agent
    addresses: tuple[tuple[str, str], ...]  # address, agent
    # Whether an agent also gets the addresses below its own. The longest match counts.
    with_sub_addresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSendLimits(Request[int]):
    """Count the mailboxes that restrict their senders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys(Request[tuple[str, ...]]):
    """List the keys of all registrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Request[int | None]):
    """Note a sign of life of an agent; return when a waiting agent must give the next one."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IsRegistered(Request[bool]):
    """Tell whether a registration under a name exists."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Request[int]):
    """Remove expired rows; return how many. A number below ``most`` means that none are left."""

    most: int = 1_000  # rows of each kind; one mailbox or group may exceed it


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits(Request[None]):
    """Set the limits of the broker; stored data stays."""

    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Request[None]):
    """Read something small, to check that reads work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAll(Request[Totals]):
    """Count the contents of the broker, and those of the first mailboxes that match a pattern."""

    is_bounded: ClassVar[bool] = False  # only the broker itself makes this request

    patterns: tuple[str, ...] = ()
    most: int = 0
