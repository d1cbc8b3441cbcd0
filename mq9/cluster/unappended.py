"""Commands on their way to a log, queued or appended. Those of one client stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mq9.cluster.records import MOST_CALLS
from mq9.engine.codec import encode_call
from mq9.engine.commands import Call, Outcome
from mq9.errors import LimitReached
from mq9.storage.turns import FairQueue

_MOST_QUEUED = 10_000  # beyond, only clients with nothing queued may add
_HEAD_BYTES = 4_096  # of a record without its calls


@dataclass(slots=True)
class Ticket:
    """A command to append, and the function that gets its outcome."""

    call: Call[Any]
    encoded: bytes
    client: str  # its commands stay in order
    told: Callable[[Outcome[Any]], None] | None  # called with the outcome
    until_ms: int = 0  # of `monotonic_ms`; later it has no effect
    abandoned: bool = False  # the client no longer waits


class Awaited(NamedTuple):
    """A command to append, and the future of its outcome."""

    ticket: Ticket
    outcome: asyncio.Future[Outcome[Any]]


@dataclass(slots=True, eq=False)
class Undecided:
    """A command that may change nothing, and need not be appended."""

    call: Call[Any]
    until_ms: int  # as in its ticket
    queued: Awaited | None = None  # set by a later command of the same client


class Appended(NamedTuple):
    """A record that the log may have, and that this copy has not applied."""

    tickets: list[Ticket]
    appending: asyncio.Task[int | None]
    begun_ms: int  # of `monotonic_ms`


class Unappended:
    """Commands that wait to be appended."""

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record - _HEAD_BYTES
        self._queue: FairQueue[Ticket] = FairQueue()
        self._left_over: Ticket | None = None  # taken from the queue, for the next record

    def __bool__(self) -> bool:
        return bool(self._queue or self._left_over)

    def put(
        self,
        call: Call[Any],
        client: str,
        told: Callable[[Outcome[Any]], None] | None,
        until_ms: int,
    ) -> Ticket:
        """Queue a command."""
        if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(client):
            raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
        ticket = Ticket(call, encode_call(call), client, told, until_ms)
        if len(ticket.encoded) > self._max_record:
            raise LimitReached(
                f"payload: the request has {len(ticket.encoded)} bytes, more than the "
                f"{self._max_record} that the cluster's log takes"
            )
        self._queue.put(client, ticket)
        return ticket

    def take(self) -> list[Ticket]:
        """Take commands that fit into one record from the queue."""
        taken: list[Ticket] = []
        size = 0
        while len(taken) < MOST_CALLS:
            ticket, self._left_over = self._left_over, None
            if ticket is None:
                ticket = self._queue.take()
                if ticket is None:
                    break
                self._queue.charge(ticket.client, 1.0)  # clients take turns, whatever they request
            if ticket.abandoned:
                continue
            if taken and size + len(ticket.encoded) > self._max_record:
                self._left_over = ticket
                break
            size += len(ticket.encoded) + 5
            taken.append(ticket)
        return taken
