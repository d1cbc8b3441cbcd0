"""Every argument of every tool, given what it must not be: named in the error, nothing changed."""

import asyncio

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import ValidationError

from mq9.operations.catalog import ALL

from .examples import TEN_YEARS, VALID, WRONG
from .tool_calls import TOOLS, answer, do, run_in, send, tool, tool_call

pytestmark = pytest.mark.unmeasured

# What is wrong here is not the form of the argument, so the error speaks of the thing.
SPEAKS_OF = {
    **{("ack_messages", "msg_id", one): "have not fetched" for one in (9, "[9]", "[0, 9]")},
    ("ack_messages", "group_name", "other"): "have not fetched 0 by that group here",
    ("delete_message", "msg_id", 9): "9 is not in planner",
}


def speaks_of(name, argument, value):
    return next(
        (
            said
            for (*what, one), said in SPEAKS_OF.items()
            if (*what, str(one)) == (name, argument, str(value))
        ),
        argument,
    )


@pytest.fixture
def prepared(broker, planner, worker, anyone):
    """An agent with a fetched message, another agent, and what the broker then holds."""
    do(planner, "agent_register", name="planner", capabilities="Plans")
    send(worker, "x", key="k", tags=["a"])
    send(planner, "y", "worker")
    answer(planner, "fetch_messages", wait_seconds=0, config=run_in("t"))
    return lambda: asyncio.run(snapshot(broker, anyone))


async def snapshot(broker, anyone):
    async with broker.client() as client:
        return [
            [await client.mailbox_status(one, group_name=one) for one in ("planner", "worker")],
            [await client.query(one) for one in ("planner", "worker")],
            await client.agent_discover(),
            [
                await client.mailbox_status("planner", group_name="planner", msg_id=number)
                for number in range(3)
            ],
        ]


@pytest.fixture
def agent_calls(planner):
    """Call a tool as an agent's graph does; the ToolMessage."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(planner.get_tools()))
    graph.add_edge(START, "tools")
    compiled = graph.compile()

    def hand(name, arguments):
        step = AIMessage.model_construct(
            content="", type="ai", tool_calls=[tool_call(name, arguments)], invalid_tool_calls=[]
        )
        [*_, message] = compiled.invoke({"messages": [step]}, run_in("t"))["messages"]
        assert isinstance(message, ToolMessage)
        return message

    return hand


def refusal(toolkit, name, arguments):
    """Call a tool in vain; what is said of it, in whichever way."""
    try:
        message = tool(toolkit, name).invoke(tool_call(name, arguments))
    except ValidationError as error:
        return str(error)
    assert message.status == "error", (arguments, message.content)
    return message.content


@pytest.mark.parametrize(
    ("name", "argument"), WRONG, ids=lambda value: value if isinstance(value, str) else None
)
def test_a_wrong_argument_is_named_and_changes_nothing(prepared, planner, name, argument):
    before = prepared()
    for value in WRONG[name, argument]:
        told = refusal(planner, name, {**VALID[name], argument: value})
        assert speaks_of(name, argument, value) in told
        assert len(told) < 2_000
    assert prepared() == before


@pytest.mark.parametrize("name", TOOLS)
def test_arguments_that_are_missing_or_too_many_are_named(prepared, agent_calls, name):
    before = prepared()
    assert "no_such" in agent_calls(name, {**VALID[name], "no_such": 1}).content
    for argument, field in ALL[name].arguments.model_fields.items():
        if field.is_required():
            missing = {one: value for one, value in VALID[name].items() if one != argument}
            message = agent_calls(name, missing)
            assert message.status == "error"
            assert argument in message.content
    assert prepared() == before


def test_every_argument_of_every_tool_is_tried():
    assert set(WRONG) == {
        (name, argument) for name, one in ALL.items() for argument in one.arguments.model_fields
    }


def test_a_ttl_that_ends_before_the_delay_is_refused(prepared, planner):
    before = prepared()

    told = refusal(planner, "send_message", {**VALID["send_message"], "delay": 60, "ttl": 60})

    assert told == (
        "ttl: 60 s is not more than the delay of 60 s. Correct that argument and call again."
    )
    assert prepared() == before


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("agent_register", {"name": "planner", "capabilities": "x" * 20_000}),
        ("agent_discover", {"query": "x" * 4_096, "limit": 100}),
        ("create_mailbox", {"name": "a" * 128, "ttl": TEN_YEARS}),
        (
            "send_message",
            {
                "mail_address": "planner",
                "content": "x" * 1024 * 1024,
                "key": "雪" * 256,
                "delay": TEN_YEARS - 1,
                "ttl": TEN_YEARS,
                "tags": [str(number) * 256 for number in range(10)],
                "correlation_id": "c" * 256,
            },
        ),
        (
            "fetch_messages",
            {"group_name": "g" * 256, "limit": 1_000, "max_chars": 10_000_000},
        ),
        ("query_messages", {"key": "k" * 256, "tags": ["t" * 256] * 64, "limit": 1_000}),
    ],
)
def test_the_most_that_is_allowed_is_taken(prepared, agent_calls, name, most):
    message = agent_calls(name, most)

    assert message.status == "success", message.content
