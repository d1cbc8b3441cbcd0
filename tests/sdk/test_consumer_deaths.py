"""Messages that their workers die of: counted apart, handled alone, and moved away in the end."""

import asyncio
import contextlib

import pytest

from mq9 import Mq9Client, Reject
from mq9.client.consumer.processing import back_at_work, without_slot
from tests.contract.reading import send_all
from tests.sdk.consuming import Handler, acked, consuming, count_moved, held

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog):
    """What a consumer logs of its end is not looked at."""
    caplog.set_level("CRITICAL", "mq9")


class Killer(Handler):
    """A handler during which the process ends when a text is among those that it handles."""

    def __init__(self, broker, victim, deadly="x"):
        super().__init__()
        self.together = []
        self.company = []
        self._broker, self._victim, self._deadly = broker, victim, deadly

    async def __call__(self, message):
        self.together.append(message.text)
        self.company.append(tuple(self.together))
        await asyncio.sleep(0)
        if message.text == self._deadly:
            self._broker.kill(self._victim)
        try:
            await super().__call__(message)
        finally:
            self.together.remove(message.text)


async def die_of(broker, client, *, others_end=False, **options):
    """Run a worker until it is killed by a message, and its leases have ended; its handler."""
    async with Mq9Client(broker.url) as victim:
        handler = Killer(broker, victim)
        if not others_end:
            handler.free.clear()
        async with consuming(victim, handler, concurrency=4, **options) as consumer:
            await broker.clock.advance(20)
            assert not consumer.is_running
    await broker.clock.advance(15)
    return handler


async def test_after_one_death_a_message_is_handled_alone(broker, client, dead):
    await send_all(client, "inbox", *"axb")
    first = await die_of(broker, client, dead_letter=dead)
    assert max(map(len, first.company)) == 3

    second = await die_of(broker, client, others_end=True, dead_letter=dead)
    assert second.company == [("a",), ("x",)]  # what died in its company is handled alone, too


async def test_what_runs_beside_a_message_that_kills_is_handled_in_the_end(broker, client, dead):
    """The killer is moved away, with the number of deaths; the others are handled."""
    await send_all(client, "inbox", *"axb")

    class Ending(Killer):
        async def __call__(self, message):
            if message.text != "x":
                self.free.set()
            await super().__call__(message)
            self.free.clear()

    done = []
    for _ in range(4):
        async with Mq9Client(broker.url) as victim:
            handler = Ending(broker, victim)
            async with consuming(victim, handler, dead_letter=dead):
                await broker.clock.advance(40)
            done += handler.texts
        await broker.clock.advance(15)
    assert done.count("x") == 4
    assert [one.text for one in await client.query(dead)] == []

    handler = Handler()
    async with consuming(client, handler, dead_letter=dead):
        await broker.clock.advance(40)
    assert "x" not in handler.texts
    [letter] = await client.query(dead)
    assert letter.text == "x"
    assert letter.moved.reason == "its worker died 4 times while the message was handled"
    assert (await acked(client), await count_moved(client)) == (2, 1)


@pytest.mark.parametrize("max_deaths", [1, 2])
async def test_max_deaths_counts_those_alone(broker, client, dead, max_deaths):
    await client.send("inbox", "x")
    options = {"max_deaths": max_deaths, "dead_letter": dead}
    for _ in range(1 + max_deaths):
        assert await client.query(dead) == []
        assert (await die_of(broker, client, **options)).texts == ["x"]
    async with consuming(client, Handler(), **options):
        await broker.clock.advance(1)
    assert [one.text for one in await client.query(dead)] == ["x"]


@pytest.mark.parametrize("dead_letter", [None, "dead"])
async def test_what_kills_ends_no_more_workers_and_its_asker_learns_of_it(
    broker, client, dead, asker, dead_letter
):
    """Without dead letters it is acked, reported and counted; what waited behind it is handled."""
    await client.send("inbox", "x", reply_to=asker)
    await client.send("inbox", "a")
    options = {"max_deaths": 1, "dead_letter": dead_letter, "error_answers": True}
    for _ in range(2):
        await die_of(broker, client, **options)
    handler, reports, events = Handler(), [], []
    async with consuming(
        client,
        handler,
        error_handler=lambda message, error: reports.append((message.text, error)),
        on_event=events.append,
        **options,
    ) as consumer:
        await broker.clock.advance(20)
        assert consumer.counters.given_up == (dead_letter is None)
        assert consumer.counters.dead_lettered == (dead_letter is not None)
    assert handler.texts == ["a"]
    told = "its worker died 2 times while the message was handled"
    [answer] = await client.query(asker)
    assert (answer.json()["code"], answer.json()["reason"]) == ("failed", told)
    assert [one.moved.reason for one in await client.query(dead)] == [told] * bool(dead_letter)
    kinds = [one.kind for one in events if one.message.text == "x"]
    if dead_letter is None:
        [(text, error)] = reports
        assert (text, str(error)) == ("x", told)
        assert isinstance(error, Reject)
        assert kinds == ["received", "given_up"]
        assert await acked(client) == 2


async def test_without_an_error_handler_what_kills_is_logged_as_an_error(broker, client, caplog):
    await client.send("inbox", "x")
    for _ in range(2):
        await die_of(broker, client, max_deaths=1)
    caplog.clear()
    caplog.set_level("ERROR", "mq9")
    async with consuming(client, Handler(), max_deaths=1):
        await broker.clock.advance(1)
    [logged] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "failed on message 0 (reference " in logged.getMessage()
    assert "its worker died 2 times" in str(logged.exc_info[1])


async def test_deaths_use_up_no_tries(broker, client, dead):
    await client.send("inbox", "x")
    await die_of(broker, client, dead_letter=dead)
    handler = Handler()
    handler.error = ValueError()
    async with consuming(client, handler, max_deliveries=2, retry_delay=8, dead_letter=dead):
        await broker.clock.advance(1)
        assert handler.counts == [2]
        await broker.clock.advance(8)
        assert handler.counts == [2, 3]
    assert (await client.query(dead))[0].moved.deliveries == 3


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_was_not_begun_dies_of_nothing(broker, client, goes_on):
    """A handler that waits has not begun until it goes on: it does not die of another one."""
    go = asyncio.Event()
    async with Mq9Client(broker.url) as victim:

        async def wait(message):
            with without_slot():
                await go.wait()
            await back_at_work()
            await asyncio.Event().wait()

        await client.send("inbox", "x")
        async with consuming(victim, wait):
            await broker.clock.advance(6)
            if goes_on:
                go.set()
            await broker.clock.advance(1)
            broker.kill(victim)
            await broker.clock.advance(15)
    [again] = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    assert (again.delivery_count, again.deaths) == (2, goes_on)


async def test_nobody_goes_on_beside_a_message_that_is_handled_alone(broker, client):
    """A handler that waited goes on when the other one has ended."""
    waiting, together = asyncio.Event(), []
    await die_of_one(broker, client, "x")

    async def handle(message):
        if message.text == "a":
            with without_slot():
                await waiting.wait()
            await back_at_work()
        together.append(message.text)
        await asyncio.sleep(0)
        if message.text == "x":
            waiting.set()
            await broker_time.wait()
            assert together == ["x"]
            together.remove("x")

    broker_time = asyncio.Event()
    await client.send("inbox", "a", priority="critical")
    async with consuming(client, handle, concurrency=4) as consumer:
        await broker.clock.advance(1)
        assert together == ["x"]
        broker_time.set()
        await broker.clock.advance(1)
        assert together == ["a"]
        assert consumer.processed_count == 2


async def die_of_one(broker, client, text):
    await client.send("inbox", text)
    await client.fetch("inbox", group_name="g", begun=True, lease_ms=1_000, consumer="dead")
    await broker.clock.advance(1)


async def test_what_is_handled_alone_waits_for_the_others_and_keeps_its_lease(broker, client):
    await die_of_one(broker, client, "x")
    await client.send("inbox", "a", priority="urgent")
    handler = Handler()
    handler.free.clear()
    async with consuming(client, handler, concurrency=4) as consumer:
        await broker.clock.advance(60)
        assert handler.texts == ["a"]
        await client.send("inbox", "b")
        await broker.clock.advance(60)
        assert (handler.texts, await held(client)) == (["a"], 2)
        handler.free.set()
        await broker.clock.advance(1)
        assert handler.texts == ["a", "x", "b"]
        assert (consumer.counters.leases_lost, handler.most_at_once) == (0, 1)
    assert await acked(client) == 3


async def test_what_would_wait_for_a_message_that_is_handled_alone_goes_to_others(broker, client):
    await send_all(client, "inbox", *"xyz")
    await client.fetch("inbox", group_name="g", begun=True, lease_ms=1_000, consumer="dead")
    await broker.clock.advance(1)
    await client.send("inbox", "a")
    handlers = [Handler() for _ in range(4)]
    for handler in handlers:
        handler.free.clear()
    async with contextlib.AsyncExitStack() as stack:
        for handler in handlers:
            await stack.enter_async_context(consuming(client, handler, concurrency=4))
        await broker.clock.advance(5)
        assert sorted(handler.texts for handler in handlers) == [["a"], ["x"], ["y"], ["z"]]
        for handler in handlers:
            handler.free.set()


async def test_what_is_left_to_others_loses_few_of_its_tries(broker, client):
    texts = [f"{number}" for number in range(12)]
    await send_all(client, "inbox", *texts)
    await client.fetch("inbox", group_name="g", begun=True, lease_ms=1_000, consumer="dead")
    await broker.clock.advance(1)
    handler = Handler()
    async with consuming(client, handler, concurrency=12, num_msgs=12):
        await broker.clock.advance(60)
    assert sorted(handler.texts) == sorted(texts)
    assert max(handler.counts) <= 3
    assert handler.most_at_once == 1


async def test_what_waits_for_a_message_that_is_handled_alone_does_not_die_of_it(broker, client):
    await die_of_one(broker, client, "x")
    await client.send("inbox", "b")
    assert (await die_of(broker, client)).texts == ["x"]
    again = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    assert [(one.text, one.deaths) for one in again] == [("x", 2), ("b", 0)]


async def test_what_another_has_handled_meanwhile_is_not_handled_again(broker, client):
    await die_of_one(broker, client, "x")
    await client.send("inbox", "a", priority="urgent")
    handler = Handler()
    handler.free.clear()
    async with consuming(client, handler, concurrency=4):
        await broker.clock.advance(1)
        await client.delete("inbox", 0)
        handler.free.set()
        await broker.clock.advance(1)
    assert handler.texts == ["a"]


async def test_a_message_that_is_acked_later_dies_with_no_worker(broker, client):
    handler = Handler()
    await client.send("inbox", "x")
    async with Mq9Client(broker.url) as victim, consuming(victim, handler, auto_ack=False):
        await broker.clock.advance(1)
        broker.kill(victim)
    await broker.clock.advance(58)
    assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []
    await broker.clock.advance(2)
    [again] = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    assert again.deaths == 0
