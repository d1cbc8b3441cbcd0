"""Mailboxes and registration of a program that works as an agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from mq9.client.client import Mq9Client
from mq9.clock import sleep
from mq9.errors import (
    AgentNotFound,
    BadReply,
    InvalidRequest,
    Mq9Error,
    NotConnected,
    Unreachable,
)
from mq9.models import SendPolicy

logger = logging.getLogger("mq9.operations")


async def make_own_mailbox(client: Mq9Client, mail_address: str) -> None:
    """Make a mailbox that only the agent sends to, if it is missing; close one that is open."""
    policy = SendPolicy.CREATOR
    try:
        await client.mailbox_create(name=mail_address, renew=True, send_policy=policy)
        await client.mailbox_grant(mail_address, send_policy=policy)
    except BadReply as error:
        logger.warning("others may send to %s: %s", mail_address, error)


class Presence:
    """Registers an agent, and reports three times in the registration's lifetime that it lives.

    The registration outlives a program that stops: others of the agent may live, and a restarted
    one has never been away.
    """

    def __init__(
        self,
        client: Mq9Client,
        *,
        name: str,
        mail_address: str,
        capabilities: str | Mapping[str, Any],
        ttl: int,
    ) -> None:
        who = {"name": name, "mailbox": mail_address}
        card = {"payload": capabilities} if isinstance(capabilities, str) else dict(capabilities)
        for key, own in who.items():
            if card.get(key, own) != own:
                raise InvalidRequest(f"capabilities: its {key} is {card[key]!r}, not {own!r}")
        self._client = client
        self._who = who
        self._card = card | who
        self._ttl = ttl
        self._task: asyncio.Task[None] | None = None

    async def start(self, report: Callable[[], Mapping[str, Any]]) -> None:
        """Register the agent, and report regularly."""
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
