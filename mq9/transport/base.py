"""The interface of all transports."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from mq9.clock import Clock
from mq9.protocol.body import Body
from mq9.protocol.outcomes import Reply

R = TypeVar("R")


class Transport(Protocol):
    """Takes requests to one broker."""

    @property
    def any_loop(self) -> bool:
        """Whether requests may be made on any event loop, and not on one alone."""

    @property
    def clock(self) -> Clock:
        """The clock that the broker lives by."""

    async def request(
        self,
        asked: Body[R],
        mail_address: str,
        payload: bytes | None,
        unread_of: tuple[str, str] | None,
        timeout: float,
    ) -> Reply[R]:
        """Make a request and return its reply.

        Args:
            asked: The request; it is valid.
            mail_address: The mailbox; "" for none.
            payload: The payload, if it is more than the request: the message of a SEND, the card of
                a REGISTER.
            unread_of: The mailbox and group whose unread mail to count, if any.
            timeout: Seconds to wait for the reply.

        Raises:
            Mq9Error: As the broker answered.
            OutcomeUnknown: No reply came.
            NotConnected: Nothing was sent.
        """

    async def abandon(self, asked: Body[Any], mail_address: str) -> None:
        """Take back a request whose caller was cancelled, where the broker cannot see that.

        Needs no reply, does not wait, and does nothing when there is no connection.

        Args:
            asked: What takes it back.
            mail_address: Of which mailbox.
        """

    async def close(self) -> None:
        """Let go of the broker. Harmless when repeated."""
