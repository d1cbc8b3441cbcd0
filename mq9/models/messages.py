"""Messages, and what a FETCH says beside them."""

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
class Extended:
    """What EXTEND could do.

    Attributes:
        extended: The ids whose lease was renewed.
        lost: The ids that this consumer no longer holds.
    """

    extended: tuple[int, ...] = field(default=())
    lost: tuple[int, ...] = field(default=())
