"""What a consumer group holds, and what the replies to FETCH and EXTEND say of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mq9.models.messages import Message, StoredMessage

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # whose variables have defaults

    M = TypeVar("M", bound=StoredMessage, default=Message)
else:
    from typing import TypeVar

    M = TypeVar("M", bound=StoredMessage)


@dataclass(frozen=True, slots=True)
class Leased:
    """What one consumer holds, or nobody while messages given back wait out their delay.

    Attributes:
        consumer: Who holds it; None for messages that were given back with a delay.
        count: How many messages.
        until: When the first of those leases ends, in Unix seconds.
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
        next_due: When the next of those is due, in Unix seconds.
        leased: What is leased to whom; empty for a read without a group.
        acked: How many of the stored ones this group has acked.
        moved: How many of the stored ones this group has moved to another mailbox.
        skipped: How many of the stored ones lie before the group's (or the read's) start.
    """

    stored: int
    delayed: int
    next_due: float | None = None
    leased: tuple[Leased, ...] = ()
    acked: int = 0
    skipped: int = 0
    moved: int = 0


class FetchResult(list[M]):
    """The messages of one FETCH, most pressing first, with what the reply said beside them.

    Each message knows its mailbox, group, consumer and batch by itself, so that a slice, a
    comprehension or ``list(result)`` can be acked like the result.

    Attributes:
        batch: The token that acknowledges them together; None without a group or messages.
        lease_until: When their leases end, in Unix seconds; None without a group or messages.
        more: Whether the reply was cut, so that another FETCH would return more at once.
        waiting: Why there is nothing, when there is nothing.
    """

    def __init__(
        self,
        messages: Iterable[M] = (),
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
    """Which leases EXTEND renewed.

    Attributes:
        extended: The ids whose lease was renewed.
        lost: The ids that this consumer no longer holds.
    """

    extended: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
