"""The shape of error answers: written, read, and told from other messages."""

import asyncio

import pytest

from mq9 import Message, Reject, RequestFailed, Retry
from mq9.client.error_answers import ErrorAnswer, Failure, reference_of, send_error_answer
from tests.sdk.consuming import consuming


@pytest.fixture
async def asked(client):
    await client.mailbox_create(name="asker")
    await client.send("inbox", "what?", reply_to="asker", correlation_id="q-1")
    [message] = await client.fetch("inbox", group_name="g", deliver="earliest")
    return message


async def test_an_error_answer_goes_to_the_asker_once_and_asks_for_nothing(client, asked):
    failed = ErrorAnswer.of(asked, Failure.REJECTED, "no such order")
    assert await send_error_answer(client, asked, failed, sender="shop")
    assert await send_error_answer(client, asked, failed, sender="shop")
    other = ErrorAnswer.of(asked, Failure.FAILED, "ValueError")
    assert not await send_error_answer(client, asked, other, sender="shop")

    [answer] = await client.query("asker")
    assert (answer.sender, answer.correlation_id, answer.reply_to) == ("shop", "q-1", None)
    assert answer.headers == {"error": "rejected"}
    assert answer.json() == {
        "type": "error",
        "code": "rejected",
        "reason": "no such order",
        "reference": reference_of(asked),
    }
    assert ErrorAnswer.read(answer) == failed


async def test_a_good_answer_has_its_own_id_beside_an_error_answer(client, asked):
    failed = ErrorAnswer.of(asked, Failure.FAILED, "ValueError")
    await send_error_answer(client, asked, failed, sender=None)
    await client.reply(asked, "42")

    assert [one.payload == b"42" for one in await client.query("asker")] == [False, True]


async def test_without_a_mailbox_to_answer_to_nothing_is_sent(client, asked):
    await client.mailbox_drop("asker")
    failed = ErrorAnswer.of(asked, Failure.FAILED, "ValueError")
    assert not await send_error_answer(client, asked, failed, sender=None)


def test_the_reference_is_that_of_all_deliveries(asked):
    assert reference_of(asked) == reference_of(Message(**_fields(asked, delivery_count=7)))
    assert reference_of(asked) != reference_of(Message(**_fields(asked, group_name="h")))
    assert len(reference_of(asked)) == 10


def _fields(message, **changed):
    names = ("msg_id", "payload", "create_time", "mail_address", "group_name")
    return {name: getattr(message, name) for name in names} | changed


ERROR = {"type": "error", "code": "failed", "reason": "ValueError", "reference": "5d1c09e3b2"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ERROR, {}),
        (b"error", {"error": "failed"}),
        ([ERROR], {"error": "failed"}),
        ({**ERROR, "type": "result"}, {"error": "failed"}),
        ({**ERROR, "reason": 7}, {"error": "failed"}),
        ({"type": "error"}, {"error": "failed"}),
    ],
)
async def test_another_message_is_no_error_answer(client, body, headers):
    await client.send("inbox", body, headers=headers)
    [message] = await client.query("inbox")
    assert ErrorAnswer.read(message) is None


async def test_a_code_of_tomorrow_and_more_fields_are_understood(client):
    body = {**ERROR, "code": "overworked", "retry": 5}
    await client.send("inbox", body, headers={"error": "overworked"})
    [message] = await client.query("inbox")
    failed = ErrorAnswer.read(message)
    assert failed is not None
    error = failed.as_error("shop")
    assert isinstance(error, RequestFailed)
    assert (error.failure, error.reason, error.reference, error.code) == (
        "overworked",
        "ValueError",
        "5d1c09e3b2",
        "request_failed",
    )


def test_what_others_wrote_stays_on_one_line_and_short():
    failed = ErrorAnswer(code="rejected", reason="no\n\x1b[31m" + "x" * 2_000, reference="r")
    text = str(failed.as_error(None))
    assert text.isprintable()
    assert len(text) < 400
    assert text.startswith("the agent that was asked rejected the request: no")


# What consumers answer


def raising(error):
    async def handle(message):
        raise error

    return handle


async def failed(asking):
    """The error that a request ends with, while time passes."""
    with pytest.raises(RequestFailed) as raised:
        await asking
    return raised.value


@pytest.mark.parametrize("dead_letter", [None, "dead"])
async def test_a_rejection_is_told_in_its_own_words(client, dead, dead_letter, caplog):
    handler = raising(Reject("order 12 does not exist"))
    async with consuming(client, handler, agent="shop", dead_letter=dead_letter):
        error = await failed(client.request("inbox", "q"))
    assert (error.failure, error.reason) == ("rejected", "order 12 does not exist")
    assert f"(reference {error.reference})" in caplog.text


async def test_a_failure_is_told_by_its_class_and_a_reference_alone(client, dead, caplog):
    secret = ValueError("password=hunter2")
    async with consuming(client, raising(secret), max_deliveries=1, dead_letter=dead):
        error = await failed(client.request("inbox", "q"))
    assert (error.failure, error.reason) == ("failed", "ValueError")
    assert "hunter2" not in str(error)
    references = [one.getMessage() for one in caplog.records if error.reference in one.getMessage()]
    assert len(references) == 2
    [letter] = await client.query(dead)
    assert "hunter2" in letter.moved.reason


async def test_what_is_tried_again_is_not_told_before_it_is_given_up(broker, client, dead):
    handler = raising(ValueError())
    async with consuming(client, handler, max_deliveries=2, retry_delay=20, dead_letter=dead):
        asking = asyncio.create_task(client.request("inbox", "q", timeout=60))
        await broker.clock.advance(19)
        assert not asking.done()
        await broker.clock.advance(2)
        assert (await failed(asking)).reason == "ValueError"


@pytest.mark.parametrize(("ttl", "told"), [(30, ("expired", "Retry")), (90, None)])
async def test_what_expires_before_the_next_try_is_told(broker, client, asker, ttl, told):
    await client.send("inbox", "q", ttl=ttl, reply_to=asker, correlation_id="q-1")
    async with consuming(client, raising(Retry(after=60))):
        await broker.clock.advance(1)
    read = [ErrorAnswer.read(answer) for answer in await client.query(asker)]
    assert [(one.code, one.reason) for one in read] == ([told] if told else [])


async def test_a_handler_that_answers_before_it_fails_has_answered(client, dead):
    async def handle(message):
        await message.reply("42")
        raise Reject("after all")

    async with consuming(client, handler=handle, dead_letter=dead):
        assert (await client.request("inbox", "q")).text == "42"
    assert await client.query(dead)


async def test_a_group_that_listens_stays_silent(broker, client, dead):
    async def answer(message):
        await asyncio.sleep(0)
        return "42"

    await client.mailbox_create(name="asker")
    async with (
        consuming(client, answer, group_name="workers"),
        consuming(client, raising(Reject("mine not")), group_name="audit"),
    ):
        await client.send("inbox", "q", reply_to="asker")
        await broker.clock.advance(1)
    assert [one.text for one in await client.query("asker")] == ["42"]


@pytest.mark.parametrize(
    ("group_name", "error_answers", "is_told"),
    [("inbox", None, True), ("g", None, False), ("g", True, True), ("inbox", False, False)],
)
async def test_beside_another_group_its_name_or_the_option_decides(
    broker, client, asker, group_name, error_answers, is_told
):
    await client.fetch("inbox", group_name="another", max_wait_ms=0)
    await client.send("inbox", "q", reply_to=asker)
    options = {"group_name": group_name, "error_answers": error_answers}
    async with consuming(client, raising(Reject()), **options):
        await broker.clock.advance(1)
    assert bool(await client.query(asker)) is is_told


async def test_beside_another_group_a_handler_that_has_answered_tells(broker, client):
    await client.fetch("inbox", group_name="another", max_wait_ms=0)

    async def handle(message):
        if message.text == "bad":
            raise Reject("bad")
        return "good"

    async with consuming(client, handle):
        assert (await client.request("inbox", "good")).text == "good"
        assert (await failed(client.request("inbox", "bad"))).reason == "bad"


async def test_who_has_lost_the_lease_tells_nothing(broker, client):
    """Another consumer has the message by then, and may answer it."""
    await client.mailbox_create(name="asker")
    await client.send("inbox", "q", reply_to="asker")
    begun, end = asyncio.Event(), asyncio.Event()

    async def handle(message):
        begun.set()
        await end.wait()
        raise Reject("too late")

    async with consuming(client, handle):
        await begun.wait()
        [message] = await client.query("inbox")
        await client.delete("inbox", message.msg_id)
        end.set()
        await broker.clock.advance(1)
    assert not await client.query("asker")


async def test_after_a_redrive_a_good_answer_comes_too(broker, client, dead):
    await client.mailbox_create(name="asker")
    await client.send("inbox", "q", reply_to="asker", correlation_id="q-1")
    async with consuming(client, raising(Reject("not yet")), dead_letter=dead):
        await broker.clock.advance(1)
    [letter] = await client.fetch(dead, group_name="mq9.redrive", max_wait_ms=0)
    await letter.move("inbox")

    async def answer(message):
        return "42"

    async with consuming(client, answer):
        await broker.clock.advance(1)
    told, good = await client.query("asker", correlation_id="q-1")
    assert ErrorAnswer.read(told).reason == "not yet"
    assert (good.text, ErrorAnswer.read(good)) == ("42", None)
