"""Turns in which subscriptions read mail for clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

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
