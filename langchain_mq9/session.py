"""What the tools of one agent share: its identity, its limits, and what it fetched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import get_runtime

from langchain_mq9.connection import ToolConnection
from langchain_mq9.runs import run_headers
from mq9 import ClientOptions, InvalidRequest, Mq9Client, NotConnected
from mq9.operations import OPERATIONS, Caller, Identity, Operation, OperationError, perform
from mq9.operations.arguments import Arguments
from mq9.operations.deliveries import DeliveryMemory
from mq9.operations.errors import unreachable
from mq9.operations.limits import DEFAULT_MAX_CHARS, DEFAULT_REGISTRATION_TTL_S, HIGHEST_MAX_CHARS
from mq9.operations.result import Result
from mq9.operations.tool_names import ToolNames
from mq9.protocol import checks, requests

R = TypeVar("R", bound=Result)
_LONGEST_CONSUMER = 200


class Session:
    """An agent at a broker, for any number of tools.

    Usable from several threads and event loops at once.

    Args:
        server: See ``Mq9Client``.
        agent: The agent that the tools act as.
        mail_address: The agent's mailbox, when the slug of its name will not do.
        allow_read: Patterns of mailboxes that the agent may read beside its own.
        allow_send: Patterns of mailboxes that the agent may send to; None for all.
        lease_ms: How long fetched messages stay leased, 1 000 to 86 400 000.
        max_chars: How many characters of message bodies one result may hold.
        registration_ttl: After how many seconds without a sign of life the agent's registration is
            gone; 0 means never.
        client_options: Further arguments of ``Mq9Client``.
        tools: The operations that the agent has tools for; all by default.
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
        self.tools = ToolNames({name: name for name in names})
        self.agent = agent
        self.identity = (
            None if agent is None else Identity(agent, allow_read, mail_address, allow_send)
        )
        self.lease_ms = checks.whole(1_000, requests.MAX_LEASE_MS)("lease_ms", lease_ms)
        self.max_chars = checks.whole(100, HIGHEST_MAX_CHARS)("max_chars", max_chars)
        self.registration_ttl = checks.whole(0, checks.MAX_SECONDS)(
            "registration_ttl", registration_ttl
        )
        self._owns_connection = connection is None
        self.connection = connection or ToolConnection(
            lambda: Mq9Client(server, **(client_options or ClientOptions()))
        )
        self._client: Mq9Client | None = None  # the latest one in use
        self._closed = False
        self._process = os.getpid()
        self._name = secrets.token_hex(4)
        self._deliveries = DeliveryMemory()
        self._runs: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def perform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation and block until it is done."""
        work = self._performing(operation, arguments, config)
        try:
            return self.connection.call(work)
        except NotConnected as error:
            raise unreachable(error) from None

    async def aperform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation, awaited on any event loop."""
        work = self._performing(operation, arguments, config)
        try:
            return await self.connection.await_(work)
        except NotConnected as error:
            raise unreachable(error) from None

    def unregister(self) -> None:
        """Take the agent out of the registry, and block until that is done.

        Raises:
            InvalidRequest: The tools belong to no agent.
            AgentNotFound: It is not registered.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        self.connection.call(self._unregister())

    async def aunregister(self) -> None:
        """Do the same, awaited on any event loop."""
        await self.connection.await_(self._unregister())

    async def _unregister(self) -> None:
        if self.identity is None:
            raise InvalidRequest("agent: these tools belong to no agent that could be unregistered")
        client = await self._connected()
        # By its name alone: somebody else may be registered at its mailbox, too.
        await client.agent_unregister(name=self.identity.name)

    def _performing(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> Coroutine[Any, Any, R]:
        """Return what performs an operation; who asks is told by where this is called."""
        return self._perform(operation, arguments, self.consumer(config), run_headers())

    async def _perform(
        self,
        operation: Operation[Any, R],
        arguments: Arguments,
        consumer: str,
        headers: Mapping[str, str],
    ) -> R:
        try:
            client = await self._connected()
        except Exception as error:
            raise unreachable(error) from error
        caller = Caller(
            client=client,
            consumer=consumer,
            identity=self.identity,
            lease_ms=self.lease_ms,
            max_chars=self.max_chars,
            registration_ttl=self.registration_ttl,
            tools=self.tools,
            deliveries=self._deliveries.of(consumer),
            headers=headers,
        )
        try:
            return await perform(operation, caller, arguments)
        except OperationError as error:
            if self.connection.is_closed:
                raise unreachable(ToolConnection.closed()) from error
            raise

    async def _connected(self) -> Mq9Client:
        if self._closed:
            raise ToolConnection.closed()
        client = await self.connection.client()
        if client is not self._client:
            self._client = client
            if self.identity is not None:
                self.identity.has_mailbox = False
        return client

    def consumer(self, config: RunnableConfig) -> str:
        """Return who fetches: the agent, and the LangGraph thread or run it fetches in.

        A run that is repeated in its thread is the same consumer and gets what it had not acked.
        """
        thread = config.get("configurable", {}).get("thread_id")
        run = self._run_name() if thread is None else str(thread)
        name = f"{self.agent or 'agent'}/{run}"
        if len(name) > _LONGEST_CONSUMER or not name.isprintable() or name != name.strip():
            digest = hashlib.sha256(run.encode("utf-8", "backslashreplace")).hexdigest()
            name = f"{self.agent or 'agent'}/{digest[:16]}"
        return name

    def _run_name(self) -> str:
        """Return a name for the graph run that is going on; outside of one, this session's."""
        try:
            # The stream writer is made anew for each run and is the same throughout it.
            run = getattr(get_runtime(), "stream_writer", None)
        except (RuntimeError, KeyError):
            run = None
        if run is None:
            if self._process != os.getpid():  # a forked child is another consumer
                self._process = os.getpid()
                self._name = secrets.token_hex(4)
            return self._name
        return self._runs.setdefault(run, f"run-{secrets.token_hex(4)}")

    def close(self) -> None:
        """End the session, and the connection if it is its own. Harmless when repeated."""
        self._closed = True
        if self._owns_connection:
            self.connection.close()

    async def aclose(self) -> None:
        """End the session, and the connection if it is its own. Harmless when repeated."""
        await asyncio.to_thread(self.close)
