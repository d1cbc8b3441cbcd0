"""Turns: one for each thread, numbered, removed afterwards, and the agent's own."""

import asyncio
import contextlib

import pytest

from langchain_mq9.worker.turns import mailbox_of_turn
from mq9 import Forbidden, MailboxNotFound, Retry
from mq9.testing import FakeBroker
from tests.worker.graphs import LEASE_S, Steps, turns_of, working


async def is_there(client, thread):
    try:
        await client.mailbox_status(mailbox_of_turn("lawyer", thread))
    except MailboxNotFound:
        return False
    return True


async def test_a_run_may_ask_its_own_agent_whatever_the_threads_are(client):
    async def ask(state, config):
        if state["topic"] != "inner":
            await client.request("lawyer", {"topic": "inner"})

    async with working(client, Steps("read", read=ask).compile()):
        for number in range(20):
            answer = await client.request("lawyer", {"topic": f"{number}"}, timeout=10)
            assert answer.json()["trail"] == ["read"]


async def test_nothing_is_left_of_turns_that_were_given_back_and_their_numbers_rise(
    broker, client, turns
):
    numbers = []
    for _ in range(5):
        async with turns.take("x") as turn:
            assert await is_there(client, "x")
            numbers.append(turn.number)
        assert not await is_there(client, "x")
        await broker.clock.advance(0.001)
    assert numbers == sorted(set(numbers))


async def test_what_a_killed_worker_leaves_expires(broker, client):
    doomed = broker.client()
    await doomed.open()
    turn = await turns_of(doomed).take("x").__aenter__()
    broker.kill(doomed)
    assert await is_there(client, turn.thread_id)
    await broker.clock.advance(4 * LEASE_S)
    assert not await is_there(client, turn.thread_id)


async def test_a_turn_is_kept_for_as_long_as_it_takes_and_who_waits_gets_it_at_once(broker, turns):
    async with broker.client() as other:
        async with turns.take("x") as first:
            second = asyncio.create_task(turns_of(other).take("x").__aenter__())
            await broker.clock.advance(20 * LEASE_S)
            assert not second.done()
            assert not first.lost.done()
        await broker.clock.advance(0)
        assert second.done()
        assert (await second).number > first.number
        await (await second).release()


async def test_a_turn_that_another_one_has_cannot_be_renewed(broker, client):
    async with broker.client() as other:
        paused = await turns_of(other).take("x").__aenter__()
        broker.slow_down(LEASE_S * 1.5, "MSG.EXTEND")  # it renews too late, as one that was paused
        await broker.clock.advance(LEASE_S + 1)
        broker.slow_down(0, "MSG.EXTEND")
        async with turns_of(client).take("x") as turn:
            with pytest.raises(Retry):
                await paused.renew()
            with pytest.raises(Retry):
                paused.check()
            await paused.release()
            await turn.renew()  # which it did not take away
            assert turn.number > paused.number


async def test_a_turn_whose_mailbox_was_removed_is_lost(broker, client, turns):
    async with turns.take("x") as turn:
        await client.mailbox_drop(mailbox_of_turn("lawyer", "x"))
        with pytest.raises(Retry):
            await turn.renew()
        assert turn.lost.done()


@pytest.fixture
async def known():
    """A broker that knows its clients."""
    with FakeBroker() as broker:
        yield broker


async def test_strangers_cannot_send_to_the_mailbox_of_a_turn(known):
    async with known.client(agent="lawyer") as lawyer, known.client(agent="mallory") as mallory:
        turns = turns_of(lawyer)
        await turns.check()
        async with turns.take("x"):
            with pytest.raises(Forbidden):
                await mallory.send(mailbox_of_turn("lawyer", "x"), "turn")


async def test_messages_of_strangers_are_no_turns(known):
    """They are in a mailbox that takes messages from everybody."""
    async with (
        known.client(agent="lawyer") as lawyer,
        known.client(agent="lawyer") as other,
        known.client(agent="mallory") as mallory,
    ):
        turns, others = turns_of(lawyer), turns_of(other)
        for one in (turns, others):
            await one.check()
        address = mailbox_of_turn("lawyer", "x")
        await lawyer.mailbox_create(name=address)
        for priority in ("normal", "critical"):
            await mallory.send(address, "turn", priority=priority)
        async with turns.take("x") as turn:
            await mallory.send(address, "turn", priority="urgent")
            waiting = asyncio.create_task(others.take("x").__aenter__())
            await known.clock.advance(10 * LEASE_S)
            assert not waiting.done()
            assert not turn.lost.done()
        await known.clock.advance(0)
        await (await waiting).release()


async def test_workers_may_start_at_the_same_time(broker):
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(broker.client()) for _ in range(20)]
        await asyncio.gather(*(turns_of(one).check() for one in clients))
