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
from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from mq9 import InvalidRequest, Mq9Error, Unauthorized
from mq9.users import Users

PATH = "/mcp"
_MOST_SESSIONS = 1_000
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


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
async def mcp_route(
    server: Server[Any],
    *,
    verifier: TokenVerifier | None = None,
    stateless: bool = False,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> AsyncIterator[Route]:
    """Give the route at which a server is served, while inside.

    Args:
        server: The MCP server.
        verifier: Knows the bearer tokens; without one anybody may come in.
        stateless: Whether clients of the older protocol get no session.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
    """
    names = (*_LOOPBACK, *hosts)
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[
            *(form for name in _LOOPBACK for form in (f"http://{name}", f"http://{name}:*")),
            *origins,
        ],
    )
    manager = StreamableHTTPSessionManager(
        server, stateless=stateless, security_settings=security, max_sessions=_MOST_SESSIONS
    )
    app: ASGIApp = StreamableHTTPASGIApp(manager)
    if verifier is not None:
        app = AuthenticationMiddleware(
            AuthContextMiddleware(RequireAuthMiddleware(app, [])),
            backend=BearerAuthBackend(verifier),
        )
    failed: Mq9Error | None = None
    async with manager.run():
        try:
            yield Route(PATH, endpoint=app)
        except Mq9Error as error:
            failed = error  # out of the manager it would come as a group, which nobody expects
    if failed is not None:
        raise failed
