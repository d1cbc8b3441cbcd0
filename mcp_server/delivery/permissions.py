"""The permissions that a host asks for: asked of a person by mail, and answered once.

A hook of the host waits for the decision. Its question is mailed to the person, who answers with
``mq9 reply`` or on the desk. Without an answer in time the host asks in its own way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from mcp_server.callers import Callers, in_time
from mcp_server.delivery.approved import Approved
from mcp_server.delivery.rules import Rule, rule_for
from mcp_server.delivery.shapes import BEGINS, EDITABLE
from mq9 import IdConflict, InvalidRequest, MailboxNotFound, Message, Mq9Client, Mq9Error
from mq9.clock import Clock, SystemClock, sleep, wait_for_any
from mq9.operations.identity import Identity
from mq9.protocol.checks import shown
from mq9.questions import (
    RECEIPTS,
    TAG,
    Action,
    AnswerOutcome,
    InvalidAnswer,
    MailedQuestion,
    Receipt,
    answer_of,
    closed,
    decisions_of,
    mailbox_of,
    send_receipt,
    sender_problem,
)

_logger = logging.getLogger("mq9.mcp")

REQUESTS = ("ready", "permission", "ended")  # what hooks ask here
MAX_OPEN = 50
LISTENS_S = 120  # how long the mailbox for answers outlives a killed server
LATE_S = 300  # how long late answers are noticed
_FETCH_S = 30
_LEASE_MS = 5_000  # an answer whose receipt could not be sent is heard again so soon
_RETRY_S = 1.0
_MOST_BYTES = 100_000  # of an answer: a hook has to take it
_CLOSE_S = 3.0
_NOTE_S = 86_400  # how long a note stays in the place of a question that needs no answer
_SESSION_CHARS = 8
_WHY_CHARS = 1_000
_ACCEPTED = Receipt(outcome=AnswerOutcome.ACCEPTED)
_ELSEWHERE = "it was answered where the host runs"
_WITHDRAWN = "the host no longer asks"
_TOO_LATE = "nobody answered it in time"


@dataclass(slots=True, eq=False)
class _Question:
    id: str
    host: str
    session: str
    to: str
    action: str
    mailed: MailedQuestion
    decision: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    closed: str | None = None  # why it no longer needs an answer
    answer: int | None = None  # the message that counts
    answered_by: str | None = None

    @property
    def asked(self) -> Action:
        """The action that a person decides about."""
        [action] = self.mailed.actions
        return action


class _Asker:
    """A connection of its own, with the mailbox that answers come to."""

    def __init__(self, identity: Identity, client: Mq9Client) -> None:
        self.identity = identity
        self.client = client
        self.mail_address = client.new_address("permissions")
        self.is_authenticated = False
        self.approved = Approved(client, f"{identity.mail_address}.permissions")

    async def open(self) -> None:
        """Connect, and make the mailbox."""
        try:
            await self.client.open()
            self.is_authenticated = await self.client.whoami() is not None
            await self.keep()
        except BaseException:
            await self.client.close()
            raise

    async def keep(self) -> None:
        """Keep the mailbox for some time more."""
        await self.client.mailbox_create(name=self.mail_address, ttl=LISTENS_S, renew=True)


class Permissions:
    """Asks people for the permissions that the sessions of a host need.

    Args:
        callers: The agent that asks.
        clock: Measures waits; the machine's when not given.
    """

    def __init__(self, callers: Callers, clock: Clock | None = None) -> None:
        self._callers = callers
        self._clock = clock or SystemClock()
        self._questions: OrderedDict[str, _Question] = OrderedDict()
        self._asker: _Asker | None = None
        self._opening = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._late_until_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the open questions, and the connection."""
        for one in self._open():
            self._close(one, _WITHDRAWN)
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._asker is not None:
            with suppress(TimeoutError, Mq9Error):
                await in_time(self._clock, _CLOSE_S, self._finish(self._asker))
            await self._asker.client.close()

    @property
    def is_busy(self) -> bool:
        """Whether something is still sent of decided or closed questions."""
        return bool(self._tasks)

    async def _finish(self, asker: _Asker) -> None:
        """Send the open messages, and let the broker refuse later answers."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asker.client.mailbox_drop(asker.mail_address)

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a hook of the host: with a decision, or with nothing where it is to ask itself."""
        if self._callers.default is None:
            return {"ready": False}
        decision: dict[str, Any] = {}
        if request.get("do") == "permission":
            decision = await self._ask(request)
        elif request.get("do") == "ended":
            self._end(request)
        return {"ready": True, **decision}

    def _open(self) -> list[_Question]:
        return [one for one in self._questions.values() if one.closed is None]

    def _end(self, request: Mapping[str, Any]) -> None:
        """Close the oldest question about something that the host has done by now."""
        same = ("host", "session", "action")
        for one in self._open():
            if all(getattr(one, name) == request.get(name) for name in same):
                self._close(one, _ELSEWHERE)
                return

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        person = request["to"]
        if len(self._open()) >= MAX_OPEN:
            return {"person": f"{BEGINS}{person} was not asked: {MAX_OPEN} questions are open"}
        try:
            asker = await self._opened()
            question = await self._question(asker, request)
        except Mq9Error as error:
            return _not_asked(person, error)
        self._questions[question.id] = question
        self._listen(asker)
        try:
            await asker.keep()
            await self._send(asker, question)
            deadline_s = (question.mailed.expires or 0) - self._clock.now_ms() / 1000
            await wait_for_any(self._clock, max(deadline_s, 0), question.decision)
        except asyncio.CancelledError:  # the hook has ended, or this server does
            self._close(question, _WITHDRAWN)
            raise
        except Mq9Error as error:
            self._close(question, _WITHDRAWN)
            return _not_asked(person, error)
        if not question.decision.done():
            self._close(question, _TOO_LATE)
            return {}
        return question.decision.result()

    async def _opened(self) -> _Asker:
        async with self._opening:
            if self._asker is None:
                asker = _Asker(*self._callers.connect_default())
                await asker.open()
                self._asker = asker
            return self._asker

    async def _question(self, asker: _Asker, request: Mapping[str, Any]) -> _Question:
        host, tool, args = request["host"], request["tool"], request["args"]
        seconds = max(request["seconds"], 1)
        to = mailbox_of(request["to"])
        if to == asker.identity.mail_address:
            raise InvalidRequest(f"{to} is the mailbox of the agent that asks")
        times = await asker.approved.times(host, to, request["action"])
        rule = None if request["cut"] else rule_for(host, tool, args, times)
        can_edit = host in EDITABLE and not request["cut"]
        value = {
            "host": host,
            "agent": asker.identity.name,
            "session": request["session"],
            "directory": request["directory"],
        }
        return _Question(
            id=asker.client.new_id(),
            host=host,
            session=request["session"],
            to=to,
            action=request["action"],
            mailed=MailedQuestion(
                text=_text(request, rule),
                value=value | ({} if rule is None else {"rule": rule.value}),
                actions=(
                    Action(
                        name=tool,
                        args=args,
                        text=(request["why"] or "")[:_WHY_CHARS],
                        decisions=("approve", "edit", "reject")
                        if can_edit
                        else ("approve", "reject"),
                    ),
                ),
                expires=self._clock.now_ms() // 1000 + seconds,
            ),
        )

    async def _send(self, asker: _Asker, question: _Question, *, again: str | None = None) -> None:
        """Send a question, or put it in the place of the one before."""
        mailed = question.mailed

        async def send() -> None:
            await asker.client.send(
                question.to,
                mailed.to_json(),
                id=question.id if again is None else f"{question.id}.{again}",
                key=question.id,
                tags=[TAG],
                ttl=max(1, (mailed.expires or 0) - self._clock.now_ms() // 1000),
                reply_to=asker.mail_address,
                correlation_id=question.id,
                headers={RECEIPTS: "yes"},
                sender=asker.identity.name,
            )

        try:
            await send()
        except MailboxNotFound:
            if asker.is_authenticated:
                raise  # it would be the agent's, and closed to the person
            await asker.client.mailbox_create(name=question.to, renew=True)
            await send()

    def _close(self, question: _Question, why: str) -> None:
        """Withdraw a question: later answers are late."""
        if question.closed is not None:
            return
        question.closed = why
        self._heed_late()
        if not question.decision.done():
            question.decision.set_result({})
        if self._asker is not None and (question.mailed.expires or 0) > self._clock.now_ms() / 1000:
            self._begin(self._withdraw(self._asker, question, why))

    async def _withdraw(self, asker: _Asker, question: _Question, why: str) -> None:
        """Put a note in the place of a question."""
        try:
            await asker.client.send(
                question.to,
                closed(question.mailed, why),
                id=f"closed.{question.id}",
                key=question.id,
                correlation_id=question.id,
                ttl=_NOTE_S,
                sender=asker.identity.name,
            )
        except (IdConflict, MailboxNotFound) as error:
            _logger.debug("a question needs no withdrawal: %s", error)
        except Mq9Error as error:
            _logger.info("a question stays until it expires: %s", error)

    # Answers

    def _listen(self, asker: _Asker) -> None:
        """Hear answers until all questions are closed, and late ones for some time more."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._hear(asker))

    async def _hear(self, asker: _Asker) -> None:
        while self._open() or self._clock.monotonic_ms() < self._late_until_ms:
            try:
                await asker.keep()
                for message in await asker.client.fetch(
                    asker.mail_address,
                    group_name="server",
                    num_msgs=1,
                    lease_ms=_LEASE_MS,
                    max_wait_ms=_FETCH_S * 1000,
                ):
                    await self._heard(asker, message)
                    await message.ack()
            except Mq9Error as error:
                _logger.info("answers cannot be heard: %s", error)
                await sleep(self._clock, _RETRY_S)

    async def _heard(self, asker: _Asker, message: Message) -> None:
        question = self._questions.get(message.correlation_id or "")
        receipt = await self._receipt(asker, question, message)
        await send_receipt(asker.client, message, receipt, asker.identity.name)

    async def _receipt(
        self, asker: _Asker, question: _Question | None, message: Message
    ) -> Receipt:
        """Accept an answer, or return why it is not valid."""
        if question is None:
            return _refused("no question has its correlation id")
        problem = await sender_problem(
            asker.client, message, (question.to,), is_authenticated=asker.is_authenticated
        )
        if problem is not None:
            return _refused(problem)
        if question.answer == message.msg_id:
            return _ACCEPTED  # its receipt could not be sent
        if question.closed is not None or message.create_time >= (question.mailed.expires or 0):
            why = question.closed or _TOO_LATE
            by = question.answered_by
            text = why if by is not None else f"it is too late: {why}"
            return Receipt(outcome=AnswerOutcome.CLOSED, text=text, by=by)
        try:
            if len(message.payload) > _MOST_BYTES:
                raise InvalidAnswer(f"it is longer than {_MOST_BYTES} bytes")  # noqa: TRY301  # as any other answer that does not fit
            [decided] = decisions_of(question.mailed.actions, answer_of(message.payload))
        except InvalidAnswer as error:
            question.mailed = replace(question.mailed, problem=str(error))
            await self._send(asker, question, again=str(message.msg_id))
            return _refused(f"it does not fit the question: {error}")
        by = message.sender or question.to
        question.answer = message.msg_id
        question.closed, question.answered_by = f"{shown(by)} has answered it", by
        self._heed_late()
        question.decision.set_result(_decision(decided, by))
        self._begin(
            asker.approved.note(question.host, question.to, question.action, decided["type"])
        )
        return _ACCEPTED

    def _heed_late(self) -> None:
        self._late_until_ms = self._clock.monotonic_ms() + LATE_S * 1000
        while len(self._questions) > 2 * MAX_OPEN:
            if next(iter(self._questions.values())).closed is None:
                return
            self._questions.popitem(last=False)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _text(request: Mapping[str, Any], rule: Rule | None) -> str:
    """Return the question for a person: our words, and quoted ones of the host and the model."""
    where = f" in {shown(request['directory'])}" if request["directory"] else ""
    parts = [
        f"{request['host']} asks: may it use {shown(request['tool'])}{where}?",
        f"Session {request['session'][:_SESSION_CHARS]}.",
    ]
    if request["why"]:
        parts.append(f"The model says why: {shown(request['why'])}.")
    if request["cut"]:
        parts.append(f"{request['cut']} characters of the arguments were left out.")
    parts.append("Without an answer the host asks by itself.")
    if rule is not None:
        parts.append(rule.text)
    return " ".join(parts)


def _not_asked(person: str, error: Mq9Error) -> dict[str, Any]:
    _logger.warning("%s was not asked for a permission: %s", person, error)
    return {"person": f"{BEGINS}{person} was not asked: {str(error)[:300]}"}


def _refused(text: str) -> Receipt:
    return Receipt(outcome=AnswerOutcome.REFUSED, text=text)


def _decision(decided: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Return the output of the hook for a decision."""
    if decided["type"] == "reject":
        reason = decided.get("message")
        return {"behavior": "deny", "message": f"{by} said no{f': {reason}' if reason else '.'}"}
    edited = decided.get("edited_action")
    return {"behavior": "allow", "args": None if edited is None else edited["args"]}
