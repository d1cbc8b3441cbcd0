"""The mail of one mailbox for one subscription: stored messages first, then new ones.

A subscription without a group reads every message and changes nothing: a client that subscribes
again is sent all stored messages again. A subscription of a group is a consumer of that group. Its
messages are confirmed when the client has read them; the client sends no ACK. So a message is lost
if the program crashes after it has read the message, and delivered again if the broker crashes
before it has confirmed the message.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeVar

from mq9.broker.waiters import Waiters
from mq9.clock import Clock
from mq9.engine import commands
from mq9.engine.commands import Actor, Call
from mq9.errors import MailboxNotFound, Unavailable
from mq9.protocol import requests
from mq9.protocol.body import Request
from mq9.protocol.outcomes import Fetched
from mq9.storage.backend import Backend

P = TypeVar("P", bound=Request[Any])

logger = logging.getLogger("mq9.broker")

_MOST = 100  # messages that are read at once
_MOST_BYTES = 1024 * 1024  # of these, unless one alone is larger
_LEASE_MS = 60_000  # for the client to read its messages; then another member gets them
_LOOK_MS = 60_000  # until a mailbox is looked at again without news
_RETRY_MS = 1_000  # after the storage could not be read


@dataclass(frozen=True, slots=True)
class Given:
    """Messages that a feed has returned, without their payloads; see `Fetched`."""

    mail_address: str
    ids: tuple[int, ...]
    batch: str | None
    copy: int
    generation: str
    cursors: tuple[int, ...] | None

    @classmethod
    def of(cls, fetched: Fetched) -> Given:
        """Return the record of fetched messages."""
        return cls(
            fetched.mail_address,
            tuple(message.msg_id for message in fetched.messages),
            fetched.batch,
            fetched.copy,
            fetched.generation,
            fetched.cursors,
        )


class Members:
    """Counts the members of one group that are sent the mail of a mailbox."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Count one more while inside."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


@dataclass(slots=True)
class Feed:
    """Gives one subscription the mail of a mailbox; `Service.feed` makes it."""

    backend: Backend
    waiters: Waiters
    clock: Clock
    peek: Callable[[Call[commands.Peek]], Awaitable[Fetched]]  # reads without a group
    _: KW_ONLY
    mail_address: str
    actor: Actor
    consumer: str
    client: str
    group_name: str | None
    members: Members
    read_by: str | None
    is_stopping: Callable[[], bool]  # whether the broker ends every wait
    # The last read without a group in the present mailbox, without its messages.
    last: Fetched | None = None

    def joined(self) -> AbstractContextManager[None]:
        """Be a member of the group while inside: the others take only their share meanwhile."""
        return self.members.joined()

    @asynccontextmanager
    async def next(
        self,
        most: int = _MOST,
        turn: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> AsyncIterator[Fetched | None]:
        """Wait for messages, and return the next ones, at most 100; None when the broker stops.

        It waits for a missing mailbox, too. A cancelled read leases no messages. ``turn`` creates
        the context in which the mailbox is read and the messages are used.
        """
        most = min(most, _MOST)
        with self.waiters.joined(self.mail_address, self.group_name) as waiter:
            while not self.is_stopping():
                waiter.begin()
                wait_ms, change_ms = _LOOK_MS, None
                async with turn():
                    try:
                        fetched = await self._look(await self._share(most))
                    except MailboxNotFound:
                        if self.last is not None:
                            self.last = None  # another mailbox may have the address already
                            continue
                    except Unavailable as error:
                        logger.warning("%s could not be read: %s", self.mail_address, error)
                        wait_ms = _RETRY_MS
                    else:
                        if fetched.messages:
                            yield fetched
                            return
                        change_ms = fetched.next_change_ms
                if change_ms is not None:
                    change_ms -= self.clock.now_ms()
                await waiter.wait(self.clock, wait_ms, change_ms)
        yield None

    async def _share(self, most: int) -> int:
        """Return how many messages to take, so that as many are left for each other member."""
        if self.group_name is None or self.members.count <= 1:
            return most
        count = commands.CountUnread(group_name=self.group_name)
        unread = await self.backend.read(self._call(count))
        waiting = 0 if unread is None else unread.total
        return min(most, max(1, math.ceil(waiting / self.members.count)))

    async def _look(self, most: int) -> Fetched:
        fetch = requests.Fetch(
            group_name=self.group_name,
            num_msgs=most,
            max_bytes=_MOST_BYTES,
            lease_ms=_LEASE_MS,
            redeliver_own=False,
        )
        if self.group_name is not None:
            return await self.backend.run(self._call(fetch), self.client)
        last = self.last
        peek = commands.Peek(fetch=fetch, cursors=None if last is None else last.cursors)
        fetched = await self.peek(self._call(peek, None if last is None else last.generation))
        self.last = replace(fetched, messages=())
        return fetched

    async def taken(self, given: Given, sent: Sequence[int]) -> None:
        """Confirm messages that the client has read, by their ids, and return the others."""
        are_all = len(sent) == len(given.ids)
        if self.group_name is not None:
            for msg_id in given.ids[-1:] if are_all else sent:
                ack = requests.Ack(
                    group_name=self.group_name,
                    msg_id=msg_id,
                    batch=given.batch,
                    individual=not are_all,
                )
                await self.backend.run(self._call(ack), self.client)
            if not are_all:
                self.return_unread(given)
        elif self.read_by is not None and given.cursors is not None and are_all:
            note = commands.NoteRead(group_name=self.read_by, cursors=given.cursors)
            await self.backend.run(self._call(note, given.generation), self.client)

    def return_unread(self, given: Given) -> None:
        """Give messages that the client did not read to the other members of the group."""
        if given.batch is not None:
            undo = commands.Undo(batch=given.batch, copy=given.copy)
            self.backend.undo_soon(self._call(undo), self.client)
            self.waiters.notify(self.mail_address)

    def _call(self, request: P, generation: str | None = None) -> Call[P]:
        return Call(request, self.mail_address, self.actor, self.consumer, generation=generation)
