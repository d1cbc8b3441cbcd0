"""One message while its handler runs: what the handler decides by the message's methods."""

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
    """The decision that a handler has made about its message."""

    ACKED = "acked"
    GIVEN_BACK = "given_back"
    MOVED = "moved"


class Handling:
    """A message that is being handled; meanwhile its methods come here."""

    def __init__(
        self, message: Message, client: Mq9Client, acks: Acks, options: ConsumerOptions
    ) -> None:
        self.message = message
        self.decision: Decision | None = None
        self.is_leased = message.batch is not None  # and so to be renewed
        self.is_handled = False  # its handler has ended
        self.is_waiting = False  # without a slot
        self.is_alone = message.deaths > 0
        self.is_at_work = False
        # The broker knows that it is not at work; the FETCH leaves out what has deaths.
        self.is_told_to_wait = self.is_alone
        self.is_answered = False
        self.is_delivered_anew = False  # to this consumer, the lease having ended
        self.promised: Promise | None = None  # by the consumer, as the broker knows it
        self._done: str | None = None
        self._client = client
        self._acks = acks
        self._options = options
        # Until when the consumer promises an answer by itself: not where the handler has done so.
        self._until = self._promised_until()

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

    async def nack(self, message: StoredMessage, /, *, delay: float, reason: str | None) -> None:
        """Give the message back, which then is not acked when its handler returns."""
        await self._acks.give_back(message, delay, reason)
        self._decide(Decision.GIVEN_BACK)

    async def extend(
        self, message: StoredMessage, /, *, lease: float, promise: Promise | None
    ) -> Extended:
        """Renew the lease, which the consumer goes on renewing."""
        if promise is not None:
            self._until = None
        return await self._client.extend(message, lease=lease, promise=promise)

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

    def note_done(self, done: str) -> None:
        """Keep what is done so far for the next promise."""
        self._done = as_reason(done)

    def due_promise(self, now_ms: int) -> Promise | None:
        """Return what the consumer has still to promise, if anything."""
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
    """Lets messages be handled together, and one that its worker has died of alone.

    It is entered when the handling begins or goes on, and left when it waits or ends.
    """

    def __init__(self) -> None:
        self._together = 0
        self._is_one_alone = False
        self._left = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being handled."""
        return not self._is_one_alone and not self._together

    async def enter(self, handling: Handling) -> None:
        """Return when the message may be handled; nobody has entered when this is cancelled."""
        while self._is_one_alone or (handling.is_alone and self._together):
            self._left.clear()
            await self._left.wait()
        if handling.is_alone:
            self._is_one_alone = True
        else:
            self._together += 1
        handling.is_at_work = True

    def leave(self, handling: Handling) -> None:
        """Let others go on; harmless for one that has not entered."""
        if not handling.is_at_work:
            return
        handling.is_at_work = False
        if handling.is_alone:
            self._is_one_alone = False
        else:
            self._together -= 1
        self._left.set()
