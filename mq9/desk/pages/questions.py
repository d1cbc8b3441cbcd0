"""The screen Desk: the open questions of a person, their answers, and what was decided."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response

from mq9.desk.app import Visit, action, number, page
from mq9.desk.text import pretty
from mq9.errors import InvalidRequest, MailboxNotFound, Mq9Error
from mq9.inbox import answering, decisions
from mq9.inbox.open_questions import (
    OpenQuestion,
    has_expired,
    open_questions,
    with_answers,
)
from mq9.inbox.sent_answers import SentAnswers
from mq9.models import Message, Payload
from mq9.questions import Action, AnswerOutcome, InvalidAnswer, MailedQuestion, decisions_of

_ON_PAGE = 50
_MOST_LOOKED_AT = 20_000
_RECEIPT_S = 1.0  # for which an answer waits to be confirmed
_MOST_AT_ONCE = 200
_LATER = {"1 hour": 3_600, "until tomorrow": 86_400, "a week": 7 * 86_400}


def _mailbox(visit: Visit) -> str:
    if visit.person.mail_address is None:
        raise InvalidRequest(
            f"name: {visit.person.name!r} has no letter or digit of ASCII, so there is no mailbox "
            "of that name; use the desk under another name"
        )
    return visit.person.mail_address


async def show(visit: Visit) -> Response:
    """Show the open questions, the most urgent first."""
    mailbox = _mailbox(visit)
    later = await decisions.put_off_ones(visit.client, mailbox)
    shows_later = visit.param("later") is not None
    is_missing = False
    try:
        found = await open_questions(visit.client, mailbox, most=_MOST_LOOKED_AT)
        asked = sorted(found.questions, key=lambda one: one.urgency)
    except MailboxNotFound:
        asked, is_missing = [], True
    hidden = [one for one in asked if one.message.msg_id in later]
    shown = hidden if shows_later else [one for one in asked if one.message.msg_id not in later]
    first = visit.number_param("from") or 0
    on_page = shown[first : first + _ON_PAGE]
    answers = SentAnswers(visit.client, await visit.client.whoami())
    return visit.render(
        "questions.html",
        mailbox=mailbox,
        is_missing=is_missing,
        questions=await with_answers(visit.client, answers, on_page),
        open=len(asked) - len(hidden),
        hidden=len(hidden),
        later=later,
        shows_later=shows_later,
        delays=_LATER,
        older=visit.with_params(**{"from": first + _ON_PAGE}) if shown[first + _ON_PAGE :] else "",
        newer=visit.with_params(**{"from": max(0, first - _ON_PAGE) or None}) if first else "",
    )


async def show_one(visit: Visit) -> Response:
    """Show one question, with the form for an edit."""
    asked = await _asked(visit, visit.request.path_params["msg_id"])
    answers = SentAnswers(visit.client, await visit.client.whoami())
    [*found] = await with_answers(visit.client, answers, [asked])
    if not found:
        raise InvalidRequest("msg_id: the question is settled")
    return _edit_page(visit, found[0], _fields_of(found[0].question))


async def show_decisions(visit: Visit) -> Response:
    """Show what was decided, the newest first."""
    mailbox = _mailbox(visit)
    found, before = await decisions.decisions(
        visit.client, mailbox, before=visit.number_param("before")
    )
    return visit.render(
        "decisions.html",
        mailbox=mailbox,
        decisions=found,
        older=visit.with_params(before=before) if before is not None else "",
    )


async def _asked(visit: Visit, msg_id: object) -> OpenQuestion:
    """Return an open question of the person's own mailbox."""
    message = await answering.question_at(
        visit.client, _mailbox(visit), number("msg_id", str(msg_id))
    )
    question = MailedQuestion.from_payload(message.payload)
    if has_expired(question, visit.now):
        raise InvalidRequest("msg_id: the question has expired, so no answer is taken any more")
    return OpenQuestion(message, question)


async def answer(visit: Visit) -> str:
    """Answer one question."""
    asked = await _asked(visit, visit.form.text("msg_id"))
    given = _given(asked.question, visit.form.text("word", ""), visit.form.text("message", ""))
    return await _send(visit, asked.message, given)


async def answer_several(visit: Visit) -> str:
    """Do the same with several questions."""
    chosen = visit.form.texts("chosen")
    word = visit.form.text("word")
    if not chosen:
        raise InvalidRequest("chosen: tick a question first")
    if len(chosen) > _MOST_AT_ONCE:
        raise InvalidRequest(f"chosen: {len(chosen)} are more than {_MOST_AT_ONCE} at once")
    problems = []
    for one in chosen:
        try:
            asked = await _asked(visit, one)
            if word == "later":
                seconds = _seconds(visit)
                await decisions.put_off(
                    visit.client, asked.message, seconds, sender=visit.person.name
                )
            else:
                await _send(visit, asked.message, _given(asked.question, word, ""), wait_s=0.0)
        except Mq9Error as error:
            problems.append(f"{one}: {error}")
    done = len(chosen) - len(problems)
    told = f"{done} of {len(chosen)} done."
    if problems:
        raise InvalidRequest(f"{told} Not possible: {'; '.join(problems[:5])}")
    return told


async def put_off(visit: Visit) -> str:
    """Hide a question for some time."""
    asked = await _asked(visit, visit.form.text("msg_id"))
    await decisions.put_off(visit.client, asked.message, _seconds(visit), sender=visit.person.name)
    return f"Question {asked.message.msg_id} is put off."


async def show_again(visit: Visit) -> str:
    """Show a question again that was put off."""
    asked = await _asked(visit, visit.form.text("msg_id"))
    await decisions.show_again(visit.client, asked.message)
    return f"Question {asked.message.msg_id} is back on the desk."


def _seconds(visit: Visit) -> int:
    seconds = visit.form.number("seconds")
    if seconds not in _LATER.values():
        raise InvalidRequest(f"seconds: {seconds} is none of the choices; load the page again")
    return seconds


async def _send(visit: Visit, asked: Message, given: Payload, wait_s: float = _RECEIPT_S) -> str:
    """Send an answer, and say what became of it."""
    answered = await answering.answer(visit.client, asked, given, visit.person.name, wait_s)
    who = asked.sender or "the asker"
    match answered.outcome:
        case AnswerOutcome.REFUSED:
            raise InvalidRequest(f"{who} refused the answer: {answered.text}")
        case AnswerOutcome.CLOSED:
            raise InvalidRequest(f"too late: {answered.text}")
        case "unconfirmed":
            return f"Sent to {who}, not confirmed yet."
        case _:
            return f"Answered: {answering.shown(given)}"


def _given(question: MailedQuestion, word: str, message: str) -> Payload:
    """Return the body of an answer without edits."""
    if not question.actions:
        if not message:
            raise InvalidRequest("answer: it is empty; write the answer first")
        return message
    decision: dict[str, Any] = {"type": word}
    if message:
        decision["message"] = message
    try:
        # One message is for all actions, as one word is.
        decided = [decision] * len(question.actions) if len(question.actions) > 1 else decision
        return {"decisions": decisions_of(question.actions, decided)}
    except InvalidAnswer as error:
        raise InvalidRequest(f"answer: {error}") from None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form for an edit: one argument of an action."""

    name: str  # of the form's field
    label: str
    text: str
    is_json: bool
    is_long: bool
    hint: str = ""


def _fields_of(question: MailedQuestion) -> list[list[Field]]:
    """Return the fields of each action, filled with what is asked for."""
    return [
        [_field(number, name, value, one) for name, value in _arguments(one).items()]
        for number, one in enumerate(question.actions)
    ]


def _arguments(one: Action) -> dict[str, Any]:
    """Return the arguments of an action, those that it may also have included."""
    return dict(one.args)


def _field(number: int, name: str, value: Any, of: Action) -> Field:
    text = value if isinstance(value, str) else pretty(value)
    properties = (of.schema or {}).get("properties")
    described = properties.get(name) if isinstance(properties, Mapping) else None
    hint = described.get("description") if isinstance(described, Mapping) else None
    return Field(
        name=f"arg.{number}.{name}",
        label=name,
        text=text,
        is_json=not isinstance(value, str),
        is_long=len(text) > 60 or "\n" in text,
        hint=hint if isinstance(hint, str) else "",
    )


async def edit(visit: Visit) -> str | Response:
    """Show the difference that an edit makes, and send it when that is confirmed."""
    asked = await _asked(visit, visit.form.text("msg_id"))
    fields = [
        [replace(one, text=_unix(visit.form.text(one.name, one.text))) for one in of_action]
        for of_action in _fields_of(asked.question)
    ]
    try:
        given = _edited(asked.question, fields)
    except InvalidRequest as error:
        return _edit_page(visit, asked, fields, problem=str(error))
    if visit.form.text("step", "") != "send":
        return _edit_page(visit, asked, fields, diff=_diff(asked.question, given))
    return await _send(visit, asked.message, given)


def _edited(question: MailedQuestion, fields: list[list[Field]]) -> dict[str, Any]:
    """Return the answer with the edits of a form; an action that is as it was is approved."""
    decided: list[dict[str, Any]] = []
    for one, of_action in zip(question.actions, fields, strict=True):
        args = {field.label: _value(field) for field in of_action}
        if args == dict(one.args) and "approve" in one.decisions:
            decided.append({"type": "approve"})
        else:
            decided.append({"type": "edit", "edited_action": {"name": one.name, "args": args}})
    try:
        return {"decisions": decisions_of(question.actions, decided)}
    except InvalidAnswer as error:
        raise InvalidRequest(f"answer: {error}") from None


def _value(field: Field) -> Any:
    if not field.is_json:
        return field.text
    try:
        return json.loads(field.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{field.label}: {field.text[:60]!r} is no JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _unix(text: str) -> str:
    """Return a text with the line ends that it had before a browser sent it."""
    return text.replace("\r\n", "\n")


def _diff(question: MailedQuestion, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the difference, each with `+`, `-` or a space."""
    lines: list[tuple[str, str]] = []
    for one, decided in zip(question.actions, given["decisions"], strict=True):
        after = decided.get("edited_action", {"args": dict(one.args)})["args"]
        for name in one.args:
            before_lines = pretty(one.args[name]).splitlines()
            after_lines = pretty(after.get(name)).splitlines()
            if before_lines == after_lines:
                continue
            lines.append((" ", f"{name}:"))
            lines += [
                (line[0], line[2:])
                for line in difflib.ndiff(before_lines, after_lines)
                if line[0] in "+- "
            ]
    return lines


def _edit_page(
    visit: Visit,
    asked: OpenQuestion,
    fields: list[list[Field]],
    *,
    diff: list[tuple[str, str]] | None = None,
    problem: str = "",
) -> Response:
    visit.refuse_readers()
    return visit.render(
        "question.html",
        400 if problem else 200,
        one=asked,
        fields=fields,
        diff=diff,
        problem=problem,
        mailbox=_mailbox(visit),
        delays=_LATER,
    )


ROUTES = [
    page("", show),
    page("/questions/{msg_id}", show_one),
    page("/decisions", show_decisions),
    action("/questions/answer", answer),
    action("/questions/edit", edit),
    action("/questions/several", answer_several),
    action("/questions/later", put_off),
    action("/questions/again", show_again),
]
