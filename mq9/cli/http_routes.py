"""Routes that other packages add to the HTTP port of ``mq9 serve``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from starlette.routing import BaseRoute

from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Session
from mq9.cli import plugins
from mq9.client.client import Mq9Client
from mq9.server.settings import Settings
from mq9.server.users import Guard, Users
from mq9.transport.direct import DirectTransport


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What routes may use of the server.

    Attributes:
        connect: Makes the client of the agent with a name, not yet connected.
        users: Who may connect; None where anybody may.
        host: The address that the HTTP port listens on.
        agent: The agent that requests without a bearer token are made by, if there is one.
        allowed_hosts: Further names by which clients may call this machine.
        allowed_origins: Origins of web pages that may call, beside those on loopback.
    """

    connect: Callable[[str], Mq9Client]
    users: Users | None
    host: str
    agent: str | None
    allowed_hosts: Sequence[str]
    allowed_origins: Sequence[str]


MakeRoutes = Callable[[RouteContext], AbstractAsyncContextManager[Sequence[BaseRoute]]]


@asynccontextmanager
async def mcp_routes(
    settings: Settings, broker: EmbeddedBroker, guard: Guard
) -> AsyncIterator[Sequence[BaseRoute]]:
    """Make the routes of MCP, which are served while inside; none unless the settings ask for it.

    Args:
        settings: How the server is set up.
        broker: The broker whose mailboxes MCP clients use.
        guard: Knows the bearer tokens, where there are users.

    Raises:
        InvalidRequest: MCP cannot be served with these settings.
        MissingExtra: The extra ``mcp`` is not installed.
    """
    if not settings.mcp:
        yield ()
        return
    make_routes: MakeRoutes = plugins.load(plugins.ROUTES, "mcp")
    users = guard if isinstance(guard, Users) else None

    def connect(agent: str) -> Mq9Client:
        session = Session(
            f"mcp.{secrets.token_hex(8)}", agent if users is not None else None, guard.reserved
        )
        return Mq9Client(transport=DirectTransport(broker, session, _keep_open))

    context = RouteContext(
        connect=connect,
        users=users,
        host=settings.admin_host,
        agent=settings.mcp_agent,
        allowed_hosts=settings.mcp_allow_host,
        allowed_origins=settings.mcp_allow_origin,
    )
    async with make_routes(context) as routes:
        yield routes


async def _keep_open() -> None:
    """Leave the broker open when a client closes: it belongs to the server."""
