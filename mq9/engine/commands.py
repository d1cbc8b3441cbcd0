"""Calls of the engine: a request with its caller, and the broker's own commands.

A call is complete in itself: generated addresses, tokens and consumer names come in with it. A call
that changes something is an entry of a log, with its number and its instant.
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
    """Limits of a broker; part of the state, so that every replica refuses the same."""

    max_payload: int = 1024 * 1024  # bytes of a message
    max_registration: int = 64 * 1024  # bytes of a registration or report
    max_mailboxes: int = 100_000
    max_messages: int = 100_000  # of a mailbox, delayed ones included
    max_bytes: int = 1024 * 1024 * 1024  # of a mailbox: payloads and all text stored with them
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
    """The caller, and the configuration that concerns its request."""

    agent: str | None = None  # None where it has not authenticated
    owner: str | None = None  # the agent that the address belongs to, whoever made the mailbox
    own: tuple[str, ...] = ()  # names and addresses of the agent
    closed: bool = False  # whether what has no creator is closed to agents
    # The agent that the target of a MOVE belongs to, or the mailbox that a SEND comes from.
    other_owner: str | None = None
    below: str | None = None  # addresses below this one are the agent's, but for those apart
    apart: tuple[str, ...] = ()
    barred: bool = False  # whether the agent's allow-list leaves out the mailbox of a SEND
    # Whether it is no agent where agents are configured, and no operator either.
    is_stranger: bool = False
    # Whether the client may be told addresses that it does not name: it is an agent, an operator
    # where agents are configured, or a program in the broker's process. For ``lists_addresses``.
    may_list: bool = False
    # Where it does not follow from ``agent``: of an operator with a name, and of a reader.
    role: Role | None = None
    # The agent that the mailbox belongs to in which a SEND wants to be told of an overdue answer.
    reply_owner: str | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it may use every mailbox, as do all who are no agents, but for strangers."""
        if self.role is None:
            return self.agent is None and not self.is_stranger
        return self.role is Role.OPERATOR

    @property
    def is_reader(self) -> bool:
        """Whether it may look into every mailbox, and changes nothing."""
        return self.role is Role.READER

    @property
    def adopts(self) -> bool:
        """Whether it becomes the creator of a mailbox that it uses: the address is its own."""
        return self.agent is not None and self.agent == self.owner and not self.is_reader

    @property
    def is_known(self) -> bool:
        """Whether who asks is told apart from others: as an agent, or as none of them."""
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
        """The caller, as seen from the other mailbox that the request names."""
        return replace(self, owner=self.other_owner, other_owner=None)

    @property
    def at_reply_to(self) -> Actor:
        """The client, as seen from the mailbox that gets the notice of an overdue answer."""
        # Where one may take, the allow-list does not matter.
        return replace(self, owner=self.reply_owner, other_owner=None, barred=False)


ANYBODY = Actor()
R = TypeVar("R")
P = TypeVar("P", bound=Request[Any])
Q_co = TypeVar("Q_co", bound=Request[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q_co]):
    """A request, with what it does not say itself."""

    request: Q_co
    address: str = ""  # of the mailbox, if it concerns one
    actor: Actor = ANYBODY
    default_consumer: str = ""  # where the request names none
    payload: bytes = b""  # the message of a SEND, the whole object of a REGISTER
    token: str = ""  # unique: the generation of the mailbox that it may make
    generation: str | None = None  # of the mailbox that must still be at the address
    as_text: bool = False  # whether the reply holds text, which may be longer than base64

    @property
    def agent(self) -> str | None:
        """The agent that the client works for: who has authenticated as one works for that one."""
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
    """A call in a log: the same entries in the same order make the same state everywhere."""

    index: int  # higher than that of the entry before
    now_ms: int  # when it happens, but not before the entry before
    call: Call[Q_co]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """A call's value or error, and when it happened."""

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

    options: requests.Send  # one object for all that differ in ``id`` and payload alone
    id: str | None  # in place of the one in ``options``
    payload: bytes
    origin: Any = None  # who is answered, as the one knows who began the SEND

    def call(self, batch: Call[SendBatch]) -> Call[requests.Send]:
        """Return it as a call of its own."""
        options = self.options if self.id is None else replace(self.options, id=self.id)
        return Call(options, batch.address, batch.actor, batch.default_consumer, self.payload)


_MOST_TOGETHER = 64  # SENDs of a batch
_MOST_BYTES = 256 * 1024  # of a batch with more than one


class SendBatch(Request[Sequence[int | Mq9Error]]):
    """SENDs by one client to one mailbox, in order; the msg_id or the error of each.

    Every one is an entry of its own. A batch is never in a log.

    Args:
        is_wanted: Tells of a SEND that is about to be carried out whether it still is to be; None
            where every one is.
    """

    __slots__ = ("_is_wanted", "_lock", "added", "payload_bytes", "sends")

    def __init__(self, is_wanted: Callable[[PlainSend], bool] | None = None) -> None:
        self.sends: list[PlainSend] = []
        self.added = 0  # SENDs, those that nobody wants any more included
        self.payload_bytes = 0
        self._is_wanted = is_wanted
        self._lock: threading.Lock | None = threading.Lock()  # None once the batch is closed

    @classmethod
    def of(cls, call: Call[requests.Send]) -> Call[SendBatch]:
        """Return a batch of one SEND."""
        batch = cls()
        batch.add([PlainSend(call.request, call.request.id, call.payload)])
        return Call(batch, call.address, call.actor, call.default_consumer)

    def add(self, sends: Sequence[PlainSend]) -> int:
        """Add the first of some SENDs, unless the batch is full or closed; how many were added."""
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
        """Take no more, and leave out what nobody waits for; called on any thread."""
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
    """Return the consumer that a call speaks of."""
    return call.request.consumer or call.default_consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(Request[None]):
    """Make visible what has fallen due in a mailbox, and remove what has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(Request[None]):
    """Undo a FETCH reply that reached nobody."""

    batch: str
    copy: int = 1  # how often it had been given: one that was given again since is left alone


def undo_of(call: Call[Any], value: Any) -> Call[Undo] | None:
    """Return the call that undoes a reply; None where nothing was leased with it."""
    if not isinstance(call.request, requests.Fetch) or value is None or value.batch is None:
        return None
    return Call(Undo(batch=value.batch, copy=value.copy), call.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek(Request[Fetched]):
    """Read without a group: nothing is leased or remembered."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    fetch: requests.Fetch
    position: int | None = None  # the first msg_id; None to begin where ``fetch`` says
    cursors: tuple[int, ...] | None = None  # the same of each lane, where they differ


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRead(Request[None]):
    """Note how far a group has read that leases nothing, or further."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str
    cursors: tuple[int, ...]  # of each lane, the first msg_id that is unread


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyEmpty(Request[Waiting]):
    """Say why there is nothing to deliver."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str | None
    position: int = 0


def changed_addresses(call: Call[Any], value: Any) -> Iterator[str]:
    """Yield the addresses of other mailboxes in which a command has left something to look at."""
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
    """List what consumers of a group hold, soonest to end first, one more than a reply has."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str
    without: tuple[int, ...] = ()  # msg_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class CountUnread(Request[Unread | None]):
    """Count what a group could be given; None when the mailbox is not there."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True

    group_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckActor(Request[None]):
    """Refuse an actor that may not look; a mailbox that does not exist refuses nobody."""

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
    """Give configured agents what is stored under their names and addresses.

    A mailbox at such an address gets its agent as creator. A registration under such a name is
    kept when the agent made it, or when nobody authenticated did and it points at the agent's own
    address. Any other is removed, and so is one that somebody else points at such an address.
    """

    names: tuple[tuple[str, str], ...]  # key of a registration, agent
    addresses: tuple[tuple[str, str], ...]  # address, agent
    # Whether what is below an address is its agent's as well; of several, the longest counts.
    with_sub_addresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSendLimits(Request[int]):
    """Count the mailboxes to which not everybody may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys(Request[tuple[str, ...]]):
    """The keys of all registrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Request[int | None]):
    """Note that an agent lives; return when a waiting agent is to be noted again."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IsRegistered(Request[bool]):
    """Whether there is a registration under a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Request[int]):
    """Remove what is over; return how many rows went, fewer than ``most`` when that was all."""

    most: int = 1_000  # rows of each kind, give or take what belongs to one mailbox or group


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits(Request[None]):
    """Set what the broker takes from now on; what it holds already stays."""

    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Request[None]):
    """Read something small, to see whether anything can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAll(Request[Totals]):
    """Count what the broker holds."""

    is_bounded: ClassVar[bool] = False  # nobody but the broker itself asks
