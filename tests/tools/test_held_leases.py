"""What a run works on stays leased while the process lives, and who loses a lease is told."""

import asyncio
import gc
import threading

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command, interrupt

from langchain_mq9.testing import ScriptedModel, call

from .tool_calls import ado, awithin, bodies, not_renewed, run_in

pytestmark = pytest.mark.unmeasured

LEASE_S, HOLD_S = 60, 3_600
NOW = {"wait_seconds": 0}


@pytest.fixture
async def jobs(broker, planner):
    """A client that has sent the planner two jobs."""
    await ado(planner, "agent_discover")
    async with broker.client() as client:
        for name in ("a", "b"):
            await client.send("planner", name)
        yield client


async def left_for(client):
    """What others of the group can have now; it is given back at once."""
    taken = await client.fetch("planner", group_name="planner", consumer="other", max_wait_ms=0)
    for message in taken:
        await message.nack()
    return [message.text for message in taken]


async def take(client):
    """Let another consumer have what it can."""
    taken = await client.fetch("planner", group_name="planner", consumer="other", max_wait_ms=0)
    return [message.text for message in taken]


async def test_a_thread_may_work_for_longer_than_a_lease(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)

    await broker.clock.advance(HOLD_S - 1)
    assert await left_for(jobs) == []
    assert "no_longer_yours" not in await awithin("t", planner, "ack_messages", msg_id=0)

    await broker.clock.advance(2)
    assert await left_for(jobs) == ["b"]


@not_renewed
async def test_leases_are_not_renewed_where_that_is_not_wanted(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)

    await broker.clock.advance(LEASE_S)

    assert await left_for(jobs) == ["a", "b"]


async def test_toolkits_for_other_agents_hold_for_as_long(broker, open_toolkit, jobs):
    planner = open_toolkit("boss", hold=0).for_agent("planner")
    await awithin("t", planner, "fetch_messages", **NOW)

    await broker.clock.advance(LEASE_S)

    assert await left_for(jobs) == ["a", "b"]


@pytest.mark.parametrize("is_shared", [True, False])
async def test_a_closed_toolkit_lets_what_it_holds_run_out(
    broker, open_toolkit, planner, jobs, is_shared
):
    closed = open_toolkit("other").for_agent("planner") if is_shared else planner
    await awithin("t", closed, "fetch_messages", **NOW)
    await closed.aclose()

    await broker.clock.advance(LEASE_S - 1)
    assert await left_for(jobs) == []
    await broker.clock.advance(1)
    assert await left_for(jobs) == ["a", "b"]


@pytest.mark.parametrize("make_agent", [create_agent, create_react_agent])
async def test_a_run_that_cannot_be_resumed_holds_nothing_when_it_has_ended(
    broker, planner, jobs, make_agent
):
    agent = make_agent(ScriptedModel(call("fetch_messages", **NOW), "Done."), planner.get_tools())
    await agent.ainvoke({"messages": [("human", "Work.")]})
    gc.collect()

    await broker.clock.advance(2 * LEASE_S)

    assert await left_for(jobs) == ["a", "b"]


async def test_a_clock_does_not_run_ahead_for_what_is_held(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)
    loop, waited = asyncio.get_running_loop(), asyncio.Event()

    # In real time, and without a timer of asyncio, which would hold the clock.
    threading.Timer(0.05, loop.call_soon_threadsafe, [waited.set]).start()
    await waited.wait()

    assert broker.clock.monotonic_ms() == 0


@not_renewed
async def test_who_lost_a_lease_is_told_by_the_next_result(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)
    await broker.clock.advance(LEASE_S)
    assert await take(jobs) == ["a", "b"]

    first = await awithin("t", planner, "query_messages")
    second = await awithin("t", planner, "query_messages")

    assert first["no_longer_yours"] == (
        "message 0 of planner: your lease ended, and another consumer has it; "
        "message 1 of planner: your lease ended, and another consumer has it"
    )
    assert "no_longer_yours" not in second
    assert "no_longer_yours" not in await awithin("another", planner, "query_messages")


@not_renewed
async def test_what_became_of_it_is_told(broker, planner, jobs):
    for name in ("c", "d"):
        await jobs.send("planner", name, ttl=90 if name == "d" else None)
    await awithin("t", planner, "fetch_messages", **NOW)
    await broker.clock.advance(LEASE_S)
    [first, *others] = await jobs.fetch("planner", group_name="planner", consumer="other")
    await first.ack()
    for one in others[1:]:
        await one.nack()
    await broker.clock.advance(30)

    said = await awithin("t", planner, "agent_discover")

    told = dict(one.split(" of planner: your lease ended, and ") for one in split(said))
    assert told == {
        "message 0": "it has been confirmed since",
        "message 1": "another consumer has it",
        "message 2": "it will be delivered again: call fetch_messages",
        "message 3": "it is no longer stored: expired",
    }


def split(said):
    return said["no_longer_yours"].split("; ")


@not_renewed
async def test_what_is_fetched_again_or_dealt_with_is_not_told(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)
    await broker.clock.advance(LEASE_S)

    said = await awithin("t", planner, "fetch_messages", **NOW)
    assert (bodies(said), said.get("no_longer_yours")) == (["a", "b"], None)
    await broker.clock.advance(LEASE_S)
    assert (await awithin("t", planner, "ack_messages", msg_id=0)) == {
        "mail_address": "planner",
        "acked": [0],
        "your_unread": "1 unread: call fetch_messages",
        "no_longer_yours": (
            "message 1 of planner: your lease ended, and it will be delivered again: "
            "call fetch_messages"
        ),
    }


async def test_what_the_agent_deleted_itself_is_not_told(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)
    await awithin("t", planner, "delete_message", mail_address="planner", msg_id=0)
    await broker.clock.advance(LEASE_S)

    assert "no_longer_yours" not in await awithin("t", planner, "query_messages")


async def test_a_lease_that_was_taken_away_is_noticed_when_it_is_renewed(broker, planner, jobs):
    await awithin("t", planner, "fetch_messages", **NOW)
    await jobs.delete("planner", 1)
    await broker.clock.advance(LEASE_S)

    assert (await awithin("t", planner, "query_messages"))["no_longer_yours"] == (
        "message 1 of planner: your lease ended, and it is no longer stored: deleted"
    )


async def test_a_thread_that_is_resumed_too_late_is_told_before_it_acts(broker, planner, jobs):
    def approve() -> str:
        """Ask a person."""
        return str(interrupt("May I?"))

    model = ScriptedModel(
        call("fetch_messages", limit=1, **NOW),
        call("approve"),
        call("query_messages"),
        "I leave it alone.",
    )
    app = create_agent(model, [*planner.get_tools(), approve], checkpointer=InMemorySaver())
    await app.ainvoke({"messages": [("human", "Work.")]}, run_in("t"))
    await broker.clock.advance(HOLD_S + LEASE_S)
    assert await take(jobs) == ["a", "b"]
    state = await app.ainvoke(Command(resume="yes"), run_in("t"))

    told = [one.content for one in state["messages"] if one.type == "tool"]
    assert "message 0 of planner: your lease ended, and another consumer has it" in told[-1]


async def test_an_agent_without_a_name_is_told_too(broker, open_toolkit, jobs):
    anyone = open_toolkit(hold=0)
    where = {"mail_address": "planner"}
    await awithin("t", anyone, "fetch_messages", **where, **NOW)
    await broker.clock.advance(LEASE_S)

    assert len(split(await awithin("t", anyone, "query_messages", **where))) == 2


async def test_many_losses_are_told_one_result_after_the_other(broker, open_toolkit, jobs):
    planner = open_toolkit("planner", hold=0)
    for number in range(13):
        await jobs.send("planner", str(number))
    await awithin("t", planner, "fetch_messages", limit=100, **NOW)
    await broker.clock.advance(LEASE_S)

    said = [await awithin("t", planner, "agent_discover") for _ in range(3)]

    assert [len(split(one)) for one in said[:2]] == [10, 5]
    assert "no_longer_yours" not in said[2]
