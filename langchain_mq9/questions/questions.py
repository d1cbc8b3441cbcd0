"""The questions of an agent's graphs: asked once, answered once, escalated, and given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langgraph.types import Interrupt

from langchain_mq9.headers import PROGRESS
from langchain_mq9.questions.interrupts import Asked, asked, resume_value
from langchain_mq9.questions.mail import Due, QuestionMail, digest_of, due_of
from langchain_mq9.questions.parking import Parking
from langchain_mq9.questions.records import Origin, Record, Records, State, identity_of
from mq9 import (
    InvalidAddress,
    InvalidRequest,
    Message,
    Mq9Client,
    Payload,
    Reject,
    Retry,
)
from mq9 import address as addresses
from mq9.protocol.checks import shown
from mq9.questions import InvalidAnswer, answer_of

logger = logging.getLogger("mq9.worker")

_EARLIEST_TIMER_S = 60.0  # by which two machines' clocks may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom graphs ask, and for how long.

    Attributes:
        human: The mailbox of whoever is asked; None for nobody but whom a question names.
        expires: Seconds after which an answer is too late; None for never.
        escalate_to: The mailbox of whoever is asked, too, when there is no answer.
        escalate_after: Seconds until then.
    """

    human: str | None = None
    expires: int | None = None
    escalate_to: str | None = None
    escalate_after: int | None = None

    def __post_init__(self) -> None:
        if (self.escalate_to is None) != (self.escalate_after is None):
            raise InvalidRequest("escalate_to: give it with escalate_after, or neither")
        if self.escalate_to is not None and self.human is None:
            raise InvalidRequest("escalate_to: there is nobody before; give human, too")
        after, expires = self.escalate_after, self.expires
        if after is not None and expires is not None and after >= expires:
            raise InvalidRequest(f"escalate_after: {after} is not less than expires, {expires}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What became of a run that went on.

    Attributes:
        interrupts: What it asks now.
        answer: What to answer when it has ended; None for nothing.
    """

    interrupts: Sequence[Interrupt[Any]] = ()
    answer: Payload | None = None


class Resume(Protocol):
    """Lets the run of a question go on; the caller has its thread's turn."""

    async def __call__(
        self, record: Record, value: Any, lost: asyncio.Future[None], *, is_repeated: bool
    ) -> Resumed | None:
        """Return what became of the run; None when it is over without this answer.

        Args:
            record: The question.
            value: What its interrupt is resumed with.
            lost: Is done when the turn is lost.
            is_repeated: Whether this was tried before, and perhaps done.

        Raises:
            InvalidAnswer: The graph refuses the value, and has not gone on.
            Exception: What the graph raises.
        """


class _Refused(Exception):
    """An answer is not accepted; the text says why."""


class Questions:
    """Asks people what graphs interrupt themselves for, and lets the graphs go on with the answers.

    Args:
        client: The connection.
        agent: The agent.
        mail_address: The agent's mailbox, by whose name those of the questions are called.
        policy: Whom to ask, and for how long.
        take_turn: Waits for the turn of a thread.
        resume: Lets a run go on.
        count: Counts what happens: ``asked``, ``answered``, ``refused``, ``escalated``,
            ``expired``, ``parked``.
    """

    def __init__(
        self,
        client: Mq9Client,
        *,
        agent: str,
        mail_address: str,
        policy: Policy,
        take_turn: Callable[[str], AbstractAsyncContextManager[asyncio.Future[None]]],
        resume: Resume,
        count: Callable[[str], object],
    ) -> None:
        self.answers = f"{mail_address}.answers"
        self._client = client
        self._policy = policy
        self._take_turn = take_turn
        self._resume = resume
        self._count = count
        self._records = Records(client, agent=agent, mail_address=f"{mail_address}.questions")
        self._mail = QuestionMail(client, agent=agent, answers=self.answers)
        self._parking = Parking(client, mail_address)
        self._knows_senders = False

    async def prepare(self) -> None:
        """Make the mailboxes that are missing, those of whoever is asked included."""
        await self._client.mailbox_create(name=self.answers, renew=True)
        await self._records.prepare()
        self._knows_senders = await self._client.whoami() is not None
        if not self._knows_senders:  # else it would be this agent's, and closed to whoever is asked
            for to in filter(None, (self._policy.human, self._policy.escalate_to)):
                await self._client.mailbox_create(name=mailbox_of(to), renew=True)

    async def ask(
        self,
        origin: Origin,
        thread_id: str,
        interrupts: Sequence[Interrupt[Any]],
        *,
        after: Record | None = None,
    ) -> None:
        """Ask what a run interrupted itself for, as far as it was not asked before.

        The caller has the thread's turn.

        Args:
            origin: The message of the run.
            thread_id: The thread.
            interrupts: What it waits for.
            after: The question that was answered just before.

        Raises:
            Reject: There is nobody to ask.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        requests = [asked(one.value, one.response_schema) for one in interrupts]
        recipients = [self._recipient(one) for one in requests]
        for interrupt, request, to in zip(interrupts, requests, recipients, strict=True):
            record = await self._recorded(origin, thread_id, interrupt, request, to, after)
            if record.state is State.OPEN and record.answer is None:
                await self._mail.set_timers(record)
                for one in record.asked:
                    await self._mail.ask(record, one)

    async def is_waiting(self, thread_id: str) -> bool:
        """Tell whether a thread waits for an answer, or for its run to end after one."""
        return bool(await self._records.open_in(thread_id, limit=1))

    async def park(self, message: Message, thread_id: str) -> None:
        """Move a message aside until its thread waits no more; the caller has its turn."""
        await self._parking.park(message, thread_id)
        self._count("parked")

    async def handle(self, message: Message) -> None:
        """Deal with a message to the mailbox of the answers: an answer, or a timer.

        Raises:
            Reject: An answer is not accepted.
            Exception: What the graph raises, or the broker.
        """
        if message.correlation_id is None and PROGRESS in message.headers:
            return  # of an agent that is at work on a question
        due = due_of(message)
        try:
            record = await self._record_of(message)
            async with self._take_turn(record.thread_id) as lost:
                if due is None:
                    await self._answer(message, lost)
                else:
                    await self._come_due(message, due)
        except _Refused as refused:
            self._count("refused")
            logger.warning(
                "an answer was refused: %s",
                refused,
                extra={"msg_id": message.msg_id, "sender": message.sender},
            )
            raise Reject(str(refused)) from None

    # What is asked

    def _recipient(self, request: Asked) -> str:
        to = request.to if request.to is not None else self._policy.human
        if to is None:
            raise Reject(
                f"the graph interrupted itself to ask {shown(request.question.text)}, "
                "and this worker has nobody to ask: it needs human="
            )
        return mailbox_of(to)

    async def _recorded(
        self,
        origin: Origin,
        thread_id: str,
        interrupt: Interrupt[Any],
        request: Asked,
        to: str,
        after: Record | None,
    ) -> Record:
        """Return the record of an interrupt, stored when this returns."""
        value = request.question.value if request.body is None else request.body
        is_again = after is not None and after.interrupt_id == interrupt.id
        identity = identity_of(
            thread_id, interrupt.id, value, after.id if after is not None and is_again else None
        )
        known = await self._records.find(identity)
        if known is not None:
            return known
        now, policy = self._client.clock.now_ms() // 1000, self._policy
        escalates = request.to is None and policy.escalate_to is not None
        record = Record(
            id=self._client.new_id() + self._client.new_id(),
            identity=identity,
            thread_id=thread_id,
            interrupt_id=interrupt.id,
            kind=request.kind,
            question=replace(
                request.question, expires=None if policy.expires is None else now + policy.expires
            ),
            body=request.body,
            asked=(to,),
            asked_at=now,
            origin=origin,
            escalate_to=mailbox_of(policy.escalate_to or "") if escalates else None,
            escalate_at=now + (policy.escalate_after or 0) if escalates else None,
        )
        stored = await self._records.add(record)
        if stored is record:
            self._count("asked")
            logger.info(
                "asking %s", to, extra={"thread_id": thread_id, "question": request.question.text}
            )
        return stored

    # What is answered

    async def _record_of(self, message: Message) -> Record:
        if message.correlation_id is None:
            raise _Refused("it has no correlation id, and so answers nothing")
        record = await self._records.get(message.correlation_id)
        if record is None:
            raise _Refused(f"no question has the correlation id {shown(message.correlation_id)}")
        return record

    async def _answer(self, message: Message, lost: asyncio.Future[None]) -> None:
        record = await self._record_of(message)
        answer = digest_of(message)
        is_repeated = record.answer == answer
        if is_repeated and record.state is State.ANSWERED and message.delivery_count > 1:
            await self._finish(record, message)  # a crash came before the ack
            return
        await self._check(record, message, answer)
        try:
            value = resume_value(record.kind, record.question, answer_of(message.payload))
            if not is_repeated:
                record = replace(record, answer=answer, answered_by=message.sender)
                if not await self._records.claim(record):
                    raise _Refused("the question has been answered by another message")
            resumed = await self._resume(record, value, lost, is_repeated=is_repeated)
        except InvalidAnswer as error:
            await self._ask_again(record, message, str(error))
            raise _Refused(f"it does not fit the question: {error}") from error
        if resumed is None:
            await self._records.close(replace(record, state=State.CLOSED))
            await self._finish(record, message)
            raise _Refused("the run that asked is over")
        if resumed.interrupts:
            await self.ask(record.origin, record.thread_id, resumed.interrupts, after=record)
        elif resumed.answer is not None:
            await self._mail.answer(record.origin, resumed.answer)
        await self._records.close(replace(record, state=State.ANSWERED))
        await self._finish(record, message)
        self._count("answered")

    async def _check(self, record: Record, message: Message, answer: str) -> None:
        """Check that an answer may be given to a question, by this sender and now.

        Raises:
            _Refused: It may not.
        """
        await self._check_sender(record, message)
        if record.state is State.ANSWERED:
            raise _Refused(f"the question has been answered by {shown(record.answered_by)}")
        if record.state is State.CLOSED:
            raise _Refused("it is too late: the question was given up")
        if record.answer == answer:
            return  # it was in time when it was accepted
        if record.answer is not None:
            raise _Refused("the question has been answered by another message")
        expires = record.question.expires
        if expires is not None and message.create_time >= expires:
            raise _Refused("it is too late: the question has expired")

    async def _check_sender(self, record: Record, message: Message) -> None:
        """Check that who answers was asked, as far as senders are known.

        Raises:
            _Refused: It is somebody else, or might be.
        """
        if not message.sender_verified:
            if self._knows_senders:
                raise _Refused("the broker does not know its sender")
            return
        sender = message.sender or ""
        if _own_mailbox(sender) in record.asked:
            return
        for one in await self._client.agent_discover(text=sender):
            if one.match.name == sender and one.match.mailbox in record.asked:
                return
        raise _Refused(f"{shown(sender)} was not asked")

    async def _ask_again(self, record: Record, message: Message, problem: str) -> None:
        """Keep a question open, and tell whoever answered it why that did not fit."""
        if record.answer is not None:
            record = replace(record, answer=None, answered_by=None, refused=record.refused + 1)
            await self._records.reopen(record)
        by = _own_mailbox(message.sender)
        for to in record.asked if by is None or by not in record.asked else [by]:
            await self._mail.ask_again(record, to, message.msg_id, problem)

    async def _finish(self, record: Record, message: Message | None = None) -> None:
        """Do what is left when a question is closed; harmless when repeated."""
        by = message.sender if message is not None else None
        told = "nobody answered it in time" if by is None else f"{by} has answered it"
        await self._mail.withdraw(record, told, but=_own_mailbox(by))
        if not await self.is_waiting(record.thread_id):
            await self._parking.release(record.thread_id)

    # What falls due

    async def _come_due(self, message: Message, due: Due) -> None:
        record = await self._record_of(message)
        instant = record.escalate_at if due is Due.ESCALATION else record.question.expires
        if instant is None:
            raise _Refused("there is no such timer")
        now = max(self._client.clock.now_ms() / 1000, message.create_time)
        if now < instant:
            if instant - now > _EARLIEST_TIMER_S:
                raise _Refused("this timer is before its time")
            raise Retry("the clock of this machine is behind", after=instant - now)
        if due is Due.ESCALATION:
            await self._escalate(record)
        else:
            await self._expire(record)

    async def _escalate(self, record: Record) -> None:
        to = record.escalate_to
        if to is None or record.state is not State.OPEN or record.answer is not None:
            return
        if to not in record.asked:
            record = replace(record, asked=(*record.asked, to))
            await self._records.escalate(record)
            self._count("escalated")
            logger.info("asking %s as well", to, extra={"thread_id": record.thread_id})
        await self._mail.ask(record, to)

    async def _expire(self, record: Record) -> None:
        """Give up the run of a question, with whatever else it asks."""
        if record.state is State.CLOSED:
            await self._finish(record)  # a crash came before the ack
        if record.state is not State.OPEN or record.answer is not None:
            return
        error = f"nobody has answered in time: {record.question.text}"
        await self._mail.answer(record.origin, {"error": error})
        others = [one for one in await self._records.open_in(record.thread_id) if one != record]
        for one in (*others, record):  # itself last, as a crash may come in between
            await self._records.close(replace(one, state=State.CLOSED))
            await self._finish(one)
        self._count("expired")
        logger.warning("nobody has answered in time", extra={"thread_id": record.thread_id})


def mailbox_of(name: str) -> str:
    """Return the mailbox that is meant by an address, or by the name of an agent."""
    try:
        return addresses.parse(name)
    except InvalidAddress:
        return addresses.slug(name)


def _own_mailbox(sender: str | None) -> str | None:
    """Return the mailbox that belongs to whoever sent a message; None where none does."""
    try:
        return None if sender is None else addresses.slug(sender)
    except InvalidRequest:
        return None
