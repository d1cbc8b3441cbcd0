"""Questions of graphs to people: sent, answered, escalated and given up."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from langgraph.types import Interrupt

from langchain_mq9.calls import PROGRESS
from langchain_mq9.worker.bodies import control_value
from langchain_mq9.worker.interrupts import AskedInterrupt, Kind, asked, resume_value
from langchain_mq9.worker.question_mail import Due, Parking, QuestionMail, digest_of, due_of
from langchain_mq9.worker.records import (
    Origin,
    QuestionRecord,
    QuestionRecords,
    QuestionState,
    WorkerAgent,
    identity_of,
)
from langchain_mq9.worker.turns import Turn
from mq9 import (
    ErrorAnswer,
    Failure,
    InvalidRequest,
    Message,
    Payload,
    Reject,
    Retry,
)
from mq9.protocol.checks import shown
from mq9.questions import (
    AnswerOutcome,
    InvalidAnswer,
    Receipt,
    answer_of,
    mailbox_of,
    own_mailbox,
    sender_problem,
)

logger = logging.getLogger("mq9.worker")

_EARLIEST_TIMER_S = 60.0  # by which two machines' clocks may differ
_ACCEPTED = Receipt(outcome=AnswerOutcome.ACCEPTED)
_UNANSWERED = "nobody answered it in time"
_OVER = (
    "the run that asked is over: another run has followed in its thread, its checkpoint is gone, "
    "or its graph was changed"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The people whom graphs ask, and the time they have."""

    humans: tuple[str, ...] = ()  # mailboxes
    expires: int | None = None  # seconds, as escalate_after
    escalate_to: str | None = None
    escalate_after: int | None = None

    def __post_init__(self) -> None:
        if (self.escalate_to is None) != (self.escalate_after is None):
            raise InvalidRequest("escalate_to: give it with escalate_after, or neither")
        if self.escalate_to is not None and not self.humans:
            raise InvalidRequest("escalate_to: there is nobody before; give human, too")
        after, expires = self.escalate_after, self.expires
        if after is not None and expires is not None and after >= expires:
            raise InvalidRequest(f"escalate_after: {after} is not less than expires, {expires}")


# Resumes the run of a question with a value in a turn; the flag: this was tried before.
# Returns the next interrupts and the reply, or None if the run is over without this answer.
Resume = Callable[
    [QuestionRecord, Any, Turn, bool],
    Awaitable[tuple[Sequence[Interrupt[Any]], Payload | None] | None],
]


class _Refused(Exception):
    """An answer is not accepted; the text is the reason."""

    def __init__(
        self, text: str, *, outcome: AnswerOutcome = AnswerOutcome.REFUSED, by: str | None = None
    ) -> None:
        super().__init__(text)
        self.receipt = Receipt(outcome=outcome, text=text, by=by)


class Questions:
    """Mails the interrupts of graphs to people, and resumes the graphs with the answers."""

    def __init__(
        self,
        agent: WorkerAgent,
        *,
        policy: Policy,
        tools: Mapping[str, Mapping[str, Any]],
        take_turn: Callable[[str], AbstractAsyncContextManager[Turn]],
        resume: Resume,
        count: Callable[[str], object],
    ) -> None:
        self.answers = f"{agent.mail_address}.answers"
        self._client = agent.client
        self._agent = agent
        self._policy = policy
        self._tools = tools
        self._take_turn = take_turn
        self._resume = resume
        self._count = count
        self._records = QuestionRecords(agent)
        self._mail = QuestionMail(agent, self.answers)
        self._parking = Parking(agent)

    async def prepare(self) -> None:
        """Make missing mailboxes, also those of the people who are asked."""
        await self._client.mailbox_create(name=self.answers, renew=True)
        await self._records.prepare()
        if (
            self._agent.identity is None
        ):  # else they would be this agent's, and closed to the people
            for to in (*self._policy.humans, self._policy.escalate_to):
                if to is not None:
                    await self._client.mailbox_create(name=to, renew=True)

    async def ask(
        self,
        origin: Origin,
        thread_id: str,
        interrupts: Sequence[Interrupt[Any]],
        *,
        after: QuestionRecord | None = None,
    ) -> None:
        """Mail those interrupts of a run that were not mailed before; the caller has the turn.

        ``after`` is the question that was answered just before.
        """
        requests = [asked(one.value, one.response_schema, self._tools) for one in interrupts]
        recipients = [self._recipients(one) for one in requests]
        for interrupt, request, to in zip(interrupts, requests, recipients, strict=True):
            record = await self._recorded(origin, thread_id, interrupt, request, to, after)
            if record.state is QuestionState.OPEN and record.answer is None:
                await self._mail.set_timers(record)
                await self._mail.ask_all(record)

    async def is_waiting(self, thread_id: str) -> bool:
        """Return whether a thread waits for an answer, or for the end of its run after one."""
        return bool(await self._records.open_in(thread_id))

    async def park(self, message: Message, thread_id: str) -> None:
        """Move a message aside until its thread waits no more; the caller has its turn."""
        await self._parking.park(message, thread_id)
        self._count("parked")

    async def handle(self, message: Message) -> None:
        """Process a message to the mailbox of the answers: an answer, or a timer."""
        if message.correlation_id is None and PROGRESS in message.headers:
            return  # of an agent that is at work on a question
        due = due_of(message)
        try:
            record = await self._record_of(message)
            async with self._take_turn(record.thread_id) as turn:
                if due is None:
                    await self._answer(message, turn)
                else:
                    await self._come_due(message, due)
        except _Refused as refused:
            self._count("refused")
            logger.warning(
                "an answer was refused: %s",
                refused,
                extra={"msg_id": message.msg_id, "sender": message.sender},
            )
            await self._mail.receipt(message, refused.receipt)
            raise Reject(str(refused)) from None

    async def give_up(self, message: Message, error: Exception | None) -> None:
        """Give up the run of a question that failed too often with the accepted answer.

        The answer cannot be taken back: LangGraph has stored it for the failed node. So the sender
        gets an error answer, and messages that waited for the run continue.
        """
        if error is None:
            reason = "its worker died"
        else:  # only the type of an error: the sender may be a stranger
            reason = str(error) if isinstance(error, Reject) else type(error).__name__
        record = await self._accepted(message)
        if record is None:
            return
        async with self._take_turn(record.thread_id):
            record = await self._accepted(message)
            if record is not None:
                told = f"the run failed with the answer of {record.answered_by}: {reason}"
                await self._close(record, Failure.FAILED, told)

    async def _accepted(self, message: Message) -> QuestionRecord | None:
        """Return the open question whose accepted answer a message is, if any."""
        if message.correlation_id is None:
            return None
        record = await self._records.get(message.correlation_id)
        if record is None or record.state is not QuestionState.OPEN:
            return None
        return record if record.answer == digest_of(message) else None

    # Questions

    def _recipients(self, request: AskedInterrupt) -> tuple[str, ...]:
        if request.to is not None:
            return (mailbox_of(request.to),)
        if not self._policy.humans:
            raise Reject(
                f"the graph interrupted itself to ask {shown(request.question.text)}, "
                "and this worker has nobody to ask: it needs human="
            )
        return self._policy.humans

    async def _recorded(
        self,
        origin: Origin,
        thread_id: str,
        interrupt: Interrupt[Any],
        request: AskedInterrupt,
        to: tuple[str, ...],
        after: QuestionRecord | None,
    ) -> QuestionRecord:
        """Return the stored record of an interrupt."""
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
        record = QuestionRecord(
            id=self._client.new_id() + self._client.new_id(),
            identity=identity,
            thread_id=thread_id,
            interrupt_id=interrupt.id,
            kind=request.kind,
            question=replace(
                request.question, expires=None if policy.expires is None else now + policy.expires
            ),
            body=request.body,
            asked=to,
            origin=origin,
            escalate_to=policy.escalate_to if escalates else None,
            escalate_at=now + (policy.escalate_after or 0) if escalates else None,
        )
        stored = await self._records.add(record)
        if stored is record:
            self._count("asked")
            logger.info(
                "asking %s",
                ", ".join(to),
                extra={"thread_id": thread_id, "question": request.question.text},
            )
        return stored

    # Answers

    async def _record_of(self, message: Message) -> QuestionRecord:
        if due_of(message) is not None and not self._agent.has_sent(message):
            raise _Refused("it is a timer of somebody else")
        if message.correlation_id is None:
            raise _Refused("it has no correlation id, and so answers nothing")
        record = await self._records.get(message.correlation_id)
        if record is None:
            raise _Refused(f"no question has the correlation id {shown(message.correlation_id)}")
        return record

    async def _answer(self, message: Message, turn: Turn) -> None:
        record = await self._record_of(message)
        answer = digest_of(message)
        is_repeated = record.answer == answer
        if is_repeated and record.state is QuestionState.ANSWERED and message.delivery_count > 1:
            await self._mail.receipt(message, _ACCEPTED)
            await self._finish(record)  # a crash came before the ack
            return
        await self._check(record, message, answer)
        failed = None if record.kind is Kind.MESSAGE else ErrorAnswer.read(message)
        if failed is not None:  # of an agent in whose place somebody else may answer
            raise _Refused(f"it is an error answer: {failed.reason}")
        # A graph may refuse an answer by its schema, which shows only in the run.
        is_final = record.question.schema is None
        try:
            value = resume_value(record.kind, record.question, answer_of(message.payload))
            _refuse_control(value)
            if not is_repeated:
                at = _answered_at(record, message)
                record = replace(
                    record, answer=answer, answered_by=message.sender or at, answered_at=at
                )
                if not await self._records.claim(record):
                    raise _Refused(
                        "the question has been answered by another message",
                        outcome=AnswerOutcome.CLOSED,
                    )
            if is_final:
                await self._mail.receipt(message, _ACCEPTED)
            resumed = await self._resume(record, value, turn, is_repeated)
        except InvalidAnswer as error:
            await self._ask_again(record, message, str(error))
            raise _Refused(f"it does not fit the question: {error}") from error
        if resumed is None:
            await self._close(record, Failure.FAILED, _OVER)
            raise _Refused(_OVER, outcome=AnswerOutcome.CLOSED)
        if not is_final:
            await self._mail.receipt(message, _ACCEPTED)
        interrupts, reply = resumed
        logger.info(
            "run waits for another answer" if interrupts else "run ended",
            extra={"thread_id": record.thread_id, "how": "answered"},
        )
        if interrupts:
            await self.ask(record.origin, record.thread_id, interrupts, after=record)
        elif reply is not None:
            await self._mail.answer(record.origin, reply)
        record = replace(record, state=QuestionState.ANSWERED)
        await self._records.close(record)
        await self._finish(record)
        self._count("answered")

    async def _check(self, record: QuestionRecord, message: Message, answer: str) -> None:
        """Check that this sender may answer a question now."""
        problem = await sender_problem(
            self._client,
            message,
            record.asked,
            is_authenticated=self._agent.identity is not None,
        )
        if problem is not None:
            raise _Refused(problem)
        closed, by = AnswerOutcome.CLOSED, record.answered_by
        if record.state is QuestionState.ANSWERED or (
            record.state is QuestionState.OPEN and record.answer not in {None, answer}
        ):
            raise _Refused(f"the question has been answered by {shown(by)}", outcome=closed, by=by)
        if record.answer == answer:
            return  # it was in time when it was accepted, though its run may have failed since
        if record.state is QuestionState.CLOSED:
            raise _Refused("it is too late: the question was given up", outcome=closed)
        expires = record.question.expires
        if expires is not None and message.create_time >= expires:
            raise _Refused("it is too late: the question has expired", outcome=closed)

    async def _ask_again(self, record: QuestionRecord, message: Message, problem: str) -> None:
        """Keep a question open, and mail the sender why the answer did not fit."""
        if record.answer is not None:
            refused = record.refused + 1
            record = replace(
                record, answer=None, answered_by=None, answered_at=None, refused=refused
            )
            await self._records.change(record, "reopened")
        await self._mail.ask_again(record, _answered_at(record, message), message.msg_id, problem)

    async def _close(
        self, record: QuestionRecord, failure: Failure, error: str, *, told: str | None = None
    ) -> None:
        """Give up the run of a question, with its other questions; idempotent."""
        reference = await self._mail.fail(record.origin, failure, error)
        others = [
            one
            for one in await self._records.open_in(record.thread_id)
            if one.origin.message == record.origin.message and one.id != record.id
        ]
        for one in (*others, record):  # itself last, as a crash may come in between
            await self._records.close(replace(one, state=QuestionState.CLOSED))
            await self._finish(one, error if told is None else told)
        logger.warning(
            "a run was given up: %s (reference %s)",
            error,
            reference,
            extra={"thread_id": record.thread_id},
        )

    async def _finish(self, record: QuestionRecord, told: str | None = None) -> None:
        """Finish a closed question; idempotent.

        ``told`` is the reason why it needs no answer. By default it was answered, which all clients
        of the answer's mailbox see.
        """
        if told is not None:
            await self._mail.withdraw(record, told)
        else:
            by = record.answered_by
            await self._mail.withdraw(
                record, f"{by} has answered it", but=record.answered_at or own_mailbox(by)
            )
        if not await self.is_waiting(record.thread_id):
            await self._parking.release(record.thread_id)

    # What falls due

    async def _come_due(self, message: Message, due: Due) -> None:
        record = await self._record_of(message)
        instant = record.escalate_at if due is Due.ESCALATION else record.question.expires
        if instant is None:
            raise _Refused("the timer does not exist")
        now = max(self._client.clock.now_ms() / 1000, message.create_time)
        if now < instant:
            if instant - now > _EARLIEST_TIMER_S:
                raise _Refused("this timer is before its time")
            raise Retry("the clock of this machine is behind", after=instant - now)
        if due is Due.ESCALATION:
            await self._escalate(record)
        else:
            await self._expire(record)

    async def _escalate(self, record: QuestionRecord) -> None:
        to = record.escalate_to
        if to is None or record.state is not QuestionState.OPEN or record.answer is not None:
            return
        if to not in record.asked:
            record = replace(record, asked=(*record.asked, to))
            await self._records.change(record, "escalated")
            self._count("escalated")
            logger.info("asking %s as well", to, extra={"thread_id": record.thread_id})
        await self._mail.ask(record, to)

    async def _expire(self, record: QuestionRecord) -> None:
        """Give up the run of a question, with its other questions."""
        if record.state is QuestionState.CLOSED and record.answer is None:
            await self._finish(record, _UNANSWERED)  # a crash came before the ack
        if record.state is not QuestionState.OPEN or record.answer is not None:
            return
        error = f"nobody has answered in time: {record.question.text}"
        await self._close(record, Failure.EXPIRED, error, told=_UNANSWERED)
        self._count("expired")


def mailboxes_of(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the mailboxes of one name, of several, or of none; each once."""
    given = () if names is None else (names,) if isinstance(names, str) else names
    return tuple(dict.fromkeys(mailbox_of(one) for one in given))


def _answered_at(record: QuestionRecord, message: Message) -> str:
    """Return the asked mailbox that an answer is for."""
    for named in (message.from_mailbox, own_mailbox(message.sender)):
        if named is not None and named in record.asked:
            return named
    return record.mailbox_of(message.correlation_id or "") or record.asked[0]


def _refuse_control(value: Any) -> None:
    if control := control_value(value):
        raise InvalidAnswer(f"LangGraph would rewrite the state by {control}; leave it out")
