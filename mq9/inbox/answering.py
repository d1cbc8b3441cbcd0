"""An answer to a question in a mailbox: sent once, confirmed, and kept as a decision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mq9.client import arguments
from mq9.client.client import Mq9Client
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    MessageNotFound,
    PayloadTooLarge,
)
from mq9.inbox import decisions
from mq9.inbox.open_questions import remove
from mq9.inbox.sent_answers import SentAnswers, SentReply, gets_receipt
from mq9.models import Message, Payload
from mq9.questions import TAG, AnswerOutcome, closing_note

_SETTLED = (None, AnswerOutcome.ACCEPTED, AnswerOutcome.CLOSED)
_NOT_SENT = (Forbidden, InvalidRequest, MailboxFull, MailboxNotFound, PayloadTooLarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The outcome of an answer."""

    answered_as: int | None  # message id at the question's sender; None if an earlier call sent it
    outcome: AnswerOutcome | Literal["unconfirmed"] | None = (
        None  # None if the sender sends no receipts
    )
    text: str | None = None


async def question_at(client: Mq9Client, address: str, msg_id: int) -> Message:
    """Return the question; MessageNotFound reports its present state."""
    found = await client.query(address, msg_id=msg_id)
    if found:
        return found[0]
    text = f"message not found: {msg_id} of {address} is not there"
    history = (await client.mailbox_status(address, msg_id=msg_id)).message
    newer = None if history is None else history.replaced_by
    for one in [] if newer is None else await client.query(address, msg_id=newer):
        if TAG in one.tags:
            text = f"{text}: it was asked again as message {newer}. See it: mq9 inbox {address}"
        elif (note := closing_note(one.payload)) is not None:
            text = f"{text}: it needs no answer any more, {note}"
    raise MessageNotFound(text)


async def answer(
    client: Mq9Client, asked: Message, given: Payload, sender: str, wait_s: float
) -> Answered:
    """Answer a question, and remove it once that is confirmed.

    A repeated answer is sent once. If the sender sends receipts, the question stays until one
    arrives; ``outcome`` is "unconfirmed" if none arrives in time.

    Args:
        client: The connection of the person.
        asked: The question.
        given: The answer.
        sender: The name of the person, if the broker does not authenticate.
        wait_s: Seconds to wait for the receipt.
    """
    answers = await SentAnswers.of(client)
    sent: SentReply | None = None
    if gets_receipt(asked):
        answered, sent = await _confirmed(client, answers, asked, given, sender, wait_s)
    else:
        answered = await _sent(client, asked, given, sender)
    if answered.outcome in {None, AnswerOutcome.ACCEPTED} and TAG in asked.tags:
        await decisions.record(client, asked, by=sender, answer=shown(given))
    # The receipt is removed last: until then, later calls find the answer.
    if answered.outcome in _SETTLED and TAG in asked.tags:
        await remove(client, asked)
    if sent is not None and sent.receipt is not None:
        await answers.forget(sent)
    return answered


async def _sent(client: Mq9Client, asked: Message, payload: Payload, sender: str) -> Answered:
    """Answer a message whose sender sends no receipts."""
    answered_as = await client.reply(asked, payload, id=_reply_id(asked), sender=sender)
    return Answered(answered_as=answered_as)


async def _confirmed(
    client: Mq9Client,
    answers: SentAnswers,
    asked: Message,
    given: Payload,
    sender: str,
    seconds: float,
) -> tuple[Answered, SentReply]:
    """Answer a question, and wait for its receipt."""
    payload = arguments.payload(given)
    sent = await answers.begin(asked, payload, shown(given), sender)
    answered_as = None
    if sent.receipt is None:
        try:
            answered_as = await client.send(
                asked.reply_to or "",
                payload,
                id=sent.id,
                sender=sender,
                from_mailbox=asked.mail_address,
                reply_to=sent.mail_address,
                correlation_id=asked.correlation_id,
            )
        except _NOT_SENT:
            await answers.forget(sent)
            raise
        sent = await answers.wait(asked, seconds) or sent
    receipt = sent.receipt
    if receipt is None:
        return Answered(answered_as=answered_as, outcome="unconfirmed"), sent
    return Answered(answered_as=answered_as, outcome=receipt.outcome, text=receipt.text), sent


def shown(given: Payload) -> str:
    """Return an answer as people read it."""
    if not isinstance(given, Mapping):
        return arguments.payload(given).decode("utf-8", "backslashreplace")
    words = []
    for one in given["decisions"]:
        beside = one["edited_action"]["args"] if "edited_action" in one else one.get("message")
        words.append(
            one["type"]
            if beside is None
            else f"{one['type']} {json.dumps(beside, ensure_ascii=False)}"
        )
    return "; ".join(words)


def _reply_id(asked: Message) -> str:
    """Return the id of a question's answer, so that it is stored once, however often it is sent."""
    what = (asked.mail_address, asked.msg_id, asked.create_time, asked.correlation_id)
    return f"reply.{hashlib.sha256(repr(what).encode()).hexdigest()}"
