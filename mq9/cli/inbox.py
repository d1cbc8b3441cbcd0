"""``mq9 inbox`` and ``reply``: questions to people by mail, and their answers."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import typer

from mq9 import address as addresses
from mq9.cli.messages import stdin_payload
from mq9.cli.output import as_json, count, distance, indented, known_as, quoted, when
from mq9.cli.program import Address, CommandCall
from mq9.client.answers import once_there
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest
from mq9.inbox import answering
from mq9.inbox.open_questions import OpenQuestion, has_expired, open_questions, with_answers
from mq9.inbox.sent_answers import SentAnswers, SentReply
from mq9.models import Payload
from mq9.printable import one_line
from mq9.protocol import checks
from mq9.questions import (
    Action,
    AnswerOutcome,
    InvalidAnswer,
    MailedQuestion,
    decision_word,
    decisions_of,
)

_WIDTH = 80  # columns of a terminal


async def inbox(
    call: CommandCall,
    *,
    address: str | None = typer.Argument(
        None, help="The mailbox.  [default: that of the agent in the URL]"
    ),
    wait: float = typer.Option(0.0, min=0, max=60, help="Time to wait for a question."),
) -> int:
    """List the open questions to a person, oldest first."""
    async with call.client() as client:
        mailbox = addresses.parse(address) if address else await _own_mailbox(client)
        began_ms = client.clock.monotonic_ms()
        await once_there(
            lambda: client.query(mailbox, limit=1),
            mailbox,
            clock=client.clock,
            seconds=wait,
            on_missing=lambda text: call.out.notice(f"{text}. Create it: mq9 create {mailbox}"),
        )
        left = wait - (client.clock.monotonic_ms() - began_ms) / 1000
        with call.out.working(f"waiting for a question in {mailbox}", left):
            open_, has_more = await _wait_for_open(client, mailbox, left)
        others = "" if open_ else await _other_mail(client, mailbox)
        now = client.clock.now_ms() / 1000
    document = {
        "mail_address": mailbox,
        "questions": [_document(one) for one in open_],
        "more": has_more,
    }
    if not open_:
        return call.empty(document, f"{mailbox} has no open questions{others}")
    call.out.show(document, "\n\n".join(_shown(one, mailbox, now) for one in open_))
    if has_more:
        call.out.notice("there are older questions: answer these first")
    return 0


async def _other_mail(client: Mq9Client, mailbox: str) -> str:
    """Return a sentence on the mail that is no question; empty if none waits."""
    status = await client.mailbox_status(mailbox, group_name=mailbox)
    waiting = 0 if status.group is None else status.group.pending.total
    if not waiting:
        return ""
    return f". {count(waiting, 'other message')} waiting: mq9 query {mailbox}"


async def reply(
    call: CommandCall,
    *,
    address: Address,
    msg_id: int = typer.Argument(..., min=0, help="The question."),
    answer: list[str] = typer.Argument(
        ...,
        help="approve, reject, edit or respond if the question is about actions: one for each, "
        "or one for all. Otherwise any text. - reads it from standard input.",
    ),
    args: list[str] | None = typer.Option(
        None,
        help="For edit: the new arguments of the action, as a JSON object. Repeatable, one for "
        "each edit.  [default: an editor, on a terminal]",
    ),
    message: str | None = typer.Option(None, help="For reject: the reason. For respond: the text."),
    sender: str | None = typer.Option(
        None, "--from", help="Sender of the answer, a claim.  [default: the mailbox]"
    ),
    wait: float = typer.Option(5.0, min=0, max=60, help="Time to wait for the receipt."),
) -> int:
    """Answer a question, and remove it from the mailbox.

    If its sender sends receipts, the question stays until the answer is confirmed.
    """
    async with call.client() as client:
        asked = await answering.question_at(client, address, msg_id)
        question = MailedQuestion.from_payload(asked.payload)
        if has_expired(question, client.clock.now_ms() / 1000):
            raise InvalidRequest(
                f"msg_id: the question has expired at {when(question.expires or 0)}"
            )
        given = await asyncio.to_thread(_answer, question, answer, args or [], message)
        sender = sender or address
        answered = await answering.answer(client, asked, given, sender, wait)
    document = {
        "mail_address": address,
        "msg_id": msg_id,
        "reply_to": asked.reply_to,
        "answered_as": answered.answered_as,
    }
    if answered.outcome is not None:
        document |= {"outcome": answered.outcome, "text": answered.text}
    name = f"message {msg_id} of {address}"
    match answered.outcome:
        case None | AnswerOutcome.ACCEPTED:
            call.out.show(document, f"answered {name}, to {asked.reply_to}")
            return 0
        case AnswerOutcome.REFUSED:
            call.out.show(document)
            call.out.notice(
                f"error: your answer to {name} was refused: {answered.text}. The question is still "
                f"open: mq9 inbox {address}"
            )
            return 1
        case AnswerOutcome.CLOSED:
            call.out.show(document)
            call.out.notice(f"error: {name} no longer needs an answer: {answered.text}")
            return 1
        case _:
            call.out.show(
                document, f"answered {name}, to {asked.reply_to}: sent, not confirmed yet"
            )
            call.out.notice(f"the question stays in the inbox until then: mq9 inbox {address}")
            return 0


async def _wait_for_open(
    client: Mq9Client, mailbox: str, seconds: float
) -> tuple[list[OpenQuestion], bool]:
    """Wait for open questions; return them, and whether there are more."""
    deadline_ms = client.clock.monotonic_ms() + round(seconds * 1000)
    answers = await SentAnswers.of(client)
    while True:
        newest = await client.query(mailbox, limit=1)
        found = await open_questions(client, mailbox)
        open_ = await with_answers(client, answers, list(found.questions))
        left_ms = deadline_ms - client.clock.monotonic_ms()
        if open_ or left_ms <= 0:
            return open_, found.more
        after = newest[0].msg_id + 1 if newest else 0
        await client.fetch(mailbox, deliver="from_id", from_id=after, max_wait_ms=left_ms)


async def _own_mailbox(client: Mq9Client) -> str:
    agent = await client.whoami()
    if agent is None:
        raise InvalidRequest(
            "address: missing, and the URL names no agent. Give the mailbox: mq9 inbox NAME"
        )
    return addresses.slug(agent)


def _document(asked: OpenQuestion) -> dict[str, Any]:
    message, question = asked.message, asked.question
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
        **({} if asked.sent is None else {"answered": _answered(asked.sent)}),
    }


def _answered(sent: SentReply) -> dict[str, Any]:
    refused = None if sent.receipt is None else sent.receipt.text
    outcome = "unconfirmed" if sent.receipt is None else sent.receipt.outcome
    return {"answer": sent.text, "at": sent.at, "outcome": outcome, "text": refused}


def _shown(asked: OpenQuestion, mailbox: str, now: float) -> str:
    """Return a question as people read it: its head, its text, its actions, and how to answer."""
    message, question, sent = asked.message, asked.question, asked.sent
    head = [f"#{message.msg_id}"]
    if message.sender is not None:
        head.append(f"from {known_as(message.sender, message.sender_verified)}")
    head.append(distance(message.create_time, now))
    if question.expires is not None:
        head.append(f"expires {distance(question.expires, now)}")
    lines = ["  ".join(head), indented(question.text)]
    for one in question.actions:
        lines += _action(one)
    if question.problem is not None:
        lines.append(f"    your answer was not possible: {one_line(question.problem)}")
    elif sent is not None and sent.receipt is None:
        lines.append(f"    answered by you, not confirmed: {one_line(sent.text)}")
    elif sent is not None and sent.receipt is not None:
        lines.append(f"    your answer was refused: {one_line(sent.receipt.text)}")
    answers = " ".join("|".join(one.decisions) for one in question.actions) or "TEXT"
    lines.append(f"    answer: mq9 reply {mailbox} {message.msg_id} {answers}")
    return "\n".join(lines)


def _action(action: Action) -> list[str]:
    """Return an action in one line, or with one line for each argument if it is long."""
    line = f"    {quoted(action.name)} {as_json(action.args)}"
    if len(line) <= _WIDTH:
        return [line]
    arguments = (f"      {quoted(name)}: {as_json(it)}" for name, it in action.args.items())
    return [f"    {quoted(action.name)}", *arguments]


def _answer(
    question: MailedQuestion, words: Sequence[str], args: Sequence[str], message: str | None
) -> Payload:
    """Return the body of an answer."""
    if question.actions:
        try:
            return {"decisions": _decisions(question.actions, words, list(args), message)}
        except InvalidAnswer as error:
            raise InvalidRequest(f"answer: {error}") from None
    if args or message is not None:
        raise InvalidRequest("answer: the question has no actions: give one text and no options")
    if len(words) > 1:
        raise InvalidRequest(
            f"answer: {count(len(words), 'word')} were given; put the answer in quotes"
        )
    [text] = words
    return stdin_payload() if text == "-" else text.encode("utf-8", "surrogateescape")


def _decisions(
    actions: Sequence[Action], words: Sequence[str], args: list[str], message: str | None
) -> list[dict[str, Any]]:
    """Return a decision on each action."""
    given: list[Any] = [{"type": word} for word in words]
    # Impossible decisions are refused before the editor opens.
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
        raise InvalidRequest("message: only reject and respond have one; leave it out")
    return decided


def _edited(action: Action) -> dict[str, Any]:
    """Let the person edit the arguments of an action."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidRequest(
            f"args: give the new arguments of {action.name} as a JSON object: --args JSON"
        )
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


_VARIABLES = ("VISUAL", "EDITOR")
_DEFAULT = "vi"


def edit(text: str, suffix: str) -> str:
    """Open a text in the editor that the environment names, and return the edited text."""
    editor = next((os.environ[one] for one in _VARIABLES if os.environ.get(one)), _DEFAULT)
    with tempfile.TemporaryDirectory(prefix="mq9-") as directory:
        path = Path(directory) / f"edit{suffix}"
        path.write_text(text, "utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603  # the user's
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise InvalidRequest(f"the editor {editor!r} failed: {error}") from None
        return path.read_text("utf-8")
