"""What can be asked of the engine: commands that change it, queries that look.

Each is a frozen dataclass of plain values, complete in itself: generated addresses, tokens and
consumer names come in with it. Its type parameter is the type of its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from mq9.errors import PayloadTooLarge
from mq9.models import (
    Deliver,
    Extended,
    FetchResult,
    MailboxStatus,
    Message,
    Priority,
    PublicMailbox,
    Totals,
    Unread,
    Waiting,
)

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one broker takes; beyond it a request is refused with the limit's name.

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
            handed before.
        max_read_steps: Steps of SQLite's machine that one read may take; a million are some
            hundredths of a second.
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
    max_read_steps: int = 50_000_000

    def check_payload(self, payload: bytes) -> None:
        """Raise PayloadTooLarge when a message is too large."""
        _check_size("max_payload", payload, self.max_payload)

    def check_registration(self, registered: bytes) -> None:
        """Raise PayloadTooLarge when a registration or report is too large."""
        _check_size("max_registration", registered, self.max_registration)


def _check_size(name: str, payload: bytes, most: int) -> None:
    if len(payload) > most:
        raise PayloadTooLarge(f"{name}: {len(payload)} bytes are more than {most}")


class Command(Generic[R_co]):
    """Changes the state; gives an ``R_co``."""

    __slots__ = ()


class Query(Generic[R_co]):
    """Looks at the state; gives an ``R_co``.

    Attributes:
        is_bounded: Whether it is refused when it takes more steps than a read may.
    """

    __slots__ = ()
    is_bounded: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, and what configuration says of what is asked for.

    Attributes:
        agent: The authenticated agent; None for anybody else.
        owner: The agent that the address asked for belongs to, whoever made the mailbox there.
        own: The names and addresses that belong to ``agent``.
        closed: Whether what has no creator is closed to agents.
    """

    agent: str | None = None
    owner: str | None = None
    own: tuple[str, ...] = ()
    closed: bool = False


ANYBODY = Actor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """Concerns a mailbox that, of authenticated agents, only its creator and readers may use.

    Attributes:
        address: The mailbox.
        actor: Who asks.
    """

    address: str
    actor: Actor = ANYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class ByConsumer(Private):
    """Concerns what a consumer of a group holds; a sign of life of the agent that it works for.

    Attributes:
        seen: That agent, where it is known.
    """

    seen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMailbox(Command[str]):
    """Make a mailbox, or renew one; gives its address.

    Attributes:
        life: A token that no other mailbox has.
        actor: Who asks.
    """

    address: str
    life: str
    ttl_s: int = 0
    description: str = ""
    public: bool = False
    renew: bool = False
    actor: Actor = ANYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantMailbox(Command[tuple[str, ...]]):
    """Say which agents may use a mailbox beside its creator; gives them.

    Attributes:
        readers: All of them: whoever was granted it before and is not named may no longer.
        actor: Who asks.
    """

    address: str
    readers: tuple[str, ...]
    actor: Actor = ANYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class DropMailbox(Private, Command[None]):
    """Remove a mailbox with all that is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Command[None]):
    """Make visible what has fallen due in a mailbox, and remove what has expired."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Command[int]):
    """Store a message; gives its msg_id, or -1 while it is delayed."""

    address: str
    payload: bytes
    priority: Priority = Priority.NORMAL
    key: str | None = None
    delay_s: int = 0
    ttl_s: int | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None
    sender: str | None = None
    sender_verified: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    path: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a group or a read begins."""

    deliver: Deliver = Deliver.EARLIEST
    from_time: int | None = None
    from_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The outcome of a Fetch or a Peek.

    Attributes:
        result: What to answer.
        position: The first msg_id that this read or group covers.
        life: The mailbox it was made in, to be waited on.
        next_change_ms: When, without anybody doing anything, there may be more to hand out.
        refetched: Whether leases were set anew, so that they may end earlier than others think.
        copy: Which giving of the reply this is; a repeated FETCH is given the same one again.
    """

    result: FetchResult
    life: str
    position: int = 0
    next_change_ms: int | None = None
    refetched: bool = False
    copy: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(ByConsumer, Command[Fetched]):
    """Lease messages to a consumer of a group.

    Attributes:
        life: The mailbox it must still be; None for whichever has the address.
        as_text: Whether the reply is to hold text, which may be longer than base64.
    """

    life: str | None = None
    group: str
    consumer: str
    start: Start = Start()
    force: bool = False
    request_id: str | None = None
    num_msgs: int = 100
    max_bytes: int = 4 * 1024 * 1024
    as_text: bool = False
    lease_ms: int = 60_000
    redeliver_own: bool = True

    def undo(self, fetched: Fetched) -> Release | None:
        """Return the command that takes back a reply which reached nobody."""
        if not fetched.result:
            return None
        batch = fetched.result.batch
        assert batch is not None  # noqa: S101  # a group's messages always have one
        return Release(address=self.address, batch=batch, copy=fetched.copy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Command[None]):
    """Take back a FETCH reply that reached nobody, as if it had not been made.

    Attributes:
        copy: Which giving of it; one that was given again since is left alone.
    """

    address: str
    batch: str
    copy: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest(Private, Command[None]):
    """Take back what a FETCH was given whose asker no longer waits for the reply."""

    group: str
    consumer: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(ByConsumer, Command[tuple[int, ...]]):
    """Confirm messages; gives the ids confirmed.

    Attributes:
        for_group: Whether, without a token, a message that only other consumers of the group were
            handed is meant all the same.
    """

    group: str
    msg_id: int
    consumer: str
    for_group: bool = False
    batch: str | None = None
    individual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The outcome of a Move.

    Attributes:
        msg_id: The number of the copy; None where there was nothing to move.
        is_dead_letter: Whether this call stored it, and not where an earlier move took it from.
    """

    msg_id: int | None
    is_dead_letter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(ByConsumer, Command[MoveOutcome]):
    """Store a message in another mailbox and confirm it in this one.

    Attributes:
        for_group: Whether, without a token, a message that only other consumers of the group were
            handed is meant all the same.
        to: The other mailbox.
        by: Who moves it.
        by_verified: Whether that is known, and not a claim.
        reason: Why.
    """

    group: str
    msg_id: int
    consumer: str
    for_group: bool = False
    batch: str | None = None
    to: str
    by: str | None = None
    by_verified: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack(ByConsumer, Command[None]):
    """Give a lease back.

    Attributes:
        for_group: Whether, without a token, a message that only other consumers of the group were
            handed is meant all the same.
    """

    group: str
    msg_id: int
    consumer: str
    for_group: bool = False
    batch: str | None = None
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend(ByConsumer, Command[Extended]):
    """Renew leases."""

    group: str
    consumer: str
    msg_ids: tuple[int, ...]
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Private, Command[None]):
    """Remove one message."""

    msg_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Command[None]):
    """Put an agent into the registry, or replace it.

    Attributes:
        life: A token that no other mailbox has, for the case that the mailbox is missing.
        registered: The JSON object as it came.
        actor: Who asks.
    """

    name: str | None
    mailbox: str
    life: str
    registered: bytes
    ttl_s: int = 0
    actor: Actor = ANYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregister(Command[None]):
    """Take an agent out of the registry."""

    name: str | None
    mailbox: str | None
    actor: Actor = ANYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Command[None]):
    """Keep what an agent says of itself, and that it lives."""

    name: str | None
    mailbox: str | None
    status: dict[str, Any]
    actor: Actor = ANYBODY


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
class ClaimNames(Command[Claimed]):
    """Give configured agents what is stored under their names and addresses.

    A mailbox at such an address gets its agent as creator. A registration under such a name is
    kept when the agent made it, or when nobody authenticated did and it points at the agent's own
    address. Any other is removed, and so is one that somebody else points at such an address.

    Attributes:
        names: Keys of registrations, and the agent that each belongs to.
        addresses: Addresses, and the agent that each belongs to.
    """

    names: tuple[tuple[str, str], ...]
    addresses: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys(Query[tuple[str, ...]]):
    """The keys of all registrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Command[int]):
    """Remove what has expired or need no longer be remembered; gives how many rows went.

    When those are fewer than ``most``, nothing is left to remove.

    Attributes:
        most: How many rows of each kind, give or take what belongs to one mailbox or group.
    """

    most: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek(Private, Query[Fetched]):
    """Read without a group: nothing is leased or remembered.

    Attributes:
        life: The mailbox it must still be; None for whichever has the address.
        position: Read from this msg_id; None to begin at ``start``.
        as_text: Whether the reply is to hold text, which may be longer than base64.
    """

    life: str | None = None
    start: Start = Start()
    position: int | None = None
    num_msgs: int = 100
    max_bytes: int = 4 * 1024 * 1024
    as_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyEmpty(Private, Query[Waiting]):
    """Say why there is nothing to hand out."""

    group: str | None
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The outcome of a QueryMessages."""

    messages: tuple[Message, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMessages(Private, Query[Found]):
    """Look at stored messages, the newest that match, oldest first.

    Attributes:
        as_text: Whether the reply is to hold text, which may be longer than base64.
    """

    key: str | None = None
    tags: tuple[str, ...] = ()
    since: int | None = None
    limit: int = 100
    msg_id: int | None = None
    max_bytes: int = 4 * 1024 * 1024
    as_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Private, Query[MailboxStatus]):
    """Look at a mailbox, and at one group and one message of it."""

    group: str | None = None
    msg_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountUnread(Private, Query[Unread | None]):
    """Count what a group could be handed; None when the mailbox is not there."""

    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckActor(Private, Query[None]):
    """Look at nothing but whether the actor may; nobody is refused a mailbox that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Query[None]):
    """Read something small, to see whether anything can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAll(Query[Totals]):
    """Count what the broker holds."""

    is_bounded: ClassVar[bool] = False  # nobody but the broker itself asks


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPublic(Query[tuple[tuple[PublicMailbox, ...], bool]]):
    """List the public mailboxes by address; gives some of them, and whether more follow.

    Attributes:
        after: The address after which to begin.
    """

    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Command[int | None]):
    """Note that an agent lives; gives the instant by which it is to be noted again as it waits."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IsRegistered(Query[bool]):
    """Whether there is a registration under a name."""

    name: str
