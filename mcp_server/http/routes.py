"""The routes at which an MCP server is served, and the origins that may call them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcp.server.auth.provider import TokenVerifier
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.http.authentication import authenticated, metadata_routes
from mcp_server.http.sessions import SessionLimits, Sessions
from mq9 import InvalidRequest, Mq9Error
from mq9.address import shown
from mq9.clock import Clock, SystemClock

if TYPE_CHECKING:
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

    Without ``verifier`` and ``authorization`` anybody may call. ``hosts`` and ``origins`` are those
    beside loopback.
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
    """Opens a new stream where one is to be resumed, which the SDK would not answer at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [one for one in scope["headers"] if one[0] != b"last-event-id"]
        await self._app({**scope, "headers": headers}, receive, send)


_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_METHODS = ("GET", "POST", "DELETE")
_REQUEST_HEADERS = (
    "Authorization",
    "Last-Event-ID",
    "Mcp-Session-Id",
    "MCP-Protocol-Version",
    # of the current protocol
    "Mcp-Method",
    "Mcp-Name",
    # what traces are continued by
    "traceparent",
    "tracestate",
    "baggage",
)
_RESPONSE_HEADERS = ("Mcp-Session-Id", "MCP-Protocol-Version", "WWW-Authenticate", "Retry-After")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"(\[[^]]*\]|[^:]*)(.*)", re.DOTALL)


class KnownOrigins:
    """Refuses requests to another host and those of other web pages, and answers CORS.

    The names of loopback are allowed in any spelling. A page on loopback may call, too, but only
    a page of an origin that is given can read the answers in a browser. The port may be ``*``.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        names = (*_LOOPBACK, *(_plain(host) for host in hosts))
        pages = [_origin(one) for one in origins]
        self._check = TransportSecurityMiddleware(
            TransportSecuritySettings(
                enable_dns_rebinding_protection=True,
                allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
                allowed_origins=[
                    *(
                        form
                        for name in _LOOPBACK
                        for form in (f"http://{name}", f"http://{name}:*")
                    ),
                    *pages,
                ],
            )
        )
        self._app = app
        if pages:
            self._app = CORSMiddleware(
                app,
                allow_origin_regex="|".join(_pattern(page) for page in pages),
                allow_methods=_METHODS,
                allow_headers=_REQUEST_HEADERS,
                expose_headers=_RESPONSE_HEADERS,
                allow_private_network=True,  # which is where a server for one person is
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [
            (name, _plain(value.decode("latin-1")).encode("latin-1") if name == b"host" else value)
            for name, value in scope["headers"]
        ]
        refusal = await self._check.validate_request(Request({**scope, "headers": headers}))
        await (refusal or self._app)(scope, receive, send)


def _plain(host: str) -> str:
    """Return a host, with or without a port, in lower case and without the dot of the root."""
    name, port = _HOST.fullmatch(host.lower()).groups()  # type: ignore[union-attr]  # any text
    return f"{name.removesuffix('.')}{port}"


def _origin(given: str) -> str:
    """Return an origin as browsers write it."""
    try:
        parts = urlsplit(given.lower())
        name, port = _HOST.fullmatch(parts.netloc).groups()  # type: ignore[union-attr]  # any text
    except ValueError:  # of brackets that do not match
        parts, name, port = urlsplit(""), "", ""
    if (
        not parts.scheme
        or not re.fullmatch(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+", name)
        or not re.fullmatch(r"(:(\d{1,5}|\*))?", port)
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise InvalidRequest(
            f"allow_origin: {shown(given)} is not a web origin, such as https://app.example "
            "or http://localhost:*"
        )
    return f"{parts.scheme}://{name}{'' if port == _DEFAULT_PORTS.get(parts.scheme) else port}"


def _pattern(origin: str) -> str:
    """Return the regular expression of an origin whose port may be ``*``."""
    if origin.endswith(":*"):
        return re.escape(origin.removesuffix(":*")) + r"(:\d{1,5})?"
    return re.escape(origin)
