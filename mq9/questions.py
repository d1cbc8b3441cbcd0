"""Questions of programs to people by mail, their possible answers, and receipts for answers.

``langchain_mq9`` sends questions in this format. ``mq9 inbox`` and ``mq9 reply`` show and answer
them.

The answer is the body of a message: parsed JSON, or otherwise text. A question without actions
accepts any answer. A question with actions needs a decision on each action, in one of these forms:

- ``{"decisions": [decision, …]}`` with one decision for each action, in their order, or only the
  list;
- one decision, for a single action, or to approve or reject all actions;
- the word ``approve`` or ``reject``, which is such a decision.

A decision is ``{"type": "approve"}``, ``{"type": "reject", "message": …}``,
``{"type": "edit", "edited_action": {"name": …, "args": …}}`` or
``{"type": "respond", "message": …}``, as in LangChain. The words of the Agent Inbox schema
(``accept``, ``ignore``, ``response``, with ``args``) are also accepted.

A receipt reports the outcome of an answer to the person. It goes to the ``reply_to`` of the answer,
with its ``correlation_id``. The receipt for an accepted answer is
``{"type": "receipt", "outcome": "accepted"}``. For any other answer it is an error answer with the
fields ``outcome`` and ``by``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import orjson

from mq9 import address as addresses
from mq9.client.client import Mq9Client
from mq9.client.error_answers import ErrorAnswer, Failure, answer_id
from mq9.errors import (
    Forbidden,
    IdConflict,
    InvalidAddress,
    InvalidRequest,
    LimitReached,
    MailboxFull,
    MailboxNotFound,
)
from mq9.models import QUESTION_TAG, Message, StoredMessage
from mq9.protocol.checks import shown

_logger = logging.getLogger("mq9.questions")

TAG = QUESTION_TAG
TYPE = "question"  # the type in the body of a question
_CLOSED = "question_closed"  # the type in the body of a note that replaces a question
DECISIONS = ("approve", "edit", "reject", "respond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action of a program that needs a person's decision."""

    name: str
    args: Mapping[str, Any]
    text: str = ""
    decisions: tuple[str, ...] = DECISIONS
    schema: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the action as JSON in the body of a question."""
        body: dict[str, Any] = {
            "name": self.name,
            "args": dict(self.args),
            "text": self.text,
            "decisions": list(self.decisions),
        }
        if self.schema is not None:
            body["schema"] = dict(self.schema)
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class MailedQuestion:
    """A question to a person.

    Attributes:
        text: The text of the question.
        value: Further content as JSON. None without any.
        actions: The actions to decide about. Without actions, each answer is accepted.
        expires: The last instant for an answer, in Unix seconds. None for no limit.
        problem: Why an earlier answer was refused. None without one.
        schema: The JSON schema of the answer. None without one.
    """

    text: str
    value: Any = None
    actions: tuple[Action, ...] = ()
    expires: int | None = None
    problem: str | None = None
    schema: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body of the message for this question."""
        body: dict[str, Any] = {"type": TYPE, "text": self.text, "value": self.value}
        if self.actions:
            body["actions"] = [one.to_json() for one in self.actions]
        if self.expires is not None:
            body["expires"] = self.expires
        if self.problem is not None:
            body["problem"] = self.problem
        if self.schema is not None:
            body["schema"] = dict(self.schema)
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> MailedQuestion | None:
        """Read the body of a message. None if it is not a question of this format."""
        if body.get("type") != TYPE or not isinstance(body.get("text"), str):
            return None
        listed = body.get("actions", [])
        actions = [_action(one) for one in listed] if isinstance(listed, list) else [None]
        expires, problem, schema = (body.get(one) for one in ("expires", "problem", "schema"))
        if isinstance(expires, bool) or not isinstance(expires, int | None):
            return None
        if not isinstance(problem, str | None) or not isinstance(schema, dict | None):
            return None
        if None in actions:
            return None
        return cls(
            text=body["text"],
            value=body.get("value"),
            actions=tuple(one for one in actions if one is not None),
            expires=expires,
            problem=problem,
            schema=schema,
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> MailedQuestion:
        """Read the body of a message. A body of another format is the text of a question."""
        try:
            body = orjson.loads(payload)
        except ValueError:
            body = None
        question = cls.from_json(body) if isinstance(body, dict) else None
        return question or cls(text=payload.decode("utf-8", "backslashreplace"))


def closed(question: MailedQuestion, text: str) -> dict[str, Any]:
    """Return the body of the note that replaces a question without need for an answer."""
    return {"type": _CLOSED, "text": text, "question": question.text}


def closing_note(payload: bytes) -> str | None:
    """Return why a question no longer needs an answer. None if the body is not such a note."""
    try:
        body = orjson.loads(payload)
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("type") != _CLOSED:
        return None
    text = body.get("text")
    return text if isinstance(text, str) else None


def _action(body: Any) -> Action | None:
    if not isinstance(body, dict):
        return None
    name, args, text = body.get("name"), body.get("args"), body.get("text", "")
    decisions, schema = body.get("decisions", list(DECISIONS)), body.get("schema")
    if not isinstance(schema, dict | None):
        return None
    if not isinstance(name, str) or not isinstance(args, dict) or not isinstance(text, str):
        return None
    if not isinstance(decisions, list) or not all(one in DECISIONS for one in decisions):
        return None
    return Action(name=name, args=args, text=text, decisions=tuple(decisions), schema=schema)


_SYNONYMS = {"accept": "approve", "ignore": "reject", "response": "respond"}
_FOR_ALL = ("approve", "reject")  # decisions on all actions at once


class InvalidAnswer(ValueError):
    """An answer does not fit its question. The text is the reason, for the person."""


def answer_of(payload: bytes) -> Any:
    """Return the answer in a message: parsed JSON, or otherwise text."""
    try:
        return orjson.loads(payload)
    except ValueError:
        pass
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidAnswer(f"an answer is text or JSON, not {len(payload)} other bytes") from None


def decision_word(text: str) -> str | None:
    """Return the member of ``DECISIONS`` that a word means, or None."""
    word = text.strip().casefold()
    word = _SYNONYMS.get(word, word)
    return word if word in DECISIONS else None


def decisions_of(actions: Sequence[Action], answer: Any) -> list[dict[str, Any]]:
    """Return an answer's decision on each action, in the form of LangChain's middleware."""
    given = _given(answer)
    if isinstance(given, list):
        if len(given) != len(actions):
            raise InvalidAnswer(
                f"{_count(len(given), 'decision')} came for {_count(len(actions), 'action')}"
                f" ({', '.join(one.name for one in actions)}); give one for each, in their order"
            )
        return [_decision(*one) for one in zip(actions, given, strict=True)]
    words = [_word(action, given) for action in actions]
    if len(actions) > 1 and words[0] not in _FOR_ALL:
        raise InvalidAnswer(
            f"{words[0]} cannot be said of {len(actions)} actions at once;"
            " give one decision for each, in their order"
        )
    return [_decision(action, given) for action in actions]


def _given(answer: Any) -> Any:
    """Return the decision, or the list of decisions, in an answer."""
    if isinstance(answer, str):
        return {"type": answer}
    if isinstance(answer, Mapping) and "decisions" in answer:
        answer = answer["decisions"]
        if not isinstance(answer, list):
            raise InvalidAnswer(f"decisions: {shown(answer)} is not a list")
    if not isinstance(answer, list | Mapping):
        raise InvalidAnswer(f"{shown(answer)} is not a decision; {_allowed(DECISIONS)}")
    return answer


def _decision(action: Action, given: Any) -> dict[str, Any]:
    """Check one decision on one action, and return it in LangChain's form."""
    if isinstance(given, str):
        given = {"type": given}
    word = _word(action, given)
    decision: dict[str, Any] = {"type": word}
    if word == "edit":
        decision["edited_action"] = _edited(action, given)
    elif word in ("reject", "respond"):
        message = given.get("message", given.get("args"))
        if message is None and word == "reject":
            return decision
        if not isinstance(message, str) or (word == "respond" and not message):
            raise InvalidAnswer(f"{action.name}: {word} takes a message, which is a text")
        decision["message"] = message
    return decision


def _word(action: Action, given: Any) -> str:
    """Return the member of ``DECISIONS`` in a decision on an action."""
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise InvalidAnswer(
            f"{action.name}: {shown(given)} is not a decision; {_allowed(action.decisions)}"
        )
    word = decision_word(given["type"])
    if word is None or word not in action.decisions:
        raise InvalidAnswer(
            f"{action.name}: {shown(given['type'])} is not possible here;"
            f" {_allowed(action.decisions)}"
        )
    return word


def _edited(action: Action, given: Mapping[str, Any]) -> dict[str, Any]:
    edited = given.get("edited_action", given.get("args"))
    if not isinstance(edited, Mapping) or not isinstance(edited.get("args"), Mapping):
        raise InvalidAnswer(
            f"{action.name}: edit takes an edited_action, which is an object with name and args"
        )
    name = edited.get("name", edited.get("action", action.name))
    if name != action.name:
        raise InvalidAnswer(
            f"{action.name}: an edit changes what it is done with and cannot make it"
            f" {shown(name)}; reject it instead"
        )
    _check_names(action, edited["args"])
    return {"name": action.name, "args": dict(edited["args"])}


def _check_names(action: Action, args: Mapping[str, Any]) -> None:
    """Check the arguments of an edit: by the action's schema, otherwise by its arguments."""
    names, required, takes_more = set(action.args), set(action.args), False
    properties = None if action.schema is None else action.schema.get("properties")
    if action.schema is not None and isinstance(properties, Mapping):
        needed = action.schema.get("required")
        names, required = set(properties), set(needed if isinstance(needed, list) else ())
        takes_more = bool(action.schema.get("additionalProperties", False))
    problems = []
    if unknown := set() if takes_more else set(args) - names:
        problems.append(f"it has no {_arguments(unknown)}")
    if missing := required - set(args):
        problems.append(f"it lacks the {_arguments(missing)}")
    if problems:
        taken = ", ".join(sorted(map(shown, names))) or "nothing"
        raise InvalidAnswer(f"{action.name}: {' and '.join(problems)}; it takes {taken}")


def _arguments(names: Iterable[Any]) -> str:
    listed = sorted(map(shown, names))
    return f"argument{'' if len(listed) == 1 else 's'} {', '.join(listed)}"


def _allowed(decisions: Sequence[str]) -> str:
    return f"answer {' or '.join(decisions)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


RECEIPTS = "answer-receipts"  # the header of a question whose sender sends receipts
_RECEIPT = "receipt"


class AnswerOutcome(StrEnum):
    """The outcome of an answer.

    ``accepted``: it is the answer. ``refused``: the answer does not count, and the question stays
    open. ``closed``: the answer does not count, and the question is closed.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The outcome of an answer."""

    outcome: AnswerOutcome
    text: str | None = None
    by: str | None = None

    def body(self, answer: StoredMessage) -> dict[str, Any]:
        """Return the body of the receipt."""
        if self.outcome is AnswerOutcome.ACCEPTED:
            return {"type": _RECEIPT, "outcome": str(self.outcome)}
        failed = ErrorAnswer.of(answer, Failure.REJECTED, self.text or "").value()
        return (
            failed | {"outcome": str(self.outcome)} | ({} if self.by is None else {"by": self.by})
        )

    @classmethod
    def read(cls, message: StoredMessage) -> Self | None:
        """Return the receipt in a message. None if it is not a receipt.

        An error answer without an outcome means that the sender gave the answer up. The question
        then stays open.
        """
        try:
            body = message.json()
        except ValueError:
            return None
        if not isinstance(body, dict):
            return None
        outcome = next((one for one in AnswerOutcome if one == body.get("outcome")), None)
        if body.get("type") == _RECEIPT:
            return None if outcome is None else cls(outcome=outcome)
        failed = ErrorAnswer.read(message)
        if failed is None:
            return None
        by = body.get("by")
        return cls(
            outcome=AnswerOutcome.CLOSED
            if outcome is AnswerOutcome.CLOSED
            else AnswerOutcome.REFUSED,
            text=failed.reason,
            by=by if isinstance(by, str) else None,
        )


def mailbox_of(name: str) -> str:
    """Return the mailbox of an address or an agent's name."""
    try:
        return addresses.parse(name)
    except InvalidAddress:
        return addresses.slug(name)


def own_mailbox(sender: str | None) -> str | None:
    """Return the mailbox of a sender's name, if the name gives a valid one."""
    try:
        return None if sender is None else addresses.slug(sender)
    except InvalidRequest:
        return None


async def sender_problem(
    client: Mq9Client, answer: StoredMessage, asked: Collection[str], *, is_authenticated: bool
) -> str | None:
    """Return why the sender of an answer may not give it. None if it may.

    Clients that may take messages from the mailbox of a question may answer it. The broker checks
    that for ``from_mailbox``. The agent that owns the mailbox may also answer. Without
    authentication the broker knows no senders, so all clients may answer.

    Args:
        client: The connection of the question's sender.
        answer: The answer.
        asked: The mailboxes that got the question.
        is_authenticated: Whether the broker authenticates this client, and so the senders of
            answers.
    """
    if not answer.sender_verified:
        return "the broker does not know its sender" if is_authenticated else None
    sender = answer.sender or ""
    if answer.from_mailbox in asked or own_mailbox(sender) in asked:
        return None
    for one in await client.agent_discover(text=sender):
        if one.match.name == sender and one.match.mailbox in asked:
            return None
    return f"{shown(sender)} was not asked"


async def send_receipt(client: Mq9Client, answer: Message, receipt: Receipt, sender: str) -> None:
    """Send the receipt of an answer to its sender, if the answer asks for one."""
    if answer.reply_to is None:
        return
    id_, headers = None, None
    if receipt.outcome is not AnswerOutcome.ACCEPTED:
        id_ = (answer_id(answer) or "").replace("answer.", "error.", 1)
        headers = ErrorAnswer.of(answer, Failure.REJECTED, "").headers
    try:
        await client.reply(answer, receipt.body(answer), id=id_, headers=headers, sender=sender)
    except IdConflict as error:
        _logger.debug("an answer has a receipt: %s", error)
    except (Forbidden, LimitReached, MailboxFull, MailboxNotFound) as error:
        _logger.info("an answer gets no receipt: %s", error)
