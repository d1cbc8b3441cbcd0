"""Makes the mailboxes of agents before their models call a tool."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from mcp_server.agents.callers import MAX_AGENTS, Callers
from mq9 import Mq9Error
from mq9.operations import OperationError

_logger = logging.getLogger("mq9.mcp")

_BEFORE_INITIALIZED = frozenset({"initialize", "ping"})


class OwnMailboxes:
    """Makes the mailbox of the agent that a message comes from, in the background.

    It is a middleware of the server. The first message of a host that is more than a greeting, such
    as ``notifications/initialized``, has the mailbox made. Where that fails it is logged, and the
    next message tries again. No answer waits for it.

    Args:
        callers: The agents.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._made: dict[str, None] = {}  # agents, the last one newest
        self._making: dict[str, asyncio.Task[None]] = {}

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Handle a message."""
        if ctx.method not in _BEFORE_INITIALIZED:
            self._begin(ctx)
        return await call_next(ctx)

    def _begin(self, context: ServerRequestContext[Any, Any]) -> None:
        agent = self._callers.agent_name()
        if agent is None or agent in self._made or agent in self._making:
            return
        making = self._making[agent] = asyncio.create_task(self._make(agent, context))
        making.add_done_callback(lambda _: self._making.pop(agent, None))

    async def _make(self, agent: str, context: ServerRequestContext[Any, Any]) -> None:
        try:
            await self._callers.name_default(context)
            async with self._callers.calling(context) as caller:
                await caller.ensure_mailbox()
        except (Mq9Error, OperationError) as error:
            _logger.warning("the agent's mailbox cannot be made yet: %s", error)
        except Exception:
            _logger.exception("the agent's mailbox could not be made")
        else:
            self._made[agent] = None
            if len(self._made) > MAX_AGENTS:
                del self._made[next(iter(self._made))]  # made again at its next message

    async def close(self) -> None:
        """Give up what is being made."""
        making = list(self._making.values())
        for one in making:
            one.cancel()
        if making:
            await asyncio.wait(making)
