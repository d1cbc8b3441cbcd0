"""The tools, used by agents that are made by either of the two functions that make agents."""

import asyncio
import json

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import create_react_agent

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel, call
from mq9 import OutcomeUnknown

from .tool_calls import bodies, envelopes, fetch, held, ids, not_renewed, run_in, send

pytestmark = pytest.mark.unmeasured

QUESTION = {"messages": [("user", "go on")]}


@pytest.fixture(params=[create_react_agent, create_agent], ids=lambda make: make.__name__)
def make_agent(request):
    """Make an agent that follows a script with the tools of a toolkit."""

    def make(toolkit, *steps, **options):
        return request.param(ScriptedModel(*steps), toolkit.get_tools(), **options)

    return make


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Run an agent to its end; the tool messages it was given."""

    async def run_one(agent, config=None):
        if request.param == "sync":
            state = await asyncio.to_thread(agent.invoke, QUESTION, config)
        else:
            state = await agent.ainvoke(QUESTION, config)
        return told(state["messages"])

    return run_one


def told(messages):
    return [message for message in messages if isinstance(message, ToolMessage)]


def last(messages):
    """What the last tool said."""
    return json.loads(told(messages)[-1].content)


def said(message):
    return json.loads(message.content)


NOW = {"wait_seconds": 0}


async def test_two_agents_find_each_other_talk_and_confirm(broker, make_agent, run, open_toolkit):
    planner, translator = open_toolkit("planner"), open_toolkit("translator")
    register = call("agent_register", name="translator", capabilities="Translates German")
    await run(make_agent(translator, register, "I am here."))

    def ask(messages):
        to = last(messages)["agents"][0]["mail_address"]
        return call("send_message", to=to, content="Guten Tag", correlation_id="q-1")

    find = call("agent_discover", query="translate German")
    asked = await run(make_agent(planner, find, ask, "Asked."))
    assert said(asked[-1]) == {
        "mail_address": "translator",
        "msg_id": 0,
        "correlation_id": "q-1",
        "reader": {"registered": True},
    }

    def reply(messages):
        [envelope] = envelopes(last(messages))
        to, question = envelope["reply_to"], envelope["correlation_id"]
        return call("send_message", to=to, content="Good day", correlation_id=question)

    fetch_now, ack = call("fetch_messages", **NOW), call("ack_messages", msg_id=0)
    answered = await run(make_agent(translator, fetch_now, reply, ack, "Answered."))
    assert said(answered[-1]) == {"mail_address": "translator", "acked": [0]}

    read = await run(make_agent(planner, fetch_now, ack, "Done."))
    assert bodies(said(read[0])) == ["Good day"]
    [envelope] = envelopes(said(read[0]))
    assert (envelope["from"], envelope["correlation_id"]) == ("translator", "q-1")
    assert said(read[1])["acked"] == [0]
    assert all(message.artifact is not None for message in (*asked, *answered, *read))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (call("send_message", to="planner"), "content"),
        (call("fetch_messages", limit=0), "limit"),
        (call("send_message", to="nobody", content="x"), "agent_discover"),
        (call("no_such_tool"), "not a valid tool"),
    ],
)
async def test_a_mistake_is_told_to_the_model_and_the_run_goes_on(
    make_agent, run, planner, wrong, named
):
    answers = await run(
        make_agent(planner, wrong, call("send_message", to="planner", content="x"), "Done.")
    )

    assert [message.status for message in answers] == ["error", "success"]
    assert named in answers[0].content


@pytest.mark.parametrize("file", [".", "notes.txt"])
async def test_a_broker_that_cannot_be_opened_is_told_to_the_model(make_agent, run, tmp_path, file):
    (tmp_path / "notes.txt").write_text("Not a database, and not to be touched.")
    with Mq9Toolkit(f"sqlite:///{tmp_path / file}", agent="planner") as toolkit:
        [answer] = await run(make_agent(toolkit, call("fetch_messages"), "I gave up."))

    assert answer.status == "error"
    assert answer.content.startswith("no connection to the broker: ")
    assert answer.content.endswith(" Tell the user.")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("query_messages", "Call again; twice does no harm."),
        ("fetch_messages", "repeat it only if twice does no harm."),
    ],
)
async def test_a_broker_that_is_gone_is_told_to_the_model(
    broker, make_agent, run, open_toolkit, monkeypatch, name, advice
):
    toolkit = open_toolkit("planner", reconnect_attempts=1)
    fetch(toolkit)

    async def fail(request):
        raise OutcomeUnknown("the broker is not running")

    monkeypatch.setattr(broker, "carry_out", fail)

    [answer] = await run(make_agent(toolkit, call(name), "I gave up."))

    assert answer.status == "error"
    assert answer.content.startswith("the broker is not running")
    assert answer.content.endswith(advice)


async def test_what_nobody_expected_is_told_to_the_model_and_logged(
    broker, make_agent, run, planner, monkeypatch, caplog
):
    async def fail(request):
        raise RuntimeError("cosmic rays")

    monkeypatch.setattr(broker, "carry_out", fail)

    [answer] = await run(make_agent(planner, call("query_messages"), "I gave up."))

    assert answer.status == "error"
    assert answer.content == (
        "query_messages failed: cosmic rays. Tell the user if it happens again."
    )
    assert "query_messages failed unexpectedly" in caplog.text


async def test_a_broker_that_restarts_between_two_calls_is_not_noticed(
    broker, make_agent, run, planner
):
    send(planner, "x")
    await broker.restart()

    [answer] = await run(make_agent(planner, call("fetch_messages", **NOW), "Done."))

    assert bodies(said(answer)) == ["x"]


async def two_at_once(agent, configs):
    """Run one graph twice at the same time, to the ends of their fetches."""
    together = asyncio.Barrier(2)

    async def one(config):
        async for state in agent.astream(QUESTION, config, stream_mode="values"):
            if told(state["messages"]):
                await together.wait()
        return told(state["messages"])

    return await asyncio.gather(*(one(config) for config in configs))


@pytest.mark.parametrize("configs", [[None, None], [run_in("a"), run_in("b")]])
async def test_two_runs_of_one_graph_at_once_are_two_consumers(
    make_agent, planner, worker, configs
):
    fetch(planner)
    for content in ("task 1", "task 2"):
        send(worker, content)
    agent = make_agent(planner, *[call("fetch_messages", limit=1, **NOW)] * 2, *["Done."] * 2)

    answers = await two_at_once(agent, configs)

    taken = sorted(body for answer in answers for body in bodies(said(answer[0])))
    assert taken == ["task 1", "task 2"]


@pytest.mark.parametrize("configs", [[None, None], [run_in("a"), run_in("b")]])
def test_the_next_run_is_another_consumer(make_agent, planner, worker, configs):
    fetch(planner)
    send(worker, "one task")
    agent = make_agent(planner, *[call("fetch_messages", **NOW), "Done."] * 2)

    first, second = (told(agent.invoke(QUESTION, config)["messages"])[0] for config in configs)

    assert bodies(said(first)) == ["one task"]
    assert said(second)["messages"] == []
    assert said(second)["held_elsewhere"].startswith("another session of yours holds 0")


def test_within_one_run_the_agent_is_one_consumer(make_agent, planner, worker):
    fetch(planner)
    send(worker, "one task")
    twice = [call("fetch_messages", **NOW), call("fetch_messages", **NOW)]
    agent = make_agent(planner, *twice, call("ack_messages", msg_id=0), "Done.")

    answers = told(agent.invoke(QUESTION)["messages"])

    assert ids(said(answers[0])) == held(said(answers[1])) == [0]
    assert said(answers[2])["acked"] == [0]


@pytest.mark.parametrize("thread", ["t-1", 7, "", "t\n\ud800", "t" * 1_000])
def test_a_run_that_is_repeated_in_its_thread_holds_what_it_had_not_acked(
    make_agent, planner, worker, thread
):
    fetch(planner)
    send(worker, "one task")
    everything = call("fetch_messages", include_held=True, **NOW)
    agent = make_agent(planner, *[call("fetch_messages", **NOW), "Done."] * 2, everything, "Done.")

    given = [said(told(agent.invoke(QUESTION, run_in(thread))["messages"])[0]) for _ in range(3)]

    assert [bodies(one) for one in given] == [["one task"], [], ["one task"]]
    assert held(given[1]) == [0]
    assert given[2]["messages"][0]["already_yours"]


async def test_a_thread_is_the_same_consumer_after_the_program_restarts(
    broker, make_agent, run, worker
):
    for count in (1, 2):
        with Mq9Toolkit(broker.url, agent="planner") as toolkit:
            fetch(toolkit)
            if count == 1:
                send(worker, "one task")
            agent = make_agent(toolkit, call("fetch_messages", **NOW), "Done.")
            [answer] = await run(agent, run_in("t-1"))
        assert bodies(said(answer)) == ["one task"]
        assert said(answer)["messages"][0].get("already_yours", False) == (count == 2)


@not_renewed
async def test_what_a_crashed_run_had_fetched_comes_to_the_next_after_the_lease(
    broker, make_agent, planner, worker
):
    fetch(planner)
    send(worker, "one task")
    crashing = make_agent(
        planner, call("fetch_messages", **NOW), call("ack_messages", msg_id=0), "Done."
    )
    async for state in crashing.astream(QUESTION, stream_mode="values"):
        if told(state["messages"]):
            break  # here the process dies

    next_run = make_agent(planner, *[call("fetch_messages", **NOW), "Done."] * 2)
    early = told((await next_run.ainvoke(QUESTION))["messages"])[0]
    await broker.clock.advance(60)
    late = told((await next_run.ainvoke(QUESTION))["messages"])[0]

    assert said(early)["held_elsewhere"].startswith("another session of yours holds 0")
    assert bodies(said(late)) == ["one task"]
    assert said(late)["messages"][0]["delivery_count"] == 2


async def test_several_tools_called_in_one_step_all_answer(make_agent, run, planner):
    both = call("send_message", to="planner", content="x")
    both.tool_calls += (
        call("agent_discover").tool_calls + call("query_messages", limit=0).tool_calls
    )

    answers = await run(make_agent(planner, both, "Done."))

    assert [message.status for message in answers] == ["success", "success", "error"]


def test_results_survive_a_checkpoint(make_agent, planner):
    send(planner, "x")
    agent = make_agent(
        planner, call("fetch_messages", **NOW), "Done.", checkpointer=InMemorySaver()
    )
    agent.invoke(QUESTION, run_in("t"))

    [answer] = told(agent.get_state(run_in("t")).values["messages"])

    assert bodies(said(answer)) == ["x"]
