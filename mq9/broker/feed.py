"""The mail of one mailbox for one subscription: what is stored, then what arrives.

A subscription without a group reads everything and leaves nothing behind: whoever subscribes again
is given all that is stored once more. One of a group is a consumer of it; what it was given is
confirmed when its connection has taken the bytes, and no later acknowledgement is expected. So it
is delivered at most once if the program that reads it crashes, and again if the broker does before
it has confirmed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from mq9.broker.waiters import Waiters
from mq9.clock import Clock
from mq9.engine import commands
from mq9.engine.commands import Actor, Call
from mq9.errors import MailboxNotFound, Unavailable
from mq9.protocol import requests
from mq9.protocol.outcomes import Fetched
from mq9.protocol.request import Request
from mq9.storage.backend import Backend

P = TypeVar("P", bound=Request[Any])

logger = logging.getLogger("mq9.broker")

_MOST = 100  # messages that are read at once
_MOST_BYTES = 1024 * 1024  # of these, unless one alone is larger
_LEASE_MS = 60_000  # in which a connection takes what it is given, else another member is
_LOOK_MS = 60_000  # until a mailbox is looked at again without news
_RETRY_MS = 1_000  # after the storage could not be read


class Feed:
    """Gives one subscription the mail of a mailbox.

    Args:
        backend: Carries out the commands.
        waiters: Who waits for news.
        clock: Tells the time.
        peek: Reads without a group.
        mail_address: The mailbox.
        actor: Who is subscribed.
        consumer: Which consumer of the group it is.
        asker: Whose turn the commands take.
        group_name: The group that competes for the messages; None where everybody is given all.
        read_by: The group for which what everybody is given counts as read; None for none.
        is_stopping: Tells whether the broker ends every wait.
    """

    def __init__(
        self,
        backend: Backend,
        waiters: Waiters,
        clock: Clock,
        peek: Callable[[Call[commands.Peek]], Awaitable[Fetched]],
        *,
        mail_address: str,
        actor: Actor,
        consumer: str,
        asker: str,
        group_name: str | None,
        read_by: str | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._backend = backend
        self._waiters = waiters
        self._clock = clock
        self._address = mail_address
        self._actor = actor
        self._consumer = consumer
        self._asker = asker
        self._peek = peek
        self._group_name = group_name
        self._read_by = read_by
        self._is_stopping = is_stopping
        self._last: Fetched | None = None  # read without a group, in the mailbox that there is

    async def read(self, most: int = _MOST) -> Fetched | None:
        """Return the next messages, as soon as there are any; None when the broker stops.

        A mailbox that is not there, or no longer, is waited for. Cancelled, it leases nothing.

        Args:
            most: How many messages.

        Raises:
            Forbidden: The mailbox is not open to who is subscribed.
            LimitReached: The group has been given too much again.
        """
        most = min(most, _MOST)
        with self._waiters.joined(self._address, self._group_name) as waiter:
            while not self._is_stopping():
                waiter.begin()
                wait_ms, change_ms = _LOOK_MS, None
                try:
                    fetched = await self._look(most)
                except MailboxNotFound:
                    if self._last is not None:
                        self._last = None  # another one may have taken the address already
                        continue
                except Unavailable as error:
                    logger.warning("%s could not be read: %s", self._address, error)
                    wait_ms = _RETRY_MS
                else:
                    if fetched.messages:
                        return fetched
                    change_ms = fetched.next_change_ms
                if change_ms is not None:
                    change_ms -= self._clock.now_ms()
                await waiter.wait(self._clock, wait_ms, change_ms, awaited_ms=wait_ms)
        return None

    async def _look(self, most: int) -> Fetched:
        fetch = requests.Fetch(
            group_name=self._group_name,
            num_msgs=most,
            max_bytes=_MOST_BYTES,
            lease_ms=_LEASE_MS,
            redeliver_own=False,
        )
        if self._group_name is not None:
            return await self._backend.run(self._call(fetch), self._asker)
        last = self._last
        peek = commands.Peek(fetch=fetch, cursors=None if last is None else last.cursors)
        call = self._call(peek, None if last is None else last.generation)
        self._last = await self._peek(call)
        return self._last

    async def taken(self, fetched: Fetched, sent: Sequence[int]) -> None:
        """Confirm messages that the connection has taken, and return the others.

        Args:
            fetched: What was read.
            sent: The ids of those that were sent.

        Raises:
            Mq9Error: They could not be confirmed; their lease runs out.
        """
        are_all = len(sent) == len(fetched.messages)
        if self._group_name is not None:
            for msg_id in (fetched.messages[-1].msg_id,) if are_all else sent:
                ack = requests.Ack(
                    group_name=self._group_name,
                    msg_id=msg_id,
                    batch=fetched.batch,
                    individual=not are_all,
                )
                await self._backend.run(self._call(ack), self._asker)
            if not are_all:
                self.return_unread(fetched)
        elif self._read_by is not None and fetched.cursors is not None and are_all:
            note = commands.NoteRead(group_name=self._read_by, cursors=fetched.cursors)
            await self._backend.run(self._call(note, fetched.generation), self._asker)

    def return_unread(self, fetched: Fetched) -> None:
        """Give messages that the connection did not take to the other members of the group."""
        if fetched.batch is not None:
            undo = commands.Undo(batch=fetched.batch, copy=fetched.copy)
            self._backend.make_undone(self._call(undo), self._asker)
            self._waiters.notify(self._address)

    def _call(self, request: P, generation: str | None = None) -> Call[P]:
        return Call(request, self._address, self._actor, self._consumer, generation=generation)
