"""The transport to a broker inside this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from mq9.broker.asked import BrokerSession, LocalRequest
from mq9.broker.embedded import Broker
from mq9.clock import Clock
from mq9.concurrency.deadlines import Deadlines
from mq9.errors import Mq9Error, NotConnected, OutcomeUnknown
from mq9.protocol import subjects
from mq9.protocol.body import Body
from mq9.protocol.outcomes import Reply

R = TypeVar("R")


class DirectTransport:
    """Hands requests to an embedded broker, on any event loop."""

    any_loop = True

    def __init__(
        self,
        broker: Broker,
        session: BrokerSession,
        release: Callable[[], Awaitable[None]] | None = None,  # None: it outlives the transport
        name: str | None = None,  # the URL of the broker, for errors
    ) -> None:
        self._broker: Broker | None = broker
        self._session = session
        self._release = release
        self._name = name
        self._process = os.getpid()
        self._waiting: dict[asyncio.AbstractEventLoop, Deadlines] = {}
        self.clock: Clock = broker.clock

    async def request(
        self,
        asked: Body[R],
        mail_address: str,
        payload: bytes | None,
        unread_of: tuple[str, str] | None,
        timeout: float,
    ) -> Reply[R]:
        """Hand over a request and return its reply."""
        broker = self._broker
        if broker is None:
            raise NotConnected("the client is closed")
        if os.getpid() != self._process:
            raise NotConnected("the process was forked; connect a new client in the child")
        request = LocalRequest(asked, mail_address, payload or b"", self._session, unread_of)
        try:
            with self._deadlines().within(timeout):
                return await broker.carry_out(request)
        except Mq9Error as error:
            error.broker = self._name
            raise
        except TimeoutError:
            subject = subjects.encode(type(asked), mail_address, asked.subject_msg_id)
            raise self._no_reply(subject, timeout) from None

    def _deadlines(self) -> Deadlines:
        """Return the deadlines of the event loop that runs."""
        loop = asyncio.get_running_loop()
        deadlines = self._waiting.get(loop)
        if deadlines is None:
            for other in [one for one in list(self._waiting) if one.is_closed()]:
                self._waiting.pop(other, None)
            deadlines = self._waiting[loop] = Deadlines()
        return deadlines

    def _no_reply(self, subject: str, timeout: float) -> OutcomeUnknown:
        when = "before the client was closed" if self._broker is None else f"within {timeout:g} s"
        error = OutcomeUnknown(f"no reply to {subject} {when}; the outcome is unknown")
        error.broker = self._name
        return error

    async def abandon(self, asked: Body[Any], mail_address: str) -> None:
        """Do nothing: the broker was cancelled together with its caller."""

    async def close(self) -> None:
        """Leave the broker; open requests get no reply."""
        if self._broker is not None:
            self._broker = None
            for loop, deadlines in self._waiting.copy().items():
                if loop is asyncio.get_running_loop():
                    deadlines.end_all()
                else:
                    with suppress(RuntimeError):  # it is closed
                        loop.call_soon_threadsafe(deadlines.end_all)
            if self._release is not None and os.getpid() == self._process:
                await self._release()
