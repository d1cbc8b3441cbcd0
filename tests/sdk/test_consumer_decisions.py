"""What a handler decides about its message by the message's own methods."""

import pytest

from mq9 import ConsumerEventKind, Reject, Retry
from tests.contract.reading import send_all
from tests.sdk.consuming import acked, consuming, count_moved, held
from tests.waiting import until


class Decider:
    """A handler that does something with its message, then returns or raises."""

    def __init__(self, decide, outcome=None):
        self.counts = []
        self._decide = decide
        self._outcome = outcome

    async def __call__(self, message):
        self.counts.append(message.delivery_count)
        if len(self.counts) == 1:
            await self._decide(message)
            if self._outcome is not None:
                raise self._outcome


OUTCOMES = [None, ValueError("x"), Retry(after=1), Reject("no")]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("auto_ack", [True, False])
async def test_what_it_acked_stays_acked(broker, client, auto_ack, outcome):
    reported = []
    handler = Decider(lambda message: message.ack(), outcome)
    await client.mailbox_create(name="dead")
    await client.send("inbox", "x")
    async with consuming(
        client,
        handler,
        auto_ack=auto_ack,
        dead_letter="dead",
        error_handler=lambda _message, error: reported.append(error),
    ) as consumer:
        await until(lambda: handler.counts)
        await broker.clock.advance(600)
        assert handler.counts == [1]
        assert (await acked(client), await held(client)) == (1, 0)
        assert reported == ([] if outcome is None or isinstance(outcome, Retry) else [outcome])
        assert (consumer.counters.retried, consumer.counters.dead_lettered) == (0, 0)
        assert consumer.counters.leases_lost == 0
    assert await client.query("dead") == []


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_it_gave_back_comes_again_when_it_said(broker, client, outcome):
    handler, events = Decider(lambda message: message.nack(delay=20), outcome), []
    await client.mailbox_create(name="dead")
    await client.send("inbox", "x")
    async with consuming(
        client,
        handler,
        dead_letter="dead",
        error_handler=lambda _message, _error: None,
        on_event=lambda event: events.append(event.kind),
    ) as consumer:
        await until(lambda: consumer.counters.retried == 1)
        await broker.clock.advance(19.9)
        assert handler.counts == [1]
        assert await acked(client) == 0
        await broker.clock.advance(0.1)
        await until(lambda: handler.counts == [1, 2])
        assert events.count(ConsumerEventKind.RETRIED) == 1
        assert consumer.counters.dead_lettered == 0
    assert await client.query("dead") == []


async def test_what_it_moved_is_there_and_confirmed_here(broker, client):
    handler = Decider(lambda message: message.move("other", reason="not mine"))
    await client.mailbox_create(name="other")
    await client.send("inbox", "x")
    async with consuming(client, handler):
        await broker.clock.advance(600)
    [moved] = await client.query("other")
    assert (moved.text, moved.moved.reason, handler.counts) == ("x", "not mine", [1])
    assert await count_moved(client) == 1


async def test_a_plain_function_may_return_what_it_decides(broker, client):
    await client.send("inbox", "x")
    async with consuming(client, lambda message: message.nack(delay=5)) as consumer:
        await until(lambda: consumer.counters.retried == 1)
        assert await acked(client) == 0


async def test_it_may_confirm_those_before_its_message_too(client):
    await send_all(client, "inbox", *map(str, range(3)))

    async def handle(message):
        if message.text == "2":
            await message.ack(individual=False)

    async with consuming(client, handle, auto_ack=False, concurrency=3) as consumer:
        await until(lambda: consumer.processed_count == 3)
        assert await acked(client) == 3


async def test_an_error_handler_decides_too(broker, client):
    await client.send("inbox", "x")
    handler = Decider(lambda message: message.extend(lease=90), ValueError("x"))

    async def drop(message, _error):
        assert await message.ack() == [0]

    async with consuming(client, handler, error_handler=drop):
        await broker.clock.advance(600)
        assert handler.counts == [1]
        assert await acked(client) == 1


async def test_it_answers_in_the_name_of_its_agent(client):
    await client.send("inbox", "x")
    answers = []

    async def handle(message):
        answers.append(await message.reply(f"{message.text}, done"))
        await message.reply("and more", id="2", sender="another")

    async with consuming(client, handle, agent="ada"):
        answer = await client.request("inbox", "water the plants", timeout=5)
    assert (answer.text, answer.sender) == ("water the plants, done", "ada")
    assert answers[0] == 0


async def test_messages_may_be_kept_and_acked_later(broker, client):
    kept = []

    async def keep(message):
        kept.append(message)

    await send_all(client, "inbox", *map(str, range(3)))
    async with consuming(client, keep, auto_ack=False, concurrency=3) as consumer:
        await until(lambda: consumer.processed_count == 3)
        assert [await message.ack() for message in kept[:2]] == [[0], [1]]
    assert await kept[2].ack() == [2]
    assert await acked(client) == 3


async def test_what_it_acked_is_not_given_back_when_it_is_interrupted(client):
    async def handle(message):
        await message.ack()
        await client.fetch("inbox", max_wait_ms=60_000, deliver="new")

    await client.send("inbox", "x")
    async with consuming(client, handle) as consumer:
        await consumer.stop(timeout=0)
        assert consumer.counters.interrupted == 1
    assert await acked(client) == 1
