"""Messages that wait aside for the end of a question are moved back, whoever dies meanwhile."""

import pytest

from langchain_mq9.worker.question_mail import Parking
from langchain_mq9.worker.records import WorkerAgent
from mq9 import Message

THREAD = "a-thread"


class Died(Exception):
    pass


async def parked(client, *bodies):
    """Move messages aside, as a worker does; the worker's agent."""
    agent = WorkerAgent(client, "lawyer", "lawyer")
    await client.mailbox_create(name="lawyer", renew=True)
    for body in bodies:
        await client.send("lawyer", body)
    for message in await client.fetch("lawyer", group_name="lawyer", max_wait_ms=0):
        await Parking(agent).park(message, THREAD)
    return agent


async def taken(client):
    found = await client.fetch("lawyer", group_name="lawyer", max_wait_ms=0)
    return [one.text for one in found]


async def test_messages_come_back_in_their_order(broker):
    async with broker.client() as client:
        agent = await parked(client, "one", "two")
        assert await taken(client) == []
        await Parking(agent).release(THREAD)
        assert await taken(client) == ["one", "two"]


async def test_what_a_worker_was_moving_back_when_it_died_is_not_lost(broker, monkeypatch):
    async with broker.client() as first, broker.client() as second:
        agent = await parked(first, "one", "two")

        async def die(*_args, **_options):
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(Message, "move", die)
            with pytest.raises(Died):
                await Parking(agent).release(THREAD)
        await Parking(WorkerAgent(second, "lawyer", "lawyer")).release(THREAD)
        assert await taken(second) == ["one", "two"]
