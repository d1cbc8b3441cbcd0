"""One message while its handler runs, and the decision that the handler makes about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING

from mq9.client.consumer.acks import Acks, as_reason
from mq9.client.consumer.options import ConsumerOptions
from mq9.models import Extended, Message, Payload, Promise, StoredMessage, bind

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client


class Decision(StrEnum):
    """The decision of a handler about its message."""

    ACKED = "acked"
    GIVEN_BACK = "given_back"
    MOVED = "moved"


class Handling:
    """A message in a handler. It receives the calls of the message's methods."""

    def __init__(
        self, message: Message, client: Mq9Client, acks: Acks, options: ConsumerOptions
    ) -> None:
        self.message = message
        self.decision: Decision | None = None
        self.is_leased = message.batch is not None  # the consumer renews such a lease
        self.is_handled = False  # the handler has ended
        self.is_waiting = False  # the handler waits without a slot
        self.is_alone = message.deaths > 0
        self.is_at_work = False
        # Whether the broker knows this. A FETCH with `begun` does not mark messages with deaths.
        self.is_marked_idle = self.is_alone
        self.is_answered = False
        self.is_redelivered = False  # to this consumer, after the lease ended
        self.promised: Promise | None = None  # the consumer's promise, as the broker knows it
        self._done: str | None = None
        self._client = client
        self._acks = acks
        self._options = options
        # The deadline of the consumer's own promise. None once the handler has made one.
        self._until = self._promised_until()

    def __enter__(self) -> Handling:
        bind(self.message, self)
        return self

    def __exit__(self, *exception: object) -> None:
        bind(self.message, self._client)

    async def ack(self, message: StoredMessage, /, *, individual: bool) -> list[int]:
        """Ack the message now. The consumer then does not ack it after the handler."""
        if individual and (message.batch is not None or self._options["auto_ack"]):
            confirmed = await self._acks.ack(message)
        else:
            confirmed = await self._client.ack(message, individual=individual)
        self._decide(Decision.ACKED)
        return confirmed

    async def nack(self, message: StoredMessage, /, *, delay: float, reason: str | None) -> None:
        """Give the message back. The consumer then does not ack it after the handler."""
        await self._acks.give_back(message, delay, reason)
        self._decide(Decision.GIVEN_BACK)

    async def extend(
        self, message: StoredMessage, /, *, lease: float, promise: Promise | None
    ) -> Extended:
        """Renew the lease. The consumer continues to renew it."""
        if promise is not None:
            self._until = None
        return await self._client.extend(message, lease=lease, promise=promise)

    async def move(self, message: StoredMessage, /, *, to: str, reason: str | None) -> int | None:
        """Move the message. The consumer then does not ack it after the handler."""
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
        """Answer the message, by default under the name of the consumer's agent."""
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

    def note_done(self, done: str) -> None:
        """Keep the progress for the next promise."""
        self._done = as_reason(done)

    def due_promise(self, now_ms: int) -> Promise | None:
        """Return the promise that the consumer still has to send, or None."""
        until = self._until
        if until is None or not self.is_leased or until * 1000 <= now_ms:
            return None
        promise = Promise(until=until, done=self._done)
        return None if promise == self.promised else promise

    def _promised_until(self) -> int | None:
        seconds = self._options["promise_within"]
        if self.message.answer_by is None or not self.is_leased or seconds == 0:
            return None
        if seconds is None:
            return self.message.answer_by
        return ceil(self._client.clock.now_ms() / 1000 + seconds)

    def _decide(self, decision: Decision) -> None:
        self.decision = decision
        self.is_leased = False


class Company:
    """Lets handlers run together, except a message with deaths: it runs alone.

    A handler enters when it starts or continues, and leaves when it waits or ends.
    """

    def __init__(self) -> None:
        self._together = 0
        self._is_one_alone = False
        self._left = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no handler runs."""
        return not self._is_one_alone and not self._together

    async def enter(self, handling: Handling) -> None:
        """Wait until the message may be handled. If you cancel this, it has not entered."""
        while self._is_one_alone or (handling.is_alone and self._together):
            self._left.clear()
            await self._left.wait()
        if handling.is_alone:
            self._is_one_alone = True
        else:
            self._together += 1
        handling.is_at_work = True

    def leave(self, handling: Handling) -> None:
        """Leave, so that others can enter. No effect if it has not entered."""
        if not handling.is_at_work:
            return
        handling.is_at_work = False
        if handling.is_alone:
            self._is_one_alone = False
        else:
            self._together -= 1
        self._left.set()
