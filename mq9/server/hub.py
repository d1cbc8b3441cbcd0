"""What all sessions of a server share: who is subscribed to what, and the limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mq9.broker.service import Request
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.router import Router
from mq9.server.subscriptions import Subscription
from mq9.server.users import Guard


@dataclass(slots=True)
class Hub:
    """What all sessions of a server share.

    Attributes:
        handle: Answers requests of mq9.
        guard: Decides who may connect.
        limits: What one client may have at once.
        pick: Picks among the members of a queue group.
        encoding: How payloads stand in replies to requests that do not say.
        draining: Whether the server is about to stop, and begins nothing new.
        tasks: The requests in work.
        router: All subscriptions.
    """

    handle: Callable[[Request], Awaitable[bytes]]
    guard: Guard
    limits: ServerLimits
    pick: random.Random
    encoding: PayloadEncoding = PayloadEncoding.AUTO
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    router: Router[Subscription] = field(init=False)

    def __post_init__(self) -> None:
        """Make the router."""
        self.router = Router(self.pick.choice)
