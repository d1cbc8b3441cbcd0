"""A consumer that was paused past its lease gives up nothing that others have by then."""

import asyncio
import contextlib

import pytest

from mq9 import Mq9Client, Reject, Retry
from mq9.client.error_answers import ErrorAnswer
from mq9.testing import ManualClock
from tests.sdk.consuming import Handler, acked, consuming

LAST = {"max_deliveries": 1, "dead_letter": "dead", "error_answers": True}


@pytest.fixture
def broker(still_broker):
    return still_broker  # one that jumps would not wait for the clock of another


@pytest.fixture(autouse=True)
async def boxes(client):
    for name in ("asker", "dead"):
        await client.mailbox_create(name=name)


@pytest.fixture
async def paused(broker):
    """A client whose clock stands still, while that of the broker goes on."""
    async with Mq9Client(broker.url, clock=ManualClock(broker.clock.now_ms() / 1000)) as paused:
        yield paused


class Held(Handler):
    """A handler that waits until it may fail."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.free.clear()

    async def fail(self, broker):
        self.free.set()
        await broker.clock.advance(0)


async def ask(client, **options):
    await client.send("inbox", "q", reply_to="asker", correlation_id="q-1", **options)


async def told(client):
    """What the asker was told: texts, and the reasons of error answers."""
    answers = await client.query("asker")
    failures = [ErrorAnswer.read(one) for one in answers]
    return [
        one.text if failed is None else failed.reason
        for one, failed in zip(answers, failures, strict=True)
    ]


@contextlib.asynccontextmanager
async def outlived(broker, paused, handler, **options):
    """A consumer whose lease ends while its handler runs."""
    async with consuming(paused, handler, stop_timeout=0, **options) as consumer:
        await broker.clock.advance(16)
        yield consumer


@pytest.mark.parametrize("error", [ValueError("no"), Retry("no"), Reject("no")])
@pytest.mark.parametrize("dead_letter", [None, "dead"])
async def test_while_another_consumer_runs_it_the_first_one_answers_nothing(
    broker, client, paused, error, dead_letter
):
    first, second = Held(error), Held(None)
    options = {**LAST, "dead_letter": dead_letter}
    await ask(client)
    async with (
        outlived(broker, paused, first, consumer="first", **options),
        consuming(client, second, stop_timeout=0, consumer="second", **options),
    ):
        await broker.clock.advance(1)
        assert (first.counts, second.counts) == ([1], [2])
        await first.fail(broker)
        assert await told(client) == []
        assert (await acked(client), await client.query("dead")) == (0, [])
        second.free.set()
        await broker.clock.advance(1)
    assert (await acked(client), await client.query("dead")) == (1, [])


@pytest.mark.parametrize("error", [ValueError("no"), Retry("no"), Reject("no")])
async def test_what_nobody_else_has_yet_is_left_to_its_next_delivery(broker, client, paused, error):
    first = Held(error)
    await ask(client)
    async with outlived(broker, paused, first, **LAST) as consumer:
        consumer.request_stop(60)
        await first.fail(broker)
        assert (consumer.counters.dead_lettered, consumer.counters.leases_lost) == (0, 1)
    assert (await told(client), await client.query("dead")) == ([], [])

    async def answer(message):
        return "42"

    async with consuming(client, answer, **LAST):
        await broker.clock.advance(1)
    assert (await told(client), await client.query("dead")) == (["42"], [])


async def test_what_expires_is_not_told_by_who_no_longer_holds_it(broker, client, paused):
    first, second = Held(Retry(after=60)), Held(None)
    await ask(client, ttl=30)
    async with (
        outlived(broker, paused, first, consumer="first", error_answers=True),
        consuming(client, second, stop_timeout=0, consumer="second", error_answers=True),
    ):
        await broker.clock.advance(1)
        assert second.counts == [2]
        await first.fail(broker)
        assert await told(client) == []
        second.free.set()
        await broker.clock.advance(1)
    assert await told(client) == []


async def test_what_has_expired_is_told_by_its_last_consumer_alone(broker, client, paused):
    first, second = Held(ValueError("first")), Held(KeyError("second"))
    await ask(client, ttl=30)
    async with (
        outlived(broker, paused, first, consumer="first", error_answers=True),
        consuming(client, second, stop_timeout=0, consumer="second", error_answers=True),
    ):
        await broker.clock.advance(20)
        await first.fail(broker)
        assert await told(client) == []
        await second.fail(broker)
    assert await told(client) == ["KeyError"]


@pytest.mark.parametrize("error", [ValueError("no"), Retry("no"), Reject("no")])
async def test_what_the_same_consumer_got_again_is_given_up_by_the_later_delivery_alone(
    broker, client, paused, error
):
    """The broker knows a consumer by its name, so that the later lease seems to be the first."""
    end, counts = asyncio.Event(), []

    async def handle(message):
        counts.append(message.delivery_count)
        if len(counts) == 1:
            await end.wait()
            raise error
        return "42"

    await ask(client)
    async with outlived(broker, paused, handle, concurrency=2, **LAST) as consumer:
        assert (counts, consumer.counters.received) == ([1], 2)
        assert consumer.counters.leases_lost == 1
        end.set()
        await broker.clock.advance(1)
    assert counts == [1, 2]
    assert (await told(client), await client.query("dead")) == (["42"], [])
    assert await acked(client) == 1


async def test_who_is_told_before_a_message_is_a_dead_letter_is_not_told_without_a_lease(
    broker, client, paused
):
    first, second, noted = Held(ValueError("no")), Held(None), []
    options = {**LAST, "before_dead_letter": lambda *given: noted.append(given)}
    await ask(client)
    async with (
        outlived(broker, paused, first, consumer="first", **options),
        consuming(client, second, stop_timeout=0, consumer="second", **options),
    ):
        await broker.clock.advance(1)
        await first.fail(broker)
        assert noted == []
        second.free.set()
        await broker.clock.advance(1)
