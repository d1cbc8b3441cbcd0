"""Interrupts of real graphs become questions, and answers what resumes them."""

from dataclasses import dataclass

import pytest

from langchain_mq9.worker.interrupts import Kind, asked, resume_value
from mq9.questions import InvalidAnswer, MailedQuestion

ALL = ("approve", "edit", "reject", "respond")


def test_a_schema_with_a_single_decision_allows_only_that():
    value = {"type": "tool_approval", "name": "x", "args": {}}
    schema = {"properties": {"type": {"const": "approve"}}}
    assert asked(value, schema).question.actions[0].decisions == ("approve",)
    for unknown in (None, {}, {"oneOf": 1}, {"anyOf": [1]}, {"oneOf": [{"$ref": "#/$defs/gone"}]}):
        assert asked(value, unknown).question.actions[0].decisions == ALL


HUMAN_INTERRUPT = {
    "action_request": {"action": "run", "args": {"command": "ls"}},
    "config": {
        "allow_ignore": True,
        "allow_respond": False,
        "allow_edit": True,
        "allow_accept": True,
    },
    "description": "Run it?",
}


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("approve", {"type": "accept", "args": None}),
        ("ignore", {"type": "ignore", "args": None}),
        (
            {"type": "edit", "args": {"action": "run", "args": {"command": "pwd"}}},
            {"type": "edit", "args": {"action": "run", "args": {"command": "pwd"}}},
        ),
        (
            {"type": "edit", "edited_action": {"name": "run", "args": {"command": "id"}}},
            {"type": "edit", "args": {"action": "run", "args": {"command": "id"}}},
        ),
    ],
)
def test_an_agent_inbox_request_is_answered_in_its_own_words(answer, response):
    request = asked(HUMAN_INTERRUPT)
    assert request.kind is Kind.AGENT_INBOX
    assert request.question.text == "Run it?"
    assert request.question.actions[0].decisions == ("approve", "edit", "reject")
    assert resume_value(request.kind, request.question, answer) == response
    listed = asked([HUMAN_INTERRUPT])
    assert resume_value(listed.kind, listed.question, answer) == [response]


def test_an_agent_inbox_request_that_allows_it_is_answered_with_a_text():
    config = {"allow_respond": True}
    request = asked({"action_request": {"action": "Name?"}, "config": config})
    answer = {"type": "response", "args": "Ada"}
    assert resume_value(request.kind, request.question, answer) == answer
    with pytest.raises(InvalidAnswer, match="'approve' is not possible here; answer respond"):
        resume_value(request.kind, request.question, "approve")


@dataclass
class Bill:
    cents: int


class Odd:
    def __str__(self):
        return "an odd thing"


@pytest.mark.parametrize(
    ("value", "text", "plain"),
    [
        ("May I?", "May I?", "May I?"),
        ({"question": "May I?", "n": 1}, "May I?", {"question": "May I?", "n": 1}),
        ({"text": " ", "n": 1}, '{"text":" ","n":1}', {"text": " ", "n": 1}),
        ([1, "a"], '[1,"a"]', [1, "a"]),
        (None, "null", None),
        (Bill(7), '{"cents":7}', {"cents": 7}),
        ({"it": Odd()}, '{"it":"an odd thing"}', {"it": "an odd thing"}),
        ([], "[]", []),
        ({"action_requests": [], "review_configs": []},) + (None,) * 2,
        ({"action_requests": [{"name": 1}], "review_configs": []},) + (None,) * 2,
        ({"action_request": {"action": 1}, "config": {}},) + (None,) * 2,
        ({"type": "question", "to": "lawyer"},) + (None,) * 2,
    ],
)
def test_any_other_value_is_asked_as_it_is_and_any_answer_is_the_answer(value, text, plain):
    request = asked(value)
    assert request.kind is Kind.VALUE
    if text is not None:
        assert request.question == MailedQuestion(text=text, value=plain)
    for answer in ("approve", {"type": "edit"}, 7, None):
        assert resume_value(request.kind, request.question, answer) == answer
