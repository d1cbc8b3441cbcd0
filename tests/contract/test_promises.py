"""Until when an answer is wanted, what its holder promises, and why a message was given back."""

import pytest

from mq9 import InvalidRequest, Promise

from .reading import START

SOON = int(START) + 60


async def standing(client, inbox, msg_id=0):
    """Where a message stands with the group g, as QUERY and STATUS alike tell it."""
    [found] = await client.query(inbox, msg_id=msg_id, group_name="g")
    status = await client.mailbox_status(inbox, msg_id=msg_id)
    [told] = status.message.groups
    assert (told.reason, told.promise) == (found.standing.reason, found.standing.promise)
    return told


async def test_every_reader_sees_until_when_an_answer_is_wanted(client, inbox):
    options = {"sender": "asker", "correlation_id": "q", "answer_by": SOON - 0.5}
    await client.send(inbox, "a", **options)
    await client.send(inbox, "b", delay=5, **options)

    [given] = await client.fetch(inbox, group_name="g")
    [seen] = await client.fetch(inbox)
    [found] = await client.query(inbox)
    status = await client.mailbox_status(inbox, msg_id=0)
    page = await client.sent(sender="asker", correlation_ids=["q"])
    told = [given, seen, found, status.message, *page.sent]
    assert [one.answer_by for one in told] == [SOON] * 6
    assert not any(one.overdue for one in (given, seen, found))


async def test_a_delayed_message_and_its_dead_letter_keep_it(client, way, inbox):
    await client.mailbox_create(name="dead")
    await client.send(inbox, "a", delay=5, answer_by=SOON)
    await way.clock.advance(5)
    [given] = await client.fetch(inbox, group_name="g")
    await given.move("dead")

    [letter] = await client.fetch("dead")
    assert (given.answer_by, letter.answer_by) == (SOON, SOON)


async def test_a_promise_is_shown_beside_the_lease(way, inbox):
    one, two = await way.client(), await way.client()
    for body in "ab":
        await one.send(inbox, body, sender="asker", correlation_id=body, reply_to=inbox)
    first, _ = await one.fetch(inbox, group_name="g")

    await first.promise(SOON - 0.5, "half of it")

    promised = Promise(until=SOON, done="half of it", by=one.consumer)
    assert (await standing(two, inbox)).promise == promised
    assert (await standing(two, inbox, 1)).promise is None
    page = await two.sent(sender="asker", correlation_ids=["a", "b"])
    assert [sent.promise for sent in page.sent] == [None, Promise(until=SOON, done="half of it")]
    # To renew a lease says nothing of the promise.
    await first.extend(lease=30)
    assert (await standing(two, inbox)).promise == promised
    await one.extend(inbox, "g", [0, 1], promise=Promise(until=SOON + 1))
    assert (await standing(two, inbox)).promise == Promise(until=SOON + 1, by=one.consumer)


async def test_a_promise_outlives_its_lease_until_somebody_else_promises(way, inbox):
    dead, other = await way.client(), await way.client()
    await dead.send(inbox, "a")
    [given] = await dead.fetch(inbox, group_name="g", lease_ms=5_000)
    await given.promise(SOON, "a line", lease=5)
    await way.clock.advance(6)

    told = await standing(other, inbox)
    assert (told.state, told.promise.by) == ("pending", dead.consumer)
    [again] = await other.fetch(inbox, group_name="g")
    assert (await standing(other, inbox)).promise.by == dead.consumer
    assert (await given.promise(SOON + 9)).lost == (0,)
    assert (await standing(other, inbox)).promise.until == SOON
    await again.promise(SOON + 5)
    assert (await standing(other, inbox)).promise == Promise(until=SOON + 5, by=other.consumer)


@pytest.mark.parametrize("end", ["nack", "ack", "move", "reset"])
async def test_a_promise_ends_with_what_was_taken_on(client, inbox, end):
    await client.mailbox_create(name="elsewhere")
    await client.send(inbox, "a", answer_by=SOON)
    [given] = await client.fetch(inbox, group_name="g")
    await given.promise(SOON)

    if end == "move":
        await given.move("elsewhere")
    elif end == "reset":
        await client.fetch(inbox, group_name="g", force_deliver=True)
    else:
        await getattr(given, end)()

    assert (await standing(client, inbox)).promise is None


async def test_why_a_message_was_given_back_is_shown_until_it_is_acked(client, inbox):
    await client.send(inbox, "a")
    [given] = await client.fetch(inbox, group_name="g")
    await given.nack(delay=60, reason="the oven is cold")
    told = await standing(client, inbox)
    assert (told.state, told.reason) == ("given_back", "the oven is cold")

    await client.nack(inbox, "g", 0)  # it was given back before
    assert (await standing(client, inbox)).reason == "the oven is cold"
    await client.fetch(inbox, group_name="g", force_deliver=True)
    await client.nack(inbox, "g", 0, reason="no gas")
    [again] = await client.fetch(inbox, group_name="g")
    told = await standing(client, inbox)
    assert (told.state, told.reason) == ("leased", "no gas")
    await again.nack()
    assert (await standing(client, inbox)).reason is None
    [last] = await client.fetch(inbox, group_name="g")
    await last.nack(reason="x" * 1_024)
    [last] = await client.fetch(inbox, group_name="g")
    await last.ack()
    told = await standing(client, inbox)
    assert (told.state, told.reason) == ("acked", None)


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("NACK", {"msg_id": 0, "reason": "x" * 1_025}),
        ("EXTEND", {"msg_ids": [0], "promise": "tomorrow"}),
        ("EXTEND", {"msg_ids": [0], "promise": {"done": "all"}}),
        ("EXTEND", {"msg_ids": [0], "promise": {"until": "noon"}}),
        ("EXTEND", {"msg_ids": [0], "promise": {"until": 1, "done": "x" * 1_025}}),
    ],
)
async def test_what_is_no_promise_or_reason_is_refused(way, client, inbox, verb, fields):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", consumer="c")
    reply = await way.ask(f"MSG.{verb}.{inbox}", {"group_name": "g", "consumer": "c", **fields})
    assert reply["code"] == "invalid_request"
    assert reply["error"].startswith(("promise", "reason"))


async def test_who_promises_is_told_by_the_broker(way, client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", consumer="c")
    promise = {"until": SOON, "by": "somebody", "more": 1}
    fields = {"group_name": "g", "consumer": "c", "msg_ids": [0], "promise": promise}
    assert (await way.ask(f"MSG.EXTEND.{inbox}", fields))["extended"] == [0]
    assert (await standing(client, inbox)).promise == Promise(until=SOON, by="c")


async def test_an_instant_is_in_unix_seconds(client, inbox):
    for wrong in (-1, 1e12, "noon", True):
        with pytest.raises(InvalidRequest, match="answer_by"):
            await client.send(inbox, "a", answer_by=wrong)
