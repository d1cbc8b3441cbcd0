"""MCP on the HTTP port of ``mq9 serve``, which finds it by an entry point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute

from mcp_server.agents.callers import Callers
from mcp_server.http.authentication import KnownTokens
from mcp_server.http.routes import mcp_routes
from mcp_server.http.settings import check_names
from mcp_server.server import make_server
from mcp_server.settings import HOST_KEEP_S, HOST_LEASE_S, Settings, refuse_auto
from mq9.cli.http_routes import RouteContext
from mq9.http.loopback import is_loopback


@asynccontextmanager
async def make_routes(context: RouteContext) -> AsyncIterator[Sequence[BaseRoute]]:
    """Make the routes of MCP, which are served while inside.

    Raises:
        InvalidRequest: An option of ``mq9 serve`` for MCP cannot be used.
    """
    host, users = context.host, context.users
    check_names("mcp-allow-host", host, context.allowed_hosts)
    refuse_auto("mcp-agent", context.agent)
    settings = Settings(lease_ms=HOST_LEASE_S * 1000, keep_ms=HOST_KEEP_S * 1000)
    callers = Callers(context.connect, settings, agent=context.agent)
    await callers.make_mailboxes(() if users is None else users.agents_with_tokens)
    async with mcp_routes(
        make_server(callers, settings),
        verifier=None if users is None else KnownTokens(users),
        hosts=(*(() if is_loopback(host) else (host,)), *context.allowed_hosts),
        origins=context.allowed_origins,
    ) as routes:
        yield routes
