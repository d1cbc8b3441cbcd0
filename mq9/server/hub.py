"""What all sessions of a server share: who is subscribed to what, and the limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from mq9 import dialects
from mq9.broker.feed import Feed
from mq9.broker.service import Request
from mq9.broker.service import Session as Asker
from mq9.dialects import Dialects
from mq9.dialects.listening import Listening
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.outgoing import Body
from mq9.server.router import Router
from mq9.server.subscriptions import BodyName, Subscription
from mq9.server.users import Guard

_AT_ONCE = 8  # reads of all clients; each holds up to 1 MiB that no quota counts yet


class ReadTurns:
    """Lets few subscriptions read at the same time, and only one of each agent.

    So all subscriptions together hold few messages that are not counted as unread yet, and an
    agent with many subscriptions waits behind itself.
    """

    def __init__(self) -> None:
        self._agents: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._all = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def take(self, agent: str) -> AsyncIterator[None]:
        """Wait for the turn of an agent, or of a connection without one, and hold it inside."""
        async with self._agents.setdefault(agent, asyncio.Lock()), self._all:
            yield


def _ignore(*_: object) -> None:
    """Do nothing."""


class Begin(Protocol):
    """`mq9.broker.service.Service.begin`."""

    def __call__(
        self, request: Request, answer: Callable[[bytes], None], *, at_once: bool
    ) -> asyncio.Task[None] | None:
        """Begin to answer a request."""


class InWork:
    """How many requests are in work."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return self._count

    def add(self) -> None:
        """Count one more."""
        self._count += 1
        self._none.clear()

    def remove(self) -> None:
        """Count one less."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Return when there is none."""
        await self._none.wait()


@dataclass(slots=True)
class Hub:
    """What all sessions of a server share.

    Attributes:
        begin: Begins to answer a request of mq9.
        feed: Gives a subscription the mail of a mailbox; see `EmbeddedBroker.feed`.
        dialects: The generations of the protocol that are spoken.
        guard: Decides who may connect.
        limits: What one client may have at once.
        pick: Picks among the members of a queue group.
        encoding: How payloads stand in replies to requests that do not say.
        draining: Whether the server is about to stop, and begins nothing new.
        in_work: The requests in work.
        pushes: The subscriptions that are sent mail, and what confirms it.
        read_turns: Lets few subscriptions read mail at the same time.
        bodies: The mail that clients have not read yet, so that each body is kept once.
        forget: Called with the consumer of each connection that has ended.
        unheard: Called for each publish that reaches nobody.
        router: All subscriptions.
    """

    begin: Begin
    feed: Callable[[Asker, str, str | None, str | None], Feed]
    dialects: Dialects
    guard: Guard
    limits: ServerLimits
    pick: random.Random
    encoding: PayloadEncoding = PayloadEncoding.AUTO
    draining: bool = False
    in_work: InWork = field(default_factory=InWork)
    pushes: set[asyncio.Task[None]] = field(default_factory=set)
    read_turns: ReadTurns = field(default_factory=ReadTurns)
    bodies: WeakValueDictionary[BodyName, Body] = field(default_factory=WeakValueDictionary)
    forget: Callable[[str], None] = _ignore
    unheard: Callable[[], None] = _ignore
    router: Router[Subscription] = field(init=False)

    def __post_init__(self) -> None:
        """Make the router."""
        self.router = Router(self.pick.choice)

    async def rest(self) -> None:
        """Return when nothing is in work, and no subscription is sent mail."""
        while self.in_work or self.pushes:
            await self.in_work.none()
            if self.pushes:
                await asyncio.wait(self.pushes)

    def listen(self, subject: str) -> Listening | None:
        """Return what a subscription to a subject of mq9 is sent; None where that is nothing.

        Raises:
            Mq9Error: The subject is wrong.
        """
        return dialects.listen(subject, self.dialects)

    def is_broadcast(self, subject: str) -> bool:
        """Tell whether what is published to a subject of mq9 is for whoever is subscribed."""
        return dialects.is_broadcast(subject, self.dialects)
