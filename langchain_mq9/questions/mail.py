"""What is sent on behalf of questions: to the people who are asked, and to oneself for later."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from enum import StrEnum
from typing import Any

import orjson

from langchain_mq9.headers import CONVERSATION
from langchain_mq9.questions.interrupts import Kind
from langchain_mq9.questions.records import KEPT_S, Origin, Record
from mq9 import IdConflict, MailboxNotFound, Mq9Client, Payload
from mq9.models import Message
from mq9.operations.paths import extended
from mq9.questions import TAG

logger = logging.getLogger("mq9.worker")

_TIMER = "timer"  # the tag and the type of a message to oneself
_WITHDRAWN = "question_closed"  # the type of what takes a question's place


class Due(StrEnum):
    """What a timer is for."""

    ESCALATION = "escalation"
    EXPIRY = "expiry"


class QuestionMail:
    """Sends questions, timers and answers, each of them once however often it is asked to.

    Args:
        client: The connection.
        agent: The agent whose graph asks.
        answers: The mailbox that answers, and timers, come to.
    """

    def __init__(self, client: Mq9Client, *, agent: str, answers: str) -> None:
        self._client = client
        self._agent = agent
        self._answers = answers

    async def ask(self, record: Record, to: str) -> None:
        """Send a question to a mailbox.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        if record.kind is Kind.MESSAGE:
            await self._send(record, to, _payload(record.body), record.id)
        else:
            await self._send(record, to, record.question.to_json(), record.id, key=record.id)

    async def ask_again(self, record: Record, to: str, answer: int, problem: str) -> None:
        """Send a question once more, in the place of the first, since an answer did not fit.

        Args:
            record: The question.
            to: The mailbox of whoever answered.
            answer: The number of that answer.
            problem: Why it did not fit.
        """
        body = replace(record.question, problem=problem).to_json()
        await self._send(record, to, body, f"{record.id}.{answer}", key=record.id)

    async def withdraw(self, record: Record, text: str, *, but: str | None = None) -> None:
        """Put a note in the place of a question, so that nobody answers it in vain.

        Args:
            record: The question.
            text: Why it needs no answer.
            but: Who answered it, whose mailbox is left as it is.
        """
        expires = record.question.expires
        has_left = expires is not None and expires <= self._now_s()
        if record.kind is Kind.MESSAGE or has_left:
            return
        for to in record.asked:
            if to == but:
                continue
            try:
                await self._client.send(
                    to,
                    {"type": _WITHDRAWN, "text": text, "question": record.question.text},
                    id=f"closed.{record.id}",
                    key=record.id,
                    correlation_id=record.id,
                    ttl=KEPT_S,
                    sender=self._agent,
                )
            except MailboxNotFound as error:
                logger.debug("a question needs no withdrawal: %s", error)

    async def set_timers(self, record: Record) -> None:
        """Let the mailbox of the answers say when a question escalates, or expires."""
        for due, instant in (
            (Due.ESCALATION, record.escalate_at),
            (Due.EXPIRY, record.question.expires),
        ):
            if instant is not None:
                await self._client.send(
                    self._answers,
                    {"type": _TIMER, "due": due},
                    id=f"{due}.{record.id}",
                    tags=[_TIMER],
                    delay=max(1, instant - self._now_s()),
                    correlation_id=record.id,
                    sender=self._agent,
                )

    async def answer(self, origin: Origin, payload: Payload) -> bool:
        """Answer the message whose run has ended, and tell whether somebody waits for that."""
        if origin.reply_to is None:
            return False
        try:
            await self._client.send(
                origin.reply_to,
                payload,
                id=origin.answer_id,
                correlation_id=origin.correlation_id,
                path=extended(origin.path, self._agent),
                sender=self._agent,
            )
        except MailboxNotFound as error:
            logger.info("a message stays unanswered: %s", error)
            return False
        except IdConflict:
            logger.info("%s was answered before; that answer stands", origin.message)
        return True

    async def _send(
        self, record: Record, to: str, payload: Payload, id_: str, *, key: str | None = None
    ) -> None:
        expires = record.question.expires
        await self._client.send(
            to,
            payload,
            id=id_,
            key=key,
            tags=[TAG],
            ttl=None if expires is None else max(1, expires - self._now_s()),
            reply_to=self._answers,
            correlation_id=record.id,
            path=extended(record.origin.path, self._agent),
            # An agent that is asked has a conversation with each thread that asks it.
            headers={CONVERSATION: record.thread_id},
            sender=self._agent,
        )

    def _now_s(self) -> int:
        return self._client.clock.now_ms() // 1000


def due_of(message: Message) -> Due | None:
    """Return what a timer is for; None of any other message."""
    if _TIMER not in message.tags:
        return None
    try:
        body = message.json()
    except ValueError:
        return None
    due = body.get("due") if isinstance(body, dict) and body.get("type") == _TIMER else None
    return next((one for one in Due if one == due), None)


def digest_of(message: Message) -> str:
    """Return what tells an answer from all others, wherever it is moved meanwhile."""
    who = f"{message.sender_verified}\0{message.sender or ''}\0".encode()
    return hashlib.sha256(who + message.payload).hexdigest()


def _payload(body: Any) -> Payload:
    return body if isinstance(body, str) else orjson.dumps(body)
