"""State that all sessions of a server share: subscriptions and limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from mq9.broker.embedded import EmbeddedBroker
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.outgoing import SharedBody
from mq9.server.router import Router
from mq9.server.subscriptions import BodyName
from mq9.server.users import Guard

_AT_ONCE = 8  # reads of all clients; each holds up to 1 MiB that no quota counts yet


class Hub:
    """State that all sessions of a server share."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        guard: Guard,
        limits: ServerLimits,
        pick: random.Random,
        encoding: PayloadEncoding,
        unheard: Callable[[], None],
    ) -> None:
        self.broker = broker
        self.guard = guard
        self.limits = limits
        self.encoding = encoding  # of payloads in replies, by default
        self.unheard = unheard  # called for each publish without a subscriber
        self.draining = False
        self.router = Router(pick.choice)  # all subscriptions
        self.pushes: set[asyncio.Task[None]] = set()  # of mail, and of what confirms it
        # The mail that clients have not read yet, so that each body is kept once.
        self.bodies: WeakValueDictionary[BodyName, SharedBody] = WeakValueDictionary()
        self.in_work = 0  # requests
        self._idle = asyncio.Event()
        self._idle.set()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._readers = asyncio.Semaphore(_AT_ONCE)

    def count_requests(self, change: int) -> None:
        """Change the number of requests in progress."""
        if not self.in_work:
            self._idle.clear()
        self.in_work += change
        if not self.in_work:
            self._idle.set()

    @asynccontextmanager
    async def reading(self, client: str) -> AsyncIterator[None]:
        """Wait for the turn to read mail, and hold it inside: few at once, one of each agent.

        So all subscriptions together hold few messages that are not counted as unread yet, and an
        agent with many subscriptions waits behind itself.
        """
        async with self._reading.setdefault(client, asyncio.Lock()), self._readers:
            yield

    async def rest(self) -> None:
        """Return when nothing is in work, and no subscription is sent mail."""
        while self.in_work or self.pushes:
            await self._idle.wait()
            if self.pushes:
                await asyncio.wait(self.pushes)
