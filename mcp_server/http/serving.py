"""MCP served over streamable HTTP: by ``mq9-mcp --http``, and on the port of ``mq9 serve``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer
from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from mcp_server.callers import Callers, Connect, connect_to
from mcp_server.http.authentication import KnownTokens
from mcp_server.http.routes import PATH, mcp_routes
from mcp_server.http.settings import Access, check_names
from mcp_server.options import Options
from mcp_server.server import make_server
from mcp_server.settings import (
    HOST_KEEP_S,
    HOST_LEASE_S,
    UNRENEWED_LEASE_S,
    Settings,
    refuse_auto,
)
from mq9 import InvalidRequest, Mq9Client, Unauthorized, Unreachable
from mq9.clock import SystemClock
from mq9.http import is_loopback
from mq9.http.port import listening, serving
from mq9.signals import stop_on_signals
from mq9.transport import servers
from mq9.transport.open import default_url, shown_url

if TYPE_CHECKING:  # it needs the extra `server`
    from mq9.cli.serve import RouteContext

_logger = logging.getLogger("mq9.mcp")


async def serve_http(options: Options, settings: Settings, access: Access) -> None:
    """Serve MCP over HTTP, until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    url = options.server or default_url()
    is_in_process = url.startswith(("memory:", "sqlite:"))
    if access.is_open:
        connect = connect_to(options.server)
    elif is_in_process:
        Mq9Client(url)  # a URL that is none is told now

        # An agent that is known by a verifier or an access token alone is configured as it calls.
        def connect(agent: str) -> Mq9Client:
            return Mq9Client(url, agent=agent, agents={agent: None, **access.agents})
    else:
        connect = _connect_by_token(url, options, access)
        await _refuse_open_server(url)
    callers = Callers(connect, settings, agent=options.agent, mail_address=options.mail_address)
    server = make_server(
        callers, settings, pushes=not options.stateless, state_key=options.state_key
    )
    if is_in_process:
        await callers.make_mailboxes(access.agents)
    own = () if is_loopback(options.host) else (options.host,)
    with await listening("port", options.host, options.port) as listener:
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        at = f"http://{shown}:{port}{PATH}"
        authorization = None
        if options.authorization_server is not None:
            from mcp_server.http.access_tokens import AccessTokens  # noqa: PLC0415  # seldom needed

            authorization = AccessTokens(
                options.authorization_server,
                options.resource or at,
                SystemClock(),
                claim="sub" if options.agent_claim is None else options.agent_claim,
                scopes=options.scope or (),
            )
        async with mcp_routes(
            server,
            verifier=access.verifier,
            stateless=options.stateless,
            hosts=(*own, *access.hosts),
            origins=options.allow_origin or (),
            authorization=authorization,
        ) as routes:
            app = Starlette(routes=routes)
            app.router.redirect_slashes = False
            async with serving(app, listener):
                typer.echo(f"mq9-mcp listens on {at}")
                await stop.wait()


def _connect_by_token(url: str, options: Options, access: Access) -> Connect:
    """Return what makes an authenticated agent's client of a server, with its own bearer token."""
    is_verified = options.authorization_server is None
    if not (isinstance(access.verifier, KnownTokens) and is_verified):
        name = "verifier" if is_verified else "authorization_server"
        raise InvalidRequest(
            f"{name}: a server knows agents by its own users file, so give that as --tokens, "
            "or a broker in this process as --server"
        )
    if servers.has_credentials(url):
        raise InvalidRequest(
            f"server: {shown_url(url)} names a user or token, but with --tokens each agent "
            "connects with its own; leave it out, and give the server the same file as --users"
        )

    def connect(agent: str) -> Mq9Client:
        token = get_access_token()
        if token is None:
            raise Unauthorized("a bearer token is needed, which the server knows the agent by")
        return Mq9Client(servers.with_token(url, token.token), agent=agent)

    return connect


async def _refuse_open_server(url: str) -> None:
    """Refuse a server that lets anybody in, since it would take what agents send for claims."""
    try:
        async with Mq9Client(url):
            pass
    except Unauthorized:
        return
    except Unreachable as error:  # it may come later, and each connection is checked
        _logger.warning("%s", error)
        return
    raise InvalidRequest(
        f"server: {shown_url(url)} lets anybody in, so it cannot tell the agents of --tokens "
        "apart; start it with the same file as --users"
    )


@asynccontextmanager
async def make_routes(context: RouteContext) -> AsyncIterator[Sequence[BaseRoute]]:
    """Make the routes of MCP, which are served while inside."""
    host, users = context.host, context.users
    check_names("mcp-allow-host", host, context.allowed_hosts)
    refuse_auto("mcp-agent", context.agent)
    settings = Settings(
        lease_ms=HOST_LEASE_S * 1000,
        unrenewed_lease_ms=UNRENEWED_LEASE_S * 1000,
        keep_ms=HOST_KEEP_S * 1000,
    )
    callers = Callers(context.connect, settings, agent=context.agent)
    await callers.make_mailboxes(() if users is None else users.agents_with_tokens)

    async def apply_users() -> None:
        """End the agents whose tokens were removed, and create the mailboxes of new ones."""
        if users is not None:
            await callers.end_unless(users.agents_with_tokens)
            await callers.make_mailboxes(users.agents_with_tokens)

    context.on_users.append(apply_users)
    async with mcp_routes(
        make_server(callers, settings),
        verifier=None if users is None else KnownTokens(users),
        hosts=(*(() if is_loopback(host) else (host,)), *context.allowed_hosts),
        origins=context.allowed_origins,
    ) as routes:
        yield routes
