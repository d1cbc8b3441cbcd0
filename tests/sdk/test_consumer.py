"""The background consumer: what it fetches, acks, retries and moves away, and how it ends."""

import asyncio
import contextlib
import logging
import re
import threading
from itertools import pairwise

import pytest

from mq9 import (
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    NotConnected,
    Reject,
    Retry,
)
from mq9.client.consumer.processing import without_slot
from mq9.testing import FakeBroker, Limits
from tests.contract.reading import send_all
from tests.sdk.consuming import Handler, acked, consuming, count_moved, held
from tests.waiting import until


async def test_each_message_is_handled_once_and_acked(broker, client, handler):
    await send_all(client, "inbox", *map(str, range(25)))
    async with consuming(client, handler) as consumer:
        await client.send("inbox", "news")
        await broker.clock.advance(1)
        assert handler.texts == [*map(str, range(25)), "news"]
        assert (consumer.processed_count, consumer.failed_count) == (26, 0)
        assert consumer.is_running
        assert consumer.group_name == "g"
        assert "inbox" in repr(consumer)
    assert await acked(client) == 26
    assert handler.most_at_once == 1


async def test_what_is_sent_after_consume_returned_is_not_missed(broker, client, handler):
    await client.send("inbox", "before")
    consumer = await client.consume("inbox", handler, deliver="new")
    await client.send("inbox", "after")
    await broker.clock.advance(1)
    assert handler.texts == ["after"]
    assert consumer.group_name.startswith("consumer.")
    await consumer.stop()


async def test_a_worker_that_comes_after_the_mail_handles_it(broker, client, handler):
    await client.send("inbox", "before")
    for group_name in ("workers", None):
        async with await client.consume("inbox", handler, group_name=group_name):
            await broker.clock.advance(1)
    assert handler.texts == ["before", "before"]


async def test_consumers_without_a_group_each_see_everything(broker, client):
    handlers = [Handler(), Handler()]
    consumers = [
        await client.consume("inbox", handler, group_name=absent)
        for handler, absent in zip(handlers, [None, ""], strict=True)
    ]
    await client.send("inbox", "to all")
    await broker.clock.advance(1)
    assert [handler.texts for handler in handlers] == [["to all"], ["to all"]]
    for consumer in consumers:
        await consumer.stop()


@pytest.mark.parametrize("concurrency", [1, 20])
async def test_plain_functions_may_block_threads_as_many_as_was_asked_for(client, concurrency):
    together = threading.Barrier(concurrency, timeout=10)
    threads = []
    await send_all(client, "inbox", *map(str, range(20)))

    def handle(message):
        threads.append((int(message.text), threading.current_thread()))
        together.wait()

    options = {"concurrency": concurrency, "num_msgs": 20}
    async with consuming(client, handle, **options) as consumer:
        await until(lambda: consumer.processed_count + consumer.failed_count == 20)
        assert consumer.failed_count == 0
    numbers, used = zip(*threads, strict=True)
    assert threading.main_thread() not in used
    assert list(numbers) == list(range(20)) or concurrency > 1


async def test_a_function_that_returns_something_to_await_is_awaited(client):
    seen = []

    async def later(message):
        seen.append(message.text)

    await client.send("inbox", "x")
    async with consuming(client, lambda message: later(message)) as consumer:  # noqa: PLW0108  # a plain function that returns an awaitable
        await until(lambda: consumer.processed_count == 1)
    assert seen == ["x"]


async def test_only_as_many_are_fetched_as_there_are_free_slots(broker, client, handler):
    handler.free.clear()
    await send_all(client, "inbox", *map(str, range(10)))
    async with consuming(client, handler, concurrency=3, num_msgs=10):
        await broker.clock.advance(5)
        assert handler.texts == ["0", "1", "2"]
        assert await held(client) == 3
        others = await client.fetch("inbox", group_name="g", num_msgs=2)
        assert [message.text for message in others] == ["3", "4"]
        handler.free.set()
        await broker.clock.advance(1)
        assert handler.texts == ["0", "1", "2", "5", "6", "7", "8", "9"]
    assert handler.most_at_once == 3


async def test_no_more_are_fetched_at_once_than_num_msgs(broker, client, handler):
    handler.free.clear()
    await send_all(client, "inbox", *map(str, range(4)))
    consumer = await client.consume(
        "inbox", handler, group_name="g", deliver="earliest", concurrency=10, num_msgs=1
    )
    assert await held(client) == 1
    await broker.clock.advance(0)
    assert await held(client) == 4
    handler.free.set()
    await consumer.stop()


async def test_leases_are_renewed_for_as_long_as_a_handler_runs(broker, client, handler):
    async with consuming(client, handler, lease_ms=3_000, concurrency=2):
        await broker.clock.advance(0.9)  # so that it comes between two renewals
        handler.free.clear()
        await client.send("inbox", "long")
        for _ in range(20):
            await broker.clock.advance(2)
            assert await held(client) == 1
            assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []
        handler.free.set()
        await broker.clock.advance(1)
        assert handler.counts == [1]
        assert await acked(client) == 1


async def test_a_lease_lost_meanwhile_is_told_and_counted_once(broker, client, handler, caplog):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler, lease_ms=60_000) as consumer:
        await client.fetch("inbox", group_name="g", deliver="earliest", force_deliver=True)
        await broker.clock.advance(100)
        assert "no longer holds [0]" in caplog.text
        assert consumer.counters.leases_lost == 1
        handler.free.set()


async def test_a_failed_message_keeps_its_turn_when_a_later_one_is_acked(broker, client):
    seen = []

    async def handle(message):
        seen.append(message.text)
        if message.text == "bad" and len(seen) < 4:
            raise ValueError("not yet")

    await send_all(client, "inbox", "bad", "good", "fine")
    async with consuming(client, handle, concurrency=3) as consumer:
        await broker.clock.advance(0.5)
        assert seen == ["bad", "good", "fine"]
        assert await acked(client) == 2
        await broker.clock.advance(0.5)
        assert seen == ["bad", "good", "fine", "bad"]
        assert await acked(client) == 3
        assert (consumer.processed_count, consumer.failed_count) == (3, 1)


async def test_a_message_that_still_runs_is_not_acked_with_a_later_one(client):
    finish = asyncio.Event()

    async def handle(message):
        if message.text == "slow":
            await finish.wait()

    await send_all(client, "inbox", "slow", "quick", "quick")
    async with consuming(client, handle, concurrency=3) as consumer:
        assert consumer.processed_count == 2
        assert (await acked(client), await held(client)) == (2, 1)
        finish.set()
    assert await acked(client) == 3


@pytest.mark.parametrize(
    ("options", "waits_s"),
    [
        ({"retry_delay": 0.5, "max_retry_delay": 3, "max_deliveries": 2}, [0.5, 1, 2, *[3] * 5]),
        # By default it is tried for about an hour.
        ({"dead_letter": "dead"}, [1, 2, 4, 8, 16, 32, 64, 128, 256, *[300] * 10]),
        (
            {"retry_delay": 0, "max_retry_delay": 0, "dead_letter": "dead", "max_deliveries": 4},
            [0] * 3,
        ),
    ],
)
async def test_retries_come_after_a_delay_that_doubles_up_to_the_longest(
    broker, client, handler, dead, options, waits_s
):
    handler.error = ValueError("never")
    instants = []
    await client.send("inbox", "x")

    async def handle(message):
        instants.append(broker.clock.now_ms())
        await handler(message)

    async with consuming(client, handle, error_handler=lambda *_: None, **options):
        await broker.clock.advance(sum(waits_s))
    waits = [(later - earlier) / 1_000 for earlier, later in pairwise(instants)]
    assert waits == waits_s
    assert handler.counts == list(range(1, len(waits_s) + 2))
    assert len(await client.query(dead)) == ("dead_letter" in options)  # else it has no place


@pytest.mark.parametrize("plain", [True, False])
async def test_the_error_handler_gets_the_message_and_what_was_raised(client, handler, plain):
    told = []
    handler.error = ValueError("bad input")
    await client.send("inbox", "x")

    def tell(message, error):
        told.append((message.text, error))

    async def tell_later(message, error):
        tell(message, error)

    async with consuming(client, handler, error_handler=tell if plain else tell_later):
        await until(lambda: told)
    assert told == [("x", handler.error)]


async def test_without_an_error_handler_it_is_logged(broker, client, handler, caplog):
    handler.error = ValueError("bad input")
    await client.send("inbox", "x")
    async with consuming(client, handler):
        await broker.clock.advance(0)
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "failed on message 0" in record.message
    assert record.exc_info[1] is handler.error


async def test_an_error_handler_that_raises_is_logged_and_harms_nothing(
    broker, client, handler, caplog
):
    handler.error = ValueError("bad input")
    await client.send("inbox", "x")

    async def tell(message, error):
        raise RuntimeError("cannot tell")

    async with consuming(client, handler, error_handler=tell) as consumer:
        await broker.clock.advance(0.9)
        handler.error = None
        await broker.clock.advance(0.2)
        assert consumer.processed_count == 1
    assert "the error handler of" in caplog.text
    assert "cannot tell" in caplog.text
    assert "bad input" in caplog.text
    assert handler.counts == [1, 2]


async def test_a_message_that_keeps_failing_is_moved_as_it_was_with_the_reason(
    broker, client, dead
):
    tags = tuple(f"t{number}".ljust(256, "x") for number in range(64))  # as many as may be
    await client.send(
        "inbox",
        b"\xff\x00",
        priority="urgent",
        tags=tags,
        sender="someone",
        reply_to="asker",
        correlation_id="c1",
        path=["p", "q"],
        key="k",
    )
    payloads = []

    async def handle(message):
        payloads.append(message.payload)
        raise ValueError("no, not\nthis, " + "ever " * 100)

    async with consuming(client, handle, max_deliveries=3, dead_letter=dead) as consumer:
        await broker.clock.advance(60)
        assert len(payloads) == consumer.failed_count == 3
    [moved] = await client.query(dead)
    assert (moved.payload, moved.priority, moved.key) == (b"\xff\x00", "urgent", None)
    assert (moved.sender, moved.reply_to, moved.correlation_id) == ("someone", "asker", "c1")
    assert (moved.path, moved.tags) == (("p", "q"), tags)
    assert (moved.moved.mailbox, moved.moved.group, moved.moved.msg_id) == ("inbox", "g", 0)
    assert moved.moved.reason.startswith("ValueError: no, not\nthis, ever")
    assert moved.moved.deliveries == 3
    assert await count_moved(client) == 1


@pytest.mark.parametrize(
    ("error", "tries", "reason"),
    [
        *((ValueError(text), 3, "ValueError: .*") for text in ("long " * 10_000, "\ud800", "")),
        (ValueError("\0"), 3, "ValueError: .*"),
        (Retry("still busy", after=1), 3, "Retry: still busy"),
        (Reject("no such customer"), 1, "no such customer"),
        (Reject, 1, "rejected by its handler"),
    ],
)
async def test_whatever_a_handler_raises_is_a_reason_to_move(
    broker, client, handler, dead, error, tries, reason
):
    errors = []
    handler.error = error
    await client.send("inbox", "x")
    async with consuming(
        client,
        handler,
        max_deliveries=3,
        dead_letter=dead,
        error_handler=lambda _, error: errors.append(error),
    ) as consumer:
        await broker.clock.advance(600)
    [moved] = await client.query(dead)
    assert re.fullmatch(reason, moved.moved.reason, re.DOTALL)
    assert len(moved.moved.reason) <= 1_024
    assert handler.counts == list(range(1, tries + 1))
    assert await count_moved(client) == 1
    assert consumer.counters.rejected == (tries == 1)
    assert errors == ([error] * 3 if isinstance(error, ValueError) else [])
    assert consumer.failed_count == len(errors)


async def test_a_move_that_was_made_and_thought_to_have_failed_is_not_made_again(broker, handler):
    handler.error = ValueError("no")
    async with (
        broker.client(reconnect_attempts=0) as first,
        broker.client() as second,
    ):
        await first.mailbox_create(name="inbox")
        await first.mailbox_create(name="dead")
        await first.send("inbox", "x")
        broker.lose_next_reply("MSG.MOVE")
        options = {"max_deliveries": 1, "dead_letter": "dead", "max_retry_delay": 5}
        async with consuming(first, handler, **options):
            pass
        async with consuming(second, handler, **options):
            await broker.clock.advance(10)
        assert (await second.mailbox_status("dead")).stored == 1
        assert await count_moved(second) == 1
        assert handler.counts == [1]


@pytest.mark.parametrize("why", [MailboxNotFound, MailboxFull])
async def test_while_the_dead_letter_mailbox_is_missing_or_full_the_message_stays(handler, why):
    errors = []
    handler.error = ValueError("no")

    async def tell(_message, error):
        errors.append(type(error))

    with FakeBroker(limits=Limits(max_messages=2)) as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            if why is MailboxFull:
                await client.mailbox_create(name="dead")
                await send_all(client, "dead", "1", "2")
            await client.send("inbox", "x")
            options = {"max_deliveries": 2, "dead_letter": "dead", "max_retry_delay": 10}
            async with consuming(client, handler, error_handler=tell, **options):
                await broker.clock.advance(40)
                assert handler.counts == [1, 2]
                assert errors[:3] == [ValueError, ValueError, why]
                assert set(errors[3:]) == {why}
                assert len(errors) > 4
                assert await acked(client) == 0
                if why is MailboxFull:
                    await client.delete("dead", 0)
                else:
                    await client.mailbox_create(name="dead")
                await broker.clock.advance(10)
                moved = (await client.query("dead"))[-1]
                assert (moved.text, moved.moved.msg_id) == ("x", 0)
                assert handler.counts == [1, 2]
                assert await count_moved(client) == 1


async def test_a_message_that_kills_its_worker_is_moved_before_it_kills_again(
    broker, client, handler
):
    """A worker that dies neither acks nor gives back: it is the leases that run out."""
    await client.mailbox_create(name="dead")
    await client.send("inbox", "poison")
    for _ in range(3):
        async with broker.client() as victim:
            await victim.fetch("inbox", group_name="g", deliver="earliest", lease_ms=1_000)
        await broker.clock.advance(1)
    async with consuming(client, handler, max_deliveries=3, dead_letter="dead"):
        await broker.clock.advance(1)
    assert handler.texts == []
    [moved] = await client.query("dead")
    assert moved.moved.reason == "delivered 3 times and never acked"
    assert await count_moved(client) == 1


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("answer", ["text", b"bytes", {"a": 1}, [1, 2]])
async def test_what_a_handler_returns_is_the_answer(client, answer, plain):
    async def handle(_message):
        return answer

    async with consuming(client, (lambda _: answer) if plain else handle) as consumer:
        received = await client.request("inbox", "q")
    assert (received.json() if isinstance(answer, (dict, list)) else received.payload) == (
        answer.encode() if isinstance(answer, str) else answer
    )
    assert consumer.processed_count == 1


async def test_none_and_what_reply_returns_and_what_nobody_asked_for_are_no_answers(
    broker, client, caplog
):
    await client.mailbox_create(name="asker")

    async def handle(message):
        match message.text:
            case "replied":
                return await client.reply(message, "by itself")
            case "unasked":
                return "nobody asked"
        return None

    for text in ("replied", "ignored"):
        await client.send("inbox", text, reply_to="asker")
    await client.send("inbox", "unasked")
    async with consuming(client, handle) as consumer:
        await broker.clock.advance(1)
        assert (consumer.processed_count, consumer.failed_count) == (3, 0)
    assert [message.text for message in await client.query("asker")] == ["by itself"]
    assert await acked(client) == 3
    assert caplog.records == []


async def test_an_answer_that_cannot_be_sent_is_a_failure(broker, client, handler):
    errors = []
    await client.mailbox_create(name="asker")
    await client.send("inbox", "x", reply_to="asker")

    async def handle(message):
        return {"not": "JSON" if errors else object()}

    async with consuming(
        client, handle, error_handler=lambda _, error: errors.append(error)
    ) as consumer:
        await until(lambda: errors)
        await broker.clock.advance(1)
        assert (consumer.processed_count, consumer.failed_count) == (1, 1)
    assert isinstance(errors[0], InvalidRequest)
    assert [message.json() for message in await client.query("asker")] == [{"not": "JSON"}]


async def test_a_handler_that_is_run_again_answers_once(broker, client):
    await client.mailbox_create(name="asker")
    await client.send("inbox", "x", reply_to="asker")

    async def handle(message):
        await client.reply(message, f"in delivery {message.delivery_count}")
        if message.delivery_count < 3:
            raise ValueError("after the answer")

    async with consuming(client, handle) as consumer:
        await broker.clock.advance(10)
        assert (consumer.processed_count, consumer.failed_count) == (1, 2)
    assert [message.text for message in await client.query("asker")] == ["in delivery 1"]


async def ask_and_leave(client, text="q", timeout=30):
    """Ask a question as somebody who does not wait for the answer."""
    asking = asyncio.create_task(client.request("inbox", text, timeout=timeout))
    await client.clock.advance(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("returns", [True, False])
async def test_a_question_whose_asker_has_left_is_handled_once(broker, client, returns, caplog):
    caplog.set_level(logging.INFO)
    handled, errors = [], []
    for number in range(3):
        await ask_and_leave(client, f"{number}")

    async def handle(message):
        handled.append(message.text)
        if returns:
            return "too late"
        await client.reply(message, "too late")
        return None

    async with consuming(
        client, handle, error_handler=lambda _, error: errors.append(error)
    ) as consumer:
        await broker.clock.advance(3_600)
        assert handled == ["0", "1", "2"]
        assert (consumer.counters.unanswered, consumer.failed_count, errors) == (3, 0, [])
    assert await acked(client) == 0  # they have expired since
    [told] = [one for one in caplog.records if "unanswered" in one.message]
    assert told.levelno == logging.INFO


async def test_a_question_whose_asker_has_left_is_acked(broker, client):
    await ask_and_leave(client)
    async with consuming(client, lambda _: "too late", auto_ack=False) as consumer:
        await until(lambda: consumer.counters.unanswered == 1)
        await broker.clock.advance(0)
        assert await acked(client) == 1


async def test_another_mailbox_that_is_missing_is_still_a_failure(broker, client, handler):
    handler.error = MailboxNotFound("mailbox not found: elsewhere does not exist")
    await ask_and_leave(client)
    async with consuming(client, handler) as consumer:
        await broker.clock.advance(1)
        assert (consumer.failed_count, consumer.counters.unanswered) == (2, 0)


async def test_without_a_dead_letter_mailbox_a_rejected_message_is_acked_and_reported(
    broker, client, handler
):
    errors = []

    async def tell(message, error):
        errors.append((message.text, error))

    handler.error = Reject("no such customer")
    await client.send("inbox", "x")
    async with consuming(client, handler, auto_ack=False, error_handler=tell):
        await broker.clock.advance(600)
    assert errors == [("x", handler.error)]
    assert handler.counts == [1]
    assert await acked(client) == 1


async def test_a_handler_may_say_when_to_be_run_again_else_it_is_as_after_an_error(
    broker, client, caplog
):
    instants = []
    errors = [Retry("busy", after=0.25), Retry("busy", after=90), Retry()]

    async def handle(_message):
        instants.append(broker.clock.now_ms())
        if errors:
            raise errors.pop(0)

    await client.send("inbox", "x")
    async with consuming(client, handle, retry_delay=2) as consumer:
        await broker.clock.advance(100)
        assert (consumer.processed_count, consumer.failed_count) == (1, 0)
    assert [later - earlier for earlier, later in pairwise(instants)] == [250, 90_000, 8_000]
    assert caplog.records == []


@pytest.mark.parametrize("after", [-1, 86_401, float("nan"), "1", True])
def test_a_delay_that_cannot_be_is_refused(after):
    with pytest.raises(InvalidRequest, match=r"after: .*seconds|after: .* s is not"):
        Retry(after=after)


async def test_stopping_finishes_what_runs_and_leases_nothing_more(broker, client, handler):
    handler.free.clear()
    await send_all(client, "inbox", *map(str, range(3)))
    async with consuming(client, handler, stop_timeout=1_000) as consumer:
        stopping = [asyncio.create_task(consumer.stop()) for _ in range(2)]
        await broker.clock.advance(100)  # far beyond its lease
        assert not any(task.done() for task in stopping)
        assert consumer.is_running
        assert await held(client) == 1
        handler.free.set()
        await asyncio.gather(*stopping)
        await consumer.stop()
        assert not consumer.is_running
    assert "stopped" in repr(consumer)
    assert handler.texts == ["0"]
    assert await acked(client) == 1
    await client.send("inbox", "later")
    await broker.clock.advance(100)
    assert handler.texts == ["0"]
    assert await held(client) == 0


async def test_stopping_wakes_a_consumer_that_waits(client, handler):
    async with consuming(client, handler, max_wait_ms=60_000) as consumer:
        await consumer.stop()  # the clock stands still
        assert not consumer.is_running


async def test_stopping_at_any_turn_loses_nothing(broker, client):
    handled = []

    async def handle(message):
        handled.append(message.text)

    for number in range(60):
        consumer = await client.consume("inbox", handle, group_name="g", deliver="earliest")
        for _ in range(number % 6):
            await asyncio.sleep(0)
        sending = asyncio.create_task(client.send("inbox", f"{number}"))
        for _ in range(number // 6):
            await asyncio.sleep(0)
        await consumer.stop()
        await sending
        assert await held(client) == 0
    async with consuming(client, handle):
        await broker.clock.advance(1)
    assert sorted(map(int, handled)) == list(range(60))


async def test_without_auto_ack_it_is_the_handlers_to_ack(broker, client):
    counts = []

    async def handle(message):
        counts.append((message.text, message.delivery_count))
        if message.text == "acked":
            await client.ack("inbox", "g", message.msg_id)

    await send_all(client, "inbox", "acked", "forgotten")
    async with consuming(client, handle, auto_ack=False, concurrency=2, lease_ms=5_000):
        await broker.clock.advance(4.9)
        assert counts == [("acked", 1), ("forgotten", 1)]
        assert await acked(client) == 1
        await broker.clock.advance(0.1)
        assert counts[2:] == [("forgotten", 2)]


async def test_an_ack_that_fails_is_reported_and_the_message_comes_again(broker, client):
    handled, errors = [], []

    async def handle(message):
        handled.append(message.delivery_count)
        if len(handled) == 1:
            for _ in range(6):
                broker.lose_next_reply("MSG.ACK")

    async def tell(message, error):
        errors.append(str(error))

    await client.send("inbox", "x")
    async with consuming(client, handle, error_handler=tell) as consumer:
        await broker.clock.advance(60)
        assert handled == [1]  # it had been carried out, only the reply was lost
        assert len(errors) == 1
        assert "the outcome is unknown" in errors[0]
        assert consumer.processed_count == 1


@pytest.mark.parametrize("is_idle", [True, False])
async def test_when_its_client_is_closed_what_runs_is_finished_and_acked(
    broker, client, handler, is_idle
):
    handler.free.clear()
    own = broker.client()
    consumer = await own.consume(
        "inbox", handler, group_name="g", deliver="earliest", lease_ms=3_000, max_wait_ms=60_000
    )
    if not is_idle:
        await client.send("inbox", "x")
    waiting = asyncio.create_task(consumer.wait())
    await broker.clock.advance(0)
    closing = asyncio.create_task(own.close())
    await broker.clock.advance(10)
    assert consumer.is_running == (not is_idle)
    assert closing.done() == waiting.done() == is_idle
    handler.free.set()
    await closing
    await waiting
    await consumer.stop()
    assert consumer.processed_count == (not is_idle)
    assert not own.is_connected
    await client.send("inbox", "nobody is there")
    await broker.clock.advance(1)
    assert handler.texts == ([] if is_idle else ["x"])
    assert await held(client) == 0
    assert await acked(client) == (not is_idle)


async def test_a_handler_may_stop_its_own_consumer(broker, client):
    handled = []

    async def handle(message):
        handled.append(message.text)
        await consumer.stop()

    await send_all(client, "inbox", *"012")
    consumer = await client.consume("inbox", handle, group_name="g", deliver="earliest")
    await broker.clock.advance(1)
    assert not consumer.is_running
    assert handled == ["0"]
    assert await acked(client) == 1


async def test_a_handler_that_raises_a_cancellation_has_failed(broker, client):
    async def handle(_message):
        raise asyncio.CancelledError

    errors = []
    await client.send("inbox", "x")
    async with consuming(client, handle, error_handler=lambda _, error: errors.append(str(error))):
        await broker.clock.advance(0)
        await until(lambda: errors)
    assert errors[0] == "the handler raised CancelledError()"


async def test_a_long_retry_delay_does_not_delay_the_next_fetch(broker, client, handler, caplog):
    async with (
        broker.client(reconnect_attempts=0) as own,
        consuming(own, handler, retry_delay=3_600, max_retry_delay=3_600),
    ):
        await broker.clock.advance(0)
        await broker.restart()
        await broker.clock.advance(0)
        assert "could not fetch, trying again in 1 s" in caplog.text
        await client.send("inbox", "x")
        await broker.clock.advance(5)
        assert handler.texts == ["x"]


async def test_a_consumer_outlives_its_broker(broker, client, handler):
    await client.send("inbox", "before")
    async with consuming(client, handler):
        await broker.restart()
        await client.send("inbox", "after")
        await broker.clock.advance(5)
        handler.free.clear()
        await client.send("inbox", "during")
        await broker.clock.advance(0)
        await broker.restart()
        handler.free.set()
        await broker.clock.advance(5)
        assert handler.texts == ["before", "after", "during"]
        assert handler.counts == [1, 1, 1]
    assert await acked(client) == 3


@pytest.mark.parametrize(
    ("fault", "texts"),
    [(FakeBroker.crash_after_next_fetch, ["x"]), (FakeBroker.duplicate_next_delivery, ["x", "x"])],
)
async def test_a_fetch_whose_reply_was_lost_or_came_twice_strands_nothing(
    broker, client, handler, fault, texts
):
    async with consuming(client, handler):
        fault(broker)
        await client.send("inbox", "x")
        await broker.clock.advance(5)
    assert handler.texts == texts
    assert await acked(client) == 1


async def test_a_mailbox_made_anew_is_consumed_from_its_beginning(broker, client, handler, caplog):
    async with consuming(client, handler, deliver="latest"):
        await client.mailbox_drop("inbox")
        await broker.clock.advance(10)
        assert "could not fetch" in caplog.text
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "sent before the consumer has noticed")
        await broker.clock.advance(60)
        assert handler.texts == ["sent before the consumer has noticed"]


async def test_an_old_message_of_that_id_may_still_run_when_a_mailbox_is_made_anew(
    broker, client, handler
):
    handler.free.clear()
    await client.send("inbox", "old")
    async with consuming(client, handler, concurrency=2) as consumer:
        await client.mailbox_drop("inbox")
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "new")
        await broker.clock.advance(10)
        assert handler.texts == ["old", "new"]
        await client.send("inbox", "third")
        await broker.clock.advance(10)
        assert handler.texts == ["old", "new"]  # both slots are taken
        handler.free.set()
        await broker.clock.advance(10)
        assert handler.texts == ["old", "new", "third"]
        assert consumer.processed_count == 3
    assert await acked(client) == 2
    assert handler.most_at_once == 2


async def test_without_a_mailbox_or_a_connection_nothing_is_consumed(broker, client, handler):
    with pytest.raises(MailboxNotFound):
        await client.consume("nowhere", handler)
    closed = broker.client()
    await closed.close()
    with pytest.raises(NotConnected):
        await closed.consume("inbox", handler)


@pytest.mark.parametrize(
    "options",
    [
        {"deliver": "from_id"},
        {"dead_letter": "inbox"},
        {"max_retry_delay": 86_401},
        {"handler_timeout": 0},
        {"handler_timeout": "5"},
        {"stop_timeout": -1},
        {"stop_timeout": float("inf")},
        {"agent": " ada"},
        {"agent": 1},
        {"consumer": "a\nb"},
        {"consumer": "c" * 257},
        {"on_event": "tell"},
        {"on_event": Handler().__call__},
    ],
)
async def test_an_argument_that_cannot_be_is_refused(client, handler, options):
    """Arguments that any way refuses alike are in tests/contract/test_bad_input.py."""
    with pytest.raises(InvalidRequest) as caught:
        await client.consume("inbox", handler, **options)
    [(name, value)] = options.items()
    assert name in str(caught.value) or repr(value) in str(caught.value)


@pytest.mark.parametrize(("auto_ack", "lease_s"), [(True, 15), (False, 60)])
async def test_a_message_stays_with_who_works_on_it_and_comes_soon_to_others(
    broker, client, handler, auto_ack, lease_s
):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler, auto_ack=auto_ack):
        status = await client.mailbox_status("inbox", group_name="g")
        assert status.group.leased[0].until == client.clock.now_ms() / 1000 + lease_s
        await broker.clock.advance(600)
        assert await held(client) == 1
        handler.free.set()


async def test_what_is_to_be_acked_later_stays_leased_for_a_whole_lease(broker, client, handler):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler, auto_ack=False):
        await broker.clock.advance(39)
        handler.free.set()
        await broker.clock.advance(59)
        assert await held(client) == 1
        await broker.clock.advance(1)
        assert handler.counts == [1, 2]


@pytest.mark.parametrize("max_wait_ms", [0, 1, 20])
async def test_fetches_that_do_not_wait_are_paced(broker, client, handler, max_wait_ms):
    fetches = 0
    fetch = client.fetch

    async def counted(*args, **options):
        nonlocal fetches
        fetches += 1
        return await fetch(*args, **options)

    client.fetch = counted
    async with consuming(client, handler, max_wait_ms=max_wait_ms):
        before = fetches
        for _ in range(100):
            await broker.clock.advance(0.1)
        assert 90 <= fetches - before <= 110
        await client.send("inbox", "x")
        await broker.clock.advance(0.1)
        assert handler.texts == ["x"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_handler_that_takes_its_slot_back_makes_no_fetch_of_nothing(
    broker, client, caplog, turns
):
    """The slot is free for some turns of the event loop, and then for none."""

    async def handle(_message):
        for _ in range(3):
            with without_slot():
                for _ in range(turns):
                    await asyncio.sleep(0)
            await asyncio.sleep(0)

    await client.send("inbox", "x")
    async with consuming(client, handle, concurrency=1):
        await broker.clock.advance(1)
    assert "could not fetch" not in caplog.text
