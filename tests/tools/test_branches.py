"""Parallel branches of a graph are consumers of their own; what comes in order is one."""

import asyncio
import json
import operator
from typing import Annotated, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent
from langgraph.types import Command, Send, interrupt

from langchain_mq9.testing import ScriptedModel, call

from .tool_calls import bodies, fetch, held, ids, run_in, send, tool, within

pytestmark = pytest.mark.unmeasured

ONE = {"wait_seconds": 0, "limit": 1}


class State(TypedDict):
    """What branches report: lists that are put together."""

    got: Annotated[list, operator.add]


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Run a graph to its end; its state."""

    async def run_one(graph, given, config=None):
        if request.param == "sync":
            return await asyncio.to_thread(graph.invoke, given, config)
        return await graph.ainvoke(given, config)

    return run_one


@pytest.fixture
def jobs(planner, anyone):
    """Four jobs in the planner's mailbox."""
    fetch(planner)
    names = ["job 0", "job 1", "job 2", "job 3"]
    for name in names:
        send(anyone, name)
    return names


def taken(content):
    return bodies(json.loads(content))


def take(planner):
    """A node that takes one job."""

    def node(_state, config):
        return {"got": taken(tool(planner, "fetch_messages").invoke(ONE, config))}

    return node


def four(node):
    """Send to a node four times at once."""
    return lambda _: [Send(node, {"messages": [("human", "Take one.")]}) for _ in range(4)]


def agent_that(planner, *steps, make=create_agent, **options):
    return make(ScriptedModel(*steps), planner.get_tools(), **options)


@pytest.mark.parametrize("config", [run_in("t"), None])
async def test_branches_of_send_get_a_job_each(planner, jobs, run, config):
    graph = StateGraph(State)
    graph.add_node("take", take(planner))
    graph.add_conditional_edges(START, four("take"))

    state = await run(graph.compile(), {"got": []}, config)

    assert sorted(state["got"]) == jobs


async def test_so_do_nodes_that_follow_on_one(planner, jobs, run):
    graph = StateGraph(State)
    for name in "abcd":
        graph.add_node(name, take(planner))
        graph.add_edge(START, name)

    state = await run(graph.compile(), {"got": []}, run_in("t"))

    assert sorted(state["got"]) == jobs


async def test_so_do_branches_that_make_a_tool_call_themselves(planner, jobs, run):
    def node(_state, config):
        message = call("fetch_messages", **ONE)
        said = ToolNode(planner.get_tools()).invoke({"messages": [message]}, config)
        return {"got": taken(said["messages"][0].content)}

    graph = StateGraph(State)
    graph.add_node("take", node)
    graph.add_conditional_edges(START, four("take"))

    state = await run(graph.compile(), {"got": []}, run_in("t"))

    assert sorted(state["got"]) == jobs


def agent_node(planner, make):
    """A node that has an agent take a job."""
    agent = agent_that(planner, *[fetch_or_end] * 100, make=make)

    def node(_state, config):
        state = agent.invoke({"messages": [("human", "Take one.")]}, config)
        return {"got": taken(state["messages"][-2].content)}

    return node


def fetch_or_end(messages):
    return AIMessage("Done.") if messages[-1].type == "tool" else call("fetch_messages", **ONE)


@pytest.mark.parametrize("make", [create_agent, create_react_agent])
async def test_so_do_subgraphs(planner, jobs, run, make):
    graph = StateGraph(State)
    graph.add_node("take", agent_node(planner, make))
    graph.add_conditional_edges(START, four("take"))
    assert sorted((await run(graph.compile(), {"got": []}, run_in("t")))["got"]) == jobs


async def test_so_do_agents_that_are_nodes(planner, jobs, run):
    graph = StateGraph(MessagesState)
    for name in "abcd":
        graph.add_node(name, agent_that(planner, *[fetch_or_end] * 2))
        graph.add_edge(START, name)

    state = await run(graph.compile(), {"messages": [("human", "Take one.")]}, run_in("t"))

    told = [one.content for one in state["messages"] if one.type == "tool"]
    assert sorted(body for content in told for body in taken(content)) == jobs


async def test_a_later_step_acks_what_branches_fetched(planner, jobs, run):
    graph = StateGraph(State)
    graph.add_node("take", take(planner))
    graph.add_conditional_edges(START, four("take"))
    graph.add_node(
        "ack", lambda _, config: tool(planner, "ack_messages").invoke(all_four, config) and None
    )
    graph.add_edge("take", "ack")
    all_four = {"msg_id": [0, 1, 2, 3]}

    await run(graph.compile(), {"got": []}, run_in("t"))

    assert fetch(planner)["empty"] == "no mail waits"


@pytest.mark.parametrize("make", [create_agent, create_react_agent])
async def test_the_tool_calls_of_an_agent_are_one_consumers(planner, jobs, run, make):
    both = AIMessage(
        "",
        tool_calls=[
            *call("ack_messages", msg_id=0).tool_calls,
            *call("fetch_messages", **ONE).tool_calls,
        ],
    )
    agent = agent_that(planner, call("fetch_messages", **ONE), both, fetch_all, "Done.", make=make)

    state = await run(agent, {"messages": [("human", "Work.")]}, run_in("t"))

    told = [json.loads(one.content) for one in state["messages"] if one.type == "tool"]
    assert ids(told[0]) == [0]
    assert ids(told[-1]) + held(told[-1]) == [2, 3, 1]


def fetch_all(_):
    return call("fetch_messages", wait_seconds=0)


async def test_a_subgraph_that_a_node_calls_is_its_parents_consumer(planner, jobs, run):
    inner = agent_that(planner, *[fetch_or_end] * 100)

    def node(_state, config):
        first = taken(tool(planner, "fetch_messages").invoke(ONE, config))
        again = [inner.invoke({"messages": [("human", "Take one.")]}) for _ in range(2)]
        return {"got": [first, *(taken(one["messages"][-2].content) for one in again)]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")

    state = await run(graph.compile(), {"got": []}, run_in("t"))

    assert state["got"] == [["job 0"], ["job 1"], ["job 2"]]
    assert held(within("t", planner, "fetch_messages", **ONE)) == [0, 1, 2]


async def test_steps_and_turns_of_a_thread_are_one_consumer(planner, jobs, run):
    graph = StateGraph(State)
    graph.add_node("first", take(planner))
    graph.add_node("agent", agent_node(planner, create_agent))
    graph.add_edge(START, "first")
    graph.add_edge("first", "agent")
    app = graph.compile(checkpointer=InMemorySaver())

    for _ in range(2):
        state = await run(app, {"got": []}, run_in("t"))

    assert state["got"] == jobs
    assert held(within("t", planner, "fetch_messages", **ONE)) == [0, 1, 2, 3]


async def test_branches_that_are_resumed_are_the_consumers_they_were(open_toolkit, planner, jobs):
    """Also in another process, and when they come in another order there."""

    def app(toolkit, order):
        turns = {number: asyncio.Event() for number in order}

        async def node(state, config):
            number = state["number"]
            before = order[: order.index(number)]
            if before:
                await turns[before[-1]].wait()
            content = await tool(toolkit, "fetch_messages").ainvoke(ONE, config)
            turns[number].set()
            assert interrupt(taken(content)) == taken(content)
            return {"got": taken(content)}

        graph = StateGraph(State)
        graph.add_node("take", node)
        branches = [Send("take", {"number": number}) for number in range(4)]
        graph.add_conditional_edges(START, lambda _: branches)
        return graph.compile(checkpointer=saver)

    saver = InMemorySaver()
    paused = await app(planner, [0, 1, 2, 3]).ainvoke({"got": []}, run_in("t"))
    planner.close()
    answers = Command(resume={one.id: one.value for one in paused["__interrupt__"]})
    state = await app(open_toolkit("planner"), [3, 2, 1, 0]).ainvoke(answers, run_in("t"))

    assert state["got"] == jobs


def test_a_thread_whose_name_looks_like_a_branch_is_a_thread_of_its_own(planner, jobs):
    graph = StateGraph(State)
    graph.add_node("take", take(planner))
    graph.add_conditional_edges(START, four("take"))
    graph.compile().invoke({"got": []}, run_in("t"))

    one = StateGraph(State)
    one.add_node("take", take(planner))
    one.add_edge(START, "take")

    assert one.compile().invoke({"got": []}, run_in("t#1"))["got"] == []
