"""Asking agents and waiting for their answers, also when the program is killed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from mq9 import address as addresses
from mq9.client.answers import at_once, first_answers, stored_answers
from mq9.client.error_answers import ErrorAnswer
from mq9.client.ordered_reading import OrderedReading
from mq9.errors import (
    AgentNotFound,
    Forbidden,
    IdConflict,
    InvalidAddress,
    InvalidRequest,
    MailboxNotFound,
    NoReply,
)
from mq9.models import Gathered, Message, Payload, Priority
from mq9.operations.caller import TTL_S, Caller, Step, description
from mq9.operations.discovery import living_first, named, nearest
from mq9.operations.identity import code
from mq9.operations.message_views import MessageView, views
from mq9.operations.operation import Arguments, Result, operation
from mq9.protocol import checks

DEFAULT_TIMEOUT_S = 60.0
KEPT_ANSWERS = 10_000  # in the mailbox where a thread is answered, before the oldest are removed
_PAGE = 100  # messages
_LOOKED_AT = 20  # agents to look at


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the agent to ask.

    Attributes:
        content: The question: text, bytes, or any JSON value.
        to: The mailbox address, or the name of a registered agent.
        capability: Instead, the skill of the agent, in words of its card.
    """

    content: Payload
    to: str | None = None
    capability: str | None = None

    def __post_init__(self) -> None:
        """Check that it names the agent, in one way."""
        if checks.is_absent(self.to) == checks.is_absent(self.capability):
            raise InvalidRequest("to: say whom to ask, or give the capability")


async def ask_all(
    caller: Caller,
    questions: Sequence[Question],
    *,
    timeout: float,
    minimum: int | None = None,
) -> Gathered:
    """Ask agents and return their answers, in the order of the questions.

    If the step of the caller runs again, the same questions are sent once, to the same agents.
    Answers from the meantime are returned.
    """
    step = caller.step
    if step is not None:
        await _have_mailbox(caller, step)

    found = await at_once(partial(_recipient, caller), questions)
    pairs = [(to, one.content) for to, one in zip(found, questions, strict=True)]
    trace = caller.trace_to(found[0], None) if found else None
    return await caller.client.gather(
        pairs,
        timeout=timeout,
        minimum=minimum,
        id=None if step is None else step.secret,
        reply_to=None if step is None else step.mail_address,
        sender=None if caller.identity is None else caller.identity.name,
        path=None if trace is None else trace.path,
        headers=None if trace is None else trace.headers,
    )


async def recipient(caller: Caller, question: Question) -> str:
    """Return the mailbox of whom to ask; when the caller's step is taken again, the same."""
    if caller.step is not None:
        await _have_mailbox(caller, caller.step)
    return await _recipient(caller, question)


async def _recipient(caller: Caller, question: Question) -> str:
    step = caller.step
    which = ""  # the correlation id under which the step notes whom it asks
    if step is not None:
        which = code(step.secret.encode(), "to", question.to or "", question.capability or "")
        known = await caller.client.query(step.mail_address, correlation_id=which, limit=1)
        if known:
            return known[0].text
    found = await _find(caller, question)
    if step is None or found == question.to:
        return found
    try:
        await caller.client.send(
            step.mail_address, found, id=which, correlation_id=which, sender=_name(caller)
        )
    except IdConflict:  # the same step, taken by two programs at once, asks one of the agents
        [known_now] = await caller.client.query(step.mail_address, correlation_id=which, limit=1)
        return known_now.text
    return found


def _name(caller: Caller) -> str | None:
    return None if caller.identity is None else caller.identity.name


async def _find(caller: Caller, question: Question) -> str:
    if question.to is None:
        return await caller.mailbox_to_send(await _able(caller, str(question.capability)))
    try:
        address = await caller.mailbox_to_send(question.to, "to")
    except InvalidAddress:
        found = await named(caller.client, question.to)
        if found is None:
            raise InvalidAddress(
                f"to: {addresses.shown(question.to)} is not an address, and no agent has this name"
                f"{await nearest(caller.client, question.to)}"
            ) from None
        return await caller.mailbox_to_send(found)
    try:
        await caller.client.mailbox_status(address)
    except MailboxNotFound:  # an address may also be a name
        found = await named(caller.client, question.to)
        return address if found is None else await caller.mailbox_to_send(found)
    except Forbidden:
        pass  # it exists, and belongs to another agent
    return address


async def _able(caller: Caller, capability: str) -> str:
    """Return the mailbox of the agent that can do something best."""
    matches = await caller.client.agent_discover(semantic=capability, limit=_LOOKED_AT)
    now = caller.client.clock.now_ms() // 1000
    for agent in living_first(matches, now):
        if not agent.match.weak and agent.match.name != _name(caller):
            return agent.match.mailbox
    raise AgentNotFound(f"agent not found: none can do {checks.shown(capability)}")


async def _have_mailbox(caller: Caller, step: Step) -> None:
    """Create the mailbox for the answers of a step, or renew its TTL."""
    desc = description(_name(caller) or "")
    client, address = caller.client, step.mail_address
    await client.mailbox_create(name=address, ttl=TTL_S, desc=desc, renew=True)
    surplus = (await client.mailbox_status(address)).stored - KEPT_ANSWERS
    while surplus > 0:
        oldest = await client.fetch(
            address, priority=Priority.NORMAL, num_msgs=min(surplus, _PAGE), max_wait_ms=0
        )
        if not oldest:
            break
        for message in oldest:
            await client.delete(address, message.msg_id)
        surplus -= len(oldest)


class AskArguments(Arguments):
    """Arguments of ask_agent."""

    FORMER: ClassVar[Mapping[str, str]] = {"mail_address": "to"}

    content: Annotated[
        str | None, Field(max_length=1024 * 1024, description="The question, complete in itself.")
    ] = None
    to: Annotated[
        str | None, Field(description="Mailbox address, or the name of a registered agent.")
    ] = None
    capability: Annotated[
        str | None,
        Field(
            max_length=4_096,
            description="Instead: what the agent must be able to do, as it would say it of itself.",
        ),
    ] = None
    wait_seconds: Annotated[
        int | None, Field(ge=1, le=3_600, description="Seconds to wait; else 60.")
    ] = None
    question_id: Annotated[
        str | None,
        Field(
            max_length=256,
            description="Instead of all else: wait on for the answer to an earlier question.",
        ),
    ] = None


class AskResult(Result):
    """Result of ask_agent."""

    answer: MessageView | None = Field(default=None, description="Left out when none came.")
    untrusted_content: str | None = Field(
        default=None, description="The answer, where nothing else is known of it."
    )
    question_id: str | None = Field(default=None, description="To wait on for the answer.")
    note: str | None = None


_SHORTER = "ask for a shorter answer"
_WAIT_ON = "no answer within {seconds:g} s; to wait on, call again with this question_id alone"
_GIVEN_UP = "no answer within {seconds:g} s"


@operation(
    title="Ask an agent",
    description=(
        "Ask another agent and wait for its answer. Name it, or say in capability what it must be "
        "able to do."
    ),
    open_world=True,
)
async def ask_agent(caller: Caller, arguments: AskArguments) -> AskResult:
    """Ask an agent, or wait on for its answer."""
    seconds = float(arguments.wait_seconds or DEFAULT_TIMEOUT_S)
    if arguments.question_id is not None:
        answer = await _wait_on(caller, arguments.question_id, seconds)
        which = arguments.question_id
    else:
        question = question_in(arguments)
        gathered = await ask_all(caller, [question], timeout=seconds, minimum=0)
        for refusal in gathered.refused.values():
            if isinstance(refusal, MailboxNotFound) and question.to is not None:
                close = await nearest(caller.client, question.to)
                raise MailboxNotFound(f"{refusal}{close}")
            raise refusal
        [answer], [which] = gathered, gathered.correlation_ids
    if answer is not None:
        [view] = views([answer], caller.max_chars, _SHORTER)
        return AskResult(answer=view)
    if caller.step is None:
        return AskResult(note=_GIVEN_UP.format(seconds=seconds))
    return AskResult(question_id=which, note=_WAIT_ON.format(seconds=seconds))


def question_in(arguments: AskArguments) -> Question:
    """Return the question in the arguments of the tool."""
    if arguments.content is None:
        raise InvalidRequest("content: say what to ask")
    return Question(arguments.content, arguments.to, arguments.capability)


async def _wait_on(caller: Caller, question_id: str, seconds: float) -> Message | None:
    step = caller.step
    if step is None:
        raise InvalidRequest("question_id: outside of a thread, answers are kept for no one")
    client, address = caller.client, step.mail_address
    try:
        found, next_id = await stored_answers(client, address, [question_id])
    except MailboxNotFound:
        raise InvalidRequest("question_id: nothing was asked in this thread") from None
    if not found:
        reading = OrderedReading(client, address, next_id)
        found = await first_answers(reading, {question_id}, clock=client.clock, seconds=seconds)
    answer = found.get(question_id)
    failed = None if answer is None else ErrorAnswer.read(answer)
    if failed is not None:
        raise failed.as_error(None)
    return answer


def value_of(answer: Message) -> object:
    """Return the content of an answer: parsed JSON, or else text."""
    try:
        return answer.json()
    except ValueError:
        pass
    try:
        return answer.text
    except UnicodeDecodeError:
        raise NoReply(f"the answer from {answer.sender} is neither JSON nor text") from None
