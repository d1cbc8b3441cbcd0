"""The identity, limits and connection of one agent's tools."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict, TypeVar, Unpack

from langchain_core.runnables import RunnableConfig

from langchain_mq9.calls import (
    ConsumerNames,
    idempotency_id,
    run_headers,
    send_hops,
    task_of,
    thread_mailbox,
    thread_of,
    thread_step,
    worked_mailbox,
)
from mq9 import ClientOptions, InvalidRequest, Mq9Client, NotConnected
from mq9.client.consumer import Option, checked_as, takes
from mq9.concurrency.portal import Portal, Stopped
from mq9.operations.ask import ask_agent
from mq9.operations.caller import Caller, PrivateMailbox, description
from mq9.operations.catalog import OPERATIONS
from mq9.operations.conversations import DEFAULT_MAX_HOPS, Conversations
from mq9.operations.execution import OperationError, perform, unreachable
from mq9.operations.identity import (
    DEFAULT_HOLD_S,
    DEFAULT_MAX_CHARS,
    DEFAULT_REGISTRATION_TTL_S,
    DEFAULT_STRANGER_CLAIMS,
    HIGHEST_MAX_CHARS,
    Identity,
)
from mq9.operations.leases import DeliveryMemory, LeaseKeeper
from mq9.operations.operation import Arguments, Operation, Result
from mq9.operations.tool_names import ToolNames
from mq9.protocol import checks, requests


def _toolkit_closed() -> NotConnected:
    return NotConnected("the toolkit is closed")


class ToolConnection:
    """A client on a background thread. It connects on first use.

    An event loop that has entered has a client of its own, which it must leave. A forked child
    connects again. Usable from several threads and event loops at once.
    """

    def __init__(self, make_client: Callable[[], Mq9Client]) -> None:
        make_client()  # refuses a wrong argument now instead of during a run
        self._make_client = make_client
        self._portal = Portal("mq9-tools")
        self._client: Mq9Client | None = None
        self._own: dict[asyncio.AbstractEventLoop, Mq9Client] = {}  # of loops that entered
        self._process = os.getpid()
        self.is_closed = False

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop, and block. After ``close``: ``NotConnected``."""
        self._forget_parents_client()
        try:
            return self._portal.call(work)
        except Stopped:
            raise _toolkit_closed() from None

    async def await_(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop, awaited on any other loop."""
        self._forget_parents_client()
        try:
            return await self._portal.await_(work)
        except Stopped:
            raise _toolkit_closed() from None

    async def client_here(self, known: Mq9Client | None) -> Mq9Client | None:
        """Return a connected client for the running event loop.

        None if this loop has none, or if ``client`` would now return another client than ``known``.
        """
        self._forget_parents_client()
        if known is None or known is not self._client:
            return None
        if known.any_loop:
            return known
        own = self._own.get(asyncio.get_running_loop())
        return None if own is None else await own.open()

    def enter(self) -> None:
        """Give the running event loop a client of its own until ``leave``."""
        loop = asyncio.get_running_loop()
        if loop not in self._own:
            self._own[loop] = self._make_client()

    async def leave(self) -> None:
        """Close the client of the running event loop, if it has one. You may repeat this."""
        own = self._own.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own.close()

    async def client(self) -> Mq9Client:
        """Return the connected client. Await this on the background loop."""
        if self.is_closed:
            raise _toolkit_closed()
        if self._client is None:
            # No await between these, so that all callers get the same client.
            self._client = self._make_client()
        client = self._client
        if not client.is_connected:
            await client.open()
        return client

    def close(self) -> None:
        """Close the client and end the thread. You may repeat this."""
        self._forget_parents_client()
        self.is_closed = True
        try:
            if self._client is not None:
                self._portal.call(self._close())
        except Stopped:
            pass  # another thread has closed it
        finally:
            self._portal.stop()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _forget_parents_client(self) -> None:
        """In a forked child, forget the client: it belongs to the parent."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._client = None


R = TypeVar("R", bound=Result)
T = TypeVar("T")

Inbox = Literal["thread", "agent"]
_INBOXES = ("thread", "agent")
_MOST_THREADS = 10_000  # threads whose mailboxes are remembered


class PrivateMailboxes:
    """The private mailboxes of an agent's threads. Usable from several threads."""

    def __init__(self, agent: str) -> None:
        self._desc = description(agent)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, PrivateMailbox] = OrderedDict()

    def at(self, mail_address: str) -> PrivateMailbox:
        """Return the private mailbox with an address."""
        with self._lock:
            found = self._known.get(mail_address)
            if found is None:
                found = self._known[mail_address] = PrivateMailbox(mail_address, self._desc)
                if len(self._known) > _MOST_THREADS:
                    self._known.popitem(last=False)
            self._known.move_to_end(mail_address)
            return found

    def forget(self) -> None:
        """Assume that no private mailbox exists, for example on another connection."""
        with self._lock:
            self._known.clear()


def _inbox(name: str, value: Any) -> Any:
    if value not in _INBOXES:
        raise InvalidRequest(f"{name}: {value!r} is not one of {', '.join(_INBOXES)}")
    return value


def _unchecked(_name: str, value: Any) -> Any:  # until it is used
    return value


class AgentOptions(TypedDict, total=False):
    """The options of an agent's tools.

    Attributes:
        mail_address: The agent's mailbox. Default: the slug of its name.
        allow_read: Patterns of further mailboxes that the agent may read, such as ``team.*``.
            Default: none.
        allow_send: Patterns of mailboxes that the agent may send to. Default: all.
        lease_ms: Milliseconds until the leases of fetched messages end, 1 000 to 86 400 000.
            Default: 60 000.
        max_chars: Maximum characters of message bodies in one result, at least 100. Default:
            20 000.
        registration_ttl: Seconds of silence after which the agent's registration expires. 0 means
            never. Default: 30 days.
        max_hops: Maximum number of agents in the path of a conversation, 1 to 63. Default: 32.
        dead_letter: The mailbox for messages of conversations that loop or exceed ``max_hops``.
            Default: the agent's own with the suffix ``.dead``.
        inbox: With ``"thread"``, answers to a LangGraph thread go to its private mailbox. The
            thread fetches from there first. With ``"agent"``, threads share the agent's mailbox.
            Default: ``"thread"``.
        stranger_claims: Maximum number of messages of an unknown sender that count as urgent or
            critical in one result. Default: 3.
        hold: Seconds after a fetch in which this process renews the lease of an unfinished message.
            0 means no renewal. Default: an hour.
    """

    mail_address: Annotated[str | None, Option(None, _unchecked)]
    allow_read: Annotated[Sequence[str], Option((), _unchecked)]
    allow_send: Annotated[Sequence[str] | None, Option(None, _unchecked)]
    lease_ms: Annotated[int, Option(60_000, checks.whole(1_000, requests.MAX_LEASE_MS))]
    max_chars: Annotated[int, Option(DEFAULT_MAX_CHARS, checks.whole(100, HIGHEST_MAX_CHARS))]
    registration_ttl: Annotated[
        int, Option(DEFAULT_REGISTRATION_TTL_S, checks.whole(0, checks.MAX_SECONDS))
    ]
    max_hops: Annotated[int, Option(DEFAULT_MAX_HOPS, _unchecked)]
    dead_letter: Annotated[str | None, Option(None, _unchecked)]
    stranger_claims: Annotated[int, Option(DEFAULT_STRANGER_CLAIMS, checks.whole(0, 1_000))]
    inbox: Annotated[Inbox, Option("thread", _inbox)]
    hold: Annotated[int, Option(DEFAULT_HOLD_S, checks.whole(0, checks.MAX_SECONDS))]


class SessionOptions(AgentOptions, total=False):
    """Arguments of ``Session`` for a single tool."""

    server: str | None
    agent: str | None
    client_options: ClientOptions | None


class Session:
    """An agent at a broker. Any number of tools can share it.

    Usable from several threads and event loops at once.

    Args:
        server: See ``Mq9Client``.
        agent: The agent of the tools. Default: none.
        client_options: Further arguments of ``Mq9Client``.
        tools: The names of the operations that the agent has tools for. Default: all.
        connection: The connection of another session, instead of one to ``server``. Closing this
            session leaves it open.
        options: The rights and limits of the tools; see ``AgentOptions``.

    Raises:
        InvalidRequest: An argument is invalid.
    """

    @takes(AgentOptions)
    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        client_options: ClientOptions | None = None,
        tools: Iterable[str] | None = None,
        connection: ToolConnection | None = None,
        **options: Unpack[AgentOptions],
    ) -> None:
        known: Any = checked_as(AgentOptions, options, "Session")
        allow_read, allow_send = known["allow_read"], known["allow_send"]
        if allow_read and agent is None:
            raise InvalidRequest("allow_read: it extends what an agent may read; give the agent")
        if allow_send is not None and agent is None:
            raise InvalidRequest("allow_send: it limits where an agent may send; give the agent")
        if known["mail_address"] is not None and agent is None:
            raise InvalidRequest("mail_address: it is the mailbox of an agent; give the agent")
        names = [one.name for one in OPERATIONS] if tools is None else tools
        # A tool for asking is included only on request.
        self.tools = ToolNames({name: name for name in (*names, ask_agent.name)})
        self._options: AgentOptions = known
        self._identity = (
            None
            if agent is None
            else Identity(agent, allow_read, known["mail_address"], allow_send)
        )
        self._keeper: LeaseKeeper | None = None  # of the latest client
        self._private = PrivateMailboxes(agent) if agent and known["inbox"] == "thread" else None
        self._owns_connection = connection is None
        self._connection = connection or ToolConnection(
            lambda: Mq9Client(server, **(client_options or ClientOptions()))
        )
        self._client: Mq9Client | None = None  # the latest one used
        self._closed = False
        self._deliveries = DeliveryMemory()
        self._conversations = Conversations(
            max_hops=known["max_hops"], dead_letter=known["dead_letter"]
        )
        self._consumers = ConsumerNames(agent, self._run_ended)

    @property
    def agent(self) -> str | None:
        """The agent of the tools. None without an agent."""
        return None if self._identity is None else self._identity.name

    def for_agent(
        self,
        agent: str,
        *,
        mail_address: str | None = None,
        allow_read: Sequence[str] = (),
        allow_send: Sequence[str] | None = None,
        tools: Iterable[str] | None = None,
    ) -> Session:
        """Return a session of another agent, with the same limits, on the same connection.

        For the arguments see ``Session``.

        Raises:
            InvalidRequest: An argument is invalid.
        """
        options: Any = {
            **self._options,
            "mail_address": mail_address,
            "allow_read": allow_read,
            "allow_send": allow_send,
            "dead_letter": None,
        }
        return Session(agent=agent, tools=tools, connection=self._connection, **options)

    def perform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation, and block until it is done.

        Args:
            operation: The operation, out of ``mq9.operations``.
            arguments: Its arguments.
            config: The configuration of the LangChain run that calls it.

        Returns:
            The result of the operation.

        Raises:
            Mq9Error: The broker refuses the request, or is out of reach.
        """
        work = self._perform(operation, arguments, self._caller(config))
        try:
            return self._connection.call(work)
        except NotConnected as error:
            raise unreachable(error) from None

    async def aperform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation, awaited on any event loop; see ``perform``."""
        caller = self._caller(config)
        client = await self._client_here(operation, arguments)
        work = self._perform(operation, arguments, caller, client)
        try:
            return await (work if client is not None else self._connection.await_(work))
        except NotConnected as error:
            raise unreachable(error) from None

    def run(self, work: Callable[[Caller], Awaitable[T]], config: RunnableConfig) -> T:
        """Call ``work`` as the agent, and block until it is done.

        Args:
            work: A coroutine function, called with the agent's access to the broker.
            config: The configuration of the LangChain run that calls it.

        Returns:
            The result of ``work``.

        Raises:
            NotConnected: The session is closed, or was closed during the work.
            Mq9Error: The broker refuses the request, or is out of reach.
        """
        return self._connection.call(self._run(work, self._caller(config)))

    async def arun(self, work: Callable[[Caller], Awaitable[T]], config: RunnableConfig) -> T:
        """Call ``work`` as the agent, awaited on any event loop; see ``run``."""
        return await self._connection.await_(self._run(work, self._caller(config)))

    async def _run(
        self, work: Callable[[Caller], Awaitable[T]], caller: Callable[[Mq9Client], Caller]
    ) -> T:
        return await work(replace(caller(await self._connected()), reads_results=False))

    def unregister(self) -> None:
        """Remove the agent from the registry, and block until that is done.

        Raises:
            InvalidRequest: The tools have no agent.
            AgentNotFound: The agent is not registered.
            Mq9Error: The broker refuses the request, or is out of reach.
        """
        self._connection.call(self._unregister())

    async def aunregister(self) -> None:
        """Remove the agent from the registry, from async code; see ``unregister``."""
        await self._connection.await_(self._unregister())

    async def _unregister(self) -> None:
        if self._identity is None:
            raise InvalidRequest("agent: these tools belong to no agent that could be unregistered")
        client = await self._connected()
        # Only by its name: another agent may also be registered at its mailbox.
        await client.agent_unregister(name=self._identity.name)

    def _caller(self, config: RunnableConfig) -> Callable[[Mq9Client], Caller]:
        """Return a function that creates the caller of a configuration for a client."""
        # Only the caller's thread knows the runs of LangGraph and LangSmith.
        consumer, run = self._consumers.current(config)
        thread, identity = thread_of(config), self._identity
        known: dict[str, Any] = {
            "consumer": consumer,
            "identity": identity,
            "lease_ms": self._options["lease_ms"],
            "max_chars": self._options["max_chars"],
            "stranger_claims": self._options["stranger_claims"],
            "registration_ttl": self._options["registration_ttl"],
            "tools": self.tools,
            "headers": run_headers(),
            "idempotency_id": idempotency_id(config),
            "conversations": self._conversations,
            "task": task_of(config),
            "step": None if identity is None else thread_step(identity.name, config),
            "send_hops": send_hops.get(),
            "has_worker": identity is not None and worked_mailbox(config) == identity.mail_address,
        }

        def caller(client: Mq9Client) -> Caller:
            private = None
            if identity is not None and self._private is not None and thread is not None:
                private = self._private.at(thread_mailbox(identity.name, thread))
            deliveries = self._deliveries.of(run)
            return Caller(
                client, deliveries=deliveries, private=private, leases=self._keeper, **known
            )

        return caller

    async def _perform(
        self,
        operation: Operation[Any, R],
        arguments: Arguments,
        caller: Callable[[Mq9Client], Caller],
        client: Mq9Client | None = None,
    ) -> R:
        if client is None:
            try:
                client = await self._connected()
            except Exception as error:
                raise unreachable(error) from error
        called_by = caller(client)
        try:
            result = await perform(operation, called_by, arguments)
        except OperationError as error:
            if self._connection.is_closed:
                raise unreachable(_toolkit_closed()) from error
            raise
        called_by.answered()
        return result

    async def _client_here(
        self, operation: Operation[Any, Any], arguments: Arguments
    ) -> Mq9Client | None:
        """Return a client for an operation on the running event loop, or None.

        Such a client avoids a switch between two threads. Operations on leases stay on the
        background loop, which renews leases while none of the caller's loops runs.
        """
        if operation.uses_leases(arguments) or self._closed:
            return None
        try:
            return await self._connection.client_here(self._client)
        except Exception as error:
            raise unreachable(error) from error

    def _run_ended(self, consumer: str) -> None:
        if self._keeper is not None:
            self._keeper.end(consumer)

    async def _connected(self) -> Mq9Client:
        if self._closed:
            raise _toolkit_closed()
        client = await self._connection.client()
        if client is not self._client:
            self._keeper = LeaseKeeper(
                client, self._options["lease_ms"], self._options["hold"] * 1000
            )
            if self._identity is not None:
                self._identity.has_mailbox = False
            if self._private is not None:
                self._private.forget()
            self._client = client  # last, because other event loops use it from now on
        return client

    def close(self) -> None:
        """End the session, and its own connection if it has one. You may repeat this.

        It gives no messages back, because its threads may resume in another process. It stops
        renewing their leases.
        """
        self._closed = True
        if self._keeper is not None:
            self._keeper.stop()
        if self._owns_connection:
            self._connection.close()

    async def aclose(self) -> None:
        """End the session from async code; see ``close``."""
        try:
            await asyncio.to_thread(self.close)
        finally:
            if self._owns_connection:
                await self._connection.leave()

    def enter(self) -> None:
        """Give calls on the running event loop a connection of its own, until ``aclose``."""
        if self._owns_connection:
            self._connection.enter()
