"""The questions of an agent's graphs, stored in one of its mailboxes until they are answered."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from langchain_mq9.worker.interrupts import Kind
from mq9 import IdConflict, Mq9Client
from mq9.models import Message
from mq9.operations.conversations import Before
from mq9.operations.presence import make_own_mailbox
from mq9.questions import MailedQuestion

logger = logging.getLogger("mq9.worker")


@dataclass(slots=True, eq=False)
class WorkerAgent:
    """The agent of a worker: its connection, its name and its mailbox.

    If the broker authenticates the agent, only messages with that verified sender are its own.
    Otherwise a message of a verified sender belongs to that sender, and all others count as own.
    """

    client: Mq9Client
    name: str
    mail_address: str
    identity: str | None = None  # its authenticated name at the broker

    async def prepare(self) -> None:
        """Ask the broker for the identity of the connection."""
        self.identity = await self.client.whoami()

    async def make_own_mailbox(self, mail_address: str) -> None:
        """Make a mailbox that only the agent sends to, if it is missing; close one that is open."""
        await make_own_mailbox(self.client, mail_address)

    def has_sent(self, message: Message) -> bool:
        """Return whether the agent has sent a message.

        A move keeps the verified sender. So a message that was moved counts only if it came from a
        mailbox of the agent itself, such as its dead letters.
        """
        moved = message.moved
        if moved is not None and not moved.mailbox.startswith(f"{self.mail_address}."):
            return self.identity is None and not message.sender_verified
        if message.sender_verified:
            return message.sender == (self.identity or self.name)
        return self.identity is None


KEPT_S = 7 * 86_400  # how long it is known of a closed question how it ended
_COPY = "."  # between the id of a question and the number of a mailbox that was asked
_MOST_READ = 1_000  # records at once


class QuestionState(StrEnum):
    """The state of a question: open, answered, or closed without an answer."""

    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The message whose run asks, and where that run's answer goes."""

    message: str  # its key
    path: tuple[str, ...] = ()
    reply_to: str | None = None
    correlation_id: str | None = None
    answer_id: str | None = None  # the idempotency id of the answer
    conversation: str | None = None

    def headers(self, correlation_id: str | None = None) -> dict[str, str]:
        """Return the headers of a message that belongs to the same conversation."""
        return Before(self.path, self.conversation).headers(correlation_id)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form; its conversation is stored apart, for earlier releases."""
        fields = dataclasses.asdict(self)
        del fields["conversation"]
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """A question that was asked."""

    id: str  # the correlation id of the first copy
    identity: str  # of the interrupt; see `identity_of`
    thread_id: str
    interrupt_id: str
    kind: Kind
    question: MailedQuestion
    body: Any = None  # mailed in place of the question, unless None
    asked: tuple[str, ...]  # mailboxes
    origin: Origin
    escalate_to: str | None = None
    escalate_at: int | None = None  # Unix seconds
    state: QuestionState = QuestionState.OPEN
    answer: str | None = None  # the digest of the accepted answer
    answered_by: str | None = None  # its sender, else the mailbox that it answers for
    answered_at: str | None = None  # the asked mailbox that it answers for
    refused: int = 0  # answers that did not fit

    def correlation_id_of(self, mailbox: str) -> str:
        """Return the correlation id of the question in one of the asked mailboxes, each its own."""
        number = self.asked.index(mailbox)
        return self.id if number == 0 else f"{self.id}{_COPY}{number}"

    def mailbox_of(self, correlation_id: str) -> str | None:
        """Return the asked mailbox whose question has a correlation id, if any."""
        return next((to for to in self.asked if self.correlation_id_of(to) == correlation_id), None)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {
            **fields,
            "question": self.question.to_json(),
            "origin": self.origin.to_json(),
            "conversation": self.origin.conversation,
        }

    @classmethod
    def from_message(cls, message: Message) -> QuestionRecord:
        """Read a record without fields of later releases; ``ValueError`` if it is none."""
        try:
            stored = message.json()
            fields = {
                one.name: stored[one.name] for one in dataclasses.fields(cls) if one.name in stored
            }
            question = MailedQuestion.from_json(fields["question"])
            origin = Origin(
                **fields["origin"] | {"path": tuple(fields["origin"]["path"])},
                conversation=stored.get("conversation"),
            )
            read: dict[str, Any] = {
                "kind": Kind(fields["kind"]),
                "question": question,
                "asked": tuple(fields["asked"]),
                "origin": origin,
                "state": QuestionState(fields["state"]),
            }
            record = cls(**fields | read)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"message {message.msg_id} is not a record: {error!r}") from error
        if question is None:
            raise ValueError(f"message {message.msg_id} is not a record: it holds no question")
        return record


def identity_of(thread_id: str, interrupt_id: str, value: Any, after: str | None = None) -> str:
    """Return the identity of an interrupt, the same whenever its thread is read.

    Older versions of LangGraph reuse the id for the next interrupt of a task: ``after`` is the
    correlation id of the question with the same id that was answered just before.
    """
    told = [thread_id, interrupt_id, value, after]
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


class QuestionRecords:
    """Keeps the records of an agent in a mailbox, each under its correlation id as the key.

    Only records of the agent itself count, if the broker authenticates senders. The key of a record
    belongs to its verified sender, so that no message of another sender replaces it.
    """

    def __init__(self, agent: WorkerAgent) -> None:
        self._client = agent.client
        self._agent = agent
        self._address = f"{agent.mail_address}.questions"

    async def prepare(self) -> None:
        """Make the mailbox if it is missing."""
        await self._agent.make_own_mailbox(self._address)

    async def get(self, correlation_id: str) -> QuestionRecord | None:
        """Return the record of a correlation id, that of any of the asked mailboxes."""
        key = correlation_id.partition(_COPY)[0]
        record = self._newest(await self._client.query(self._address, key=key)) if key else None
        return None if record is None or record.mailbox_of(correlation_id) is None else record

    async def find(self, identity: str) -> QuestionRecord | None:
        """Return the record of an interrupt."""
        found = await self._client.query(self._address, tags=[identity], limit=_MOST_READ)
        return self._newest(found)

    async def open_in(self, thread_id: str) -> list[QuestionRecord]:
        """Return the open questions of a thread, the newest ones where there are more."""
        tags = [QuestionState.OPEN, thread_id]
        found = await self._client.query(self._address, tags=tags, limit=_MOST_READ)
        return self._read(found)

    def _newest(self, found: Iterable[Message]) -> QuestionRecord | None:
        records = self._read(found)
        return records[-1] if records else None

    def _read(self, found: Iterable[Message]) -> list[QuestionRecord]:
        records = []
        for one in found:
            if one.moved is not None or not self._agent.has_sent(one):
                continue
            try:
                records.append(QuestionRecord.from_message(one))
            except ValueError as error:  # of a stranger, where the broker does not know senders
                logger.warning("%s: %s", self._address, error)
        return records

    async def add(self, record: QuestionRecord) -> QuestionRecord:
        """Store a new record, and return it, or the one already stored of its interrupt."""
        try:
            await self._store(record, f"asked.{record.identity}")
        except IdConflict:
            stored = await self.find(record.identity)
            if stored is None:
                raise
            return stored
        return record

    async def claim(self, record: QuestionRecord) -> bool:
        """Accept an answer; return whether it was the first."""
        try:
            await self.change(record, "claimed")
        except IdConflict:
            return False
        return True

    async def change(self, record: QuestionRecord, step: str) -> None:
        """Store the changes of an open question."""
        await self._store(record, f"{step}.{record.id}.{record.refused}")

    async def close(self, record: QuestionRecord) -> None:
        """Store the final state."""
        await self._store(record, f"{record.state}.{record.id}")

    async def _store(self, record: QuestionRecord, idempotency_id: str) -> None:
        await self._client.send(
            self._address,
            record.to_json(),
            key=record.id,
            id=idempotency_id,
            tags=[record.state, record.thread_id, record.identity],
            ttl=None if record.state is QuestionState.OPEN else KEPT_S,
            sender=self._agent.name,
        )
