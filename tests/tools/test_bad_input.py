"""Every argument of every tool, given what it must not be: named in the error, nothing changed."""

import asyncio

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import ValidationError

from .tool_calls import TOOLS, answer, do, run_in, tool, tool_call

VALID = {
    "agent_register": {"name": "planner", "capabilities": "Plans"},
    "agent_discover": {"query": "plan", "limit": 3},
    "create_mailbox": {"name": "new.one", "ttl": 60},
    "send_message": {"mail_address": "planner", "content": "x"},
    "fetch_messages": {"wait_seconds": 0},
    "ack_messages": {"msg_id": 0},
    "query_messages": {},
    "delete_message": {"mail_address": "planner", "msg_id": 0},
}

NOT_TEXT = [7, 1.5, True, ["a"], {"a": 1}, b"a"]
NOT_WHOLE = ["7", 1.5, True, [7], {"a": 1}, float("nan"), float("inf"), 10**30]
BROKEN = ["\ud800", "a\udfffb"]
UNPRINTABLE = ["a\0b", "a\u200bb", "a\nb", "\u202eb", "\x1b[31m"]
ADDRESSES = [
    *NOT_TEXT,
    *BROKEN,
    *UNPRINTABLE,
    *(" ", " planner", "Planner", "a..b", ".a", "a.", "a_b", "雪", "a" * 129, "mq9://x/", "*", ">"),
]
WORDS = [*NOT_TEXT, *BROKEN, *UNPRINTABLE, " a", "a ", "x" * 257]
TEXT = [*NOT_TEXT, *BROKEN]
TEN_YEARS = 10 * 365 * 86_400

WRONG = {
    ("agent_register", "name"): ["x" * 129, "worker", *TEXT, *UNPRINTABLE],
    ("agent_register", "capabilities"): [None, "", "x" * 20_001, *TEXT],
    ("agent_register", "mail_address"): [*ADDRESSES, "worker"],
    ("agent_discover", "query"): [
        *("x" * 4_097, 7, 1.5, True, {"a": 1}, b"a", *BROKEN),
        *(["a", ""], ["a"] * 6, ["a", 7], ["x" * 4_097], ["a", None], BROKEN),
    ],
    ("agent_discover", "limit"): [0, -1, 101, *NOT_WHOLE],
    ("create_mailbox", "name"): ADDRESSES,
    ("create_mailbox", "ttl"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("send_message", "mail_address"): [None, "", *ADDRESSES],
    ("send_message", "content"): [None, "x" * (1024 * 1024 + 1), "雪" * 400_000, *TEXT],
    ("send_message", "priority"): ["high", "URGENT", " normal", 1, ["urgent"], *BROKEN],
    ("send_message", "key"): WORDS,
    ("send_message", "delay"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("send_message", "ttl"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("send_message", "tags"): [
        "a",
        7,
        {"a": "b"},
        ("a",),
        ["a,b"],
        [""],
        ["a", None],
        [str(number) for number in range(65)],
        *([word] for word in WORDS),
    ],
    ("send_message", "reply_to"): ADDRESSES,
    ("send_message", "correlation_id"): WORDS,
    ("fetch_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("fetch_messages", "group_name"): WORDS,
    ("fetch_messages", "num_msgs"): [0, -1, 1_001, *NOT_WHOLE],
    ("fetch_messages", "wait_seconds"): [-1, 46, *NOT_WHOLE],
    ("fetch_messages", "max_chars"): [0, 99, 10_000_001, *NOT_WHOLE],
    ("fetch_messages", "new_only"): [0, 1, "yes", 1.5, [True], {"a": 1}],
    ("ack_messages", "msg_id"): [
        *(None, "", -1, 2**53, 9, "7", 1.5, True, {"a": 1}, float("nan"), 10**30),
        *([], [9], [0, 9], ["0"], [True], [0, -1], [[0]], [0] * 101),
    ],
    ("ack_messages", "outcome"): ["ack", "DONE", 1, ["done"], True, *BROKEN],
    ("ack_messages", "through"): [0, 1, "yes", "true", 1.5, [True], {"a": 1}],
    ("ack_messages", "seconds"): [0, 5, -1, 86_401, *NOT_WHOLE],
    ("ack_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("ack_messages", "group_name"): [*WORDS, "other"],
    ("query_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("query_messages", "key"): WORDS,
    ("query_messages", "tags"): ["a", 7, ["a,b"], [""], *([word] for word in WORDS)],
    ("query_messages", "since"): [
        *TEXT,
        *("yesterday", "2026-13-01", "1969-12-31T23:59:59Z", "12:00"),
        *("9999-12-31T23:59:59-23:59", " 2026-11-21", "1800000000", "2026-11-21T07:09:00+25:00"),
    ],
    ("query_messages", "msg_id"): [-1, 2**53, *NOT_WHOLE],
    ("query_messages", "limit"): [0, -1, 1_001, *NOT_WHOLE],
    ("query_messages", "max_chars"): [0, 99, 10_000_001, *NOT_WHOLE],
    ("delete_message", "mail_address"): [None, "", *ADDRESSES, "worker"],
    ("delete_message", "msg_id"): [None, "", -1, 2**53, 9, *NOT_WHOLE],
    ("delete_message", "confirm_address"): [*ADDRESSES, "worker"],
}
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
    do(worker, "send_message", mail_address="planner", content="x", key="k", tags=["a"])
    do(planner, "send_message", mail_address="worker", content="y")
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


@pytest.mark.parametrize(
    ("name", "argument"), WRONG, ids=lambda value: value if isinstance(value, str) else None
)
def test_an_agent_is_told_of_a_wrong_argument(prepared, agent_calls, name, argument):
    for value in WRONG[name, argument][:8]:
        message = agent_calls(name, {**VALID[name], argument: value})

        assert message.status == "error"
        assert argument in message.content


@pytest.mark.parametrize("name", TOOLS)
def test_arguments_that_are_missing_or_too_many_are_named(prepared, agent_calls, name):
    before = prepared()
    assert "no_such" in agent_calls(name, {**VALID[name], "no_such": 1}).content
    for argument, field in tool_fields(name):
        if field.is_required():
            missing = {one: value for one, value in VALID[name].items() if one != argument}
            message = agent_calls(name, missing)
            assert message.status == "error"
            assert argument in message.content
    assert prepared() == before


def tool_fields(name):
    from mq9.operations import OPERATIONS

    [operation] = (one for one in OPERATIONS if one.name == name)
    return operation.arguments.model_fields.items()


def test_every_argument_of_every_tool_is_tried():
    assert set(WRONG) == {(name, argument) for name in TOOLS for argument, _ in tool_fields(name)}


def test_a_ttl_that_ends_before_the_delay_is_refused(prepared, planner):
    before = prepared()

    told = refusal(planner, "send_message", {**VALID["send_message"], "delay": 60, "ttl": 60})

    assert told == (
        "ttl: 60 s is not more than the delay of 60 s. Correct that argument and call again."
    )
    assert prepared() == before


@pytest.mark.parametrize("name", VALID)
def test_what_is_valid_is_not_refused(prepared, agent_calls, name):
    assert agent_calls(name, VALID[name]).status == "success"


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
            {"group_name": "g" * 256, "num_msgs": 1_000, "max_chars": 10_000_000},
        ),
        ("query_messages", {"key": "k" * 256, "tags": ["t" * 256] * 64, "limit": 1_000}),
    ],
)
def test_the_most_that_is_allowed_is_taken(prepared, agent_calls, name, most):
    message = agent_calls(name, most)

    assert message.status == "success", message.content
