"""The registration of a worker's agent, kept while it works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from mq9 import AgentNotFound, InvalidRequest, Mq9Client, Mq9Error, NotConnected, Unreachable
from mq9.clock import sleep

logger = logging.getLogger("mq9.worker")


class Presence:
    """Registers an agent, and reports three times in the registration's lifetime that it lives.

    When that ends, the registration stays for its lifetime: other workers of the agent may live,
    and one that is started anew meanwhile has never been away.

    Args:
        client: The connection.
        agent: The agent.
        mail_address: Its mailbox.
        capabilities: What it can do: a text, or an AgentCard.
        ttl: After how many seconds of silence the registration expires.

    Raises:
        InvalidRequest: The card is another agent's.
    """

    def __init__(
        self,
        client: Mq9Client,
        *,
        agent: str,
        mail_address: str,
        capabilities: str | Mapping[str, Any],
        ttl: int,
    ) -> None:
        who = {"name": agent, "mailbox": mail_address}
        card = {"payload": capabilities} if isinstance(capabilities, str) else dict(capabilities)
        for name, own in who.items():
            if card.get(name, own) != own:
                raise InvalidRequest(f"capabilities: its {name} is {card[name]!r}, not {own!r}")
        self._client = client
        self._who = who
        self._card = card | who
        self._ttl = ttl
        self._task: asyncio.Task[None] | None = None

    async def start(self, report: Callable[[], Mapping[str, Any]]) -> None:
        """Register the agent, and go on reporting.

        Args:
            report: Returns what else to report.
        """
        await self._register()
        self._task = asyncio.create_task(self._report(report))

    async def stop(self) -> None:
        """Report no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _register(self) -> None:
        await self._client.agent_register(self._card, ttl=self._ttl)

    async def _report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        while True:
            await sleep(self._client.clock, self._ttl / 3)
            try:
                try:
                    await self._client.agent_report({**self._who, "status": "working", **report()})
                except AgentNotFound:
                    await self._register()
            except Mq9Error as error:
                if isinstance(error, NotConnected) and not isinstance(error, Unreachable):
                    return  # the client was closed
                logger.warning("the agent could not report: %s", error)
