"""``mq9 inbox`` and ``reply``: the questions that people are asked by mail, and their answers."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import orjson
import typer

from mq9 import address as addresses
from mq9.cli.call import NOTHING_THERE, Call
from mq9.cli.editor import edit
from mq9.cli.messages import Address, stdin_payload
from mq9.cli.output import Table, as_json, count, quoted, span, when
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest, MessageNotFound
from mq9.models import Message, Payload
from mq9.protocol import checks
from mq9.questions import TAG, Action, InvalidAnswer, Question, decision_word, decisions_of

_MOST_QUESTIONS = 1_000
_COLUMNS = ("ID", "FROM", "ASKED", "EXPIRES", "QUESTION", "ACTIONS", "ANSWERS")


async def inbox(
    call: Call,
    *,
    address: Annotated[
        str | None,
        typer.Argument(help="Whose mailbox.  [default: that of the agent of the URL]"),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds to wait for a first one.")
    ] = 0.0,
) -> int:
    """List the open questions of a person, oldest first, without taking anything."""
    async with call.client() as client:
        mailbox = addresses.parse(address) if address else await _own_mailbox(client)
        open_, has_more = await _wait_for_open(client, mailbox, wait)
        now = client.clock.now_ms() / 1000
    document = {
        "mail_address": mailbox,
        "questions": [_document(message, question) for message, question in open_],
        "more": has_more,
    }
    if not open_:
        call.out.show(document)
        call.out.notice(f"{mailbox} has no open questions")
        return NOTHING_THERE
    call.out.show(document, Table(_COLUMNS, [_row(*one, now) for one in open_]))
    if has_more:
        call.out.notice("there are older ones, too")
    return 0


async def reply(
    call: Call,
    *,
    address: Address,
    msg_id: Annotated[int, typer.Argument(min=0, help="The question.")],
    answer: Annotated[
        list[str],
        typer.Argument(
            help="approve, reject, edit or respond, where the question is about actions: once for "
            "each of them, or once for all; else any text; - reads it from standard input."
        ),
    ],
    args: Annotated[
        list[str] | None,
        typer.Option(
            help="For edit: what the action is to be done with instead, as a JSON object; "
            "repeated, for one edit after the other.  [default: an editor, on a terminal]"
        ),
    ] = None,
    message: Annotated[
        str | None, typer.Option(help="For reject, why; for respond, what to say.")
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option("--from", help="Who answers: a claim.  [default: the mailbox]"),
    ] = None,
) -> int:
    """Answer a question to whoever asked it, and remove it from the mailbox."""
    address = addresses.parse(address)
    async with call.client() as client:
        found = await client.query(address, msg_id=msg_id)
        if not found:
            raise MessageNotFound(f"message not found: {msg_id} of {address} is not there")
        [asked] = found
        question = Question.from_payload(asked.payload)
        if _has_expired(question, client.clock.now_ms() / 1000):
            raise InvalidRequest(
                f"msg_id: the question has expired at {when(question.expires or 0)}"
            )
        payload = await asyncio.to_thread(_answer, question, answer, args or [], message)
        answered_as = await client.reply(
            asked, payload, id=_reply_id(asked), sender=sender or address
        )
        if TAG in asked.tags:
            with suppress(MessageNotFound):  # by a repeat, which removed it first
                await client.delete(address, msg_id)
    document = {
        "mail_address": address,
        "msg_id": msg_id,
        "reply_to": asked.reply_to,
        "answered_as": answered_as,
    }
    call.out.show(document, f"answered message {msg_id} of {address}, to {asked.reply_to}")
    return 0


async def _wait_for_open(
    client: Mq9Client, mailbox: str, seconds: float
) -> tuple[list[tuple[Message, Question]], bool]:
    """Return the open questions, once there are any or the time is up, and whether there are more.

    Raises:
        MailboxNotFound: The mailbox is not there.
    """
    deadline_ms = client.clock.monotonic_ms() + round(seconds * 1000)
    while True:
        newest = await client.query(mailbox, limit=1)
        found = await client.query(mailbox, tags=[TAG], limit=_MOST_QUESTIONS)
        now = client.clock.now_ms() / 1000
        asked = [(message, Question.from_payload(message.payload)) for message in found]
        open_ = [
            (message, question)
            for message, question in asked
            if not _has_expired(question, now) and not await _is_acked(client, message)
        ]
        left_ms = deadline_ms - client.clock.monotonic_ms()
        if open_ or left_ms <= 0:
            return open_, found.more
        after = newest[0].msg_id + 1 if newest else 0
        await client.fetch(mailbox, deliver="from_id", from_id=after, max_wait_ms=left_ms)


async def _own_mailbox(client: Mq9Client) -> str:
    agent = await client.whoami()
    if agent is None:
        raise InvalidRequest("address: say whose mailbox it is; the URL is that of no agent")
    return addresses.slug(agent)


def _has_expired(question: Question, now: float) -> bool:
    return question.expires is not None and question.expires <= now


async def _is_acked(client: Mq9Client, message: Message) -> bool:
    """Tell whether the agent whose mailbox it is has done with a message by its tools."""
    status = await client.mailbox_status(message.mail_address, msg_id=message.msg_id)
    groups = () if status.message is None else status.message.groups
    return any(one.group_name == message.mail_address and one.state == "acked" for one in groups)


def _document(message: Message, question: Question) -> dict[str, Any]:
    return {
        "msg_id": message.msg_id,
        "from": message.sender,
        "from_verified": message.sender_verified,
        "asked": message.create_time,
        **question.to_json(),
        "actions": [one.to_json() for one in question.actions],
        "expires": question.expires,
        "reply_to": message.reply_to,
        "correlation_id": message.correlation_id,
    }


def _row(message: Message, question: Question, now: float) -> tuple[str, ...]:
    sender = "" if message.sender is None else quoted(message.sender)
    if message.sender_verified:
        sender += " (verified)"
    expires = "never" if question.expires is None else f"in {span(question.expires - now)}"
    text = question.text
    if question.problem is not None:
        text = f"{text} (your answer was not possible: {question.problem})"
    actions = "; ".join(f"{quoted(one.name)} {as_json(one.args)}" for one in question.actions)
    answers = "; ".join("|".join(one.decisions) for one in question.actions) or "any text"
    row = (sender, when(message.create_time), expires, text, actions, answers)
    return (str(message.msg_id), *row)


def _answer(
    question: Question, words: Sequence[str], args: Sequence[str], message: str | None
) -> Payload:
    """Return the body of an answer.

    Raises:
        InvalidRequest: It does not fit the question.
    """
    if question.actions:
        try:
            return {"decisions": _decisions(question.actions, words, list(args), message)}
        except InvalidAnswer as error:
            raise InvalidRequest(f"answer: {error}") from None
    if args or message is not None:
        raise InvalidRequest(
            "answer: the question is about no action: give one text and no options"
        )
    if len(words) > 1:
        raise InvalidRequest(f"answer: {count(len(words), 'word')} were given; put them in quotes")
    [text] = words
    return stdin_payload() if text == "-" else text.encode("utf-8", "surrogateescape")


def _decisions(
    actions: Sequence[Action], words: Sequence[str], args: list[str], message: str | None
) -> list[dict[str, Any]]:
    """Return a decision on each action.

    Raises:
        InvalidAnswer: They do not fit the actions.
        InvalidRequest: An option is missing, is not needed or holds no JSON object.
    """
    given: list[Any] = [{"type": word} for word in words]
    # Before anything is asked of the person it is said which decisions there may be.
    for number, one in enumerate(given):
        action = actions[min(number, len(actions) - 1)]
        match decision_word(one["type"]):
            case "edit" if "edit" in action.decisions and len(words) in (1, len(actions)):
                new = _parsed(args.pop(0)) if args else _edited(action)
                one["edited_action"] = {"name": action.name, "args": new}
            case "reject" | "respond" if message is not None:
                one["message"] = message
    decided = decisions_of(actions, given if len(given) > 1 else given[0])
    if args:
        raise InvalidRequest(f"args: {count(len(args), 'object')} more than there are edits")
    if message is not None and not any("message" in one for one in decided):
        raise InvalidRequest("message: it goes with reject and respond")
    return decided


def _edited(action: Action) -> dict[str, Any]:
    """Let the person edit what an action is to be done with."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidRequest(f"args: say what {action.name} is to be done with instead")
    begin = orjson.dumps(dict(action.args), option=orjson.OPT_INDENT_2).decode()
    return _parsed(edit(begin + "\n", ".json"))


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"args: {checks.shown(text)} is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"args: {checks.shown(text)} is no JSON object")
    return parsed


def _reply_id(asked: Message) -> str:
    """Return the id of a question's answer, so that it is stored once, however often it is sent."""
    what = (asked.mail_address, asked.msg_id, asked.create_time, asked.correlation_id)
    return f"reply.{hashlib.sha256(repr(what).encode()).hexdigest()}"
