"""The agents that call, each with its name, its connection, its leases and its mailbox."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import ListRootsRequest, ListRootsResult
from pydantic import ValidationError
from starlette.requests import Request

from mcp_server.settings import Settings
from mq9 import Forbidden, LimitReached, Mq9Client, Mq9Error, NotConnected, Unauthorized
from mq9.clock import Clock, SystemClock, wait_for_any
from mq9.operations.caller import Caller
from mq9.operations.conversations import Conversations
from mq9.operations.execution import OperationError, unreachable
from mq9.operations.identity import Identity
from mq9.operations.leases import DeliveryMemory, LeaseKeeper

_logger = logging.getLogger("mq9.mcp")

_HOST_CHARS, _PROJECT_CHARS = 40, 60
_DIGEST_CHARS = 8
_UNKNOWN_HOST = "mcp-host"
_ROOTS_TIMEOUT_S = 2.0
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9]+")


def name_of(host: str | None, project: str | None) -> str:
    """Return the name of an agent, in a-z, 0-9 and hyphens, such as ``claude-code-myproject``."""
    parts = [_plain(host or "", _HOST_CHARS) or _UNKNOWN_HOST]
    if project:
        parts.append(_plain(project, _PROJECT_CHARS) or _digest(project))
    return "-".join(parts)


@dataclass(frozen=True, slots=True)
class WorkingDirectory:
    """The directory that the program was started in; None if it was removed."""

    directory: Path | None
    no_projects: Sequence[Path]  # in which hosts start programs outside of projects

    @classmethod
    def here(cls) -> WorkingDirectory:
        """Return that of this process."""
        try:
            directory = Path.cwd()
        except OSError:
            directory = None
        no_projects = []
        with suppress(RuntimeError):  # there may be no home
            no_projects.append(Path.home().resolve())
        windows = os.environ.get("SYSTEMROOT")
        if windows is not None:
            no_projects += [Path(windows), Path(windows, "System32")]
        return cls(directory, no_projects)

    @property
    def project(self) -> str | None:
        """The name of the directory; None where it is no project."""
        directory = self.directory
        if directory is None or directory in self.no_projects:
            return None
        return directory.name or None


def _host(context: ServerRequestContext[Any, Any]) -> str | None:
    """Return the name of the host."""
    params = context.session.client_params
    return None if params is None else params.client_info.name


async def _root(context: ServerRequestContext[Any, Any], clock: Clock) -> str | None:
    """Return the name of the directory of the first root; None where no roots are named."""
    capabilities = context.session.client_capabilities
    if capabilities is None or capabilities.roots is None or not context.session.can_send_request:
        return None
    asking = context.session.send_request(ListRootsRequest(), ListRootsResult)
    try:
        roots = (await in_time(clock, _ROOTS_TIMEOUT_S, asking)).roots
    except (MCPError, ValidationError, TimeoutError) as error:
        _logger.info("the client did not name its roots: %s", error)
        return None
    return directory_in(str(roots[0].uri)) if roots else None


def directory_in(uri: str) -> str | None:
    """Return the name of the directory that a ``file:`` URI leads to; None for the topmost."""
    path = unquote(urlsplit(uri).path).replace("\\", "/").rstrip("/")
    name = path.rpartition("/")[2]
    return None if not name or name.endswith(":") else name


def _plain(text: str, most: int) -> str:
    return _OTHER_CHARACTERS.sub("-", text.lower())[:most].strip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


T = TypeVar("T")


async def in_time(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work; ``TimeoutError`` if it takes longer on a clock."""
    working = asyncio.create_task(work)
    try:
        await wait_for_any(clock, seconds, working)
    finally:
        working.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working])
    if working.cancelled():
        raise TimeoutError
    return working.result()


Connect = Callable[[str], Mq9Client]
Context = ServerRequestContext[Any, Any]

MAX_AGENTS = 1_000  # connected at once
_SESSION = "mcp-session-id"
_SESSION_CHARS = 8
_WITHOUT_SESSION = "http"
_GIVE_BACK_TIMEOUT_S = 3.0
_STATE = "mq9.kept"  # of a connection: the consumers whose leases are renewed


def connect_to(url: str | None) -> Connect:
    """Return a function that makes the client of an agent without authentication."""
    Mq9Client(url)  # a wrong URL fails now
    return lambda _agent: Mq9Client(url)


@dataclass(slots=True)
class _Agent:
    identity: Identity
    client: Mq9Client
    keeper: LeaseKeeper
    deliveries: DeliveryMemory = field(default_factory=DeliveryMemory)
    conversations: Conversations = field(default_factory=Conversations)
    busy: int = 0

    async def close(self) -> None:
        """Give back its leases, and close its connection."""
        if not self.client.is_connected:
            return
        try:
            await in_time(self.client.clock, _GIVE_BACK_TIMEOUT_S, self.keeper.give_back())
        except TimeoutError:
            _logger.warning("what %s holds could not be given back in time", self.identity.name)
        await self.client.close()


class Callers:
    """The agents of one server, each with one connection, made when it is first needed.

    Args:
        connect: Makes the client of an agent, not yet connected.
        settings: What the agents may do.
        agent: The agent of requests without a bearer token; None where each needs one.
        mail_address: The mailbox of that agent; the slug of its name when not given.
        working_directory: Where this process was started, if the agent is to be named after the
            host and the project of the first request.
        clock: Measures how long that host takes to name its project; the machine's when not given.

    Attributes:
        default: The agent of requests without a bearer token.

    Raises:
        InvalidRequest: The agent's name or mailbox is not one, or the name has no slug.
    """

    def __init__(
        self,
        connect: Connect,
        settings: Settings,
        *,
        agent: str | None = None,
        mail_address: str | None = None,
        working_directory: WorkingDirectory | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._tools = settings.names
        self.default = None if agent is None else settings.identity(agent, mail_address)
        self._instance = secrets.token_hex(4)  # of this process, as its consumers are named
        self._agents: OrderedDict[str, _Agent] = OrderedDict()
        self._working_directory = working_directory
        self._clock = clock or SystemClock()
        self._naming = asyncio.Lock()
        self._has_ended = False

    @property
    def in_work(self) -> int:
        """The number of requests of all agents in work."""
        return sum(agent.busy for agent in self._agents.values())

    async def name_default(self, context: Context) -> None:
        """Name the agent after the host of a request, unless it has a name."""
        if self.default is not None or self._working_directory is None:
            return
        async with self._naming:
            if self.default is None:
                host = _host(context)
                project = await _root(context, self._clock) or self._working_directory.project
                self.default = self._settings.identity(name_of(host, project))

    def agent_name(self) -> str | None:
        """Return the name of the agent of the present message; None without one.

        It is empty for the agent of requests without a bearer token.
        """
        token = get_access_token()
        if token is not None:
            return token.subject or token.client_id
        is_known = self.default is not None or self._working_directory is not None
        return "" if is_known else None

    def identity(self) -> Identity:
        """Return the agent that makes the request in work.

        Raises:
            Unauthorized: It has no bearer token, and no agent is set for that.
            InvalidRequest: The token names an agent that cannot be one.
        """
        token = get_access_token()
        if token is None:
            if self.default is None:
                raise Unauthorized("a bearer token is needed, which says who asks")
            return self.default
        name = token.subject or token.client_id
        known = self._agents.get(name)
        return self._settings.identity(name) if known is None else known.identity

    @asynccontextmanager
    async def calling(self, context: Context) -> AsyncIterator[Caller]:
        """Return the caller of the operations that a request needs, connected, while inside.

        Raises:
            OperationError: The agent is not known, or no broker answers.
        """
        try:
            agent, evicted = self._agent()
        except Mq9Error as error:
            raise OperationError(f"{error}. Tell the user.", error.code) from error
        agent.busy += 1
        try:
            if evicted is not None:
                await evicted.close()
            try:
                await agent.client.open()
            except Exception as error:  # a model can only report any error to its user
                raise unreachable(error) from error
            session = self._session(context)
            consumer = f"{agent.identity.name}/{session or _WITHOUT_SESSION}"
            keeper = self._keeper(context, agent, consumer) if session else None
            yield Caller(
                client=agent.client,
                consumer=consumer,
                identity=agent.identity,
                lease_ms=self._settings.lease_ms
                if keeper is not None or self._settings.unrenewed_lease_ms is None
                else self._settings.unrenewed_lease_ms,
                max_wait_s=self._settings.wait_of(_host(context)),
                stranger_claims=self._settings.stranger_claims,
                max_chars=self._settings.max_chars,
                tools=self._tools,
                read_only=self._settings.read_only,
                registration_ttl=self._settings.registration_ttl,
                # Some clients open a session for each call.
                deliveries=agent.deliveries.of(session, and_others=True),
                leases=keeper,
                conversations=agent.conversations,
            )
        finally:
            agent.busy -= 1

    async def open_default(self) -> tuple[Identity, Mq9Client]:
        """Return the agent of requests without a bearer token, and its client, connected.

        Raises:
            Mq9Error: It has no name yet, the broker cannot be reached, or the server has ended.
        """
        if self._has_ended:
            raise NotConnected("the server has ended")
        agent, _ = self._agent()
        await agent.client.open()
        return agent.identity, agent.client

    def connect_default(self) -> tuple[Identity, Mq9Client]:
        """Return the agent of requests without a bearer token, and a client for the caller alone.

        It is not connected yet, and outlives the connections of the agents.

        Raises:
            Unauthorized: The agent has no name yet.
        """
        identity = self.identity()
        return identity, self._connect(identity.name)

    async def make_mailboxes(self, agents: Iterable[str]) -> None:
        """Make the mailboxes of agents that may not have called yet, so that they can get mail.

        Raises:
            Mq9Error: The broker cannot be reached.
        """
        for name in agents:
            address = self._settings.identity(name).mail_address
            async with self._connect(name) as client:
                try:
                    await client.mailbox_create(name=address, renew=True)
                except Forbidden as error:
                    _logger.warning("%s cannot have its mailbox: %s", name, error)

    async def end_unless(self, agents: Container[str]) -> None:
        """Close the connections of all agents but these, which gives their leases back."""
        gone = [name for name in self._agents if name not in agents]
        for agent in [self._agents.pop(name) for name in gone]:
            await agent.close()

    async def close(self) -> None:
        """Close all connections. Agents that call later are connected again, but not for hooks."""
        self._has_ended = True
        agents = list(self._agents.values())
        self._agents.clear()
        with anyio.CancelScope(shield=True):  # the server may have been cancelled, too
            for agent in agents:
                await agent.close()

    def _agent(self) -> tuple[_Agent, _Agent | None]:
        """Return the agent that calls, and another one to close so that no more are connected."""
        identity = self.identity()
        found = self._agents.get(identity.name)
        if found is not None:
            self._agents.move_to_end(identity.name)
            return found, None
        evicted = None
        if len(self._agents) >= MAX_AGENTS:
            evicted = next((one for one in self._agents.values() if not one.busy), None)
            if evicted is None:
                raise LimitReached(f"{MAX_AGENTS} agents are connected, and all of them are busy")
            del self._agents[evicted.identity.name]
        client = self._connect(identity.name)
        keeper = LeaseKeeper(client, self._settings.lease_ms, self._settings.keep_ms)
        agent = self._agents[identity.name] = _Agent(identity, client, keeper)
        return agent, evicted

    def _keeper(self, context: Context, agent: _Agent, consumer: str) -> LeaseKeeper | None:
        """Return what renews the leases of a session; None where leases are not renewed."""
        if not self._settings.keep_ms:
            return None
        if isinstance(context.request, Request):
            connection: Connection = context.session._connection  # noqa: SLF001  # it is not public
            if consumer not in connection.state.setdefault(_STATE, set()):
                connection.state[_STATE].add(consumer)
                connection.exit_stack.callback(agent.keeper.end, consumer)
        return agent.keeper

    def _session(self, context: Context) -> str:
        """Return the session that a request belongs to; all without one are one consumer."""
        if not isinstance(context.request, Request):
            return self._instance
        return context.request.headers.get(_SESSION, "")[:_SESSION_CHARS]


_BEFORE_INITIALIZED = frozenset({"initialize", "ping"})


class OwnMailboxes:
    """Makes the mailbox of the agent that a message comes from, in the background.

    It is a middleware of the server. The first message of a host that is more than a greeting, such
    as ``notifications/initialized``, has the mailbox made. Where that fails it is logged, and the
    next message tries again. No answer waits for it.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._made: dict[str, None] = {}  # agents, the last one newest
        self._making: dict[str, asyncio.Task[None]] = {}

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Handle a message."""
        if ctx.method not in _BEFORE_INITIALIZED:
            self._begin(ctx)
        return await call_next(ctx)

    def _begin(self, context: ServerRequestContext[Any, Any]) -> None:
        agent = self._callers.agent_name()
        if agent is None or agent in self._made or agent in self._making:
            return
        making = self._making[agent] = asyncio.create_task(self._make(agent, context))
        making.add_done_callback(lambda _: self._making.pop(agent, None))

    async def _make(self, agent: str, context: ServerRequestContext[Any, Any]) -> None:
        try:
            await self._callers.name_default(context)
            async with self._callers.calling(context) as caller:
                await caller.ensure_mailbox()
        except (Mq9Error, OperationError) as error:
            _logger.warning("the agent's mailbox cannot be made yet: %s", error)
        except Exception:
            _logger.exception("the agent's mailbox could not be made")
        else:
            self._made[agent] = None
            if len(self._made) > MAX_AGENTS:
                del self._made[next(iter(self._made))]  # made again at its next message

    async def close(self) -> None:
        """Cancel the creation of mailboxes."""
        making = list(self._making.values())
        for one in making:
            one.cancel()
        if making:
            await asyncio.wait(making)
