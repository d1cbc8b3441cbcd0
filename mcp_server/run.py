"""Serving until the host or the system says that it is enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import TokenVerifier
from starlette.applications import Starlette

from mcp_server.callers import Callers, Connect
from mcp_server.http.routes import PATH, KnownTokens, mcp_routes
from mcp_server.naming import Surroundings
from mcp_server.server import make_server
from mcp_server.settings import AUTO, Settings
from mcp_server.startup.front import Front, standard_front
from mcp_server.stdio import stdio_streams
from mq9 import InvalidRequest, Mq9Client, Unauthorized, Unreachable
from mq9.cli.signals import ended_by_signals, stop_on_signals
from mq9.clock import Clock, SystemClock
from mq9.http.loopback import is_loopback
from mq9.http.port import listening, serving
from mq9.transport import servers
from mq9.transport.open import default_url, shown_url

if TYPE_CHECKING:  # it takes its time to load, and is not always needed
    from mcp_server.http.access_tokens import AccessTokens

_logger = logging.getLogger("mq9.mcp")


@dataclass(frozen=True, slots=True)
class Door:
    """Where HTTP is served, and who may come in.

    Attributes:
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        verifier: Knows the bearer tokens; without one anybody on this machine may come in.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
        stateless: Whether to keep no sessions.
        agents: Who has a token, as far as that is known.
        state_key: See ``make_server``.
        authorization_server: Who issues access tokens; None for nobody.
        resource: The URL by which clients call, which those tokens name as their audience; None for
            the address that is listened on.
        agent_claim: The claim of theirs that names the agent.
        scopes: What they have to be good for.
    """

    host: str
    port: int
    verifier: TokenVerifier | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    stateless: bool = False
    agents: Sequence[str] = ()
    state_key: str | None = None
    authorization_server: str | None = None
    resource: str | None = None
    agent_claim: str = "sub"
    scopes: Sequence[str] = ()

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in."""
        return self.verifier is None and self.authorization_server is None

    def authorization(self, url: str, clock: Clock) -> AccessTokens | None:
        """Return what knows the access tokens.

        Args:
            url: Where HTTP is served.
            clock: See ``AccessTokens``.

        Raises:
            InvalidRequest: A URL, the claim or a scope is none.
        """
        if self.authorization_server is None:
            return None
        from mcp_server.http.access_tokens import AccessTokens  # noqa: PLC0415  # see above

        return AccessTokens(
            self.authorization_server,
            self.resource or url,
            clock,
            claim=self.agent_claim,
            scopes=self.scopes,
        )


def check_names(option: str, host: str, names: Sequence[str]) -> None:
    """See whether clients can call a server that listens on an address.

    Raises:
        InvalidRequest: It listens on all addresses, and no name is known to call it by.
    """
    if host in {"", "0.0.0.0", "::"} and not names:  # noqa: S104  # nothing is bound here
        raise InvalidRequest(
            f"{option}: {host!r} is no name to call by; give those by which clients call this "
            "machine"
        )


async def over_stdio(
    settings: Settings, agent: str, mail_address: str | None, url: str | None, front: Front | None
) -> None:
    """Serve MCP on standard input and output, until that ends.

    SIGINT, SIGTERM and SIGHUP are taken for its end; a second one ends the process at once.

    Args:
        settings: What is offered.
        agent: Who is served.
        mail_address: Its mailbox; the slug of its name when not given.
        url: The broker.
        front: What has begun to read and answer, if anything has.
    """
    callers = Callers(
        _connect(url),
        settings,
        agent=None if agent == AUTO else agent,
        mail_address=mail_address,
        surroundings=Surroundings.here() if agent == AUTO else None,
    )
    server = make_server(callers, settings)
    if front is None:  # a thread of its own reads, for which nothing has to wait at the end
        front = standard_front(None)
        front.start()
    with ended_by_signals(front.end):
        async with stdio_streams(front) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())


async def over_http(
    settings: Settings, agent: str | None, mail_address: str | None, url: str | None, door: Door
) -> None:
    """Serve MCP over HTTP, until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    if door.is_open:
        connect = _connect(url)
    elif is_in_process(url):
        connect = _connect_in_process(url, door.agents)
    else:
        connect = _connect_by_token(url or default_url(), door)
        await _refuse_open_server(url or default_url())
    callers = Callers(connect, settings, agent=agent, mail_address=mail_address)
    server = make_server(callers, settings, pushes=not door.stateless, state_key=door.state_key)
    if is_in_process(url):
        await callers.make_mailboxes(door.agents)
    hosts = door.hosts if is_loopback(door.host) else (door.host, *door.hosts)
    with await listening("port", door.host, door.port) as listener:
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        at = f"http://{shown}:{port}{PATH}"
        async with mcp_routes(
            server,
            verifier=door.verifier,
            stateless=door.stateless,
            hosts=hosts,
            origins=door.origins,
            authorization=door.authorization(at, SystemClock()),
        ) as routes:
            app = Starlette(routes=routes)
            app.router.redirect_slashes = False
            async with serving(app, listener):
                typer.echo(f"mq9-mcp listens on {at}")
                await stop.wait()


def _connect(url: str | None) -> Connect:
    """Return what makes the client of an agent that nobody has authenticated."""
    Mq9Client(url)  # a URL that is none is told now
    return lambda _agent: Mq9Client(url)


def _connect_in_process(url: str | None, agents: Sequence[str]) -> Connect:
    """Return what makes an authenticated agent's client of a broker in this process.

    Who is known by a verifier or an access token alone is configured while it asks.
    """
    Mq9Client(url)
    return lambda agent: Mq9Client(
        url, agent=agent, agents=agents if agent in agents else (*agents, agent)
    )


def _connect_by_token(url: str, door: Door) -> Connect:
    """Return what makes an authenticated agent's client of a server, with its own bearer token.

    Raises:
        InvalidRequest: The server cannot know the agents by their tokens.
    """
    if not isinstance(door.verifier, KnownTokens) or door.authorization_server is not None:
        name = "verifier" if door.authorization_server is None else "authorization_server"
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
    """Refuse a server that lets anybody in, since it would take what agents send for claims.

    Raises:
        InvalidRequest: It does.
    """
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


def is_in_process(url: str | None) -> bool:
    """Tell whether a URL means a broker in this process, by default the default one."""
    return (url or default_url()).startswith(("memory:", "sqlite:"))
