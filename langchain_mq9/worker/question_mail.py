"""Mail about questions: to people, to the sender of the run, and timers to the worker itself."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import orjson

from langchain_mq9.worker.interrupts import Kind
from langchain_mq9.worker.records import KEPT_S, Origin, QuestionRecord, WorkerAgent
from mq9 import (
    ErrorAnswer,
    Failure,
    Forbidden,
    IdConflict,
    MailboxNotFound,
    Message,
    Payload,
)
from mq9.models import CONVERSATION
from mq9.operations.conversations import extended
from mq9.protocol.reserved import MOVED_ASIDE
from mq9.questions import RECEIPTS, TAG, Receipt, closed, send_receipt

logger = logging.getLogger("mq9.worker")

_MOST_REASON = 1_024  # characters of an error answer
_TIMER = "timer"  # the tag and the type of a message to oneself


class Due(StrEnum):
    """The purpose of a timer."""

    ESCALATION = "escalation"
    EXPIRY = "expiry"


class QuestionMail:
    """Sends questions, timers and answers, each of them once however often it is called."""

    def __init__(self, agent: WorkerAgent, answers: str) -> None:
        self._client = agent.client
        self._agent = agent.name
        self._answers = answers

    async def ask(self, record: QuestionRecord, to: str) -> None:
        """Send a question to a mailbox."""
        body = record.body
        if record.kind is not Kind.MESSAGE:
            await self._send(record, to, record.question.to_json(), record.id, key=record.id)
        else:
            payload = body if isinstance(body, str) else orjson.dumps(body)
            await self._send(record, to, payload, record.id)

    async def ask_all(self, record: QuestionRecord) -> None:
        """Send a question to each mailbox. Missing ones are left out, and logged."""
        missing: list[MailboxNotFound] = []
        for to in record.asked:
            try:
                await self.ask(record, to)
            except MailboxNotFound as error:
                missing.append(error)
        if len(missing) == len(record.asked):
            raise missing[0]
        for one in missing:
            logger.warning("a question does not reach everybody: %s", one)

    async def ask_again(self, record: QuestionRecord, to: str, answer: int, problem: str) -> None:
        """Replace a question by one with the reason why an answer did not fit."""
        body = replace(record.question, problem=problem).to_json()
        await self._send(record, to, body, f"{record.id}.{answer}", key=record.id)

    async def withdraw(self, record: QuestionRecord, text: str, *, but: str | None = None) -> None:
        """Replace a question by a note that it needs no answer, except in one mailbox."""
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
                    closed(record.question, text),
                    id=f"closed.{record.id}",
                    key=record.id,
                    correlation_id=record.correlation_id_of(to),
                    ttl=KEPT_S,
                    sender=self._agent,
                )
            except (MailboxNotFound, IdConflict) as error:  # an earlier note stands
                logger.debug("a question needs no withdrawal: %s", error)

    async def set_timers(self, record: QuestionRecord) -> None:
        """Schedule the messages about escalation and expiry."""
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

    async def answer(self, origin: Origin, payload: Payload) -> None:
        """Reply to the message whose run has ended."""
        await self._reply(origin, payload, origin.answer_id, {})

    async def fail(self, origin: Origin, code: Failure, reason: str) -> str:
        """Send an error answer for a message whose run has failed; return its reference."""
        digest = _digest(origin)
        failed = ErrorAnswer(code=code, reason=reason[:_MOST_REASON], reference=digest[:10])
        await self._reply(origin, failed.value(), f"error.{digest}", failed.headers)
        return failed.reference

    async def receipt(self, answer: Message, receipt: Receipt) -> None:
        """Send the receipt of an answer to its sender, if the answer asks for one."""
        await send_receipt(self._client, answer, receipt, self._agent)

    async def _reply(
        self, origin: Origin, payload: Payload, id_: str | None, headers: Mapping[str, str]
    ) -> None:
        if origin.reply_to is None:
            return
        try:
            await self._client.send(
                origin.reply_to,
                payload,
                id=id_,
                correlation_id=origin.correlation_id,
                path=extended(origin.path, self._agent),
                headers={**origin.headers(origin.correlation_id), **headers},
                sender=self._agent,
            )
        except (MailboxNotFound, Forbidden) as error:
            logger.warning("a message stays unanswered: %s", error)
        except IdConflict:
            logger.info("%s was answered before; that answer stands", origin.message)

    async def _send(
        self, record: QuestionRecord, to: str, payload: Payload, id_: str, *, key: str | None = None
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
            correlation_id=record.correlation_id_of(to),
            answer_by=expires if to == record.escalate_to else record.escalate_at or expires,
            path=extended(record.origin.path, self._agent),
            # An agent has a conversation with each thread that sends it questions.
            headers={CONVERSATION: record.thread_id, RECEIPTS: "yes", **record.origin.headers()},
            sender=self._agent,
        )

    def _now_s(self) -> int:
        return self._client.clock.now_ms() // 1000


def _digest(origin: Origin) -> str:
    """Return the digest in the ids of a message's answer and error answer."""
    if origin.answer_id is None:
        return hashlib.sha256(origin.message.encode()).hexdigest()
    return origin.answer_id.rpartition(".")[2]


def due_of(message: Message) -> Due | None:
    """Return the purpose of a timer; None of any other message."""
    if _TIMER not in message.tags:
        return None
    try:
        body = message.json()
    except ValueError:
        return None
    due = body.get("due") if isinstance(body, dict) and body.get("type") == _TIMER else None
    return next((one for one in Due if one == due), None)


def digest_of(message: Message) -> str:
    """Return the identity of an answer, the same wherever it is moved."""
    who = f"{message.sender_verified}\0{message.sender or ''}\0".encode()
    return hashlib.sha256(who + message.payload).hexdigest()


_AT_ONCE = 100


class Parking:
    """Moves messages aside, into a mailbox for each thread, and back in order; needs the turn."""

    def __init__(self, agent: WorkerAgent) -> None:
        self._client = agent.client
        self._agent = agent

    async def park(self, message: Message, thread_id: str) -> None:
        """Move a message aside."""
        aside = self._aside(thread_id)
        await self._agent.make_own_mailbox(aside)
        await message.move(aside, reason=MOVED_ASIDE)

    async def release(self, thread_id: str) -> None:
        """Move back the messages that were moved aside."""
        aside = self._aside(thread_id)
        try:
            # The consumer is the same for every worker: what one was moving back when it died is
            # leased to it, and would else be dropped with the mailbox.
            while fetched := await self._client.fetch(
                aside,
                group_name=self._agent.mail_address,
                consumer=f"{self._agent.name}/waiting",
                num_msgs=_AT_ONCE,
                max_wait_ms=0,
            ):
                for message in fetched:
                    await message.move(self._agent.mail_address, reason="its conversation goes on")
            await self._client.mailbox_drop(aside)
        except MailboxNotFound:
            return

    def _aside(self, thread_id: str) -> str:
        return f"{self._agent.mail_address}.waiting.{thread_id.replace('-', '')}"
