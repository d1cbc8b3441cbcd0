"""Clients of a fake broker that end as by SIGKILL, and a broker that answers late."""

import asyncio
import gc
import logging
import threading

import pytest

from mq9 import InvalidRequest, MailboxNotFound, Mq9Client, NotConnected, SyncMq9Client, Unavailable
from tests.contract.reading import send_all
from tests.sdk.consuming import acked, consuming, held
from tests.waiting import until


@pytest.fixture
async def victim(broker):
    async with broker.client() as victim:
        yield victim


@pytest.fixture
def quiet(caplog, recwarn):
    """Nothing is logged above INFO, and nobody warns."""
    caplog.set_level(logging.INFO)
    yield
    gc.collect()
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []
    assert list(recwarn) == []


@pytest.mark.usefixtures("quiet")
async def test_what_a_killed_client_leased_stays_leased_and_comes_again_when_that_ends(
    broker, client, victim, handler
):
    handler.free.clear()
    await send_all(client, "inbox", *"ab")
    before = asyncio.all_tasks()
    async with consuming(victim, handler, concurrency=2) as consumer:
        assert sorted(handler.texts) == ["a", "b"]
        broker.kill(victim)
        await broker.clock.advance(14)
        assert (consumer.is_running, victim.is_connected) == (False, False)
        assert asyncio.all_tasks() == before
        assert await held(client) == 2
        assert await acked(client) == 0
    messages = await client.fetch("inbox", group_name="g", max_wait_ms=1_000)
    assert [one.delivery_count for one in messages] == [2, 2]


@pytest.mark.usefixtures("quiet")
async def test_a_killed_client_leases_nothing_more(broker, client, victim, handler):
    async with consuming(victim, handler):
        waiting = asyncio.create_task(victim.fetch("inbox", group_name="other", max_wait_ms=60_000))
        await broker.clock.advance(1)
        assert broker.waiting == 2
        broker.kill(victim)
        await client.send("inbox", "x")
        await broker.clock.advance(0)
        assert broker.waiting == 0
        assert await held(client) == 0
        with pytest.raises((NotConnected, Unavailable)):
            await waiting
    assert handler.texts == []


async def test_a_handler_that_cleans_up_tells_the_broker_nothing(broker, client, victim):
    begun, refused = asyncio.Event(), []

    async def handle(message):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await message.ack()
            except NotConnected as error:
                refused.append(error)

    await client.send("inbox", "x")
    async with consuming(victim, handle):
        await begun.wait()
        broker.kill(victim)
        await broker.clock.advance(0)
    assert len(refused) == 1
    assert await held(client) == 1


async def test_a_handler_that_kills_its_own_client_does_not_go_on(broker, client, victim):
    reached = []

    async def handle(_message):
        broker.kill(victim)
        reached.append("killed")
        await asyncio.sleep(0)
        reached.append("alive")

    await client.send("inbox", "x")
    async with consuming(victim, handle) as consumer:
        await consumer.wait()
    assert reached == ["killed"]
    assert await held(client) == 1


async def test_a_plain_handler_runs_on_and_its_answer_goes_nowhere(broker, client, victim):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(_message):
        begun.set()
        go_on.wait()
        ended.set()

    await client.send("inbox", "x")
    async with consuming(victim, handle) as consumer:
        await until(begun.is_set)
        broker.kill(victim)
        await consumer.wait()
        go_on.set()
        await until(ended.is_set)
        await broker.clock.advance(1)
    assert await held(client) == 1


async def test_a_client_by_url_is_killed_in_the_same_way_and_can_ask_nothing(
    broker, client, handler
):
    async with Mq9Client(broker.url) as victim:
        handler.free.clear()
        await client.send("inbox", "x")
        broker.kill_after(victim, "MSG.EXTEND")
        async with consuming(victim, handler) as consumer:
            await broker.clock.advance(4)
            assert consumer.is_running
            await broker.clock.advance(1)
            assert not consumer.is_running
            with pytest.raises(NotConnected):
                await victim.send("inbox", "y")
            broker.kill(victim)  # harmless
            await victim.close()
            await broker.clock.advance(14)  # it was renewed once
            assert await held(client) == 1
            await broker.clock.advance(1)
            assert await held(client) == 0
    assert (await client.mailbox_status("inbox")).stored == 1


def test_a_sync_client_is_killed_with_its_consumers(broker):
    with SyncMq9Client(broker.url) as victim, SyncMq9Client(broker.url) as client:
        client.mailbox_create(name="inbox")
        client.send("inbox", "x")
        begun = threading.Event()

        async def handle(_message):
            begun.set()
            await asyncio.Event().wait()

        consumer = victim.consume("inbox", handle, group_name="g")
        assert begun.wait(30)
        broker.kill(victim)
        assert not victim.is_connected
        with pytest.raises(NotConnected):
            victim.mailbox_list()
        [again] = client.fetch("inbox", group_name="g", max_wait_ms=60_000)
        assert again.delivery_count == 2
        assert not consumer.is_running


@pytest.mark.usefixtures("quiet")
async def test_a_worker_that_dies_before_its_ack_has_worked_twice_in_the_end(
    broker, client, victim, handler
):
    await client.send("inbox", "x")
    broker.kill_before(victim, "MSG.ACK")
    async with consuming(victim, handler) as dead, consuming(client, handler) as other:
        await broker.clock.advance(14)
        assert (dead.is_running, handler.counts, await acked(client)) == (False, [1], 0)
        await broker.clock.advance(1)
        assert (handler.counts, await acked(client)) == ([1, 2], 1)
        assert other.processed_count == 1


@pytest.mark.usefixtures("quiet")
async def test_a_worker_that_dies_after_its_answer_answers_once(broker, client, victim):
    async def answer(message):
        return f"{message.text}!"

    await client.mailbox_create(name="answers")
    broker.kill_after(victim, "MSG.SEND", count=2)
    for text in "ab":
        await client.send("inbox", text, reply_to="answers")
    async with consuming(victim, answer):
        await broker.clock.advance(0)
        assert (victim.is_connected, await acked(client)) == (False, 1)
    async with consuming(client, answer):
        await broker.clock.advance(60)
    assert [one.text for one in await client.query("answers")] == ["a!", "b!"]
    assert await acked(client) == 2


async def test_only_what_was_done_counts_for_a_death_after_it(broker, client, victim, handler):
    broker.kill_after(victim, "MSG.FETCH")
    async with consuming(victim, handler) as consumer:
        assert consumer.is_running
        await client.send("inbox", "x")
        await broker.clock.advance(0)
        assert (consumer.is_running, handler.texts, await held(client)) == (False, [], 1)
    broker.kill_after(client, "MSG.SEND")
    with pytest.raises(MailboxNotFound):
        await client.send("elsewhere", "x")
    assert client.is_connected


@pytest.mark.parametrize("order", ["kill_before", "kill_after"])
async def test_a_death_at_what_never_comes_is_refused(broker, client, order):
    with pytest.raises(ValueError, match="'ACK' is not one of"):
        getattr(broker, order)(client, "ACK")
    with pytest.raises(ValueError, match="count: 0 is not a positive number"):
        getattr(broker, order)(client, "MSG.ACK", count=0)


async def test_a_slow_broker_answers_late_by_the_clock(broker, client):
    began_ms = broker.clock.now_ms()
    broker.slow_down(3)
    broker.slow_down(60, "MSG.SEND")
    await client.mailbox_status("inbox")
    assert broker.clock.now_ms() - began_ms == 3_000
    sending = asyncio.create_task(client.send("inbox", "x"))
    await broker.clock.advance(10)
    broker.slow_down(0)
    assert len(await client.query("inbox")) == 1  # it was carried out
    assert not sending.done()
    await broker.clock.advance(50)
    assert sending.done()


async def test_how_slow_a_broker_is_must_be_known(broker):
    with pytest.raises(InvalidRequest, match="seconds: -1"):
        broker.slow_down(-1)
    with pytest.raises(ValueError, match="'SEND' is not one of"):
        broker.slow_down(1, "SEND")
