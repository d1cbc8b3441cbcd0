"""Sources of messages for ``Mailbox.receive``. They run on the client's event loop."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

from mq9.client.client import Mq9Client
from mq9.client.consumer import Consumer
from mq9.client.ordered_reading import FINAL_ERRORS, OrderedReading
from mq9.client.sync_client import SyncMq9Client, handled_by
from mq9.client.sync_messages import SyncMessage, as_sync
from mq9.errors import Mq9Error
from mq9.models import Message


class MessageSource(Protocol):
    """A source of messages for a receiver."""

    logs_failures: ClassVar[bool]

    async def start(self, client: Mq9Client, mail_address: str) -> None:
        """Prepare to read a mailbox."""

    async def next_page(self, failure: Exception | None) -> list[SyncMessage]:
        """Return the next messages, or none at the end."""

    async def stop(self, timeout: float) -> None:
        """Stop delivering messages. This returns at once."""

    async def ended(self) -> None:
        """Wait for the end of all work after ``stop``."""


class WholeMailbox:
    """All messages of a mailbox, independent of its other readers."""

    logs_failures: ClassVar[bool] = False

    def __init__(self, owner: SyncMq9Client) -> None:
        self._owner = owner
        self._reading: OrderedReading
        self._first: list[Message] = []
        self._waiting: asyncio.Task[list[Message]] | None = None
        self._is_stopped = False

    async def start(self, client: Mq9Client, mail_address: str) -> None:
        """Read the first stored messages."""
        self._reading = OrderedReading(client, mail_address)
        self._first = await self._reading.read(max_wait_ms=0)

    async def next_page(self, failure: Exception | None) -> list[SyncMessage]:
        """Return the next messages, or none after ``stop``."""
        page, self._first = self._first, []
        if not page and not self._is_stopped:
            page = await self._until_stopped(self._reading)
        return [as_sync(message, self._owner) for message in page]

    async def _until_stopped(self, reading: OrderedReading) -> list[Message]:
        task = self._waiting = asyncio.create_task(reading.next_page())
        try:
            await asyncio.wait([task])
        finally:
            self._waiting = None
            task.cancel()  # no effect on a finished task
        return [] if task.cancelled() else task.result()

    async def stop(self, timeout: float) -> None:
        """Stop delivering messages."""
        self._is_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def ended(self) -> None:
        """Return at once: no work continues between two pages."""


class GroupMember:
    """Messages of a consumer group for one member, one at a time.

    A request for the next message acks the previous one. If its callback failed, the group delivers
    it again; see ``Consumer``.
    """

    logs_failures: ClassVar[bool] = True

    def __init__(
        self, owner: SyncMq9Client, group_name: str, max_deliveries: int, dead_letter: str | None
    ) -> None:
        self._owner = owner
        self._group_name = group_name
        self._max_deliveries = max_deliveries
        self._dead_letter = dead_letter
        self._consumer: Consumer | None = None
        self._given: asyncio.Queue[tuple[Message, asyncio.Future[None]] | None] = asyncio.Queue()
        self._handled: asyncio.Future[None] | None = None
        self._error: Mq9Error | None = None

    async def start(self, client: Mq9Client, mail_address: str) -> None:
        """Join the group, and create it if it is missing."""
        self._consumer = await client.consume(
            mail_address,
            self._handle,
            group_name=self._group_name,
            max_deliveries=self._max_deliveries,
            dead_letter=self._dead_letter,
        )
        self._consumer.end_with(FINAL_ERRORS, self._ended)

    async def next_page(self, failure: Exception | None) -> list[SyncMessage]:
        """Report the outcome of the previous message, and return the next one."""
        handled, self._handled = self._handled, None
        if handled is not None and not handled.done():  # otherwise the consumer stopped waiting
            if failure is None:
                handled.set_result(None)
            else:
                handled.set_exception(failure)
        while (given := await self._given.get()) is not None:
            message, handled = given
            if not handled.done():
                self._handled = handled
                return [handled_by(self._owner, message)]
        if self._error is not None:
            raise self._error
        return []

    async def stop(self, timeout: float) -> None:
        """Stop delivering messages. After the timeout, unhandled ones go to other members."""
        if self._consumer is not None:
            self._consumer.request_stop(timeout)

    async def ended(self) -> None:
        """Wait until handled messages are acked and all others are given back."""
        if self._consumer is not None:
            await self._consumer.wait()

    async def _handle(self, message: Message) -> None:
        """Wait for the callback. Raise its exception."""
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given.put_nowait((message, handled))
        await handled

    def _ended(self, error: Mq9Error | None) -> None:
        self._error = error
        self._given.put_nowait(None)
