"""Interrupts as questions, and answers as the values that resume them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import to_jsonable_python

from mq9.questions import DECISIONS, Action, MailedQuestion, decisions_of


def tool_schemas(graph: Any) -> dict[str, Mapping[str, Any]]:
    """Return the known schemas of a compiled graph's tools by name."""
    found = {tool.name: _schema(tool) for tool in _tools(graph)}
    return {name: schema for name, schema in found.items() if schema is not None}


def _tools(graph: Any) -> Iterator[BaseTool]:
    if not isinstance(graph, Pregel):
        return
    for node in graph.nodes.values():
        by_name = getattr(node.bound, "tools_by_name", None)
        if isinstance(by_name, Mapping):
            yield from (one for one in by_name.values() if isinstance(one, BaseTool))


def _schema(tool: BaseTool) -> Mapping[str, Any] | None:
    schema: Any = tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        try:
            return schema.model_json_schema()
        except PydanticInvalidForJsonSchema:
            return None
    return schema if isinstance(schema, dict) else None


NO_TOOLS: Mapping[str, Mapping[str, Any]] = {}
_TEXT_FIELDS = ("text", "question", "message", "description", "query")
_ALLOWED = {  # the answers that a HumanInterrupt of the Agent Inbox schema may allow
    "approve": "allow_accept",
    "edit": "allow_edit",
    "reject": "allow_ignore",
    "respond": "allow_respond",
}
_AGENT_INBOX = {"approve": "accept", "edit": "edit", "reject": "ignore", "respond": "response"}


class Kind(StrEnum):
    """The form of an interrupt's value, which decides the form of what resumes it."""

    REVIEW = "review"  # a request of LangChain's `HumanInTheLoopMiddleware`
    APPROVAL = "approval"  # its request for a single tool call
    AGENT_INBOX = "agent_inbox"  # a `HumanInterrupt`
    AGENT_INBOXES = "agent_inboxes"  # a list of them
    MESSAGE = "message"  # {"type": "question", "to": …, "text": …}, which names the recipient
    VALUE = "value"  # anything else


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedInterrupt:
    """The question of an interrupt."""

    kind: Kind
    question: MailedQuestion
    to: str | None = None  # the mailbox that the interrupt names
    body: Any = None  # mailed to it in place of the question


def asked(
    value: Any, response_schema: Any = None, tools: Mapping[str, Mapping[str, Any]] = NO_TOOLS
) -> AskedInterrupt:
    """Return the question of an interrupt's value; the schemas are JSON schemas."""
    plain = to_jsonable_python(value, fallback=str)
    kind = _kind(plain)
    schema = response_schema if isinstance(response_schema, dict) else None
    if kind is Kind.MESSAGE:
        body = plain["content"] if "content" in plain else plain["text"]
        text = body if isinstance(body, str) else _compact(body)
        question = MailedQuestion(text=text, schema=schema)
        return AskedInterrupt(kind=kind, question=question, to=plain["to"], body=body)
    actions: tuple[Action, ...] = ()
    if kind is Kind.REVIEW:
        actions = tuple(_reviewed(plain, tools))
    elif kind is Kind.APPROVAL:
        actions = (_approval(plain, response_schema, tools),)
    elif kind is not Kind.VALUE:
        actions = tuple(map(_agent_inbox, [plain] if kind is Kind.AGENT_INBOX else plain))
    if actions:  # each has its own possible answers
        text = "\n\n".join(one.text or one.name for one in actions)
        question = MailedQuestion(text=text, value=plain, actions=actions)
    else:
        question = MailedQuestion(text=_text(plain), value=plain, schema=schema)
    return AskedInterrupt(kind=kind, question=question)


def resume_value(kind: Kind, question: MailedQuestion, answer: Any) -> Any:
    """Return the value that resumes an interrupt; ``InvalidAnswer`` if the answer does not fit."""
    if not question.actions:
        return answer
    decisions = decisions_of(question.actions, answer)
    if kind is Kind.APPROVAL:
        return decisions[0]
    if kind is Kind.REVIEW:
        return {"decisions": decisions}
    responses = [_human_response(one) for one in decisions]
    return responses[0] if kind is Kind.AGENT_INBOX else responses


def _kind(value: Any) -> Kind:
    if isinstance(value, list) and value and all(map(_is_human_interrupt, value)):
        return Kind.AGENT_INBOXES
    if not isinstance(value, dict):
        return Kind.VALUE
    if _is_human_interrupt(value):
        return Kind.AGENT_INBOX
    if _is_review(value):
        return Kind.REVIEW
    if value.get("type") == "tool_approval" and isinstance(value.get("name"), str):
        return Kind.APPROVAL
    is_message = value.get("type") == "question" and isinstance(value.get("to"), str)
    return Kind.MESSAGE if is_message and ("text" in value or "content" in value) else Kind.VALUE


def _is_review(value: Mapping[str, Any]) -> bool:
    requests = value.get("action_requests")
    return (
        _is_list_of_objects(requests)
        and "review_configs" in value
        and all(isinstance(one.get("name"), str) for one in requests or ())
    )


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _is_human_interrupt(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
        return False
    request = value.get("action_request")
    return isinstance(request, dict) and isinstance(request.get("action"), str)


def _reviewed(
    request: Mapping[str, Any], tools: Mapping[str, Mapping[str, Any]]
) -> Iterator[Action]:
    """Yield the actions of a ``HITLRequest``, each with the decisions that its policy allows."""
    policies = request["review_configs"]
    configured = {
        one.get("action_name"): one for one in (policies if _is_list_of_objects(policies) else [])
    }
    for one in request["action_requests"]:
        policy = _object(configured.get(one["name"]))
        yield Action(
            name=one["name"],
            args=_object(one.get("args")),
            text=str(one.get("description", "")),
            decisions=_known(policy.get("allowed_decisions")),
            schema=_object(policy.get("args_schema")) or tools.get(one["name"]),
        )


def _approval(
    request: Mapping[str, Any], schema: Any, tools: Mapping[str, Mapping[str, Any]]
) -> Action:
    """Return the action of a ``ToolApprovalRequest``, with the answers that its schema allows."""
    return Action(
        name=request["name"],
        args=_object(request.get("args")),
        text=str(request.get("description", "")),
        decisions=_known(_types(schema)),
        schema=tools.get(request["name"]),
    )


def _agent_inbox(request: Mapping[str, Any]) -> Action:
    """Return the action of a ``HumanInterrupt``."""
    action, config = request["action_request"], request["config"]
    return Action(
        name=action["action"],
        args=_object(action.get("args")),
        text=str(request.get("description") or ""),
        decisions=tuple(word for word, allowed in _ALLOWED.items() if config.get(allowed)),
    )


def _human_response(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision as a ``HumanResponse``, which has no place for why it was rejected."""
    args: Any = None
    if decision["type"] == "edit":
        edited = decision["edited_action"]
        args = {"action": edited["name"], "args": edited["args"]}
    elif decision["type"] == "respond":
        args = decision["message"]
    return {"type": _AGENT_INBOX[decision["type"]], "args": args}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _known(decisions: Any) -> tuple[str, ...]:
    """Return the known ones of the given decisions, in our order; all without any."""
    if decisions is None:
        return DECISIONS
    return tuple(one for one in DECISIONS if one in decisions)


def _types(schema: Any) -> set[str] | None:
    """Return the values that a JSON schema allows as ``type``; None without a limit."""
    if not isinstance(schema, dict):
        return None
    one_of = schema.get("oneOf", schema.get("anyOf", [schema]))
    found: set[str] = set()
    for branch in one_of if isinstance(one_of, list) else []:
        name = str(_object(branch).get("$ref", "")).removeprefix("#/$defs/")
        described = _object(_object(schema.get("$defs")).get(name)) or _object(branch)
        word = _object(_object(described.get("properties")).get("type")).get("const")
        if isinstance(word, str):
            found.add(word)
    return found or None


def _text(value: Any) -> str:
    """Return the text of a value for a person."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for name in _TEXT_FIELDS:
            if isinstance(value.get(name), str) and value[name].strip():
                return str(value[name])
    return _compact(value)


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()
