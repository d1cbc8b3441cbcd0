"""What the tools of one toolkit share: a connection, an identity, a thread to run on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import get_runtime

from langchain_mq9.portal import Portal
from mq9 import InvalidRequest, Mq9Client, Mq9Error, NotConnected
from mq9.operations import Caller, Identity, Operation, perform
from mq9.operations.caller import MAX_CHARS
from mq9.operations.operation import Arguments, Result, explained

R = TypeVar("R", bound=Result)
_LONGEST_CONSUMER = 200


class Session:
    """One connection to a broker, made when it is first needed, for any number of tools.

    Usable from several threads and event loops at once.

    Args:
        server: See ``Mq9Client``.
        agent: The agent that the tools act as.
        allow_read: Patterns of mailboxes that the agent may read beside its own.
        lease_ms: How long fetched messages stay leased, 1 000 to 86 400 000.
        max_chars: How many characters of message bodies one result may hold.
        client_options: Further arguments of ``Mq9Client``.

    Raises:
        InvalidRequest: An argument is not what it must be.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        allow_read: Sequence[str] = (),
        lease_ms: int = 60_000,
        max_chars: int = MAX_CHARS,
        client_options: dict[str, Any] | None = None,
    ) -> None:
        if allow_read and agent is None:
            raise InvalidRequest("allow_read: it extends what an agent may read; give the agent")
        if not 1_000 <= lease_ms <= 86_400_000:
            raise InvalidRequest(f"lease_ms: {lease_ms} is not between 1000 and 86400000")
        if max_chars < 100:
            raise InvalidRequest(f"max_chars: {max_chars} is less than 100")
        self.agent = agent
        self.identity = None if agent is None else Identity(agent, allow_read)
        self._make_client: Callable[[], Mq9Client] = lambda: Mq9Client(
            server, **(client_options or {})
        )
        self._make_client()  # a wrong argument is told now, not in the middle of a run
        self._lease_ms = lease_ms
        self._max_chars = max_chars
        self._portal = Portal()
        self._client: Mq9Client | None = None
        self._closed = False
        self._name = secrets.token_hex(4)
        self._runs: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def perform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation and block until it is done."""
        return self._portal.call(self._perform(operation, arguments, self.consumer(config)))

    async def aperform(
        self, operation: Operation[Any, R], arguments: Arguments, config: RunnableConfig
    ) -> R:
        """Perform an operation, awaited on any event loop."""
        return await self._portal.await_(self._perform(operation, arguments, self.consumer(config)))

    async def _perform(
        self, operation: Operation[Any, R], arguments: Arguments, consumer: str
    ) -> R:
        try:
            client = await self._connected()
        except Mq9Error as error:
            raise explained(error) from error
        caller = Caller(client, consumer, self.identity, self._lease_ms, self._max_chars)
        return await perform(operation, caller, arguments)

    async def _connected(self) -> Mq9Client:
        if self._closed:
            raise NotConnected("the toolkit is closed")
        if self._client is None:
            # No await between these, so that all callers get the one client.
            self._client = self._make_client()
        if not self._client.is_connected:
            await self._client.connect()
        return self._client

    def consumer(self, config: RunnableConfig) -> str:
        """Return who fetches: the agent, and the LangGraph thread or run it fetches in.

        A run that is repeated in its thread is the same consumer and gets what it had not acked.
        """
        thread = config.get("configurable", {}).get("thread_id")
        run = self._run_name() if thread is None else str(thread)
        name = f"{self.agent or 'agent'}/{run}"
        if len(name) > _LONGEST_CONSUMER or not name.isprintable() or name != name.strip():
            name = f"{self.agent or 'agent'}/{hashlib.sha256(run.encode()).hexdigest()[:16]}"
        return name

    def _run_name(self) -> str:
        """Return a name for the graph run that is going on; outside of one, this session's."""
        try:
            # The stream writer is made anew for each run and is the same throughout it.
            run = getattr(get_runtime(), "stream_writer", None)
        except (RuntimeError, KeyError):
            run = None
        if run is None:
            return self._name
        return self._runs.setdefault(run, f"run-{secrets.token_hex(4)}")

    def close(self) -> None:
        """Let go of the connection and the thread. Harmless when repeated."""
        if self._client is not None and self._portal.process == os.getpid():
            self._portal.call(self._close())
        self._closed = True
        self._portal.stop()

    async def aclose(self) -> None:
        """Let go of the connection and the thread. Harmless when repeated."""
        await asyncio.to_thread(self.close)

    def _close(self) -> Coroutine[Any, Any, None]:
        client, self._client = self._client, None
        return client.close() if client is not None else asyncio.sleep(0)
