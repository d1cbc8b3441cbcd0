"""The routes at which an MCP server is served over streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.auth.provider import TokenVerifier
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.http.authentication import authenticated, metadata_routes
from mcp_server.http.origins import KnownOrigins
from mcp_server.http.sessions import SessionLimits, Sessions
from mq9 import Mq9Error
from mq9.clock import Clock, SystemClock

if TYPE_CHECKING:  # it takes its time to load, and is not always needed
    from mcp_server.http.access_tokens import AccessTokens

PATH = "/mcp"


@asynccontextmanager
async def mcp_routes(
    server: Server[Any],
    *,
    verifier: TokenVerifier | None = None,
    stateless: bool = False,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    sessions: SessionLimits = SessionLimits(),
    authorization: AccessTokens | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[list[BaseRoute]]:
    """Make the routes of a server, which are served while inside.

    Args:
        server: The MCP server.
        verifier: Knows the bearer tokens; without it and ``authorization`` anybody may call.
        stateless: Whether clients of the older protocol get no session.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
        sessions: How many sessions there may be, and how long they may be idle.
        authorization: Knows those of an authorization server, which clients are pointed to.
        clock: Measures how long sessions are idle; the machine's when not given.

    Raises:
        InvalidRequest: An origin is none.
    """
    manager = StreamableHTTPSessionManager(
        server, stateless=stateless, session_idle_timeout=None, max_sessions=None
    )
    app: ASGIApp = _NoReplay(StreamableHTTPASGIApp(manager))
    limited = Sessions(app, clock or SystemClock(), sessions)
    if not stateless:
        app = limited
    app = authenticated(app, verifier, authorization)
    routes: list[BaseRoute] = [Route(PATH, endpoint=KnownOrigins(app, hosts, origins))]
    if authorization is not None:
        routes += metadata_routes(authorization)
    failed: Mq9Error | None = None
    async with AsyncExitStack() as stack:
        if authorization is not None:
            await stack.enter_async_context(authorization.running())
        await stack.enter_async_context(manager.run())
        await stack.enter_async_context(limited.running())
        try:
            yield routes
        except Mq9Error as error:
            failed = error  # out of the manager it would come as a group, which nobody expects
    if failed is not None:
        raise failed


class _NoReplay:
    """Opens a new stream for a client that asks to resume one.

    Events have no ids here, so a client that names one has it from elsewhere. The SDK, which keeps
    no events unless it is given a store, would not answer it at all.

    Args:
        app: Answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [one for one in scope["headers"] if one[0] != b"last-event-id"]
        await self._app({**scope, "headers": headers}, receive, send)
