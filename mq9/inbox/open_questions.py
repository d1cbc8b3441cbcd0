"""The open questions in a person's mailbox."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, MessageNotFound
from mq9.inbox import decisions
from mq9.inbox.sent_answers import SentAnswers, SentReply, gets_receipt
from mq9.models import PRIORITIES, Message
from mq9.questions import TAG, AnswerOutcome, MailedQuestion

_AT_ONCE = 1_000  # messages of one request
_DONE = ("acked", "moved")


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that waits for an answer.

    Attributes:
        message: The message of the question.
        question: The question.
        sent: A sent answer that is not confirmed, or was refused; None without one.
    """

    message: Message
    question: MailedQuestion
    sent: SentReply | None = None

    @property
    def urgency(self) -> tuple[float, ...]:
        """By which questions are sorted: priority, then how soon they expire, then age."""
        expires = self.question.expires
        return (
            PRIORITIES.index(self.message.priority),
            float("inf") if expires is None else expires,
            self.message.msg_id,
        )


@dataclass(frozen=True, slots=True)
class OpenQuestions:
    """The open questions of a mailbox, oldest first.

    Attributes:
        questions: The questions.
        more: Whether there are older ones, which were not looked at.
    """

    questions: tuple[OpenQuestion, ...]
    more: bool


async def open_questions(
    client: Mq9Client, mail_address: str, *, most: int = _AT_ONCE
) -> OpenQuestions:
    """Return the newest open questions of a mailbox, without taking anything.

    A question is open until it expires, is removed, or is acked by the group with the mailbox's
    name. The answers that were sent are not looked for; see ``with_answers``.

    Args:
        client: The connection of the person, or of somebody who may look at the mailbox.
        mail_address: The mailbox.
        most: Highest number of messages to look at.
    """
    now = client.clock.now_ms() / 1000
    found: list[OpenQuestion] = []
    before: int | None = None
    left = most
    more = True
    while more and left > 0:
        page = await client.query(
            mail_address,
            tags=[TAG],
            group_name=mail_address,
            before_id=before,
            limit=min(left, _AT_ONCE),
        )
        more = page.more
        left -= len(page)
        if not page:
            break
        before = page[0].msg_id
        asked = [OpenQuestion(one, MailedQuestion.from_payload(one.payload)) for one in page]
        found = [one for one in asked if _is_open(one, now)] + found
    return OpenQuestions(tuple(found), more)


def _is_open(asked: OpenQuestion, now: float) -> bool:
    standing = asked.message.standing
    if standing is not None and standing.state in _DONE:
        return False
    expires = asked.question.expires
    return expires is None or expires > now


async def with_answers(
    client: Mq9Client, answers: SentAnswers, asked: list[OpenQuestion]
) -> list[OpenQuestion]:
    """Return questions with the answers that were sent, without those that are settled.

    One whose answer was accepted is kept as a decision. It is removed from the mailbox then, as is
    one that is closed.
    """
    known = []
    for one in asked:
        if not gets_receipt(one.message):
            known.append(one)
            continue
        sent = await answers.find(one.message)
        receipt = None if sent is None else sent.receipt
        if receipt is None or receipt.outcome is AnswerOutcome.REFUSED:
            known.append(replace(one, sent=sent))
            continue
        with suppress(Forbidden):  # the person may look at the mailbox, and not delete there
            if sent is not None and receipt.outcome is AnswerOutcome.ACCEPTED:
                by = sent.by or one.message.mail_address
                await decisions.record(client, one.message, by=by, answer=sent.text)
            await remove(client, one.message)
            if sent is not None:
                await answers.forget(sent)
    return known


async def remove(client: Mq9Client, asked: Message) -> None:
    """Remove a question that no longer needs an answer; idempotent."""
    with suppress(MessageNotFound):
        await client.delete(asked.mail_address, asked.msg_id)


def has_expired(question: MailedQuestion, now: float) -> bool:
    """Return whether a question can no longer be answered."""
    return question.expires is not None and question.expires <= now
