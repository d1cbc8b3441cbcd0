"""Interrupts of real graphs become questions, and answers what resumes them."""

from dataclasses import dataclass
from typing import Literal

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from langchain_mq9.worker.interrupts import Kind, asked, resume_value
from mq9.questions import Action, InvalidAnswer, MailedQuestion
from tests.questions.reviewed import THREAD, Agent

ALL = ("approve", "edit", "reject", "respond")


async def test_a_review_of_several_actions_is_asked_and_decided_one_by_one():
    agent = Agent()
    [found] = await agent.interrupts()
    request = asked(found.value, found.response_schema)
    assert request.kind is Kind.REVIEW
    assert request.to is None
    [send, drop] = request.question.actions
    assert (send.name, send.args, send.decisions) == ("send_email", {"to": "ada"}, ALL)
    assert drop == Action(
        name="drop_table",
        args={"name": "users"},
        text="Drop it?",
        decisions=("approve", "reject"),
    )
    assert request.question.text.endswith("Args: {'to': 'ada'}\n\nDrop it?")
    assert request.question.value == found.value

    answer = [
        {"type": "edit", "edited_action": {"name": "send_email", "args": {"to": "bob"}}},
        {"type": "reject", "message": "too early"},
    ]
    texts = await agent.resume({found.id: resume_value(request.kind, request.question, answer)})
    assert agent.done == ["sent to bob"]
    assert any("too early" in text for text in texts)


async def test_an_approval_of_each_call_is_asked_with_what_its_schema_allows():
    agent = Agent(interrupt_mode="per_call")
    found = await agent.interrupts()
    requests = [asked(one.value, one.response_schema) for one in found]
    assert {one.kind for one in requests} == {Kind.APPROVAL}
    [[send], [drop]] = [one.question.actions for one in requests]
    assert (send.name, send.decisions) == ("send_email", ALL)
    assert (drop.name, drop.decisions) == ("drop_table", ("approve", "reject"))

    values = {
        one.id: resume_value(request.kind, request.question, answer)
        for one, request, answer in zip(found, requests, ["approve", "reject"], strict=True)
    }
    await agent.resume(values)
    assert agent.done == ["sent to ada"]


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


class Form(TypedDict):
    verdict: Literal["good", "bad"]


async def test_a_value_with_a_schema_is_asked_as_it_is():
    def ask(_state):
        return {"verdict": interrupt("How is it?", response_schema=Form)["verdict"]}

    graph = StateGraph(Form)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    app = graph.compile(checkpointer=InMemorySaver())
    await app.ainvoke({}, THREAD)
    [found] = (await app.aget_state(THREAD)).interrupts
    request = asked(found.value, found.response_schema)
    assert (request.question.text, request.question.value) == ("How is it?", "How is it?")
    assert list(request.question.schema["properties"]) == ["verdict"]
    value = resume_value(request.kind, request.question, {"verdict": "good"})
    assert await app.ainvoke(Command(resume={found.id: value}), THREAD) == {"verdict": "good"}
