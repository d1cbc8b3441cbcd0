"""What a worker makes of a message: input, run, answer, or dead letter."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_mq9.testing import ScriptedModel
from mq9 import InvalidRequest, RequestFailed
from tests.worker.graphs import State, Steps, echo, fail_once, held, working


async def test_a_json_object_goes_in_and_the_final_state_comes_back(client):
    steps = Steps("read", "write")
    async with working(client, steps.compile()) as worker:
        answer = await client.request("lawyer", {"topic": "tea"})
        assert answer.json() == {"topic": "tea", "trail": ["read", "write"]}
        assert answer.sender == "lawyer"
    assert worker.counters.mail.processed == 1
    assert worker.counters.started == 1
    assert await held(client) == 0


async def reason_after(client, graph, body=None, **options):
    """Let a worker give a message up; why it did."""
    async with working(client, graph, **options):
        body = {"topic": "tea"} if body is None else body
        await client.send("lawyer", body, reply_to="asker")
        await client.clock.advance(1)
    [moved] = await client.query("lawyer.dead")
    return moved.moved.reason


async def test_a_graph_over_messages_takes_nothing_but_text(client):
    reason = await reason_after(client, echo(), b"\xff")
    assert reason.startswith("the body is not UTF-8 text: ")


async def test_a_final_state_that_is_no_json_is_told_of(client):
    builder = StateGraph(State)
    builder.add_node("read", lambda state: {"trail": [b"\xff"]})
    builder.add_edge(START, "read")
    graph = builder.compile(checkpointer=InMemorySaver())
    reason = await reason_after(client, graph)
    assert reason.startswith("the graph's final state is no JSON, so that the worker")


async def test_a_graph_that_asks_is_moved_away_where_there_is_nobody_to_ask(client):
    async def ask(state, config):
        interrupt("May I?")

    reason = await reason_after(client, Steps("read", read=ask).compile())
    assert reason.startswith("the graph interrupted itself to ask 'May I?'")


async def test_what_cancels_itself_has_failed(client):
    async def cancel(message):
        raise asyncio.CancelledError

    options = {"input": cancel, "max_deliveries": 1}
    reason = await reason_after(client, Steps("read").compile(), **options)
    assert reason == "RuntimeError: the run raised CancelledError()"


async def test_what_does_not_fit_is_moved_away_with_the_reason(client, caplog):
    steps = Steps("read")
    async with working(client, steps.compile()) as worker:
        for body in (b"\xff", "tea", "[1]", "{}", '{"subject": "tea"}'):
            await client.send("lawyer", body)
        await client.clock.advance(0)
        assert worker.counters.mail.dead_lettered == 5
    reasons = [one.moved.reason for one in await client.query("lawyer.dead")]
    assert reasons[0].startswith("the body is no JSON")
    assert f"rejected: {reasons[0]}" in caplog.messages
    assert reasons[1].startswith("the body is no JSON, and the graph takes an object: ")
    assert reasons[2:] == [
        "the body is JSON, but no object: the graph takes an object with topic, trail",
        "the body is an empty object; the graph takes an object with topic, trail",
        "the body has 'subject'; the graph takes an object with topic, trail",
    ]
    assert steps.ran == []


async def test_a_run_that_keeps_failing_is_moved_away_with_where_it_failed(client):
    async def fail(state, config):
        raise ValueError("no such contract")

    steps = Steps("read", "write", write=fail)
    async with working(client, steps.compile(), max_deliveries=3) as worker:
        await client.send("lawyer", {"topic": "tea"})
        await client.clock.advance(60)
        assert (worker.counters.mail.failed, worker.counters.continued) == (3, 0)
    [moved] = await client.query("lawyer.dead")
    first, task, frame, *_ = moved.moved.reason.splitlines()
    assert first == "ValueError: no such contract"
    assert task.startswith("During task with name 'write'")
    assert frame.endswith('in fail: raise ValueError("no such contract")')
    assert steps.ran == ["read", "write", "write", "write"]  # what is checkpointed ran once


async def test_whoever_asks_is_told_at_once_that_a_message_is_given_up(client, caplog):
    async with working(client, Steps("read").compile()):
        with pytest.raises(RequestFailed) as raised:
            await client.request("lawyer", "tea", timeout=600)
    error = raised.value
    assert (error.failure, error.reason[:19]) == ("rejected", "the body is no JSON")
    assert error.reference in {getattr(one, "reference", None) for one in caplog.records}


async def test_two_agents_that_give_up_do_not_answer_each_other_for_ever(client):
    """An error answer that comes to a worker as mail is given up without an answer."""
    async with (
        working(client, Steps("read").compile()) as lawyer,
        working(client, Steps("read").compile(), agent="clerk") as clerk,
    ):
        await client.send("lawyer", "no JSON", reply_to="clerk")
        await client.clock.advance(60)
        assert lawyer.counters.mail.rejected == 1
        assert clerk.counters.mail.rejected == 1


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (Steps("read").builder, "graph: StateGraph does not run in threads"),
        (Steps("read").builder.compile(), "graph: it has no checkpointer"),
    ],
)
async def test_a_graph_that_could_not_go_on_after_a_crash_is_refused(client, graph, reason):
    with pytest.raises(InvalidRequest, match=reason):
        async with working(client, graph):
            pass


async def test_a_graph_knows_the_path_of_its_message_and_the_answer_goes_on_with_it(client):
    paths = []

    async def look(state, config):
        paths.append(config["configurable"]["mq9_path"])

    async with working(client, Steps("read", read=look).compile()):
        await client.send("lawyer", {"topic": "tea"}, path=["ada", "clerk"], reply_to="asker")
        await client.clock.advance(0)
    [answer] = await client.query("asker")
    assert (paths, answer.path) == ([["ada", "clerk"]], ("ada", "clerk", "lawyer"))


async def test_a_circle_and_too_many_hops_are_moved_away_with_the_path(client):
    steps = Steps("read")
    async with working(client, steps.compile(), max_hops=3):
        for path in (["lawyer", "clerk", "ada"], ["a", "b", "c", "d"]):
            await client.send("lawyer", {"topic": "tea"}, path=path)
        await client.clock.advance(0)
    assert [one.moved.reason for one in await client.query("lawyer.dead")] == [
        "a circle: lawyer, clerk, ada, lawyer",
        "too many hops, 4 of at most 3: a, b, c, d",
    ]
    assert steps.ran == []


async def test_functions_make_the_input_and_the_answer(client):
    async def from_message(message):
        return {"topic": message.text.upper()}

    def to_answer(values):
        return {"about": values["topic"]} if values["topic"] != "RICE" else None

    functions = {"input": from_message, "output": to_answer}
    async with working(client, Steps("read").compile(), **functions) as worker:
        for text in ("tea", "rice"):
            await client.send("lawyer", text, reply_to="asker")
        await client.clock.advance(0)
        assert worker.counters.mail.processed == 2
    assert [one.json() for one in await client.query("asker")] == [{"about": "TEA"}]


async def test_a_state_of_pydantic_says_what_fits(client):
    class Count(BaseModel):
        number: int
        words: list[str] = []

    builder = StateGraph(Count)
    builder.add_node("count", lambda state: {"number": state.number + 1})
    builder.add_edge(START, "count")
    async with working(client, builder.compile(checkpointer=InMemorySaver())):
        answer = await client.request("lawyer", {"number": 3})
        assert answer.json() == {"number": 4}
        await client.send("lawyer", {"number": "many"})
        await client.clock.advance(0)
    [moved] = await client.query("lawyer.dead")
    assert moved.moved.reason.startswith("the body does not fit: 1 validation error for Count")


async def test_what_a_graph_keeps_to_itself_is_not_answered(client):
    class Answer(TypedDict):
        topic: str

    builder = StateGraph(State, output_schema=Answer)
    builder.add_node("read", lambda state: {"trail": ["read"]})
    builder.add_edge(START, "read")
    async with working(client, builder.compile(checkpointer=InMemorySaver())):
        answer = await client.request("lawyer", {"topic": "tea"})
        assert answer.json() == {"topic": "tea"}


@pytest.mark.parametrize("make", [create_agent, create_react_agent])
async def test_an_agent_answers_in_words_and_remembers_the_conversation(client, make):
    model = ScriptedModel("Good day.", lambda said: AIMessage(f"{len(said)} messages"))
    agent = make(model, [], checkpointer=InMemorySaver())
    async with working(client, agent):
        answers = [
            await client.request("lawyer", text, sender="ada", headers={"conversation": "1"})
            for text in ("Good day!", "How many?")
        ]
    assert [one.text for one in answers] == ["Good day.", "3 messages"]


async def test_a_graph_of_the_functional_api_runs_too(client):
    @task
    async def double(number):
        return 2 * number

    @entrypoint(checkpointer=InMemorySaver())
    async def work(order):
        return {"doubled": await double(order["number"])}

    async with working(client, work):
        answer = await client.request("lawyer", {"number": 4})
        assert answer.json() == {"doubled": 8}


async def test_a_subgraph_that_failed_goes_on_inside(client):
    inner = Steps("read", "write", write=fail_once(ValueError("busy")))
    builder = StateGraph(State)
    builder.add_node("inner", inner.builder.compile())
    builder.add_edge(START, "inner")
    async with working(client, builder.compile(checkpointer=InMemorySaver())):
        answer = await client.request("lawyer", {"topic": "tea"})
        assert answer.json()["trail"] == ["read", "write"]
    assert inner.ran == ["read", "write", "write"]


async def test_a_graph_that_stops_at_a_breakpoint_is_not_taken_for_ended(client):
    steps = Steps("read", "write")
    graph = steps.builder.compile(checkpointer=InMemorySaver(), interrupt_before=["write"])
    async with working(client, graph):
        await client.send("lawyer", {"topic": "tea"}, reply_to="asker")
        await client.clock.advance(0)
    [moved] = await client.query("lawyer.dead")
    assert moved.moved.reason.startswith("the graph stops before write, as it was compiled to")
    [answer] = await client.query("asker")
    assert answer.json()["reason"] == moved.moved.reason
