"""Commands on their way to a log, queued or in a record. Those of one client stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from mq9.cluster.records import MOST_CALLS
from mq9.engine.codec import encode_call, encode_sends
from mq9.engine.commands import Call, Outcome, SendBatch
from mq9.errors import LimitReached
from mq9.storage.turns import FairQueue

_MOST_QUEUED = 10_000  # beyond, only clients with nothing queued may add
_HEAD_BYTES = 4_096  # of a record without its calls
_CALL_BYTES = 5  # of a call in a record, beside its own


@dataclass(slots=True)
class Ticket:
    """A command to append, or a batch of SENDs, and the function that gets its outcome."""

    call: Call[Any]
    client: str  # its commands stay in order
    told: Callable[[Outcome[Any]], None] | None  # called with the outcome
    encoded: list[bytes]  # the command; each SEND of a batch, once it takes no more
    abandoned: bool = False  # the client no longer waits

    @property
    def bytes(self) -> int:
        """Its bytes in a record."""
        return sum(map(len, self.encoded)) + _CALL_BYTES * len(self.encoded)


class Awaited(NamedTuple):
    """A command to append, and the future of its outcome."""

    ticket: Ticket
    outcome: asyncio.Future[Outcome[Any]]


@dataclass(slots=True, eq=False)
class Undecided:
    """A command that may change nothing, and need not be appended."""

    call: Call[Any]
    queued: Awaited | None = None  # set by a later command of the same client


@dataclass(slots=True, eq=False)
class Appended:
    """A record that the log may have, and that this copy has not applied."""

    number: int  # of the records of this gateway
    tickets: list[Ticket]
    begun_ms: int  # of `monotonic_ms`
    sequence: int | None = None  # its number in the log, once the log has confirmed it
    appending: asyncio.Task[None] | None = None

    @property
    def calls(self) -> tuple[bytes, ...]:
        """Its calls."""
        return tuple([call for ticket in self.tickets for call in ticket.encoded])

    @property
    def clients(self) -> AbstractSet[str]:
        """The clients whose commands it has."""
        return {ticket.client for ticket in self.tickets}


class Unappended:
    """Commands that wait to be appended.

    Commands of a client that has some in a record wait until the log has confirmed the record, or
    it was given up. So records may come into the log in any order.
    """

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record - _HEAD_BYTES
        self._queue: FairQueue[Ticket] = FairQueue()

    def __len__(self) -> int:
        return len(self._queue)

    def put(
        self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None] | None
    ) -> Ticket:
        """Queue a command."""
        if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(client):
            raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
        ticket = Ticket(call, client, told, [])
        if not isinstance(call.request, SendBatch):
            ticket.encoded.append(encode_call(call))
            if ticket.bytes > self._max_record:
                raise self._too_large(ticket)
        self._queue.put(client, ticket)
        return ticket

    def take(self) -> list[Ticket]:
        """Take commands that fit into one record; their clients are held until ``release``."""
        taken: list[Ticket] = []
        count = size = 0
        while count < MOST_CALLS:
            ticket = self._queue.take()
            if ticket is None:
                break
            if isinstance(ticket.call.request, SendBatch) and not ticket.encoded:
                ticket.call.request.close()
                ticket.encoded = encode_sends(ticket.call)
                if ticket.bytes > self._max_record:
                    self._queue.put_back(ticket.client, self._parts(ticket))
                    continue
            more = size + ticket.bytes
            if taken and (count + len(ticket.encoded) > MOST_CALLS or more > self._max_record):
                self._queue.put_back(ticket.client, [ticket])
                break
            self._queue.charge(ticket.client, 1.0)  # clients take turns, whatever they request
            if not ticket.abandoned:
                count += len(ticket.encoded)
                size = more
                taken.append(ticket)
        self._queue.hold({ticket.client for ticket in taken})
        return taken

    def release(self, clients: AbstractSet[str]) -> None:
        """Let more commands of clients be taken whose record is confirmed or given up."""
        self._queue.release(clients)

    def _parts(self, batch: Ticket) -> list[Ticket]:
        """Return the SENDs of a batch that is too large for a record as commands of their own."""
        sends = batch.call.request.sends
        answers: list[Any] = [None] * len(sends)
        waiting = len(sends)

        def note(place: int, outcome: Outcome[Any]) -> None:
            nonlocal waiting
            answers[place] = outcome.value if outcome.error is None else outcome.error
            waiting -= 1
            if not waiting and batch.told is not None:
                batch.told(Outcome(answers, None, outcome.now_ms))

        parts = []
        for place, (send, encoded) in enumerate(zip(sends, batch.encoded, strict=True)):
            told = partial(note, place)
            part = Ticket(send.call(batch.call), batch.client, told, [encoded])
            if part.bytes > self._max_record:
                told(Outcome(None, self._too_large(part), 0))
            else:
                parts.append(part)
        return parts

    def _too_large(self, ticket: Ticket) -> LimitReached:
        return LimitReached(
            f"payload: the request has {ticket.bytes} bytes, more than the {self._max_record} that "
            "the cluster's log takes"
        )
