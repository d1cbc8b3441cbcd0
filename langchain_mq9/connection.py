"""One broker connection on a background event loop, for the tools of any number of agents."""

from __future__ import annotations

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

    A forked child connects anew. Usable from several threads and event loops at once.

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

    @property
    def client_of_any_loop(self) -> Mq9Client | None:
        """The client, where it is connected and any event loop may make requests with it."""
        self._forget_parents_client()
        client = self._client
        return client if client is not None and client.any_loop else None

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
