"""Many that wait: one of each group is woken for a message, and nothing is missed."""

import asyncio
import contextlib
import random

import pytest
from direct import client_of

from mq9 import Mq9Error
from mq9.broker.embedded import EmbeddedBroker
from mq9.engine.commands import Limits, Peek
from mq9.protocol.requests import Fetch
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.testing import ManualClock

pytestmark = pytest.mark.unmeasured

CROWD = 300


class Counting(InlineBackend):
    """A backend in memory that counts how often somebody looks for mail."""

    looks = 0

    async def run(self, command, client=""):
        self.looks += isinstance(command.request, Fetch)
        return await super().run(command, client)

    async def read(self, query):
        self.looks += isinstance(query.request, Peek)
        return await super().read(query)


class Crowd:
    """A broker, and fetches that wait at it."""

    def __init__(self):
        self.clock = ManualClock()
        self.broker = EmbeddedBroker(self._make_backend, self.clock)
        self.tasks = []

    def _make_backend(self, steady, _on_news):
        self.backend = Counting(store.open_memory(), steady, Limits())
        return self.backend

    def client(self):
        return client_of(self.broker)

    async def join(self, count, **options):
        """Let so many wait, each as a consumer of its own."""
        client = self.client()
        joined = [
            asyncio.create_task(
                client.fetch(
                    "inbox",
                    **{"max_wait_ms": 60_000, "consumer": f"c{len(self.tasks) + n}", **options},
                )
            )
            for n in range(count)
        ]
        self.tasks += joined
        await self.clock.advance(0)
        return joined

    async def looks_during(self, action):
        """How often somebody looks because of something, until all have come to rest."""
        before = self.backend.looks
        await action
        await self.clock.advance(0)
        return self.backend.looks - before


@pytest.fixture
async def crowd():
    crowd = Crowd()
    await crowd.client().mailbox_create(name="inbox")
    yield crowd
    for task in crowd.tasks:
        task.cancel()
    await asyncio.gather(*crowd.tasks, return_exceptions=True)
    await crowd.broker.close()


def texts(tasks):
    return sorted(one.text for task in tasks if task.done() for one in task.result())


async def test_one_message_wakes_one_of_a_group_and_one_more_who_watches_its_lease(crowd):
    waiting = await crowd.join(CROWD, group_name="g", deliver="earliest")
    assert await crowd.looks_during(crowd.client().send("inbox", "task")) == 2
    assert texts(waiting) == ["task"]


async def test_one_message_wakes_one_of_each_group(crowd):
    waiting = [
        task
        for number in range(5)
        for task in await crowd.join(20, group_name=f"g{number}", deliver="earliest")
    ]
    assert await crowd.looks_during(crowd.client().send("inbox", "task")) == 2 * 5
    assert texts(waiting) == ["task"] * 5


async def test_one_message_wakes_every_read_without_a_group(crowd):
    waiting = await crowd.join(20, deliver="earliest")
    assert await crowd.looks_during(crowd.client().send("inbox", "news")) == 20
    assert texts(waiting) == ["news"] * 20


async def test_nobody_is_woken_by_mail_for_another_mailbox(crowd):
    await crowd.client().mailbox_create(name="other")
    await crowd.join(CROWD, group_name="g")
    assert await crowd.looks_during(crowd.client().send("other", "task")) == 0


async def test_a_message_that_falls_due_wakes_one_of_a_group(crowd):
    waiting = await crowd.join(CROWD, group_name="g", deliver="earliest")
    assert await crowd.looks_during(crowd.client().send("inbox", "due", delay=5)) == 1
    assert await crowd.looks_during(crowd.clock.advance(5)) == 2
    assert texts(waiting) == ["due"]


async def test_a_lease_that_ends_wakes_one_of_a_group(crowd):
    await crowd.client().send("inbox", "task")
    [dead] = await crowd.join(1, group_name="g", deliver="earliest", lease_ms=5_000)
    waiting = await crowd.join(CROWD, group_name="g")
    assert await crowd.looks_during(crowd.clock.advance(5)) == 2
    assert texts([dead, *waiting]) == ["task", "task"]


async def test_each_of_several_messages_goes_to_one_of_those_who_wait(crowd):
    waiting = await crowd.join(CROWD, group_name="g", deliver="earliest", num_msgs=1)
    client = crowd.client()

    async def send():
        await asyncio.gather(*[client.send("inbox", str(number)) for number in range(10)])

    assert await crowd.looks_during(send()) <= 2 * 10
    assert texts(waiting) == sorted(map(str, range(10)))


@pytest.mark.parametrize("turns", range(6))
async def test_a_waiter_that_is_cancelled_when_woken_passes_the_wake_on(crowd, turns):
    waiting = await crowd.join(3, group_name="g", deliver="earliest")
    sending = asyncio.create_task(crowd.client().send("inbox", "task"))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting[0].cancel()
    await sending
    await crowd.clock.advance(0)
    assert texts([one for one in waiting if not one.cancelled()]) == ["task"]


async def test_a_waiter_that_may_no_longer_read_passes_the_wake_on(crowd):
    client = crowd.client()
    refused = await crowd.join(1, group_name="g", deliver="earliest")
    waiting = await crowd.join(1, group_name="g")
    run = crowd.backend.run

    async def refuse_the_first(command, client=""):
        if isinstance(command.request, Fetch) and command.request.consumer == "c0":
            raise Mq9Error("not any more")
        return await run(command, client)

    crowd.backend.run = refuse_the_first
    await client.send("inbox", "task")
    await crowd.clock.advance(0)
    with pytest.raises(Mq9Error, match="not any more"):
        await refused[0]
    assert texts(waiting) == ["task"]


@pytest.mark.parametrize("end", ["dropped", "expired"])
async def test_all_are_told_at_once_that_the_mailbox_is_gone(crowd, end):
    client = crowd.client()
    await client.mailbox_create(name="brief", ttl=5)
    fetch = {"group_name": "g", "max_wait_ms": 60_000}
    waiting = [asyncio.create_task(client.fetch("brief", **fetch)) for _ in range(CROWD)]
    await crowd.clock.advance(0)
    if end == "dropped":
        await client.mailbox_drop("brief")
    await crowd.clock.advance(0 if end == "dropped" else 5)
    assert all(task.done() and task.exception() for task in waiting)


@pytest.mark.soak
async def test_nobody_waits_while_there_is_something_for_its_group(scale):
    """Whatever is sent, leased, given back, extended, cancelled or falls due."""
    for seed in range(20 * scale):
        dice = random.Random(seed)
        crowd = Crowd()
        client = crowd.client()
        await client.mailbox_create(name="inbox")
        for _ in range(80):
            await _step(crowd, client, dice)
            waiting = {task.group for task in crowd.tasks if not task.done()}
            for group in waiting - {None}:
                status = await client.mailbox_status("inbox", group_name=group)
                assert status.group.pending.total == 0, (seed, group, status)
        for task in crowd.tasks:
            task.cancel()
        await asyncio.gather(*crowd.tasks, return_exceptions=True)
        assert crowd.broker.waiting == 0
        await crowd.broker.close()


async def _step(crowd, client, dice):
    group = dice.choice(["g", "h", None])
    held = [
        (task.group, task.consumer, one.msg_id)
        for task in crowd.tasks
        if task.done() and not task.cancelled() and not task.exception() and task.group
        for one in task.result()
    ]
    action = dice.choice(["join", "join", "send", "send", "cancel", "nack", "extend", "wait"])
    if action == "join":
        options = (
            {"group_name": group, "deliver": "earliest"}
            if group
            else {"deliver": "from_id", "from_id": 2**40}
        )
        consumer = f"c{len(crowd.tasks)}"
        [task] = await crowd.join(
            1,
            **options,
            consumer=consumer,
            num_msgs=dice.choice([1, 2, 100]),
            lease_ms=dice.choice([1_000, 3_000, 60_000]),
            max_wait_ms=dice.choice([500, 2_000, 60_000]),
        )
        task.group, task.consumer = group, consumer
    elif action == "send":
        sends = [
            client.send(
                "inbox",
                "x",
                delay=dice.choice([0, 0, 2]),
                priority=dice.choice(["normal", "critical"]),
            )
            for _ in range(dice.randint(1, 4))
        ]
        sending = asyncio.gather(*sends)
        for _ in range(dice.randint(0, 12)):
            await asyncio.sleep(0)
        waiting = [task for task in crowd.tasks if not task.done()]
        if waiting and dice.random() < 0.5:
            dice.choice(waiting).cancel()
        await sending
    elif action == "cancel":
        waiting = [task for task in crowd.tasks if not task.done()]
        if waiting:
            dice.choice(waiting).cancel()
    elif held and action in {"nack", "extend"}:
        of, consumer, msg_id = dice.choice(held)
        with contextlib.suppress(Mq9Error):
            if action == "nack":
                delay_ms = dice.choice([0, 1_500])
                await client.nack("inbox", of, msg_id, consumer=consumer, delay_ms=delay_ms)
            else:
                await client.extend("inbox", of, [msg_id], lease_ms=1_000, consumer=consumer)
    else:
        await crowd.clock.advance(dice.choice([0.3, 1, 2.5]))
    await crowd.clock.advance(0)
