"""What the engine is asked: a request, who asks it, and what the broker asks of itself.

A call is complete in itself: generated addresses, tokens and consumer names come in with it. A call
that changes something is an entry of a log, with its number and its instant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar, cast

from mq9 import address as addresses
from mq9.errors import Mq9Error, PayloadTooLarge
from mq9.models import Totals, Unread, Waiting
from mq9.protocol import requests
from mq9.protocol.body import ByConsumer, Request
from mq9.protocol.outcomes import Fetched


@dataclass(frozen=True, slots=True)
class Limits:
    """What one broker takes; beyond it a request is refused with the limit's name.

    They are part of the state, so that every replica refuses the same.

    Attributes:
        max_payload: Bytes in one message.
        max_registration: Bytes in one registration or report.
        max_mailboxes: Mailboxes that have not expired.
        max_messages: Messages in one mailbox, delayed ones included.
        max_bytes: Bytes in one mailbox, delayed messages included: payloads, and all text stored
            with them.
        max_agents: Registrations.
        max_groups: Consumer groups of one mailbox.
        max_ids: Idempotency ids that one mailbox remembers.
        max_redelivered: Bytes that are remembered of replies to one group, for what it had been
            given before.
    """

    max_payload: int = 1024 * 1024
    max_registration: int = 64 * 1024
    max_mailboxes: int = 100_000
    max_messages: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024
    max_agents: int = 200_000
    max_groups: int = 1_000
    max_ids: int = 10_000_000
    max_redelivered: int = 256 * 1024 * 1024

    def check_payload(self, payload: bytes) -> None:
        """Raise PayloadTooLarge when a message is too large."""
        _check_size("max_payload", payload, self.max_payload)

    def check_registration(self, registered: bytes) -> None:
        """Raise PayloadTooLarge when a registration or report is too large."""
        _check_size("max_registration", registered, self.max_registration)


def _check_size(name: str, payload: bytes, most: int) -> None:
    if len(payload) > most:
        raise PayloadTooLarge(f"{name}: {len(payload)} bytes are more than {most}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, and what configuration says of what is asked for.

    Attributes:
        agent: The authenticated agent; None for anybody else.
        owner: The agent that the address asked for belongs to, whoever made the mailbox there.
        own: The names and addresses that belong to ``agent``.
        closed: Whether what has no creator is closed to agents.
        other_owner: The agent that the other mailbox belongs to which a request names: the target
            of a MOVE, or the mailbox that a SEND says it comes from.
        below: The address below which every address belongs to ``agent``, but for those ``apart``.
        apart: Addresses below that one that belong to other agents, with all that is below them.
        barred: Whether the agent's allow-list leaves out the mailbox that a message goes to.
        is_stranger: Whether it is nobody in particular where agents are configured, and so is
            closed out of what belongs to an agent, which an operator is not.
    """

    agent: str | None = None
    owner: str | None = None
    own: tuple[str, ...] = ()
    closed: bool = False
    other_owner: str | None = None
    below: str | None = None
    apart: tuple[str, ...] = ()
    barred: bool = False
    is_stranger: bool = False

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
        """Who asks, as seen from the other mailbox that the request names."""
        return replace(self, owner=self.other_owner, other_owner=None)


ANYBODY = Actor()
R = TypeVar("R")
P = TypeVar("P", bound=Request[Any])
Q_co = TypeVar("Q_co", bound=Request[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q_co]):
    """A request, with what it does not say itself.

    Attributes:
        request: What is asked.
        address: The mailbox that it concerns; "" for none.
        actor: Who asks.
        default_consumer: Stands in for the consumer that the request does not name.
        payload: What travelled as payload: the message of a SEND, the whole object of a REGISTER.
        token: One that no other call has, for the mailbox that it may make.
        generation: The mailbox that there must still be at the address; None for whichever it is.
        as_text: Whether the reply is to hold text, which may be longer than base64.
    """

    request: Q_co
    address: str = ""
    actor: Actor = ANYBODY
    default_consumer: str = ""
    payload: bytes = b""
    token: str = ""
    generation: str | None = None
    as_text: bool = False

    @property
    def agent(self) -> str | None:
        """The agent that the asker works for: who has authenticated as one works for that one."""
        return self.actor.agent or self.request.claimed_agent

    def asking(self, request: P, generation: str | None = None) -> Call[P]:
        """Return another request by the same asker, for the same mailbox.

        Args:
            request: The other request.
            generation: The mailbox that there must still be at the address.
        """
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
    """A call in a log: the same entries in the same order make the same state everywhere.

    Attributes:
        index: Its number, higher than that of the entry before.
        now_ms: The instant at which it happens, in milliseconds since the Unix epoch. One that is
            before the entry before happens at the instant of that one.
        call: What to do; a command.
    """

    index: int
    now_ms: int
    call: Call[Q_co]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of a call.

    Attributes:
        value: What it came to; None as well where it was refused.
        error: Why it was refused; None where it was not.
        now_ms: The instant at which that happened, in milliseconds since the Unix epoch.
    """

    value: R | None
    error: Mq9Error | None
    now_ms: int

    def result(self) -> R:
        """Return what the call came to.

        Raises:
            Mq9Error: It was refused.
        """
        if self.error is not None:
            raise self.error
        return cast("R", self.value)


def consumer_of(call: Call[ByConsumer[Any]]) -> str:
    """Return the consumer that a call speaks of."""
    return call.request.consumer or call.default_consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(Request[None]):
    """Make visible what has fallen due in a mailbox, and remove what has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(Request[None]):
    """Make undone a FETCH reply that reached nobody.

    Attributes:
        batch: The reply's token.
        copy: Which giving of it; one that was given again since is left alone.
    """

    batch: str
    copy: int = 1


def undo_of(call: Call[Any], value: Any) -> Call[Undo] | None:
    """Return the call that makes a reply undone; None where nothing was leased with it.

    Args:
        call: What was asked.
        value: What it came to; None where it was refused.
    """
    if not isinstance(call.request, requests.Fetch) or value is None or value.batch is None:
        return None
    return Call(Undo(batch=value.batch, copy=value.copy), call.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek(Request[Fetched]):
    """Read without a group: nothing is leased or remembered.

    Attributes:
        fetch: What is wanted.
        position: Read from this msg_id; None to begin where ``fetch`` says.
        cursors: Of each lane, the msg_id to read from; None to read all of them from ``position``.
    """

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    fetch: requests.Fetch
    position: int | None = None
    cursors: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRead(Request[None]):
    """Note that a group has read the messages of each lane up to some msg_id, or further.

    Attributes:
        group_name: The group, which leases nothing.
        cursors: Of each lane, the first msg_id that is unread.
    """

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str
    cursors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyEmpty(Request[Waiting]):
    """Say why there is nothing to deliver."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True

    group_name: str | None
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountUnread(Request[Unread | None]):
    """Count what a group could be given; None when the mailbox is not there."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True

    group_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckActor(Request[None]):
    """Look at nothing but whether the actor may; nobody is refused a mailbox that is not there."""

    is_private: ClassVar[bool] = True
    only_looks: ClassVar[bool] = True
    is_brief: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The outcome of a ClaimNames.

    Attributes:
        mailboxes: Addresses whose mailbox got another creator.
        removed: Keys of the registrations that were removed.
        closed: How many mailboxes have neither creator nor readers, and so are closed to agents.
        first_closed: Addresses of some of these.
    """

    mailboxes: tuple[str, ...]
    removed: tuple[str, ...]
    closed: int
    first_closed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames(Request[Claimed]):
    """Give configured agents what is stored under their names and addresses.

    A mailbox at such an address gets its agent as creator. A registration under such a name is
    kept when the agent made it, or when nobody authenticated did and it points at the agent's own
    address. Any other is removed, and so is one that somebody else points at such an address.

    Attributes:
        names: Keys of registrations, and the agent that each belongs to.
        addresses: Addresses, and the agent that each belongs to.
        with_sub_addresses: Whether what is below an address belongs to its agent as well; what is
            below several belongs to that of the longest.
    """

    names: tuple[tuple[str, str], ...]
    addresses: tuple[tuple[str, str], ...]
    with_sub_addresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSendLimits(Request[int]):
    """Count the mailboxes to which not everybody may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys(Request[tuple[str, ...]]):
    """The keys of all registrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Request[int | None]):
    """Note that an agent lives; gives the instant by which it is to be noted again as it waits."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IsRegistered(Request[bool]):
    """Whether there is a registration under a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Request[int]):
    """Remove what has expired or need no longer be remembered; gives how many rows went.

    When those are fewer than ``most``, nothing is left to remove.

    Attributes:
        most: How many rows of each kind, give or take what belongs to one mailbox or group.
    """

    most: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits(Request[None]):
    """Set what the broker takes from now on; what it holds already stays.

    Attributes:
        limits: What it takes.
    """

    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Request[None]):
    """Read something small, to see whether anything can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAll(Request[Totals]):
    """Count what the broker holds."""

    is_bounded: ClassVar[bool] = False  # nobody but the broker itself asks
