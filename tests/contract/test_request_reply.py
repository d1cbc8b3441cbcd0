"""Asking a question and getting its answer."""

import asyncio

import pytest

from mq9 import (
    IdConflict,
    InvalidRequest,
    MailboxNotFound,
    NoReply,
    ReplyMailboxNotFound,
    RequestFailed,
)
from mq9.client.error_answers import ErrorAnswer, Failure, reference_of, send_error_answer

from .parsing import only_read
from .reading import START


async def _question(client, inbox):
    [question] = await client.fetch(inbox, group_name="answerers", deliver="earliest")
    return question


async def test_the_answer_to_a_question_comes_back(way, client, inbox):
    answerer = await way.client()
    asking = await way.begin(client.request(inbox, {"q": 1}, sender="ada", priority="urgent"))
    question = await _question(answerer, inbox)
    assert (question.json(), question.sender, question.priority) == ({"q": 1}, "ada", "urgent")

    await answerer.reply(question, "42", sender="bob")
    await way.clock.advance(0)

    answer = await asking
    assert (answer.text, answer.sender) == ("42", "bob")
    assert answer.correlation_id == question.correlation_id


async def test_answers_find_their_questions_in_any_order(way, client, inbox):
    asking = [await way.begin(client.request(inbox, str(number))) for number in range(5)]
    questions = await client.fetch(inbox, group_name="answerers", deliver="earliest")

    for question in reversed(questions):
        await client.reply(question, f"re {question.text}")
    await way.clock.advance(0)

    assert [(await task).text for task in asking] == [f"re {number}" for number in range(5)]


async def test_what_answers_another_question_is_passed_over(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q"))
    question = await _question(client, inbox)
    await client.send(question.reply_to, "spam", priority="critical")
    await client.send(question.reply_to, "other", correlation_id="another")
    await way.clock.advance(1)
    assert not asking.done()

    await client.reply(question, "answer")
    await way.clock.advance(0)

    assert (await asking).text == "answer"


async def test_no_answer_in_time_says_so_exactly_then(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q", timeout=90))
    await way.clock.advance(89.999)
    assert not asking.done()
    await way.clock.advance(0.001)

    with pytest.raises(NoReply, match="inbox"):
        await asking


@pytest.mark.parametrize(("given", "seen"), [(None, START + 91), (START + 5.5, START + 6)])
async def test_a_question_says_until_when_it_wants_an_answer(way, client, inbox, given, seen):
    asking = await way.begin(client.request(inbox, "q", timeout=90.5, answer_by=given))
    [question] = await client.fetch(inbox)
    assert question.answer_by == seen
    await client.reply(question, "a")
    await way.clock.advance(0)
    assert (await asking).text == "a"


async def test_an_answer_in_the_last_instant_counts(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q", timeout=30))
    question = await _question(client, inbox)
    await client.send(question.reply_to, "just", correlation_id=question.correlation_id, delay=30)
    await way.clock.advance(30)

    assert (await asking).text == "just"


async def test_a_mailbox_that_is_made_a_little_later_is_asked_then(way, client):
    asking = await way.begin(client.request("late", "q", timeout=30))
    await way.clock.advance(5)
    await client.mailbox_create(name="late")
    await way.clock.advance(1)
    question = await _question(client, "late")
    await way.clock.advance(20)
    await client.reply(question, "a")

    assert (await asking).text == "a"


@pytest.mark.parametrize(("timeout", "waited"), [(30, 10), (2, 2)])
async def test_a_mailbox_that_nobody_makes_is_waited_for_and_the_error_says_how_to(
    way, client, timeout, waited
):
    asking = await way.begin(client.request("late", "q", timeout=timeout))
    await way.clock.advance(waited - 0.001)
    assert not asking.done()
    await way.clock.advance(0.001)

    told = f"does not exist, after {waited} s$"
    with pytest.raises(MailboxNotFound, match=told):
        await asking


async def test_what_is_left_of_the_timeout_is_for_the_answer(way, client):
    asking = await way.begin(client.request("late", "q", timeout=8))
    await way.clock.advance(5)
    await client.mailbox_create(name="late")
    await way.clock.advance(2.999)
    assert not asking.done()
    await way.clock.advance(0.001)

    with pytest.raises(NoReply):
        await asking


@pytest.mark.parametrize("end", ["answered", "unanswered", "cancelled", "nobody there"])
async def test_the_reply_mailbox_is_gone_afterwards(way, client, inbox, end):
    if end == "nobody there":
        asking = await way.begin(client.request("nowhere", "q"))
        await way.clock.advance(10)
        with pytest.raises(MailboxNotFound, match="nowhere"):
            await asking
    else:
        asking = await way.begin(client.request(inbox, "q", timeout=10))
        question = await _question(client, inbox)
        if end == "answered":
            await client.reply(question, "a")
        elif end == "cancelled":
            asking.cancel()
        await way.clock.advance(10)
        async with asyncio.timeout(30):
            await asyncio.gather(asking, return_exceptions=True)
        with pytest.raises(MailboxNotFound):
            await client.send(question.reply_to, "too late")

    assert len(way.state()["mailboxes"]) == 1


async def test_a_question_expires_with_its_reply_mailbox_which_nobody_can_guess(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q", timeout=30))
    [question] = await client.query(inbox)
    assert len(question.reply_to) >= 26
    assert await client.mailbox_list() == []
    lifetime = (await client.mailbox_status(question.reply_to)).ttl
    assert 30 <= lifetime <= 300
    await way.clock.advance(lifetime - 0.001)
    assert (await client.query(inbox)) == [question]
    await way.clock.advance(0.001)
    assert await client.query(inbox) == []
    with pytest.raises(NoReply):
        await asking


@only_read
async def test_a_message_that_does_not_say_where_cannot_be_answered(client, inbox):
    await client.send(inbox, "x", correlation_id="q")
    [message] = await client.query(inbox)

    with pytest.raises(InvalidRequest, match="reply_to"):
        await client.reply(message, "a")


async def test_an_answer_to_nobody_says_that_nobody_waits(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q", timeout=10))
    question = await _question(client, inbox)
    await way.clock.advance(10)
    asking.exception()

    with pytest.raises(ReplyMailboxNotFound, match=question.reply_to):
        await client.reply(question, "too late")


async def _answers(client):
    return [message.text for message in await client.query("asker")]


async def _asked(client, inbox, group_name="g"):
    """A question in a mailbox, as a group got it, whose asker keeps all answers."""
    await client.mailbox_create(name="asker", renew=True)
    await client.send(inbox, "q", reply_to="asker", correlation_id="c")
    [question] = await client.fetch(inbox, group_name=group_name, deliver="earliest")
    return question


@pytest.mark.parametrize("again", ["the same", "another"])
async def test_a_redelivered_message_is_answered_once(way, client, inbox, again):
    question = await _asked(client, inbox)
    assert await client.reply(question, "the same") == 0
    await way.clock.advance(60)

    [redelivered] = await client.fetch(inbox, group_name="g", consumer="another")
    assert redelivered.delivery_count == 2
    assert await client.reply(redelivered, again) == (0 if again == "the same" else None)

    assert await _answers(client) == ["the same"]


async def test_a_second_answer_in_one_delivery_needs_an_id(client, inbox):
    question = await _asked(client, inbox)
    await client.reply(question, "first")
    with pytest.raises(IdConflict, match="an id of its own"):
        await client.reply(question, "second")
    for _ in range(2):
        await client.reply(question, "second", id="2")
    with pytest.raises(IdConflict):
        await client.reply(question, "third", id="2")

    assert await _answers(client) == ["first", "second"]


async def test_each_group_answers_for_itself_and_outside_groups_every_answer_is_sent(client, inbox):
    question = await _asked(client, inbox)
    [other] = await client.fetch(inbox, group_name="other", deliver="earliest")
    [outside] = await client.query(inbox)
    assert [one.group_name for one in (question, other, outside)] == ["g", "other", None]
    await client.reply(question, "I can")
    await client.reply(other, "so can I")
    for text in ("one", "two", "two"):
        await client.reply(outside, text)

    assert await _answers(client) == ["I can", "so can I", "one", "two", "two"]


async def test_equal_questions_are_answered_each(client, inbox):
    await client.mailbox_create(name="asker")
    for _ in range(2):
        await client.send(inbox, "q", reply_to="asker")
    for question in await client.fetch(inbox, group_name="g", deliver="earliest"):
        await client.reply(question, "a")

    assert await _answers(client) == ["a", "a"]


async def _give_up(client, question, reason="no such order"):
    failed = ErrorAnswer.of(question, Failure.REJECTED, reason)
    assert await send_error_answer(client, question, failed, sender="bob")


async def test_an_error_answer_ends_the_wait_at_once(way, client, inbox):
    asking = await way.begin(client.request(inbox, "q"))
    question = await _question(client, inbox)
    await _give_up(client, question)
    await way.clock.advance(0)

    with pytest.raises(RequestFailed, match=f"{inbox} rejected the request: no such order") as told:
        await asking
    assert (told.value.failure, told.value.reason) == ("rejected", "no such order")
    assert told.value.reference == reference_of(question)
