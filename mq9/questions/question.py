"""What a mailed question is: its JSON body, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mq9.models import QUESTION_TAG

TAG = QUESTION_TAG
TYPE = "question"  # what the body of such a message says it is
_CLOSED = "question_closed"  # what the body of the note in a question's place says it is
DECISIONS = ("approve", "edit", "reject", "respond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a program wants to do, and a person is to decide about.

    Attributes:
        name: What it is, such as the name of a tool.
        args: What it is to be done with.
        text: What the asker says of it.
        decisions: Which of ``DECISIONS`` may be taken.
        schema: The JSON schema of the arguments; None if the asker does not know it.
    """

    name: str
    args: Mapping[str, Any]
    text: str = ""
    decisions: tuple[str, ...] = DECISIONS
    schema: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the body of a question."""
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
class Question:
    """A question to a person.

    Attributes:
        text: What is asked.
        value: What the asker says beside the text, as JSON; None when nothing.
        actions: What is to be decided about. Without any, whatever is answered is the answer.
        expires: Until when it may be answered, in Unix seconds; None for always.
        problem: Why an earlier answer to it was refused; None when none was.
        schema: The JSON schema of the answer; None if the asker has none.
    """

    text: str
    value: Any = None
    actions: tuple[Action, ...] = ()
    expires: int | None = None
    problem: str | None = None
    schema: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body of the message that asks it."""
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
    def from_json(cls, body: Mapping[str, Any]) -> Question | None:
        """Read the body of a message; None when it is no question of this format."""
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
    def from_payload(cls, payload: bytes) -> Question:
        """Read the body of a message; one that is not of this format asks what its text says."""
        try:
            body = orjson.loads(payload)
        except ValueError:
            body = None
        question = cls.from_json(body) if isinstance(body, dict) else None
        return question or cls(text=payload.decode("utf-8", "backslashreplace"))


def closed(question: Question, text: str) -> dict[str, Any]:
    """Return the body of the note that takes the place of a question which needs no answer."""
    return {"type": _CLOSED, "text": text, "question": question.text}


def closing_note(payload: bytes) -> str | None:
    """Return why a question needs no answer any more; None if the body is no such note."""
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
