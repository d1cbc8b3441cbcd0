"""What may be answered to a question, and what an answer decides.

An answer is a message: its body's JSON, or else its text. To a question without actions it is the
answer, whatever it is. To one with actions it is a decision on each of them, which is written in
one of these ways:

- ``{"decisions": [decision, …]}`` with one decision for each action, in their order, or the list
  alone;
- one decision, where there is one action, or where it approves or rejects all of them;
- the word ``approve`` or ``reject``, which is such a decision.

A decision is ``{"type": "approve"}``, ``{"type": "reject", "message": …}``,
``{"type": "edit", "edited_action": {"name": …, "args": …}}`` or
``{"type": "respond", "message": …}``, as LangChain has them. The words of the Agent Inbox schema
(``accept``, ``ignore``, ``response``, with ``args``) are understood as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from mq9.protocol.checks import shown
from mq9.questions.question import DECISIONS, Action, Question

_SYNONYMS = {"accept": "approve", "ignore": "reject", "response": "respond"}
_FOR_ALL = ("approve", "reject")  # what one decision may say of several actions


class InvalidAnswer(ValueError):
    """An answer does not fit its question; the text says why, for the person who gave it."""


def answer_of(payload: bytes) -> Any:
    """Return what a message answers: its body's JSON, else its text.

    Raises:
        InvalidAnswer: It is neither.
    """
    try:
        return orjson.loads(payload)
    except ValueError:
        pass
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidAnswer(f"an answer is text or JSON, not {len(payload)} other bytes") from None


def decision_word(text: str) -> str | None:
    """Return which of ``DECISIONS`` a word means; None when none."""
    word = text.strip().casefold()
    word = _SYNONYMS.get(word, word)
    return word if word in DECISIONS else None


def check_answer(question: Question, answer: Any) -> None:
    """Check that an answer fits its question.

    Raises:
        InvalidAnswer: It does not.
    """
    if question.actions:
        decisions_of(question.actions, answer)


def decisions_of(actions: Sequence[Action], answer: Any) -> list[dict[str, Any]]:
    """Return an answer's decision on each action, as LangChain's middleware takes them.

    Args:
        actions: What was asked about; one or more.
        answer: The answer, in any of the forms above.

    Raises:
        InvalidAnswer: It is in none of them, there are too many or too few decisions, or one is
            not allowed.
    """
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
    """Return the decision, or the list of them, that an answer holds."""
    if isinstance(answer, str):
        return {"type": answer}
    if isinstance(answer, Mapping) and "decisions" in answer:
        answer = answer["decisions"]
        if not isinstance(answer, list):
            raise InvalidAnswer(f"decisions: {shown(answer)} is not a list")
    if not isinstance(answer, list | Mapping):
        raise InvalidAnswer(f"{shown(answer)} is no decision; {_allowed(DECISIONS)}")
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
    """Return which of ``DECISIONS`` is taken on an action."""
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise InvalidAnswer(
            f"{action.name}: {shown(given)} is no decision; {_allowed(action.decisions)}"
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
    """Check that an edit has the arguments that an action has: by its schema, else as asked."""
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
