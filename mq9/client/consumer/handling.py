"""One message while its handler runs: what the handler decides by the message's methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from mq9.client.consumer.acks import Acks
from mq9.client.consumer.clients import ConsumerClient
from mq9.client.consumer.options import ConsumerOptions
from mq9.models import Extended, Message, Payload, StoredMessage, bind


class Decision(StrEnum):
    """What a handler itself has done with its message."""

    ACKED = "acked"
    GIVEN_BACK = "given_back"
    MOVED = "moved"


class Handling:
    """A message that is being handled; meanwhile its methods come here.

    Args:
        message: The message.
        client: The client to ask with; the message remembers it again afterwards.
        acks: Tells the broker what becomes of messages.
        options: The consumer's options.

    Attributes:
        message: The message.
        decision: What the handler or the error handler has done with it; None if nothing.
        is_leased: Whether its lease is to be renewed.
        is_handled: Whether its handler has ended.
        is_waiting: Whether its handler waits, and takes no slot meanwhile.
        is_alone: Whether it is handled alone, since its worker has died of it, perhaps.
        is_at_work: Whether its handler has begun and does not wait.
        is_told_to_wait: Whether the broker was told that its handler is not at work.
        is_answered: Whether its handler has answered it.
        is_delivered_anew: Whether the same consumer got the message again, the lease having ended.
    """

    def __init__(
        self, message: Message, client: ConsumerClient, acks: Acks, options: ConsumerOptions
    ) -> None:
        self.message = message
        self.decision: Decision | None = None
        self.is_leased = message.batch is not None
        self.is_handled = False
        self.is_waiting = False
        self.is_alone = message.deaths > 0
        self.is_at_work = False
        self.is_told_to_wait = self.is_alone  # the FETCH leaves out what has deaths
        self.is_answered = False
        self.is_delivered_anew = False
        self._client = client
        self._acks = acks
        self._options = options

    def __enter__(self) -> Handling:
        bind(self.message, self)
        return self

    def __exit__(self, *exception: object) -> None:
        bind(self.message, self._client)

    async def ack(self, message: StoredMessage, /, *, individual: bool) -> list[int]:
        """Confirm the message, which then is not acked when its handler returns."""
        if individual and (message.batch is not None or self._options["auto_ack"]):
            confirmed = await self._acks.ack(message)
        else:
            confirmed = await self._client.ack(message, individual=individual)
        self._decide(Decision.ACKED)
        return confirmed

    async def nack(self, message: StoredMessage, /, *, delay: float) -> None:
        """Give the message back, which then is not acked when its handler returns."""
        await self._acks.give_back(message, delay)
        self._decide(Decision.GIVEN_BACK)

    async def extend(self, message: StoredMessage, /, *, lease: float) -> Extended:
        """Renew the lease, which the consumer goes on renewing."""
        return await self._client.extend(message, lease=lease)

    async def move(self, message: StoredMessage, /, *, to: str, reason: str | None) -> int | None:
        """Move the message, which then is not acked when its handler returns."""
        moved = await self._client.move(message, to=to, reason=reason)
        self._decide(Decision.MOVED)
        return moved

    async def reply(
        self,
        message: StoredMessage,
        payload: Payload,
        /,
        *,
        id: str | None,  # noqa: A002  # the protocol's word
        sender: str | None,
        from_mailbox: str | None,
        headers: Mapping[str, str] | None,
        path: Sequence[str] | None,
    ) -> int | None:
        """Answer the message, in the name of the consumer's agent unless told otherwise."""
        msg_id = await self._client.reply(
            message,
            payload,
            id=id,
            sender=sender or self._options["agent"],
            from_mailbox=from_mailbox,
            headers=headers,
            path=path,
        )
        self.is_answered = True
        return msg_id

    def _decide(self, decision: Decision) -> None:
        self.decision = decision
        self.is_leased = False
