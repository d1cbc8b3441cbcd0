"""The screen Desk: the open questions of a person, the answers, and past decisions."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from starlette.responses import Response

from mq9.desk.app import Visit, action, page
from mq9.desk.fields import whole
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
_MOST_ARGUMENTS = 200  # without a value in the question, and values to choose from
_SHORT = 60  # characters that a field of one line shows
_LATER = {"1 hour": 3_600, "4 hours": 14_400, "1 day": 86_400, "1 week": 7 * 86_400}


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
    try:
        found = await open_questions(visit.client, mailbox, most=_MOST_LOOKED_AT)
        asked = sorted(found.questions, key=lambda one: one.urgency)
    except MailboxNotFound:
        asked = []
    hidden = [one for one in asked if one.message.msg_id in later]
    shown = hidden if shows_later else [one for one in asked if one.message.msg_id not in later]
    first = visit.number_param("from") or 0
    on_page = shown[first : first + _ON_PAGE]
    answers = await SentAnswers.of(visit.client)
    return visit.render(
        "questions.html",
        mailbox=mailbox,
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
    answers = await SentAnswers.of(visit.client)
    [*found] = await with_answers(visit.client, answers, [asked])
    if not found:
        raise InvalidRequest("msg_id: the question is settled")
    return _edit_page(visit, found[0], _fields_of(found[0].question))


async def show_decisions(visit: Visit) -> Response:
    """Show past decisions, newest first."""
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
        visit.client, _mailbox(visit), whole("msg_id", str(msg_id))
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
    why = visit.form.text("message", "") if word == "reject" else ""
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
                await _send(visit, asked.message, _given(asked.question, word, why), wait_s=0.0)
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
    """Send an answer, and return its outcome."""
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
    """A field of the form for an edit: one argument of an action.

    Attributes:
        name: The name of the form's field.
        label: The argument.
        text: The value of the field.
        is_json: Whether the value is JSON; otherwise it is plain text.
        is_long: Whether it has lines.
        is_given: Whether the question has the argument; another may stay empty.
        choices: The possible values; empty for any.
        hint: The description in the schema.
    """

    name: str
    label: str
    text: str
    is_json: bool
    is_long: bool
    is_given: bool
    choices: tuple[str, ...]
    hint: str


def _fields_of(question: MailedQuestion) -> list[list[Field]]:
    """Return the fields of each action, with the values of the question."""
    return [
        [_field(number, name, one, schema) for name, schema in _arguments(one).items()]
        for number, one in enumerate(question.actions)
    ]


def _arguments(one: Action) -> dict[str, Mapping[str, Any]]:
    """Return the schema of each argument that an action has, then of those that it may have."""
    properties = (one.schema or {}).get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    more = islice((name for name in known if name not in one.args), _MOST_ARGUMENTS)
    schemas = {name: known.get(name) for name in (*one.args, *more)}
    return {name: schema if isinstance(schema, Mapping) else {} for name, schema in schemas.items()}


def _field(number: int, name: str, of: Action, schema: Mapping[str, Any]) -> Field:
    is_given = name in of.args
    value = of.args.get(name, "")
    is_json = not isinstance(value, str) if is_given else schema.get("type") != "string"
    text = value if isinstance(value, str) else pretty(value)
    hint = schema.get("description")
    return Field(
        name=f"arg.{number}.{name}",
        label=name,
        text=text,
        is_json=is_json,
        is_long=len(text) > _SHORT or "\n" in _unix(text),
        is_given=is_given,
        choices=_choices(schema, text, is_json=is_json),
        hint=hint if isinstance(hint, str) else "",
    )


def _choices(schema: Mapping[str, Any], text: str, *, is_json: bool) -> tuple[str, ...]:
    """Return the possible values of an argument, its present one first; empty for any."""
    allowed = [True, False] if schema.get("type") == "boolean" else schema.get("enum")
    if not isinstance(allowed, list) or not allowed or len(allowed) > _MOST_ARGUMENTS:
        return ()
    fitting = [one for one in allowed if is_json or isinstance(one, str)]
    return tuple(dict.fromkeys([text, *(json.dumps(o) if is_json else o for o in fitting)]))


async def edit(visit: Visit) -> str | Response:
    """Show the difference that an edit makes, and send it when that is confirmed."""
    asked = await _asked(visit, visit.form.text("msg_id"))
    fields = [
        [replace(one, text=_typed(one, visit.form.text(one.name, one.text))) for one in of_action]
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
        args = {field.label: _value(field) for field in of_action if field.is_given or field.text}
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
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _typed(field: Field, text: str) -> str:
    """Return the typed text; an unchanged field keeps its value.

    Browsers change line ends.
    """
    text = _unix(text)
    return field.text if text == _unix(field.text) else text


def _diff(question: MailedQuestion, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the difference, each with `+`, `-` or a space."""
    lines: list[tuple[str, str]] = []
    for one, decided in zip(question.actions, given["decisions"], strict=True):
        after = decided.get("edited_action", {"args": dict(one.args)})["args"]
        for name in {**one.args, **after}:
            before_lines = pretty(one.args.get(name, "")).splitlines()
            after_lines = pretty(after.get(name, "")).splitlines()
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
