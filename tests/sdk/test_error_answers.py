"""The shape of error answers: written, read, and told from other messages."""

import pytest

from mq9 import Message, MessageHeaders, RequestFailed
from mq9.client.error_answers import ErrorAnswer, Failure, reference_of, send_error_answer


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


def test_headers_are_read_whatever_their_case():
    message = Message(
        msg_id=0,
        payload=b'{"type":"error","code":"failed","reason":"","reference":""}',
        create_time=0,
        headers=MessageHeaders({"Error": "failed"}),
    )
    assert ErrorAnswer.read(message) is not None
