"""The server over streamable HTTP: the route, who may come in, and from where."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.origins import KnownOrigins
from mcp_server.sessions import SessionLimits, Sessions
from mq9 import InvalidRequest, Mq9Error, Unauthorized
from mq9.clock import Clock, SystemClock
from mq9.users import Users

PATH = "/mcp"


class KnownTokens:
    """Verifies the bearer tokens of a users file.

    Args:
        users: The users; those with a password, and those that are no agent, cannot come in here.

    Attributes:
        agents: The agents among them.
    """

    def __init__(self, users: Users) -> None:
        self._users = users
        self.agents = users.agents_with_tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose token it is; None when it is nobody's."""
        try:
            agent = await self._users.admit({"auth_token": token})
        except Unauthorized:
            return None
        if agent is None:
            return None
        return AccessToken(token=token, client_id=agent, subject=agent, scopes=[])


def verifier_named(name: str) -> TokenVerifier:
    """Return the verifier that ``package.module:attribute`` names; a class is instantiated.

    Raises:
        InvalidRequest: There is none.
    """
    try:
        found: Any = pkgutil.resolve_name(name)
        verifier = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InvalidRequest(f"verifier: {name!r} cannot be loaded: {error}") from error
    if not callable(getattr(verifier, "verify_token", None)):
        raise InvalidRequest(f"verifier: {name!r} has no verify_token")
    return verifier  # type: ignore[no-any-return]  # as far as can be told from outside


@asynccontextmanager
async def mcp_routes(
    server: Server[Any],
    *,
    verifier: TokenVerifier | None = None,
    stateless: bool = False,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    sessions: SessionLimits = SessionLimits(),
    clock: Clock | None = None,
) -> AsyncIterator[list[BaseRoute]]:
    """Give the routes at which a server is served, while inside.

    Args:
        server: The MCP server.
        verifier: Knows the bearer tokens; without one anybody may come in.
        stateless: Whether clients of the older protocol get no session.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
        sessions: How many sessions there may be, and how long they may be idle.
        clock: Measures how long; the machine's when not given.

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
    if verifier is not None:
        app = AuthenticationMiddleware(
            AuthContextMiddleware(RequireAuthMiddleware(app, [])),
            backend=BearerAuthBackend(verifier),
        )
    route = Route(PATH, endpoint=KnownOrigins(app, hosts, origins))
    failed: Mq9Error | None = None
    async with manager.run(), limited.running():
        try:
            yield [route]
        except Mq9Error as error:
            failed = error  # out of the manager it would come as a group, which nobody expects
    if failed is not None:
        raise failed


class _NoReplay:
    """Opens a new stream for whoever asks to go on with one.

    Events have no ids here, so a client that names one has it from elsewhere; the SDK, which keeps
    no events unless it is told to, would not answer it at all.

    Args:
        app: Answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [one for one in scope["headers"] if one[0] != b"last-event-id"]
        await self._app({**scope, "headers": headers}, receive, send)
