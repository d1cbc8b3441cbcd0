"""Workers on a fake broker: many at once, killed ones, and a day of idle ones."""

import asyncio
import gc
import logging
from contextlib import AsyncExitStack

import pytest

from langchain_mq9 import MailboxWorker
from tests.worker.graphs import Steps, echo, held, working

pytestmark = pytest.mark.unmeasured


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        yield client


async def test_a_killed_worker_leaves_its_leases_and_nothing_else(broker, client, caplog, recwarn):
    caplog.set_level(logging.INFO)
    begun = asyncio.Event()

    async def wait(_state, _config):
        begun.set()
        await asyncio.Event().wait()

    steps = Steps("read", "write", write=wait)
    victim = broker.client()
    before = asyncio.all_tasks()
    async with working(victim, steps.compile(), capabilities="contracts"):
        await client.send("lawyer", {"topic": "tea"})
        await begun.wait()
        broker.kill(victim)
        await broker.clock.advance(14)
        assert await held(client) == 1
        await broker.clock.advance(86_400)
        assert asyncio.all_tasks() == before
    gc.collect()
    assert [one.getMessage() for one in caplog.records if one.levelno > logging.INFO] == []
    assert list(recwarn) == []


@pytest.mark.parametrize("order", ["kill_before", "kill_after"])
async def test_who_dies_at_its_ack_has_answered_once_in_the_end(broker, client, order):
    steps = Steps("read", "write")
    graph = steps.compile()
    victim = broker.client()
    getattr(broker, order)(victim, "MSG.ACK")
    await client.mailbox_create(name="answers")
    async with working(victim, graph):
        await client.send("lawyer", {"topic": "tea"}, reply_to="answers")
        await broker.clock.advance(1)
        assert not victim.is_connected
    async with working(client, graph) as other:
        await broker.clock.advance(60)
        assert other.counters.repeated == (order == "kill_before")
    assert len(await client.query("answers")) == 1
    assert steps.ran == ["read", "write"]
    assert await held(client) == 0


async def test_a_day_of_ten_idle_workers_takes_few_requests(broker, client, monkeypatch):
    asked = []
    carry_out = broker.carry_out

    async def counted(request):
        asked.append(request)
        return await carry_out(request)

    async with AsyncExitStack() as stack:
        for number in range(10):
            worker = MailboxWorker(
                echo(), agent=f"w{number}", client=broker.client(), capabilities="echoes"
            )
            await stack.enter_async_context(worker)
        monkeypatch.setattr(broker, "carry_out", counted)
        await broker.clock.advance(86_400)
        assert len(asked) < 1_000  # long polls of half a minute would be 28 800
        assert len(await client.agent_discover(text="echoes")) == 10
