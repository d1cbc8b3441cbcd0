"""Records of a person at the broker: decisions, and questions that are put off."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, IdConflict, MailboxNotFound, Mq9Error
from mq9.models import Message
from mq9.operations.presence import make_own_mailbox
from mq9.questions import MailedQuestion

_logger = logging.getLogger("mq9.client")

_KEPT_S = 90 * 86_400
_MOST_SHOWN = 4_000  # characters of a question or an answer
_LATER = "later."


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A stored answer."""

    at: float  # Unix seconds
    by: str
    mail_address: str  # of the question
    msg_id: int
    asked_by: str | None
    question: str
    answer: str


def decisions_of(mail_address: str) -> str:
    """Return the mailbox that keeps the decisions of a person's mailbox."""
    return f"{mail_address}.decisions"


def _desk_of(mail_address: str) -> str:
    return f"{mail_address}.desk"


async def record(client: Mq9Client, asked: Message, *, by: str, answer: str) -> None:
    """Keep a decision, once for each question, however often it is repeated."""
    question = MailedQuestion.from_payload(asked.payload)
    told = question.text or "; ".join(one.name for one in question.actions)
    body = {
        "type": "decision",
        "by": by,
        "mail_address": asked.mail_address,
        "msg_id": asked.msg_id,
        "asked_by": asked.sender,
        "question": told[:_MOST_SHOWN],
        "answer": answer[:_MOST_SHOWN],
    }
    what = repr((asked.mail_address, asked.msg_id, asked.create_time, asked.correlation_id))
    id_ = f"decision.{hashlib.sha256(what.encode('utf-8', 'backslashreplace')).hexdigest()}"
    address = decisions_of(asked.mail_address)
    try:
        await _send_own(client, address, body, id=id_, ttl=_KEPT_S, sender=by)
    except IdConflict:
        return  # it was kept by an earlier call
    except Forbidden as error:  # the person may answer for the mailbox, and own nothing there
        _logger.info("a decision is not kept: %s", error)


async def decisions(
    client: Mq9Client, mail_address: str, *, before: int | None = None, limit: int = 50
) -> tuple[Sequence[Decision], int | None]:
    """Return past decisions, newest first, and the beginning of the next page."""
    try:
        page = await client.query(decisions_of(mail_address), before_id=before, limit=limit)
    except MailboxNotFound:
        return (), None
    found = [one for one in map(_read, reversed(page)) if one is not None]
    return found, page[0].msg_id if page.more else None


def _read(message: Message) -> Decision | None:
    try:
        body = message.json()
        return Decision(
            at=message.create_time,
            by=str(body["by"]),
            mail_address=str(body["mail_address"]),
            msg_id=int(body["msg_id"]),
            asked_by=None if body["asked_by"] is None else str(body["asked_by"]),
            question=str(body["question"]),
            answer=str(body["answer"]),
        )
    except (KeyError, TypeError, ValueError):
        return None  # somebody else wrote it


async def put_off(client: Mq9Client, asked: Message, seconds: int, *, sender: str) -> None:
    """Hide a question from the desk for some time."""
    key = f"{_LATER}{asked.msg_id}"
    body = {"msg_id": asked.msg_id, "until": client.clock.now_ms() / 1000 + seconds}
    address = _desk_of(asked.mail_address)
    await _send_own(client, address, body, key=key, ttl=seconds, sender=sender)


async def show_again(client: Mq9Client, asked: Message) -> None:
    """Show a question that was put off."""
    for one in await client.query(_desk_of(asked.mail_address), key=f"{_LATER}{asked.msg_id}"):
        with suppress(Mq9Error):
            await client.delete(one.mail_address, one.msg_id)


async def put_off_ones(client: Mq9Client, mail_address: str) -> dict[int, float]:
    """Return the questions that were put off, each with the instant until when."""
    try:
        page = await client.query(_desk_of(mail_address), limit=1_000)
    except (MailboxNotFound, Forbidden):
        return {}
    found = {}
    for message in page:
        if (message.key or "").startswith(_LATER):
            with suppress(KeyError, TypeError, ValueError):  # somebody else may have written it
                body = message.json()
                found[int(body["msg_id"])] = float(body["until"])
    return found


async def _send_own(client: Mq9Client, address: str, body: dict[str, Any], **options: Any) -> None:
    """Send to a mailbox of one's own, which is made if it is missing."""
    payload = orjson.dumps(body)
    try:
        await client.send(address, payload, **options)
    except MailboxNotFound:
        await make_own_mailbox(client, address)
        await client.send(address, payload, **options)
