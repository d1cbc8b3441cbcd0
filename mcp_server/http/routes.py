"""The server over streamable HTTP: the route, who may come in, and from where."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.routes import (
    build_resource_metadata_url,
    create_protected_resource_routes,
)
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.authentication import AuthenticationError
from starlette.datastructures import MutableHeaders
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.http.origins import KnownOrigins
from mcp_server.http.sessions import SessionLimits, Sessions
from mcp_server.http.trusted_urls import URL
from mq9 import InvalidRequest, Mq9Error, Unauthorized
from mq9.clock import Clock, SystemClock
from mq9.server.users import Users

if TYPE_CHECKING:  # it takes its time to load, and is not always needed
    from mcp_server.http.access_tokens import AccessTokens

PATH = "/mcp"
_WELL_KNOWN = "/.well-known/oauth-protected-resource"


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
    authorization: AccessTokens | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[list[BaseRoute]]:
    """Give the routes at which a server is served, while inside.

    Args:
        server: The MCP server.
        verifier: Knows the bearer tokens; without it and ``authorization`` anybody may come in.
        stateless: Whether clients of the older protocol get no session.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
        sessions: How many sessions there may be, and how long they may be idle.
        authorization: Knows those of an authorization server, which clients are told of.
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
    known = verifier if authorization is None else _Either(authorization, verifier)
    if known is not None:
        app = _authenticated(app, known, authorization)
    routes: list[BaseRoute] = [Route(PATH, endpoint=KnownOrigins(app, hosts, origins))]
    if authorization is not None:
        routes += _metadata_routes(authorization)
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


class _Either:
    """Verifies access tokens, and those of another verifier, which are good for everything.

    Args:
        authorization: Knows the access tokens.
        other: Knows the others, and is asked first.
    """

    def __init__(self, authorization: AccessTokens, other: TokenVerifier | None) -> None:
        self._authorization = authorization
        self._other = other

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose token it is; None when it is nobody's."""
        known = None if self._other is None else await self._other.verify_token(token)
        if known is not None:
            return known.model_copy(update={"scopes": list(self._authorization.scopes)})
        return await self._authorization.verify_token(token)


def _authenticated(
    app: ASGIApp, verifier: TokenVerifier, authorization: AccessTokens | None
) -> ASGIApp:
    """Return an app that lets in who has a good token."""
    inner = AuthContextMiddleware(app)
    if authorization is None:
        required: ASGIApp = RequireAuthMiddleware(inner, [])
    else:
        scopes = authorization.scopes
        metadata = build_resource_metadata_url(URL.validate_python(authorization.resource))
        required = _Challenge(RequireAuthMiddleware(inner, list(scopes), metadata), scopes)
    return AuthenticationMiddleware(
        required, backend=BearerAuthBackend(verifier), on_error=_try_again
    )


def _try_again(_connection: HTTPConnection, error: AuthenticationError) -> Response:
    """Tell a client that its token may be good, so that it keeps it."""
    from mcp_server.http.key_set import RETRY_S  # noqa: PLC0415  # where it is loaded by now

    said = {"error": "temporarily_unavailable", "error_description": str(error)}
    return JSONResponse(said, 503, {"retry-after": str(RETRY_S)})


class _Challenge:
    """Names the scopes that are needed where a token is asked for.

    Args:
        app: Asks for it.
        scopes: What it has to be good for.
    """

    def __init__(self, app: ASGIApp, scopes: Sequence[str]) -> None:
        self._app = app
        self._scope = f', scope="{" ".join(scopes)}"' if scopes else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in {401, 403}:
                headers = MutableHeaders(scope=message)
                if "www-authenticate" in headers:
                    headers["www-authenticate"] += self._scope
            await send(message)

        await self._app(scope, receive, named)


def _metadata_routes(authorization: AccessTokens) -> list[Route]:
    """Return where clients learn which authorization server there is (RFC 9728).

    Some ask at the path of the resource, and some at the root.
    """
    [route] = create_protected_resource_routes(
        URL.validate_python(authorization.resource),
        [URL.validate_python(authorization.issuer)],
        list(authorization.scopes) or None,
        "mq9 mailbox",
    )
    root = Route(_WELL_KNOWN, endpoint=route.endpoint, methods=["GET", "OPTIONS"])
    return [route] if route.path == _WELL_KNOWN else [route, root]


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
