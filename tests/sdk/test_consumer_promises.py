"""A consumer promises answers by itself, and says why it gives messages back."""

import pytest
from consuming import Handler, consuming

from mq9 import Promise, Retry, Unavailable, note_done
from mq9.clock import sleep

START = 1_800_000_000
SOON = START + 60


@pytest.fixture
def handler():
    """A handler that waits in the middle of its message."""
    handler = Handler()
    handler.free.clear()
    return handler


@pytest.fixture
def extends(client, monkeypatch):
    """The msg_ids and the promise of each EXTEND from now on."""
    asked = []
    extend = client.extend

    async def note(*arguments, **options):
        asked.append((arguments[-1], options.get("promise")))
        return await extend(*arguments, **options)

    monkeypatch.setattr(client, "extend", note)
    return asked


async def standing(client, msg_id=0):
    [found] = await client.query("inbox", msg_id=msg_id, group_name="g")
    return found.standing


async def test_it_promises_what_is_to_be_answered_in_time_and_nothing_else(
    client, handler, extends
):
    await client.send("inbox", "a", answer_by=SOON)
    await client.send("inbox", "b")
    async with consuming(client, handler, concurrency=2, consumer="me"):
        promise = (await standing(client)).promise
        assert promise is None  # it may be answered in a moment
        await client.clock.advance(1)
        promise = (await standing(client)).promise
        assert promise == Promise(until=SOON, by="me")
        assert (await standing(client, 1)).promise is None
        await client.clock.advance(20)
        # What has not changed is not told again: the renewals are those of any message.
        promises = [one for one in extends if one[1] is not None]
        assert promises == [([0], Promise(until=SOON))]
        assert {tuple(ids) for ids, promise in extends if promise is None} == {(0, 1)}
        handler.free.set()


@pytest.mark.parametrize("answer_by", [None, SOON])
async def test_what_is_handled_in_a_moment_costs_no_request(client, extends, answer_by):
    await client.send("inbox", "a", answer_by=answer_by)
    async with consuming(client, Handler()):
        await client.clock.advance(1)
        assert (await standing(client)).state == "acked"
    assert extends == []


async def test_what_is_done_so_far_goes_with_the_next_renewal(client, handler, extends):
    async def work(message):
        note_done("the first half")
        await sleep(client.clock, 7)
        note_done("the second half")
        await handler(message)

    await client.send("inbox", "a", answer_by=SOON)
    async with consuming(client, work, lease_ms=15_000):
        await client.clock.advance(1)
        assert (await standing(client)).promise.done == "the first half"
        await client.clock.advance(7)
        assert (await standing(client)).promise.done == "the first half"
        await client.clock.advance(2)
        assert (await standing(client)).promise.done == "the second half"
        await client.clock.advance(20)
        assert len([one for _, one in extends if one is not None]) == 2
        handler.free.set()
    note_done("nobody listens")


@pytest.mark.parametrize(
    ("within", "until"), [(None, SOON), (10.5, START + 11), (600, START + 600), (0, None)]
)
async def test_an_option_says_what_is_promised(client, handler, within, until):
    await client.send("inbox", "a", answer_by=SOON)
    async with consuming(client, handler, promise_within=within):
        await client.clock.advance(1)
        promise = (await standing(client)).promise
        assert (promise and promise.until) == until
        handler.free.set()


async def test_a_handler_that_promises_is_not_talked_over(client, handler):
    async def work(message):
        await message.promise(SOON + 600, "my own words")
        note_done("something else")
        await handler(message)

    await client.send("inbox", "a", answer_by=SOON)
    async with consuming(client, work, lease_ms=3_000):
        await client.clock.advance(6)
        promise = (await standing(client)).promise
        assert (promise.until, promise.done) == (SOON + 600, "my own words")
        handler.free.set()


async def test_nothing_is_promised_that_is_late_already(client, handler):
    await client.send("inbox", "a", answer_by=START)
    async with consuming(client, handler):
        await client.clock.advance(20)
        assert (await standing(client)).promise is None
        handler.free.set()


async def test_the_asker_is_told_when_the_promise_of_a_consumer_is_over(client, handler):
    await client.mailbox_create(name="asker")
    options = {"sender": "asker", "reply_to": "asker", "correlation_id": "q"}
    await client.send("inbox", "a", answer_by=SOON, tell_overdue=True, **options)
    async with consuming(client, handler, promise_within=120):
        await client.clock.advance(119)
        assert await client.fetch("asker", max_wait_ms=0) == []
        await client.clock.advance(1)
        [notice] = await client.fetch("asker", max_wait_ms=0)
        assert notice.overdue
        handler.free.set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no oven"), "ValueError: no oven"),
        (Retry("the oven is cold", after=5), "Retry: the oven is cold"),
        (ValueError("x" * 2_000), f"ValueError: {'x' * 1_012}"),
    ],
)
async def test_it_says_why_it_gives_a_message_back(client, error, reason):
    handler = Handler()
    handler.error = error
    await client.send("inbox", "a")
    async with consuming(client, handler, error_handler=lambda *_: None, retry_delay=60):
        await client.clock.advance(0)
        told = await standing(client)
        assert (told.state, told.reason) == ("given_back", reason)


async def test_a_handler_says_itself_why_it_gives_a_message_back(client):
    async def work(message):
        await message.nack(delay=60, reason="not now")

    await client.send("inbox", "a")
    async with consuming(client, work):
        assert (await standing(client)).reason == "not now"


async def test_a_stopped_consumer_says_so(client, handler):
    await client.send("inbox", "a")
    async with consuming(client, handler, stop_timeout=0):
        pass
    told = await standing(client)
    assert (told.state, told.reason) == (
        "pending",
        "the consumer was stopped before the handler had ended",
    )


async def test_a_promise_that_did_not_reach_the_broker_is_made_again(client, handler, monkeypatch):
    extend, failures = client.extend, [Unavailable("later")]

    async def fail_once(*arguments, **options):
        if options["promise"] is not None and failures:
            raise failures.pop()
        return await extend(*arguments, **options)

    monkeypatch.setattr(client, "extend", fail_once)
    await client.send("inbox", "a", answer_by=SOON)
    async with consuming(client, handler, lease_ms=15_000):
        await client.clock.advance(1)
        assert (await standing(client)).promise is None
        await client.clock.advance(4)
        assert (await standing(client)).promise.until == SOON
        handler.free.set()
