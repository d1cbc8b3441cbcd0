"""What all sessions of a server share: who is subscribed to what, and the limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mq9 import dialects
from mq9.broker.feed import Feed
from mq9.broker.service import Request
from mq9.broker.service import Session as Asker
from mq9.dialects import Dialects
from mq9.dialects.listening import Listening
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.router import Router
from mq9.server.subscriptions import Subscription
from mq9.server.users import Guard


def _ignore() -> None:
    """Count nothing."""


@dataclass(slots=True)
class Hub:
    """What all sessions of a server share.

    Attributes:
        handle: Answers requests of mq9.
        feed: Gives a subscription the mail of a mailbox; see `EmbeddedBroker.feed`.
        dialects: The generations of the protocol that are spoken.
        guard: Decides who may connect.
        limits: What one client may have at once.
        pick: Picks among the members of a queue group.
        encoding: How payloads stand in replies to requests that do not say.
        draining: Whether the server is about to stop, and begins nothing new.
        tasks: The requests in work.
        pushes: The subscriptions that are sent mail, and what confirms it.
        unheard: Called for each publish that reaches nobody.
        router: All subscriptions.
    """

    handle: Callable[[Request], Awaitable[bytes]]
    feed: Callable[[Asker, str, str | None, str | None], Feed]
    dialects: Dialects
    guard: Guard
    limits: ServerLimits
    pick: random.Random
    encoding: PayloadEncoding = PayloadEncoding.AUTO
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    pushes: set[asyncio.Task[None]] = field(default_factory=set)
    unheard: Callable[[], None] = _ignore
    router: Router[Subscription] = field(init=False)

    def __post_init__(self) -> None:
        """Make the router."""
        self.router = Router(self.pick.choice)

    def listen(self, subject: str) -> Listening | None:
        """Return what a subscription to a subject of mq9 is sent; None where that is nothing.

        Raises:
            Mq9Error: The subject is wrong.
        """
        return dialects.listen(subject, self.dialects)

    def is_broadcast(self, subject: str) -> bool:
        """Tell whether what is published to a subject of mq9 is for whoever is subscribed."""
        return dialects.is_broadcast(subject, self.dialects)
