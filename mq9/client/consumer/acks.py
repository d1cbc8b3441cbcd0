"""Acks, returns and moves of a consumer's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mq9.client.by_offset import OffsetProgress
from mq9.clock import Clock
from mq9.models import Message, Promise, StoredMessage
from mq9.protocol import checks

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client


class Acks:
    """Acks a consumer's messages, gives them back, or moves them.

    On a broker without leases, ``progress`` records acks and returns instead. The consumer then
    acks finished messages together.
    """

    def __init__(
        self, client: Mq9Client, mail_address: str, group_name: str, consumer: str
    ) -> None:
        self._client = client
        self._clock: Clock = client.clock  # usable after the client is closed
        self.mail_address = mail_address
        self.group_name = group_name
        self._consumer = consumer
        self.progress: OffsetProgress | None = None  # None on a broker with leases

    async def ack(self, message: StoredMessage) -> list[int]:
        """Ack one message. Return its id if this call acked it."""
        if message.batch is None and self.progress is not None:
            self.progress.done(message)
            return [message.msg_id]
        return await self._client.ack(message, individual=True)

    async def ack_up_to(self, msg_id: int) -> None:
        """Ack a message and all earlier ones, on a broker without leases."""
        await self._client.ack(self.mail_address, self.group_name, msg_id, consumer=self._consumer)

    async def give_back(
        self, message: StoredMessage, delay: float, reason: str | None = None
    ) -> None:
        """Give a message back with a reason, for redelivery after ``delay`` seconds."""
        if message.batch is None and self.progress is not None:
            self.progress.failed(message, self._clock.monotonic_ms() + round(delay * 1000))
            return
        await self._client.nack(message, delay=delay, reason=reason and as_reason(reason))

    async def renew(
        self,
        messages: Sequence[Message],
        lease_ms: int,
        *,
        begun: bool | None = None,
        promise: Promise | None = None,
    ) -> set[int]:
        """Renew leases. Return the ids of messages whose leases are lost."""
        renewed = await self._client.extend(
            self.mail_address,
            self.group_name,
            [message.msg_id for message in messages],
            lease_ms=lease_ms,
            begun=begun,
            promise=promise,
            consumer=self._consumer,
        )
        return set(renewed.lost)

    async def is_held(self, message: Message, lease_ms: int) -> bool:
        """Renew a lease. Return whether the consumer still held it. Raises Mq9Error.

        On a broker without leases the result is always true.
        """
        if message.batch is None:
            return True
        return not await self.renew([message], lease_ms)

    async def move(self, message: Message, to: str, reason: str) -> bool:
        """Move a message to another mailbox. Return whether it was still available."""
        if message.batch is not None:
            moved = await self._client.move(message, to=to, reason=as_reason(reason))
            return moved is not None
        await self._client.send(
            to,
            message.payload,
            priority=message.priority,
            tags=message.tags,
            sender=message.sender,
            reply_to=message.reply_to,
            correlation_id=message.correlation_id,
            path=message.path,
            headers=message.headers,
        )
        await self.ack(message)
        return True


def as_reason(text: str) -> str:
    """Return a text as a reason or a progress report: valid UTF-8, cut to the limit."""
    return text.encode("utf-8", "backslashreplace").decode()[: checks.MAX_REASON]
