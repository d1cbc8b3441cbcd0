"""Serving until the host or the system says that it is enough."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import typer
from mcp.server.auth.provider import TokenVerifier
from starlette.applications import Starlette

from mcp_server.callers import Callers, Connect
from mcp_server.http import PATH, mcp_route
from mcp_server.server import make_server
from mcp_server.settings import Settings
from mcp_server.stdio import stdio_streams
from mq9 import InvalidRequest, Mq9Client
from mq9.cli.signals import stop_on_signals
from mq9.http_port import listening, serving
from mq9.loopback import is_loopback
from mq9.transport.open import default_url


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
    """

    host: str
    port: int
    verifier: TokenVerifier | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    stateless: bool = False
    agents: Sequence[str] = ()
    state_key: str | None = None


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
    settings: Settings, agent: str, mail_address: str | None, url: str | None
) -> None:
    """Serve MCP on standard input and output, until that ends, SIGTERM or Ctrl-C."""
    callers = Callers(_connect(url), settings, agent=agent, mail_address=mail_address)
    server = make_server(callers, settings)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Python would wait for the thread that reads, and so for the next line, which may not come.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    async with stdio_streams() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def over_http(
    settings: Settings, agent: str | None, mail_address: str | None, url: str | None, door: Door
) -> None:
    """Serve MCP over HTTP, until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    connect = _connect(url, authenticated=door.verifier is not None, agents=door.agents)
    callers = Callers(connect, settings, agent=agent, mail_address=mail_address)
    server = make_server(callers, settings, pushes=not door.stateless, state_key=door.state_key)
    if is_in_process(url):
        await callers.make_mailboxes(door.agents)
    hosts = door.hosts if is_loopback(door.host) else (door.host, *door.hosts)
    with await listening("port", door.host, door.port) as listener:
        async with mcp_route(
            server,
            verifier=door.verifier,
            stateless=door.stateless,
            hosts=hosts,
            origins=door.origins,
        ) as route:
            app = Starlette(routes=[route])
            app.router.redirect_slashes = False
            async with serving(app, listener):
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                typer.echo(f"mq9-mcp listens on http://{shown}:{port}{PATH}")
                await stop.wait()


def _connect(
    url: str | None, *, authenticated: bool = False, agents: Sequence[str] = ()
) -> Connect:
    """Return what makes an agent's client.

    A broker in this process believes us who the agent is, when that was authenticated. A server
    goes by the credentials in the URL.
    """
    in_process = is_in_process(url)
    Mq9Client(url)  # a URL that is none is told now

    def connect(agent: str) -> Mq9Client:
        if not (authenticated and in_process):
            return Mq9Client(url)
        # Who is known by a verifier alone is configured from the moment at which it asks.
        return Mq9Client(url, agent=agent, agents=agents or (agent,))

    return connect


def is_in_process(url: str | None) -> bool:
    """Tell whether a URL means a broker in this process, by default the default one."""
    return (url or default_url()).startswith(("memory:", "sqlite:"))
