"""A fetch waits for what its caller needs: several messages, or answers to its questions."""

import asyncio

import pytest

from mq9.clock import sleep

from .tool_calls import ado, begin, bodies, do, fail, fetch, ids, send

pytestmark = pytest.mark.unmeasured


@pytest.fixture
async def client(broker, planner):
    """Another program, which writes to the planner."""
    await ado(planner, "agent_discover")
    async with broker.client() as client:
        yield client


async def waiting(broker, planner, **arguments):
    return await begin(broker, ado(planner, "fetch_messages", **{"wait_seconds": 30, **arguments}))


async def test_it_collects_for_half_a_second_what_follows_the_first(broker, planner, client):
    fetching = await waiting(broker, planner)
    await client.send("planner", "first")
    await client.send("planner", "second", priority="urgent")
    await client.send("planner", "third", priority="critical")

    said = await fetching

    assert bodies(said) == ["third", "second", "first"]
    assert [one.get("claimed_priority") for one in said["messages"]] == ["critical", "urgent", None]


async def test_what_is_there_already_comes_at_once(broker, planner, client):
    await client.send("planner", "here")
    before = broker.clock.now_ms()

    assert bodies(await ado(planner, "fetch_messages", wait_seconds=30)) == ["here"]
    assert broker.clock.now_ms() == before


async def test_it_waits_for_several_messages(broker, planner, client):
    fetching = await waiting(broker, planner, min_msgs=2)
    await client.send("planner", "one")
    await asyncio.sleep(0)
    assert not fetching.done()
    await client.send("planner", "two")

    assert bodies(await fetching) == ["one", "two"]


async def test_fewer_come_at_the_end_of_the_wait(broker, planner, client):
    await client.send("planner", "one")

    said = await ado(planner, "fetch_messages", min_msgs=2, wait_seconds=20)

    assert bodies(said) == ["one"]


def test_the_wait_for_several_is_longer_by_default(broker, planner):
    before = broker.clock.now_ms()
    assert "empty" in do(planner, "fetch_messages", min_msgs=2)
    assert broker.clock.now_ms() - before == 45_000
    assert "empty" in do(planner, "fetch_messages")
    assert broker.clock.now_ms() - before == 46_000


def test_it_does_not_wait_for_more_than_it_may_give(planner):
    refused = fail(planner, "fetch_messages", limit=2, min_msgs=3)
    assert refused.startswith("min_msgs: 3 is more than the limit of 2")


async def test_it_waits_until_each_question_is_answered(broker, planner, client):
    fetching = await waiting(broker, planner, answers_to=["q-1", "q-2"])
    await client.send("planner", "something else")
    await client.send("planner", "answer 2", correlation_id="q-2")
    await asyncio.sleep(0)
    assert not fetching.done()
    await client.send("planner", "answer 1", correlation_id="q-1")

    said = await fetching

    assert bodies(said) == ["something else", "answer 2", "answer 1"]
    assert said["answers"] == {"q-1": 2, "q-2": 1}
    assert "not_answered" not in said


def test_what_was_not_answered_is_named(planner):
    send(planner, "an answer", correlation_id="q-1")

    said = fetch(planner, answers_to=["q-1", "q-2"])

    assert (bodies(said), said["answers"], said["not_answered"]) == (
        ["an answer"],
        {"q-1": 0},
        ["q-2"],
    )


def test_an_answer_that_was_acked_counts_and_is_not_given_again(planner):
    send(planner, "an answer", correlation_id="q-1")
    fetch(planner)
    do(planner, "ack_messages", msg_id=0)

    said = do(planner, "fetch_messages", answers_to=["q-1"], wait_seconds=45)

    assert (ids(said), said["answers"]) == ([], {"q-1": 0})


async def test_a_cancelled_wait_for_answers_leases_nothing(broker, planner, client):
    fetching = await waiting(broker, planner, answers_to=["q-1"])
    await client.send("planner", "mail")
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)

    left = await client.fetch("planner", group_name="planner", consumer="other", max_wait_ms=0)
    assert [one.text for one in left] == ["mail"]


async def test_discovery_waits_for_an_agent_that_it_has_not_shown(broker, planner, client):
    await client.agent_register({"name": "old", "payload": "Reviews code"})
    await ado(planner, "agent_discover", query="Reviews code")
    discovering = asyncio.create_task(ado(planner, "agent_discover", wait_seconds=45))
    before = broker.clock.now_ms()
    await sleep(broker.clock, 10)
    assert not discovering.done()
    await client.agent_register({"name": "reviewer", "payload": "Reviews code"})

    found = await discovering

    assert broker.clock.now_ms() <= before + 12_000
    assert [one["untrusted_name"] for one in found["agents"]] == ["old", "reviewer"]
    before = broker.clock.now_ms()
    again = await ado(planner, "agent_discover", query="Reviews code", wait_seconds=45)
    assert len(again["agents"]) == 2
    assert broker.clock.now_ms() == before + 45_000


async def test_discovery_that_waits_shows_at_once_whom_it_has_not_shown(broker, planner, client):
    await client.agent_register({"name": "reviewer", "payload": "Reviews code"})
    before = broker.clock.now_ms()

    assert (await ado(planner, "agent_discover", wait_seconds=45))["agents"]
    assert broker.clock.now_ms() == before
