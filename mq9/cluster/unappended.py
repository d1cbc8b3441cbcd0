"""Commands on their way to a log, queued or in a record. Those of one client stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from mq9.broker.asked import known_error
from mq9.cluster.records import MOST_CALLS
from mq9.engine.codec import encode_call, encode_sends
from mq9.engine.commands import Call, Outcome, SendBatch
from mq9.errors import LimitReached, Mq9Error
from mq9.protocol.requests import Send
from mq9.protocol.verbs import verb_of
from mq9.storage.turns import FairQueue

_MOST_QUEUED = 10_000  # beyond, only clients with nothing queued may add
_HEAD_BYTES = 4_096  # of a record without its calls
_SEND = verb_of(Send).name
_CALL_BYTES = 5  # of a call in a record, beside its own


@dataclass(slots=True)
class Ticket:
    """A command to append, or a batch of SENDs, and the function that gets its outcome."""

    call: Call[Any]
    client: str  # its commands stay in order
    told: Callable[[Outcome[Any]], None] | None  # called with the outcome
    encoded: list[bytes]  # the command; each SEND of a batch, once it takes no more
    until_ms: int  # of `monotonic_ms`; later it has no effect
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
    until_ms: int  # as in its ticket
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
    def until_ms(self) -> int:
        """The earliest deadline of its commands, of `monotonic_ms`."""
        return min(ticket.until_ms for ticket in self.tickets)

    @property
    def clients(self) -> Collection[str]:
        """The clients whose commands it has."""
        return clients_of(self.tickets)


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
        self,
        call: Call[Any],
        client: str,
        told: Callable[[Outcome[Any]], None] | None,
        until_ms: int,
    ) -> Ticket:
        """Queue a command."""
        if len(self._queue) >= _MOST_QUEUED and self._queue.waiting(client):
            raise LimitReached(f"the broker is busy: {_MOST_QUEUED} requests are queued")
        ticket = Ticket(call, client, told, [], until_ms)
        if not isinstance(call.request, SendBatch):
            self._encode(ticket)
        self._queue.put(client, ticket)
        return ticket

    def _encode(self, ticket: Ticket) -> None:
        """Encode a single command; raise LimitReached if no record can hold it."""
        ticket.encoded = [encode_call(ticket.call)]
        if ticket.bytes > self._max_record:
            raise LimitReached(
                f"payload: the request has {ticket.bytes} bytes, more than the "
                f"{self._max_record} that the cluster's log takes"
            )

    def take(self) -> list[Ticket]:
        """Take commands that fit into one record; their clients are held until ``release``."""
        taken: list[Ticket] = []
        count = size = 0
        while count < MOST_CALLS:
            ticket = self._queue.take()
            if ticket is None:
                break
            is_new_batch = isinstance(ticket.call.request, SendBatch) and not ticket.encoded
            if is_new_batch and not self._close(ticket):
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
        if taken:
            self._queue.hold(clients_of(taken))
        return taken

    def _close(self, batch: Ticket) -> bool:
        """Let a batch take no more SENDs, and encode them; return whether a record can hold it."""
        batch.call.request.close()
        try:
            batch.encoded = encode_sends(batch.call)
        except (ValueError, Mq9Error):  # each is tried by itself
            return False
        return batch.bytes <= self._max_record

    def release(self, clients: Collection[str]) -> None:
        """Let more commands of clients be taken whose record is confirmed or given up."""
        self._queue.release(clients)

    def _parts(self, batch: Ticket) -> list[Ticket]:
        """Return the SENDs of a batch that no record can hold as commands of their own."""
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
        for place, send in enumerate(sends):
            told = partial(note, place)
            try:
                part = Ticket(send.call(batch.call), batch.client, told, [], batch.until_ms)
                self._encode(part)
            except Exception as error:  # noqa: BLE001  # it is logged
                told(Outcome(None, known_error(_SEND, error), 0))
            else:
                parts.append(part)
        return parts


def clients_of(tickets: Iterable[Ticket]) -> Collection[str]:
    """Return the clients, in the order of their first tickets."""
    return dict.fromkeys([ticket.client for ticket in tickets])
