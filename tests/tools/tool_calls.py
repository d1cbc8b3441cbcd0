"""How the tests use the tools: as a model does, with tool calls."""

import asyncio
import json

import orjson
import pytest
from langchain_core.messages import ToolMessage
from waiting import until

from mq9.operations.catalog import OPERATIONS

# The planner's leases end by themselves.
not_renewed = pytest.mark.parametrize("hold", [0])

TOOLS = tuple(one.name for one in OPERATIONS)


def tool(toolkit, name):
    return next(one for one in toolkit.get_tools() if one.name == name)


def tool_call(name, arguments):
    return {"type": "tool_call", "id": f"call-{name}", "name": name, "args": arguments}


def answer(toolkit, name, /, *, config=None, **arguments):
    """Call a tool as an agent does; its ToolMessage."""
    message = tool(toolkit, name).invoke(tool_call(name, arguments), config)
    assert isinstance(message, ToolMessage)
    return message


async def aanswer(toolkit, name, /, *, config=None, **arguments):
    """The same from async code."""
    message = await tool(toolkit, name).ainvoke(tool_call(name, arguments), config)
    assert isinstance(message, ToolMessage)
    return message


def result(message):
    """What a successful tool message says; it is compact JSON, and the artifact says the same."""
    assert message.status == "success", message.content
    said = json.loads(message.content)
    assert message.content == orjson.dumps(said).decode()
    assert message.artifact.model_dump(mode="json", exclude_none=True) == said
    return said


def do(toolkit, name, /, **arguments):
    """Call a tool that succeeds; its result."""
    return result(answer(toolkit, name, **arguments))


async def ado(toolkit, name, /, **arguments):
    """The same from async code."""
    return result(await aanswer(toolkit, name, **arguments))


def fail(toolkit, name, /, **arguments):
    """Call a tool that fails; what the model is told."""
    message = answer(toolkit, name, **arguments)
    assert message.status == "error", message.content
    return message.content


def send(toolkit, content, mail_address="planner", **options):
    return do(toolkit, "send_message", to=mail_address, content=content, **options)


async def asend(toolkit, content, mail_address="planner", **options):
    return await ado(toolkit, "send_message", to=mail_address, content=content, **options)


def fetch(toolkit, /, **arguments):
    """Fetch what is there now."""
    return do(toolkit, "fetch_messages", wait_seconds=0, **arguments)


def fetch_all(toolkit, /, **arguments):
    """Fetch what is there now, and what the agent holds already."""
    return fetch(toolkit, include_held=True, **arguments)


def held(said):
    """What the agent holds beside the messages of a result."""
    return [one["msg_id"] for one in said.get("held", ())]


def bodies(said):
    return [message["untrusted_content"] for message in said["messages"]]


def envelopes(said):
    return [message["untrusted_envelope"] for message in said["messages"]]


def reached(said):
    """The envelopes without the correlation ids that were made up."""
    return [
        {name: value for name, value in envelope.items() if name != "correlation_id"}
        for envelope in envelopes(said)
    ]


def ids(said):
    return [message["msg_id"] for message in said["messages"]]


def run_in(thread_id):
    """The config of a LangGraph thread."""
    return {"configurable": {"thread_id": thread_id}}


def within(thread, toolkit, name, /, **arguments):
    """Call a tool that succeeds in a LangGraph thread; its result."""
    return result(answer(toolkit, name, config=run_in(thread), **arguments))


async def awithin(thread, toolkit, name, /, **arguments):
    """The same from async code."""
    return result(await aanswer(toolkit, name, config=run_in(thread), **arguments))


async def begin(broker, call, waiting=1):
    """Start an async call and return its task, once so many calls wait for mail."""
    task = asyncio.create_task(call)
    await until(lambda: task.done() or broker.waiting >= waiting)
    return task
