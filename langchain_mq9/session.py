"""What the tools of one agent share: its identity, its limits, and what it fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict, TypeVar

from langchain_core.runnables import RunnableConfig

from langchain_mq9.calls import (
    Call,
    idempotency_id,
    send_hops,
    task_path,
    thread_of,
    worked_mailbox,
)
from langchain_mq9.connection import ToolConnection, toolkit_closed
from langchain_mq9.consumer_names import ConsumerNames
from langchain_mq9.langsmith_headers import run_headers
from langchain_mq9.threads import thread_mailbox, thread_step
from mq9 import ClientOptions, InvalidRequest, Mq9Client, NotConnected
from mq9.operations import OPERATIONS, Caller, Identity, Operation, OperationError, perform
from mq9.operations.ask import ask_agent
from mq9.operations.caller import PrivateMailbox, PrivateMailboxes
from mq9.operations.conversations import DEFAULT_MAX_HOPS, Conversations
from mq9.operations.execution import unreachable
from mq9.operations.identity import (
    DEFAULT_HOLD_S,
    DEFAULT_MAX_CHARS,
    DEFAULT_REGISTRATION_TTL_S,
    HIGHEST_MAX_CHARS,
)
from mq9.operations.leases import DeliveryMemory, LeaseKeeper
from mq9.operations.operation import Arguments, Result
from mq9.operations.tool_names import ToolNames
from mq9.protocol import checks, requests

R = TypeVar("R", bound=Result)
T = TypeVar("T")

Inbox = Literal["thread", "agent"]
_INBOXES = ("thread", "agent")


class SessionOptions(TypedDict, total=False):
    """Arguments of ``Session`` that a tool by itself takes; see there."""

    server: str | None
    agent: str | None
    mail_address: str | None
    allow_read: Sequence[str]
    allow_send: Sequence[str] | None
    lease_ms: int
    max_chars: int
    registration_ttl: int
    max_hops: int
    dead_letter: str | None
    inbox: Inbox
    hold: int
    client_options: ClientOptions | None


class Session:
    """An agent at a broker, shared by any number of tools.

    Usable from several threads and event loops at once.

    Args:
        server: See ``Mq9Client``.
        agent: The agent that the tools act as.
        mail_address: The agent's mailbox, when the slug of its name will not do.
        allow_read: Patterns of mailboxes that the agent may read beside its own.
        allow_send: Patterns of mailboxes that the agent may send to; None for all.
        lease_ms: How many milliseconds fetched messages stay leased, 1 000 to 86 400 000.
        max_chars: How many characters of message bodies one result may hold, at least 100.
        registration_ttl: After how many seconds of silence the agent's registration
            expires; 0 means never.
        max_hops: How many agents a conversation may have passed through, 1 to 63.
        dead_letter: The mailbox for messages whose conversation goes in a circle or too far; by
            default the agent's own with ``.dead`` behind it.
        hold: For how many seconds after it was fetched the lease of a message is renewed, while
            this process lives and the message is not dealt with; 0 for not at all.
        inbox: Where what a LangGraph thread sends is answered: in a private mailbox of the
            ``thread``, or in that of the ``agent``.
        client_options: Further arguments of ``Mq9Client``.
        tools: The names of the operations that the agent has tools for; all by default.
        connection: The connection of another session, to be used instead of one to ``server`` and
            left open when this session is closed.

    Raises:
        InvalidRequest: An argument is not what it must be.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        mail_address: str | None = None,
        allow_read: Sequence[str] = (),
        allow_send: Sequence[str] | None = None,
        lease_ms: int = 60_000,
        max_chars: int = DEFAULT_MAX_CHARS,
        registration_ttl: int = DEFAULT_REGISTRATION_TTL_S,
        max_hops: int = DEFAULT_MAX_HOPS,
        dead_letter: str | None = None,
        inbox: Inbox = "thread",
        hold: int = DEFAULT_HOLD_S,
        client_options: ClientOptions | None = None,
        tools: Iterable[str] | None = None,
        connection: ToolConnection | None = None,
    ) -> None:
        if allow_read and agent is None:
            raise InvalidRequest("allow_read: it extends what an agent may read; give the agent")
        if allow_send is not None and agent is None:
            raise InvalidRequest("allow_send: it limits where an agent may send; give the agent")
        if mail_address is not None and agent is None:
            raise InvalidRequest("mail_address: it is the mailbox of an agent; give the agent")
        names = [one.name for one in OPERATIONS] if tools is None else tools
        # A tool for asking is given only to who asks for it.
        self.tools = ToolNames({name: name for name in (*names, ask_agent.name)})
        self._identity = (
            None if agent is None else Identity(agent, allow_read, mail_address, allow_send)
        )
        self._lease_ms = checks.whole(1_000, requests.MAX_LEASE_MS)("lease_ms", lease_ms)
        self._max_chars = checks.whole(100, HIGHEST_MAX_CHARS)("max_chars", max_chars)
        self._registration_ttl = checks.whole(0, checks.MAX_SECONDS)(
            "registration_ttl", registration_ttl
        )
        if inbox not in _INBOXES:
            raise InvalidRequest(f"inbox: {inbox!r} is not one of {', '.join(_INBOXES)}")
        self._inbox: Inbox = inbox
        self._hold = checks.whole(0, checks.MAX_SECONDS)("hold", hold)
        self._keeper: LeaseKeeper | None = None  # of the latest client
        self._private = PrivateMailboxes(agent) if agent and inbox == "thread" else None
        self._owns_connection = connection is None
        self._connection = connection or ToolConnection(
            lambda: Mq9Client(server, **(client_options or ClientOptions()))
        )
        self._client: Mq9Client | None = None  # the latest one used
        self._closed = False
        self._deliveries = DeliveryMemory()
        self._conversations = Conversations(max_hops=max_hops, dead_letter=dead_letter)
        self._consumers = ConsumerNames(agent, self._run_ended)

    @property
    def agent(self) -> str | None:
        """The agent that the tools act as; None where they belong to none."""
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
            InvalidRequest: An argument is not what it must be.
        """
        return Session(
            agent=agent,
            mail_address=mail_address,
            allow_read=allow_read,
            allow_send=allow_send,
            lease_ms=self._lease_ms,
            max_chars=self._max_chars,
            registration_ttl=self._registration_ttl,
            max_hops=self._conversations.max_hops,
            inbox=self._inbox,
            hold=self._hold,
            tools=tools,
            connection=self._connection,
        )

    def perform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation and block until it is done."""
        work = self._perform(operation, arguments, self._call(config))
        try:
            return self._connection.call(work)
        except NotConnected as error:
            raise unreachable(error) from None

    async def aperform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation, awaited on any event loop."""
        call = self._call(config)
        client = await self._client_here(operation)
        if client is not None:
            return await self._perform_by(client, operation, arguments, call)
        try:
            return await self._connection.await_(self._perform(operation, arguments, call))
        except NotConnected as error:
            raise unreachable(error) from None

    def run(self, work: Callable[[Caller], Awaitable[T]], config: RunnableConfig) -> T:
        """Do some work as the agent, and block until it is done.

        Args:
            work: A coroutine function of the caller, for the connection's event loop.
            config: The configuration of the run that it is done in.

        Raises:
            NotConnected: The session is closed, or was closed during the work.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        return self._connection.call(self._run(work, self._call(config)))

    async def arun(self, work: Callable[[Caller], Awaitable[T]], config: RunnableConfig) -> T:
        """Do the same, awaited on any event loop."""
        return await self._connection.await_(self._run(work, self._call(config)))

    async def _run(self, work: Callable[[Caller], Awaitable[T]], call: Call) -> T:
        caller = self._caller(await self._connected(), call)
        return await work(replace(caller, reads_results=False))

    def unregister(self) -> None:
        """Take the agent out of the registry, and block until that is done.

        Raises:
            InvalidRequest: The tools belong to no agent.
            AgentNotFound: It is not registered.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        self._connection.call(self._unregister())

    async def aunregister(self) -> None:
        """Do the same, awaited on any event loop."""
        await self._connection.await_(self._unregister())

    async def _unregister(self) -> None:
        if self._identity is None:
            raise InvalidRequest("agent: these tools belong to no agent that could be unregistered")
        client = await self._connected()
        # By its name alone: somebody else may be registered at its mailbox, too.
        await client.agent_unregister(name=self._identity.name)

    def _call(self, config: RunnableConfig) -> Call:
        # The run of LangGraph, and that of LangSmith, are known on the caller's thread alone.
        consumer = self._consumers.current(config)
        return Call(
            consumer=consumer.name,
            run=consumer.run,
            thread_id=thread_of(config),
            idempotency_id=idempotency_id(config),
            headers=run_headers(),
            task=task_path(config),
            step=None if self.agent is None else thread_step(self.agent, config),
            send_hops=send_hops.get(),
            worked=worked_mailbox(config),
        )

    async def _perform(self, operation: Operation[Any, R], arguments: Arguments, call: Call) -> R:
        try:
            client = await self._connected()
        except Exception as error:
            raise unreachable(error) from error
        return await self._perform_by(client, operation, arguments, call)

    async def _client_here(self, operation: Operation[Any, Any]) -> Mq9Client | None:
        """Return a client with which the running event loop may perform an operation, if any.

        That spares two threads waking each other. Leases stay with the background loop, which
        renews them while no loop of the caller's runs.
        """
        if operation.leases or self._closed:
            return None
        try:
            return await self._connection.client_here(self._client)
        except Exception as error:
            raise unreachable(error) from error

    async def _perform_by(
        self, client: Mq9Client, operation: Operation[Any, R], arguments: Arguments, call: Call
    ) -> R:
        try:
            return await perform(operation, self._caller(client, call), arguments)
        except OperationError as error:
            if self._connection.is_closed:
                raise unreachable(toolkit_closed()) from error
            raise

    def _caller(self, client: Mq9Client, call: Call) -> Caller:
        return Caller(
            client=client,
            consumer=call.consumer,
            identity=self._identity,
            lease_ms=self._lease_ms,
            max_chars=self._max_chars,
            registration_ttl=self._registration_ttl,
            tools=self.tools,
            deliveries=self._deliveries.of(call.run),
            headers=call.headers,
            idempotency_id=call.idempotency_id,
            private=self._private_mailbox(call.thread_id),
            leases=self._keeper,
            conversations=self._conversations,
            task=call.task,
            step=call.step,
            send_hops=call.send_hops,
            has_worker=self._identity is not None and call.worked == self._identity.mail_address,
        )

    def _private_mailbox(self, thread_id: str | None) -> PrivateMailbox | None:
        if self._identity is None or self._private is None or thread_id is None:
            return None
        return self._private.at(thread_mailbox(self._identity.name, thread_id))

    def _run_ended(self, consumer: str) -> None:
        if self._keeper is not None:
            self._keeper.end(consumer)

    async def _connected(self) -> Mq9Client:
        if self._closed:
            raise toolkit_closed()
        client = await self._connection.client()
        if client is not self._client:
            self._keeper = LeaseKeeper(client, self._lease_ms, self._hold * 1000)
            if self._identity is not None:
                self._identity.has_mailbox = False
            if self._private is not None:
                self._private.forget()
            self._client = client  # last: from now on other event loops use it
        return client

    def close(self) -> None:
        """End the session, and the connection if it is its own. Harmless when repeated.

        What it holds is not given back, since its threads may be resumed in another process; the
        leases are no longer renewed.
        """
        self._closed = True
        if self._keeper is not None:
            self._keeper.stop()
        if self._owns_connection:
            self._connection.close()

    async def aclose(self) -> None:
        """End the session, and the connection if it is its own. Harmless when repeated."""
        try:
            await asyncio.to_thread(self.close)
        finally:
            if self._owns_connection:
                await self._connection.leave()

    def enter(self) -> None:
        """Let calls on the running event loop use a connection of its own, until ``aclose`` there.

        A broker in this process answers every loop, and so needs none.
        """
        if self._owns_connection:
            self._connection.enter()
