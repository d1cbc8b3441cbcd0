"""What every transport does."""

from __future__ import annotations

from typing import Protocol

from mq9.clock import Clock
from mq9.protocol.headers import Headers


class Transport(Protocol):
    """Takes requests to one broker."""

    @property
    def any_loop(self) -> bool:
        """Whether requests may be made on any event loop, and not on one alone."""

    @property
    def clock(self) -> Clock:
        """The clock that the broker lives by."""

    async def request(
        self, subject: str, payload: bytes, headers: Headers, timeout: float
    ) -> bytes:
        """Send a request and return its reply.

        Args:
            subject: The verb and its mailbox.
            payload: The JSON, or the body of a SEND.
            headers: Name and value of each.
            timeout: How many seconds to wait for the reply.

        Raises:
            OutcomeUnknown: No reply came.
            NotConnected: Nothing was sent.
        """

    async def abandon(self, subject: str, payload: bytes) -> None:
        """Take back a request whose caller was cancelled, where the broker cannot see that.

        Needs no reply, does not wait, and does nothing when there is no connection.
        """

    async def close(self) -> None:
        """Let go of the broker. Harmless when repeated."""
