"""``mq9 serve``: a broker that any NATS client can talk to."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mq9.broker.embedded import EmbeddedBroker
from mq9.cli.http_routes import mcp_routes
from mq9.cli.signals import stop_on_signals
from mq9.clock import SystemClock
from mq9.engine.commands import Claimed, Limits
from mq9.errors import InvalidRequest, Unreachable
from mq9.http.connections import HttpLimits
from mq9.protocol.headers import PayloadEncoding
from mq9.server import logs
from mq9.server.admin import serve_admin
from mq9.server.limits import ServerLimits
from mq9.server.metrics import Metrics
from mq9.server.server import Server
from mq9.server.settings import Settings
from mq9.storage.store import Durability
from mq9.transport.open import default_file

logger = logging.getLogger("mq9.broker")

_DEFAULTS = Limits()
_SERVER = ServerLimits()
_SPARE_FILES = 64 + HttpLimits().most + HttpLimits().reserve  # for everything but clients
_PORT = 9090
_MOST_NAMED = 5  # mailboxes or registrations in one line of the log


def serve(  # noqa: PLR0917  # typer passes every option by name
    host: Annotated[
        str, typer.Option(envvar="MQ9_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="MQ9_PORT", min=0, max=65535, help="Port; 0: any free one.")
    ] = 4222,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="MQ9_DATA", dir_okay=False, help="File to keep mail in.  [default: one per user]"
        ),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", envvar="MQ9_MEMORY", help="Keep mail in memory only.")
    ] = False,
    durability: Annotated[
        Durability,
        typer.Option(
            envvar="MQ9_DURABILITY",
            help="What a reply promises: normal survives a killed server, full power loss as well.",
        ),
    ] = Durability.NORMAL,
    auth_token: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_AUTH_TOKEN",
            show_envvar=True,
            help="What a client must know. Others on this machine see the command line: prefer "
            "the variable.",
        ),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            envvar="MQ9_USERS", dir_okay=False, help="TOML file of who may connect, as which agent."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="MQ9_TLS_CERT", dir_okay=False, help="Certificate chain, PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="MQ9_TLS_KEY", dir_okay=False, help="Its key, PEM.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="MQ9_INSECURE",
            help="Let anybody in, though other machines can reach it.",
        ),
    ] = False,
    admin_host: Annotated[
        str, typer.Option(envvar="MQ9_ADMIN_HOST", help="Address of metrics and health.")
    ] = "127.0.0.1",
    admin_port: Annotated[
        int | None,
        typer.Option(
            envvar="MQ9_ADMIN_PORT",
            min=0,
            max=65535,
            help=f"Port of metrics and health; 0: any free one.  [default: {_PORT} if it is free]",
        ),
    ] = None,
    admin: Annotated[
        bool, typer.Option(envvar="MQ9_ADMIN", help="Whether to serve metrics and health.")
    ] = True,
    admin_allow_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MQ9_ADMIN_ALLOW_HOST",
            metavar="NAME",
            help="A name by which metrics and health are called, beside localhost and addresses. "
            "May be repeated.",
        ),
    ] = None,
    mcp: Annotated[
        bool,
        typer.Option("--mcp", envvar="MQ9_MCP", help="Serve MCP at /mcp of the admin port, too."),
    ] = False,
    mcp_agent: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_MCP_AGENT",
            help="Which agent MCP clients are; with --users their tokens say it.",
        ),
    ] = None,
    mcp_allow_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MQ9_MCP_ALLOW_HOST",
            metavar="NAME",
            help="A name by which MCP clients call this machine. May be repeated.",
        ),
    ] = None,
    mcp_allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MQ9_MCP_ALLOW_ORIGIN",
            metavar="ORIGIN",
            help="Web pages that may call MCP. May be repeated.",
        ),
    ] = None,
    payload_encoding: Annotated[
        PayloadEncoding,
        typer.Option(
            envvar="MQ9_PAYLOAD_ENCODING",
            help="How bodies stand in replies to who does not say: as text, as base64, or as the "
            "client is known to read them.",
        ),
    ] = PayloadEncoding.AUTO,
    embeddings: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_EMBEDDINGS",
            metavar="MODULE:NAME",
            help="What finds agents by meaning.  [default: WordLlama, where it is installed]",
        ),
    ] = None,
    max_connections: Annotated[
        int, typer.Option(envvar="MQ9_MAX_CONNECTIONS", min=1, help="Clients at once.")
    ] = _SERVER.max_connections,
    max_pending: Annotated[
        int,
        typer.Option(envvar="MQ9_MAX_PENDING", min=65536, help="Bytes a client may leave unread."),
    ] = _SERVER.max_pending,
    max_agent_pending: Annotated[
        int,
        typer.Option(
            envvar="MQ9_MAX_AGENT_PENDING",
            min=65536,
            help="Bytes that all clients of one agent may leave unread.",
        ),
    ] = _SERVER.max_agent_pending,
    max_total_pending: Annotated[
        int,
        typer.Option(
            envvar="MQ9_MAX_TOTAL_PENDING",
            min=65536,
            help="Bytes that all clients together may leave unread.",
        ),
    ] = _SERVER.max_total_pending,
    max_mailboxes: Annotated[
        int, typer.Option(envvar="MQ9_MAX_MAILBOXES", min=1, help="Mailboxes.")
    ] = _DEFAULTS.max_mailboxes,
    max_messages: Annotated[
        int, typer.Option(envvar="MQ9_MAX_MESSAGES", min=1, help="Messages in one mailbox.")
    ] = _DEFAULTS.max_messages,
    max_bytes: Annotated[
        int, typer.Option(envvar="MQ9_MAX_BYTES", min=1, help="Bytes in one mailbox.")
    ] = _DEFAULTS.max_bytes,
    max_payload: Annotated[
        int,
        typer.Option(
            envvar="MQ9_MAX_PAYLOAD", min=1, max=64 * 1024 * 1024, help="Bytes in one message."
        ),
    ] = _DEFAULTS.max_payload,
    max_agents: Annotated[
        int, typer.Option(envvar="MQ9_MAX_AGENTS", min=1, help="Registered agents.")
    ] = _DEFAULTS.max_agents,
    max_ids: Annotated[
        int,
        typer.Option(envvar="MQ9_MAX_IDS", min=1, help="Idempotency ids of 7 days in one mailbox."),
    ] = _DEFAULTS.max_ids,
    drain: Annotated[
        float,
        typer.Option(
            envvar="MQ9_DRAIN", min=0, max=3600, help="Seconds to finish in when told to stop."
        ),
    ] = 10.0,
    log_level: Annotated[
        str,
        typer.Option(envvar="MQ9_LOG_LEVEL", help="debug, info, warning or error."),
    ] = "info",
    log_format: Annotated[
        str, typer.Option(envvar="MQ9_LOG_FORMAT", help="text or json, on standard error.")
    ] = "text",
) -> None:
    """Run a broker that any NATS client can talk to, until it is told to stop.

    SIGTERM or Ctrl-C lets it finish what was begun; a second one ends it at once. Every option may
    be given as the environment variable that is named beside it.
    """
    logs.configure(log_level, log_format)
    if data is not None and data.parts[:1] and data.parts[0].endswith(":"):  # a path drops a slash
        raise InvalidRequest(f"data: {data} is a URL; give the path of a file")
    if memory and data is not None:
        raise InvalidRequest(f"memory: give either --memory or --data, which is {data}")
    settings = Settings(
        host=host,
        port=port,
        data=None if memory else (data or default_file()),
        durability=durability,
        auth_token=auth_token,
        users=users,
        tls_cert=tls_cert,
        tls_key=tls_key,
        insecure=insecure,
        admin_host=admin_host,
        admin_port=(_PORT if admin_port is None else admin_port) if admin else None,
        admin_allow_host=admin_allow_host or (),
        payload_encoding=payload_encoding,
        embeddings=embeddings,
        mcp=mcp,
        mcp_agent=mcp_agent,
        mcp_allow_host=mcp_allow_host or (),
        mcp_allow_origin=mcp_allow_origin or (),
        limits=Limits(
            max_payload=max_payload,
            max_mailboxes=max_mailboxes,
            max_messages=max_messages,
            max_bytes=max_bytes,
            max_agents=max_agents,
            max_ids=max_ids,
        ),
        server_limits=ServerLimits(
            max_connections=max_connections,
            max_pending=max_pending,
            max_agent_pending=max_agent_pending,
            max_total_pending=max_total_pending,
        ),
        drain_s=drain,
    )
    asyncio.run(_run(settings, admin_is_optional=admin_port is None and not mcp))


async def _run(settings: Settings, *, admin_is_optional: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    async with running(settings, admin_is_optional=admin_is_optional) as server:
        typer.echo(f"mq9 listens on {server.url}")
        await stop.wait()
        logger.info("draining", extra={"connections": server.connections})
        await server.drain(settings.drain_s)
    logger.info("stopped")


@asynccontextmanager
async def running(settings: Settings, *, admin_is_optional: bool = False) -> AsyncIterator[Server]:
    """Run a server while inside.

    Args:
        settings: How.
        admin_is_optional: Whether to go on without metrics when their port is taken.

    Raises:
        InvalidRequest: A setting cannot be used.
        Unreachable: A port cannot be listened on.
        UnusableFile: The file cannot be used.
    """
    guard, tls = settings.guard(), settings.tls()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        broker = _open(settings, metrics)
        stack.push_async_callback(broker.close)
        if guard.reserved is not None:
            _log_claimed(await broker.claim(guard.reserved))
        server = Server(
            broker,
            max_payload=settings.limits.max_payload,
            guard=guard,
            limits=_fit_open_files(settings.server_limits),
            tls=tls,
            observer=metrics,
            encoding=settings.payload_encoding,
        )
        stack.push_async_callback(server.close)
        await server.start(settings.host, settings.port)
        where = settings.data or "memory"
        logger.info("listening", extra={"url": server.url, "data": str(where)})
        if settings.admin_port is not None:
            routes = await stack.enter_async_context(mcp_routes(settings, broker, guard))
            try:
                admin = serve_admin(
                    broker,
                    metrics,
                    settings.admin_host,
                    settings.admin_port,
                    server,
                    routes=routes,
                    hosts=(*settings.admin_allow_host, *settings.mcp_allow_host),
                )
                host, port = await stack.enter_async_context(admin)
            except Unreachable as error:
                if not admin_is_optional:
                    raise
                logger.warning("no metrics: %s", error)
            else:
                logger.info("metrics", extra={"url": f"http://{host}:{port}/metrics"})
                if settings.mcp:
                    logger.info("mcp", extra={"url": f"http://{host}:{port}/mcp"})
        if guard.is_open and settings.insecure:
            logger.warning("anybody who reaches %s is let in", server.url)
        elif not guard.is_open and tls is None and settings.insecure:
            logger.warning("secrets travel unencrypted: there is no --tls-cert")
        yield server


def _open(settings: Settings, metrics: Metrics) -> EmbeddedBroker:
    clock = SystemClock()
    if settings.data is None:
        return EmbeddedBroker.in_memory(
            clock, limits=settings.limits, observer=metrics, embeddings=settings.embedder()
        )
    return EmbeddedBroker.on_file(
        settings.data,
        clock,
        limits=settings.limits,
        durability=settings.durability,
        observer=metrics,
        embeddings=settings.embedder(),
    )


def _log_claimed(claimed: Claimed) -> None:
    """Say what belongs to configured agents from now on, and what is closed to them."""
    if claimed.mailboxes:
        logger.warning(
            "mailboxes that now belong to the agents of their names: %s",
            _some(claimed.mailboxes, len(claimed.mailboxes)),
        )
    if claimed.removed:
        logger.warning(
            "registrations removed because their name or mailbox belongs to an agent that did not "
            "make them: %s",
            _some(claimed.removed, len(claimed.removed)),
        )
    if claimed.closed:
        logger.warning(
            "%d mailboxes without a creator are closed to agents until an operator grants them: %s",
            claimed.closed,
            _some(claimed.first_closed, claimed.closed),
        )


def _some(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if count <= _MOST_NAMED else f"{shown} and {count - _MOST_NAMED} more"


def _fit_open_files(limits: ServerLimits) -> ServerLimits:
    """Let the process have a descriptor for every client, or take fewer clients."""
    if sys.platform == "win32":
        return limits
    import resource  # noqa: PLC0415  # only Unix has it

    wanted = limits.max_connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            fewer = max(allowed // 2, allowed - _SPARE_FILES)
            logger.warning(
                "the system allows %d open files, so %d clients are taken; see ulimit -n",
                allowed,
                fewer,
            )
            return replace(limits, max_connections=fewer)
    return limits
