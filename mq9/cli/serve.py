"""``mq9 serve``: a broker that any NATS client can talk to. Its settings make its options."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import inspect
import logging
import secrets
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from starlette.routing import BaseRoute

from mq9 import logs
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli import needing, plugins
from mq9.cli.program import new_app, taking
from mq9.client.client import Mq9Client
from mq9.clock import SystemClock
from mq9.engine.commands import Claimed
from mq9.errors import BrokerFailed, Unreachable
from mq9.http.port import HttpLimits
from mq9.models import Role
from mq9.protocol.reserved import Reserved
from mq9.server.admin import LOG, serve_admin
from mq9.server.limits import ServerLimits
from mq9.server.metrics import Metrics
from mq9.server.reloading import Reloader
from mq9.server.server import Server
from mq9.server.settings import ServerSettings, option, variable
from mq9.server.state_metrics import state_of, state_of_file
from mq9.server.users import Admitted, Guard, Users
from mq9.signals import call_on_signal, has_terminal, stop_on_signals
from mq9.transport.direct import DirectTransport
from mq9.transport.open import default_file

if TYPE_CHECKING:
    from mq9.cluster.member import BrokerOptions, Member


def command_of_settings(run: Callable[[ServerSettings], None]) -> Callable[..., None]:
    """Return a function for typer that has an option for each setting.

    Options are passed on as text. ``ServerSettings`` checks them, with the variables and the file.
    """

    def command(**given: Any) -> None:
        run(
            ServerSettings(
                **{name: value for name, value in given.items() if value not in (None, [])}
            )
        )

    parameters = [_parameter(*one) for one in ServerSettings.model_fields.items()]
    return taking(parameters, command, run.__doc__)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _kind(field)
    declared = f"--{option(name)}"
    annotation: Any
    if kind is bool:
        annotation, declared, metavar = bool | None, f"{declared}/--no-{option(name)}", None
    elif get_origin(kind) is tuple:
        annotation, metavar = list[str] | None, field.title
    else:
        annotation = Path | None if kind is Path else str | None
        metavar = field.title or _placeholder(kind)
    declaration = typer.Option(
        declared, metavar=metavar, show_default=False, help=_help(name, field, kind)
    )
    annotated = Annotated[annotation, declaration]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotated
    )


def _kind(field: FieldInfo) -> Any:
    """Return the type of a field's values, without ``None``."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        return next(one for one in get_args(kind) if one is not types.NoneType)
    return kind


def _placeholder(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"<{'|'.join(str(one.value) for one in kind)}>"
    return {int: "NUMBER", float: "SECONDS", Path: "FILE"}.get(kind, "TEXT")


def _help(name: str, field: FieldInfo, kind: Any) -> str:
    """Return the help of a setting: description, variable, default and range."""
    facts = [f"env var: {variable(name)}"]
    if kind is bool:
        facts.append(f"default: {'' if field.default else 'no-'}{option(name)}")
    elif field.default not in (None, ()):
        default = field.default.value if isinstance(field.default, enum.Enum) else field.default
        facts.append(f"default: {default}")
    least = next((one.ge for one in field.metadata if isinstance(one, Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, Le)), None)
    if least is not None:
        facts.append(f"{least} or more" if most is None else f"{least} to {most}")
    return f"{field.description}  [{'; '.join(facts)}]"


@dataclass(frozen=True, slots=True)
class RouteContext:
    """The parts of the server that routes use."""

    # Makes an unconnected client of an agent's name, or of an authenticated user.
    connect: Callable[[str | Admitted], Mq9Client]
    users: Users | None  # None: no authentication
    host: str  # of the HTTP port
    agent: str | None  # of requests without a bearer token
    allowed_hosts: Sequence[str]  # further names of this machine
    allowed_origins: Sequence[str]  # in addition to loopback
    desk_as: str | None = None  # the person of the desk, without authentication
    desk_hosts: Sequence[str] = ()  # further names of this machine
    # Called when the users have changed.
    on_users: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


MakeRoutes = Callable[[RouteContext], AbstractAsyncContextManager[Sequence[BaseRoute]]]
MakeDesk = Callable[[RouteContext], AbstractAsyncContextManager[tuple[Sequence[BaseRoute], str]]]


@asynccontextmanager
async def mcp_routes(
    settings: ServerSettings, context: RouteContext
) -> AsyncIterator[Sequence[BaseRoute]]:
    """Yield the routes of MCP; none unless the settings enable MCP."""
    if not settings.mcp:
        yield ()
        return
    make_routes: MakeRoutes = plugins.load(plugins.ROUTES, "mcp")
    async with make_routes(context) as routes:
        yield routes


@asynccontextmanager
async def desk_routes(
    settings: ServerSettings, context: RouteContext
) -> AsyncIterator[tuple[Sequence[BaseRoute], str]]:
    """Yield the routes of the desk, and the query of its link."""
    if not settings.desk:
        yield (), ""
        return
    make_routes: MakeDesk = plugins.load(plugins.ROUTES, "desk")
    async with make_routes(context) as routes:
        yield routes


def _route_context(settings: ServerSettings, broker: EmbeddedBroker, guard: Guard) -> RouteContext:
    users = guard if isinstance(guard, Users) else None

    def connect(whom: str | Admitted) -> Mq9Client:
        who = Admitted(whom, Role.AGENT) if isinstance(whom, str) else whom
        if users is None:
            who = Admitted()
        session = BrokerSession(
            f"http.{secrets.token_hex(8)}", who.agent, guard.reserved, role=who.role
        )
        return Mq9Client(transport=DirectTransport(broker, session))  # the broker is the server's

    return RouteContext(
        connect=connect,
        users=users,
        host=settings.admin_host,
        agent=settings.mcp_agent,
        allowed_hosts=settings.mcp_allow_host,
        allowed_origins=settings.mcp_allow_origin,
        desk_as=settings.desk_as,
        desk_hosts=settings.admin_allow_host,
    )


logger = logging.getLogger("mq9.broker")

_SPARE_FILES = 64 + HttpLimits().most + HttpLimits().reserve  # for all but clients
_ADMIN_PORT = 9090
_SILENT_S = 8.0  # without an answer of the log, which is asked every 2 s
_LAME_DUCK_S = 120.0  # as long as clients may stay in lame duck mode
_MOST_NEW = 10_000  # objects before a garbage collection; 64 requests make thousands
_MOST_NAMED = 5  # mailboxes or registrations in one line of the log


app = new_app()


@app.command("serve")
@command_of_settings
def serve(settings: ServerSettings) -> None:
    """Run a broker for NATS clients.

    SIGTERM, SIGQUIT or Ctrl-C ends it after the requests in progress. A further SIGTERM or Ctrl-C
    ends it at once. SIGUSR2 first sends its clients to other servers. SIGHUP reloads the users and
    the certificate, as any change of their files does. On a terminal, SIGHUP ends it.

    You can set each option as an environment variable, or in the file of --config. An option
    overrides its variable, and a variable overrides the file.
    """
    logs.configure_logging(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of uvloop's event loop, if the extra `fast` is installed."""
    try:
        import uvloop  # noqa: PLC0415  # it may be missing
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(settings: ServerSettings) -> None:
    stop = asyncio.Event()
    task = asyncio.current_task()
    is_starting = True

    def end() -> None:
        stop.set()
        if is_starting and task is not None:  # a gateway waits for its servers without limit
            task.cancel()

    stop_on_signals(end)
    call_on_signal("SIGQUIT", end)
    call_on_signal("SIGUSR1", None)  # at which others open their log again; ours is a stream
    gc.set_threshold(_MOST_NEW)
    try:
        async with running(settings) as serving:
            is_starting = False
            if not has_terminal():
                call_on_signal("SIGHUP", serving.reload_soon)
            call_on_signal("SIGUSR2", lambda: serving.leave_soon(end))
            # Imported modules stay. A full collection that visits them stops the server for 30 ms.
            gc.freeze()
            typer.echo(f"mq9 {serving.where}")
            await serving.until(stop)
            logger.info("draining", extra={"connections": serving.connections})
            await serving.drain(settings.drain)
    except asyncio.CancelledError:
        if not (is_starting and stop.is_set()):
            raise
    logger.info("stopped")


class Serving:
    """A server on a port, a gateway of a cluster, or both."""

    def __init__(self) -> None:
        self.reloader: Reloader | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.server: Server | None = None
        self.member: Member | None = None
        self.data = ""  # path or `memory`, for the log

    async def open(
        self, settings: ServerSettings, guard: Guard, metrics: Metrics, stack: AsyncExitStack
    ) -> EmbeddedBroker:
        """Open the broker, which is closed with ``stack``."""
        clock = SystemClock()
        data = None if settings.memory else settings.data or default_file()
        self.data = str(data or "memory")
        options: BrokerOptions = {
            "observer": metrics,
            "embeddings": settings.embedder(),
            "dialects": settings.dialects,
        }
        if settings.cluster is not None:
            with needing("cluster", "--cluster: it"):
                from mq9.cluster.gauges import gauges  # noqa: PLC0415  # loaded late, too
                from mq9.cluster.member import joined  # noqa: PLC0415  # loaded late, for a quick start

            data = settings.data or default_file().with_name("gateway.db")
            url = settings.cluster.get_secret_value()
            joining = joined(
                url,
                data,
                clock,
                limits=settings.limits,
                reply_prefixes=settings.reply_prefix,
                has_callers=guard.has_callers,
                snapshot_limits=settings.snapshot_limits,
                **options,
            )
            member = self.member = await stack.enter_async_context(joining)
            metrics.state = state_of(member.backend.log.identity)
            metrics.watch(gauges(member))
            member.backend.on_appended = metrics.watch_appends(member.name, self.data)
            return member.broker
        metrics.state = state_of(secrets.token_hex(8)) if data is None else state_of_file(data)
        if data is None:
            broker = EmbeddedBroker.in_memory(clock, limits=settings.limits, **options)
        else:
            broker = EmbeddedBroker.on_file(
                data,
                clock,
                limits=settings.limits,
                durability=settings.durability,
                opens_when_full=True,
                **options,
            )
        stack.push_async_callback(broker.close)
        return broker

    @property
    def where(self) -> str:
        """The sources of requests, as a predicate: `listens on …`."""
        places = [f"listens on {self.server.url}"] if self.server else []
        if self.member is not None:
            places.append(f"serves a cluster as {self.member.name}")
        return " and ".join(places)

    @property
    def ends_users(self) -> list[Callable[[], Awaitable[None]]]:
        """The functions that end what removed users have begun."""
        ending: list[Callable[[], Awaitable[None]]] = []
        if self.server is not None:
            ending.append(self.server.check_users)
        if self.member is not None:
            ending.append(self.member.gateway.check_users)
        return ending

    @property
    def connections(self) -> int:
        """Number of clients connected to the port."""
        return self.server.connections if self.server else 0

    def problem(self) -> str | None:
        """Return the reason why it should get no traffic, or None."""
        gateway = self.member.gateway if self.member is not None else None
        if (self.server and (self.server.hub.draining or self.server.is_leaving)) or (
            gateway and gateway.is_draining
        ):
            return "draining"
        if self.member is not None and self.member.backend.silent_s > _SILENT_S:
            return LOG
        return None if gateway is None or gateway.is_serving else "queue group"

    async def until(self, stop: asyncio.Event) -> None:
        """Return when the server is to stop; raise the failure of a gateway."""
        if self.member is None:
            await stop.wait()
            return
        waiting = [asyncio.ensure_future(one.wait()) for one in (stop, self.member.gateway.is_over)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if self.member.backend.failure is not None:
            raise self.member.backend.failure

    def reload_soon(self) -> None:
        """Begin to read the users and the certificate again."""
        if self.reloader is not None:
            self._begin(self.reloader.reload())

    def leave_soon(self, then: Callable[[], None]) -> None:
        """Begin the lame duck mode: clients are to go to other servers; then call a function."""
        self._begin(self._leave(then))

    async def _leave(self, then: Callable[[], None]) -> None:
        logger.info("lame duck mode", extra={"connections": self.connections})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAME_DUCK_S), asyncio.TaskGroup() as both:
                if self.member is not None:
                    both.create_task(self.member.gateway.drain())
                if self.server is not None:
                    both.create_task(self.server.send_away())
        then()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Answer the requests in progress, and accept no others."""
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as both:
                if self.member is not None:
                    both.create_task(self.member.gateway.drain())
                if self.server is not None:
                    both.create_task(self.server.drain(seconds))
        except TimeoutError:
            if self.member is not None:
                self.member.backend.closing_ms = 0  # the time is over


@asynccontextmanager
async def running(
    settings: ServerSettings, *, default_admin_port: int = _ADMIN_PORT
) -> AsyncIterator[Serving]:
    """Run a server, or a gateway of a cluster, while inside."""
    settings.warn_of_secrets()
    guard, tls = settings.guard(), settings.tls()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        serving = Serving()
        broker = await serving.open(settings, guard, metrics, stack)
        metrics.watch_clock(lambda: broker.clock_offset_ms / 1000)

        async def claim(reserved: Reserved) -> None:
            _log_claimed(await broker.claim(reserved))

        unclaimed = None
        if guard.reserved is not None:
            try:
                await claim(guard.reserved)
            except BrokerFailed as error:  # a full disk: so no mail comes in, either
                logger.warning("the names of the agents are claimed later: %s", error)
                unclaimed = guard.reserved
        elif closed := await broker.send_limits():
            logger.warning(
                "%d mailboxes limit their senders, which is not enforced: without --users the "
                "server cannot tell who sends",
                closed,
            )
        if serving.member is None or "port" in settings.model_fields_set:
            server = serving.server = Server(
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
        if serving.member is not None:
            await serving.member.gateway.start(guard, settings.payload_encoding)
        loop, *_ = type(asyncio.get_running_loop()).__module__.split(".")
        logger.info("serving", extra={"where": serving.where, "data": serving.data, "loop": loop})
        context = _route_context(settings, broker, guard)
        if settings.admin:
            await _open_admin(
                settings, context, broker, metrics, serving, stack, default_admin_port
            )
        _warn_of(settings, guard, is_encrypted=tls is not None)
        give_back = partial(_give_back, broker, guard)
        apply = [*serving.ends_users, *context.on_users]
        apply.append(give_back)
        serving.reloader = Reloader(settings, guard, tls, claim, apply, SystemClock())
        serving.reloader.unclaimed = unclaimed
        watching = asyncio.create_task(serving.reloader.watch())
        try:
            yield serving
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def _warn_of(settings: ServerSettings, guard: Guard, *, is_encrypted: bool) -> None:
    """Log how little the server protects, if an operator has allowed that."""
    if guard.is_open and settings.insecure:
        logger.warning("no authentication: everybody who reaches the server may use it")
    elif not guard.is_open and not is_encrypted and settings.insecure:
        logger.warning("secrets travel unencrypted: there is no --tls-cert")
    if settings.cluster is None and guard.has_callers:
        logger.warning("the users file has callers, whom only gateways (--cluster) know")


async def _give_back(broker: EmbeddedBroker, guard: Guard) -> None:
    """Return the leases of agents that are no longer configured."""
    names = () if guard.reserved is None else guard.reserved.names
    await broker.give_back_leases(lambda agent: agent in names)


async def _open_admin(
    settings: ServerSettings,
    context: RouteContext,
    broker: EmbeddedBroker,
    metrics: Metrics,
    serving: Serving,
    stack: AsyncExitStack,
    default_port: int,
) -> None:
    """Serve metrics, health, MCP and the desk on the admin port, until ``stack`` ends."""
    routes = await stack.enter_async_context(mcp_routes(settings, context))
    desk, link = await stack.enter_async_context(desk_routes(settings, context))
    try:
        admin = serve_admin(
            broker,
            metrics,
            settings.admin_host,
            default_port if settings.admin_port is None else settings.admin_port,
            problem=serving.problem,
            routes=[*routes, *desk],
            hosts=(*settings.admin_allow_host, *settings.mcp_allow_host),
            count=partial(broker.totals, settings.metrics_mailbox, settings.max_metrics_mailboxes),
        )
        host, port = await stack.enter_async_context(admin)
    except Unreachable as error:
        if settings.mcp or settings.desk or settings.admin_port is not None:
            raise
        logger.warning("no metrics: %s", error)
        return
    logger.info("metrics", extra={"url": f"http://{host}:{port}/metrics"})
    if settings.mcp:
        logger.info("mcp", extra={"url": f"http://{host}:{port}/mcp"})
    if settings.desk:
        typer.echo(f"the desk: http://{host}:{port}/desk{link}")


def _log_claimed(claimed: Claimed) -> None:
    """Log the mailboxes that now belong to configured agents, and those closed to them."""
    if claimed.mailboxes:
        logger.warning(
            "mailboxes that now belong to the agents of their names: %s",
            _some(claimed.mailboxes, len(claimed.mailboxes)),
        )
    if claimed.removed:
        logger.warning(
            "registrations removed because another agent owns their name or mailbox: %s",
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
    """Raise the limit of open files to fit all clients, or accept fewer clients."""
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
                "the system allows %d open files, so at most %d clients may connect: "
                "raise ulimit -n",
                allowed,
                fewer,
            )
            return replace(limits, max_connections=fewer)
    return limits
