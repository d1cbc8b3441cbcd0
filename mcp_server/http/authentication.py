"""Authentication over HTTP: bearer tokens of a users file, a verifier, or an OAuth server."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.routes import (
    build_resource_metadata_url,
    create_protected_resource_routes,
)
from starlette.authentication import AuthenticationError
from starlette.datastructures import MutableHeaders
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.http.settings import URL
from mq9 import InvalidRequest, Role, Unauthorized
from mq9.server.users import Users

if TYPE_CHECKING:  # it takes its time to load, and is not always needed
    from mcp_server.http.access_tokens import AccessTokens

_WELL_KNOWN = "/.well-known/oauth-protected-resource"


class KnownTokens:
    """Verifies the bearer tokens of the agents in a users file.

    Users with a password cannot call. Nor can operators and readers, with a name or without one:
    a model that what it reads has taken over would have their rights in every mailbox.
    """

    def __init__(self, users: Users) -> None:
        self._users = users

    @property
    def agents(self) -> Mapping[str, tuple[str, ...] | None]:
        """The agents with a token, and where each may send; None for everywhere."""
        return self._users.agents_with_tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token stands for; None when it is not known."""
        try:
            admitted = await self._users.admit({"auth_token": token})
        except Unauthorized:
            return None
        agent = admitted.agent
        if agent is None or admitted.role is not Role.AGENT:
            return None
        return AccessToken(token=token, client_id=agent, subject=agent, scopes=[])


def verifier_named(name: str) -> TokenVerifier:
    """Return the verifier that ``package.module:attribute`` names; a class is instantiated."""
    try:
        found: Any = pkgutil.resolve_name(name)
        verifier = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InvalidRequest(f"verifier: {name!r} cannot be loaded: {error}") from error
    if not callable(getattr(verifier, "verify_token", None)):
        raise InvalidRequest(f"verifier: {name!r} has no verify_token")
    return verifier  # type: ignore[no-any-return]  # as far as can be told from outside


def authenticated(
    app: ASGIApp, verifier: TokenVerifier | None, authorization: AccessTokens | None
) -> ASGIApp:
    """Return an app that answers only requests with a good token; all, where none is known."""
    known = verifier if authorization is None else _Either(authorization, verifier)
    if known is None:
        return app
    inner = AuthContextMiddleware(app)
    if authorization is None:
        required: ASGIApp = RequireAuthMiddleware(inner, [])
    else:
        scopes = authorization.scopes
        metadata = build_resource_metadata_url(URL.validate_python(authorization.resource))
        required = _Challenge(RequireAuthMiddleware(inner, list(scopes), metadata), scopes)
    return AuthenticationMiddleware(required, backend=BearerAuthBackend(known), on_error=_try_again)


def _try_again(_connection: HTTPConnection, error: AuthenticationError) -> Response:
    """Answer that a token cannot be verified now, so that the client keeps it."""
    from mcp_server.http.access_tokens import RETRY_S  # noqa: PLC0415  # where it is loaded by now

    said = {"error": "temporarily_unavailable", "error_description": str(error)}
    return JSONResponse(said, 503, {"retry-after": str(RETRY_S)})


class _Challenge:
    """Adds the scopes that are needed to answers that ask for a token."""

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


def metadata_routes(authorization: AccessTokens) -> list[Route]:
    """Return the routes of the metadata (RFC 9728): at the resource's path, and at the root."""
    [route] = create_protected_resource_routes(
        URL.validate_python(authorization.resource),
        [URL.validate_python(authorization.issuer)],
        list(authorization.scopes) or None,
        "mq9 mailbox",
    )
    root = Route(_WELL_KNOWN, endpoint=route.endpoint, methods=["GET", "OPTIONS"])
    return [route] if route.path == _WELL_KNOWN else [route, root]


class _Either:
    """Verifies tokens of another verifier, which are good for everything, then access tokens."""

    def __init__(self, authorization: AccessTokens, other: TokenVerifier | None) -> None:
        self._authorization = authorization
        self._other = other

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token stands for; None when it is not known."""
        known = None if self._other is None else await self._other.verify_token(token)
        if known is not None:
            return known.model_copy(update={"scopes": list(self._authorization.scopes)})
        return await self._authorization.verify_token(token)
