"""The agents that call, each with its connection, and what they may do."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from starlette.requests import Request

from mcp_server.keeping import LeaseKeeper
from mcp_server.naming import Surroundings, named_after
from mcp_server.settings import Settings
from mq9 import Forbidden, LimitReached, Mq9Client, Mq9Error, Unauthorized
from mq9.clock import Clock, SystemClock
from mq9.operations import Caller, Identity, OperationError
from mq9.operations.deliveries import DeliveryMemory
from mq9.operations.errors import unreachable

_logger = logging.getLogger("mq9.mcp")

Connect = Callable[[str], Mq9Client]
Context = ServerRequestContext[Any, Any]

_MOST_AGENTS = 1_000  # that are connected at once
_SESSION = "mcp-session-id"
_SESSION_CHARS = 8
_WITHOUT_SESSION = "http"
_STATE = "mq9.kept"


def connect_to(url: str | None) -> Connect:
    """Return what makes the client of an agent that nobody has authenticated.

    Args:
        url: The broker; None for the default one.

    Raises:
        InvalidRequest: The URL is none.
    """
    Mq9Client(url)  # a URL that is none is told now
    return lambda _agent: Mq9Client(url)


@dataclass(slots=True)
class _Agent:
    identity: Identity
    client: Mq9Client
    keeper: LeaseKeeper
    deliveries: DeliveryMemory = field(default_factory=DeliveryMemory)
    busy: int = 0

    async def close(self) -> None:
        """Give back what it holds, and let go of its connection."""
        await self.keeper.close()
        await self.client.close()


class Callers:
    """Knows who asks, and gives each agent one connection, made when it is first needed.

    Args:
        connect: Makes the client of an agent, not yet connected.
        settings: What the agents may do.
        agent: Who asks where no bearer token says so; None when one must.
        mail_address: The mailbox of that agent; the slug of its name when not given.
        instance: A name for this process, by which its fetches are told from those of another.
        surroundings: Where this process was started, if the first request decides who asks: the
            agent is then named after the host and its project.
        clock: Measures how long that host takes to answer.

    Attributes:
        default: Who asks where no bearer token says so.

    Raises:
        InvalidRequest: The agent's name or mailbox is not one, or the name has no slug.
    """

    def __init__(
        self,
        connect: Connect,
        settings: Settings,
        *,
        agent: str | None = None,
        mail_address: str | None = None,
        instance: str | None = None,
        surroundings: Surroundings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._tools = settings.names
        self.default = None if agent is None else settings.identity(agent, mail_address)
        self._instance = instance or secrets.token_hex(4)
        self._agents: OrderedDict[str, _Agent] = OrderedDict()
        self._surroundings = surroundings
        self._clock = clock or SystemClock()
        self._deciding = asyncio.Lock()

    async def decide(self, context: Context) -> None:
        """Name the agent after the host that asks, if that is how it is to be named."""
        if self.default is not None or self._surroundings is None:
            return
        async with self._deciding:
            if self.default is None:
                name = await named_after(context, self._clock, self._surroundings)
                self.default = self._settings.identity(name)

    def identity(self) -> Identity:
        """Return who asks.

        Raises:
            Unauthorized: No bearer token says so, and there is no agent for that case.
            InvalidRequest: The token names an agent that cannot be one.
        """
        token = get_access_token()
        if token is None:
            if self.default is None:
                raise Unauthorized("a bearer token is needed, which says who asks")
            return self.default
        name = token.subject or token.client_id
        known = self._agents.get(name)
        return self._settings.identity(name) if known is None else known.identity

    @asynccontextmanager
    async def calling(self, context: Context) -> AsyncIterator[Caller]:
        """Give the caller behind a request, connected, while inside.

        Raises:
            OperationError: Nobody is known to ask, or no broker answers.
        """
        try:
            agent, left = self._agent()
        except Mq9Error as error:
            raise OperationError(f"{error}. Tell the user.", error.code) from error
        agent.busy += 1
        try:
            if left is not None:
                await left.close()
            try:
                await agent.client.connect()
            except Exception as error:  # whatever it is, a model can only tell its user
                raise unreachable(error) from error
            window = self._window(context)
            consumer = f"{agent.identity.name}/{window or _WITHOUT_SESSION}"
            keeper = self._keeper(context, agent, consumer) if window else None
            yield Caller(
                client=agent.client,
                consumer=consumer,
                identity=agent.identity,
                lease_ms=self._settings.lease_ms,
                max_chars=self._settings.max_chars,
                tools=self._tools,
                read_only=self._settings.read_only,
                registration_ttl=self._settings.registration_ttl,
                # Some clients open a session for each call.
                deliveries=agent.deliveries.of(window, and_others=True),
                leases=keeper,
            )
        finally:
            agent.busy -= 1

    async def make_mailboxes(self, agents: Iterable[str]) -> None:
        """Make the mailboxes of agents that may not have called yet, so that they can get mail.

        Raises:
            Mq9Error: The broker cannot be reached.
        """
        for name in agents:
            address = self._settings.identity(name).mail_address
            async with self._connect(name) as client:
                try:
                    await client.mailbox_create(name=address, renew=True)
                except Forbidden as error:
                    _logger.warning("%s cannot have its mailbox: %s", name, error)

    async def close(self) -> None:
        """Let go of all connections. Whoever asks later is connected anew."""
        agents = list(self._agents.values())
        self._agents.clear()
        with anyio.CancelScope(shield=True):  # the server may have been cancelled, too
            for agent in agents:
                await agent.close()

    def _agent(self) -> tuple[_Agent, _Agent | None]:
        """Return the agent that asks, and another that has to go to make room for it."""
        identity = self.identity()
        found = self._agents.get(identity.name)
        if found is not None:
            self._agents.move_to_end(identity.name)
            return found, None
        left = None
        if len(self._agents) >= _MOST_AGENTS:
            left = next((one for one in self._agents.values() if not one.busy), None)
            if left is None:
                raise LimitReached(f"{_MOST_AGENTS} agents are connected, and all of them are busy")
            del self._agents[left.identity.name]
        client = self._connect(identity.name)
        keeper = LeaseKeeper(client, self._settings.lease_ms, self._settings.keep_ms)
        agent = self._agents[identity.name] = _Agent(identity, client, keeper)
        return agent, left

    def _keeper(self, context: Context, agent: _Agent, consumer: str) -> LeaseKeeper | None:
        """Return what renews the leases of a session, which may end before this process does."""
        if not self._settings.keep_ms:
            return None
        if isinstance(context.request, Request):
            connection: Connection = context.session._connection  # noqa: SLF001  # no other way
            if consumer not in connection.state.setdefault(_STATE, set()):
                connection.state[_STATE].add(consumer)
                connection.exit_stack.callback(agent.keeper.end, consumer)
        return agent.keeper

    def _window(self, context: Context) -> str:
        """Return a name for where the request comes from: this process, or a session over HTTP.

        It is empty for a request without a session. Nobody can tell one window of an agent from
        another then: all are one consumer, which gets what it has not acknowledged when it
        fetches again.
        """
        if not isinstance(context.request, Request):
            return self._instance
        return context.request.headers.get(_SESSION, "")[:_SESSION_CHARS]
