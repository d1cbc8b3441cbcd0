"""Answers that wait for their receipts, each in a private mailbox of the person.

The sender of a question sends the receipt to the ``reply_to`` of the answer. The address of that
mailbox is derived from the question and the person, so that a later call finds it. Its first
message is a note of the person: the answer, and its id.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, IdConflict, InvalidRequest, MailboxNotFound, Mq9Error
from mq9.models import Message
from mq9.questions import RECEIPTS, TAG, AnswerOutcome, Receipt

_LASTS_S = 30 * 86_400  # after that, an answer without a receipt is forgotten
_MOST_SHOWN = 1_000  # characters of an answer
_NOTE = "answer"  # the tag of the note, and its idempotency id
_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SentReply:
    """An answer that was sent."""

    mail_address: str  # of its receipt
    id: str
    digest: str
    text: str  # for people, perhaps cut off
    at: int  # Unix seconds
    by: str | None = None  # who gave it
    receipt: Receipt | None = None  # None until it arrives


def gets_receipt(asked: Message) -> bool:
    """Return whether the sender of a question sends receipts."""
    addressed = asked.reply_to is not None and asked.correlation_id is not None
    return TAG in asked.tags and RECEIPTS in asked.headers and addressed


class SentAnswers:
    """Stores the answers of a person until their receipts arrive."""

    def __init__(self, client: Mq9Client, identity: str | None) -> None:
        self._client = client
        self._identity = identity

    @classmethod
    async def of(cls, client: Mq9Client) -> Self:
        """Return the answers of the person whose client it is."""
        return cls(client, await client.whoami())

    async def find(self, asked: Message) -> SentReply | None:
        """Return the answer to a question, with its receipt if it has arrived; None without one."""
        address = self._address(asked)
        try:
            found = await self._client.query(address, limit=_AT_ONCE)
        except (MailboxNotFound, Forbidden):
            return None
        note = next((one for one in found if _NOTE in one.tags), None)
        if note is None:
            return None
        id_, _, digest = (note.key or "").partition("/")
        return SentReply(
            mail_address=address,
            id=id_,
            digest=digest,
            text=note.payload.decode("utf-8", "backslashreplace"),
            at=note.create_time,
            by=note.sender,
            receipt=next(filter(None, (_receipt(asked, one) for one in found)), None),
        )

    async def begin(self, asked: Message, payload: bytes, text: str, sender: str) -> SentReply:
        """Note an answer before it is sent, and return it; or the same answer of an earlier call.

        An earlier answer that was refused is forgotten.
        """
        digest = hashlib.sha256(payload).hexdigest()
        sent = await self.find(asked)
        if sent is not None and sent.receipt is not None:
            if sent.receipt.outcome is not AnswerOutcome.REFUSED:
                return sent
            await self.forget(sent)
            sent = None
        if sent is None:
            address = self._address(asked)
            await self._client.mailbox_create(name=address, ttl=_LASTS_S, renew=True)
            key = f"{self._client.new_id()}/{digest}"
            with suppress(IdConflict):  # another call of the same person was faster
                await self._client.send(
                    address,
                    text[:_MOST_SHOWN],
                    id=_NOTE,
                    tags=[_NOTE],
                    key=key,
                    sender=sender,
                )
            sent = await self.find(asked)
            if sent is None:
                raise MailboxNotFound(f"mailbox not found: {address} does not exist")
        if sent.digest != digest:
            raise InvalidRequest(
                f"answer: {sent.text!r} was sent as your answer, and is not confirmed yet; repeat "
                "that answer to wait for its receipt"
            )
        return sent

    async def wait(self, asked: Message, seconds: float) -> SentReply | None:
        """Return the answer to a question when its receipt arrives, or after the time."""
        deadline_ms = self._client.clock.monotonic_ms() + round(seconds * 1000)
        from_id = 0
        while True:
            sent = await self.find(asked)
            left_ms = deadline_ms - self._client.clock.monotonic_ms()
            if sent is None or sent.receipt is not None or left_ms <= 0:
                return sent
            newer = await self._client.fetch(
                sent.mail_address,
                deliver="from_id",
                from_id=from_id,
                num_msgs=_AT_ONCE,
                max_wait_ms=left_ms,
            )
            from_id = max((one.msg_id + 1 for one in newer), default=from_id)

    async def forget(self, sent: SentReply) -> None:
        """Drop the mailbox of an answer; if that fails, its TTL removes it."""
        with suppress(Mq9Error):
            await self._client.mailbox_drop(sent.mail_address)

    def _address(self, asked: Message) -> str:
        who = "" if self._identity is None else self._identity
        what = repr((asked.mail_address, asked.correlation_id, asked.sender, who))
        return f"reply.{hashlib.sha256(what.encode()).hexdigest()[:40]}"


def _receipt(asked: Message, message: Message) -> Receipt | None:
    """Return the receipt in a message, if it is from the sender of the question."""
    if message.correlation_id != asked.correlation_id or _NOTE in message.tags:
        return None
    if asked.sender_verified and (message.sender, message.sender_verified) != (asked.sender, True):
        return None
    return Receipt.read(message)
