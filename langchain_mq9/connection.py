"""One broker connection on a background event loop, for the tools of any number of agents."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mq9 import Mq9Client, NotConnected
from mq9.concurrency.portal import Portal, Stopped

T = TypeVar("T")


def toolkit_closed() -> NotConnected:
    """Return the error of a call after the toolkit was closed."""
    return NotConnected("the toolkit is closed")


class ToolConnection:
    """A client on a background thread, connected when it is first used.

    An event loop that has entered has another one, which is closed there. A forked child connects
    anew. Usable from several threads and event loops at once.

    Args:
        make_client: Makes a client that is not connected yet.

    Attributes:
        is_closed: Whether it was closed.

    Raises:
        Mq9Error: No client can be made.
    """

    def __init__(self, make_client: Callable[[], Mq9Client]) -> None:
        make_client()  # so that a wrong argument is refused now, not during a run
        self._make_client = make_client
        self._portal = Portal("mq9-tools")
        self._client: Mq9Client | None = None
        self._own: dict[asyncio.AbstractEventLoop, Mq9Client] = {}  # of loops that entered
        self._process = os.getpid()
        self.is_closed = False

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop, and block until it is done.

        Raises:
            NotConnected: The connection is closed, or was closed during the call.
        """
        self._forget_parents_client()
        try:
            return self._portal.call(work)
        except Stopped:
            raise toolkit_closed() from None

    async def await_(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop, awaited on any other.

        Raises:
            NotConnected: The connection is closed, or was closed during the call.
        """
        self._forget_parents_client()
        try:
            return await self._portal.await_(work)
        except Stopped:
            raise toolkit_closed() from None

    async def client_here(self, known: Mq9Client | None) -> Mq9Client | None:
        """Return a client for the running event loop, connected.

        Args:
            known: The client that ``client`` returned last.

        Returns:
            None where this loop has none, or ``client`` would return another one now.

        Raises:
            Mq9Error: No broker can be reached.
        """
        self._forget_parents_client()
        if known is None or known is not self._client:
            return None
        if known.any_loop:
            return known
        own = self._own.get(asyncio.get_running_loop())
        return None if own is None else await own.connect()

    def enter(self) -> None:
        """Let the running event loop have a client of its own until ``leave``."""
        loop = asyncio.get_running_loop()
        if loop not in self._own:
            self._own[loop] = self._make_client()

    async def leave(self) -> None:
        """Close the client of the running event loop, if it has one. May be repeated."""
        own = self._own.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own.close()

    async def client(self) -> Mq9Client:
        """Return the client, connected; to be awaited on the background loop.

        Raises:
            NotConnected: The connection is closed.
            Mq9Error: No broker can be reached.
        """
        if self.is_closed:
            raise toolkit_closed()
        if self._client is None:
            # No await between these, so that all callers get the one client.
            self._client = self._make_client()
        client = self._client
        if not client.is_connected:
            await client.connect()
        return client

    def close(self) -> None:
        """Close the client and end the thread. May be repeated."""
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
        """In a forked child, forget the client, which is the parent's."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._client = None
