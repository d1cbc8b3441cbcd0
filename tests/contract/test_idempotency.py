"""Idempotency ids: the same send again is stored once and answers as it did the first time."""

import pytest

from mq9 import IdConflict

from .reading import bodies, send_all

DAY = 86_400


async def test_the_same_id_again_is_stored_once_and_answers_the_same(client, inbox):
    assert await client.send(inbox, "a", id="x") == 0
    assert await send_all(client, inbox, "b", "b") == [1, 2]
    assert await client.send(inbox, "a", id="x") == 0

    assert bodies(await client.query(inbox)) == ["a", "b", "b"]


async def test_another_body_is_a_conflict_and_stores_nothing(client, inbox):
    await client.send(inbox, "a", id="x")

    with pytest.raises(IdConflict, match="x"):
        await client.send(inbox, "b", id="x")
    assert bodies(await client.query(inbox)) == ["a"]


async def test_bodies_are_compared_and_other_headers_are_not(client, inbox):
    await client.send(inbox, "a", id="x", priority="critical")

    assert await client.send(inbox, "a", id="x", priority="normal", tags=["t"], delay=5) == 0

    [message] = await client.query(inbox)
    assert (message.priority, message.tags) == ("critical", ())
    assert (await client.mailbox_status(inbox)).delayed == 0


async def test_another_sender_and_another_mailbox_have_ids_of_their_own(client, inbox):
    other = await client.mailbox_create(name="other")
    for _ in range(2):
        assert await client.send(inbox, "a", id="x", sender="ada") == 0
        assert await client.send(inbox, "b", id="x", sender="bob") == 1
        assert await client.send(inbox, "c", id="x") == 2
        assert await client.send(other, "d", id="x") == 0


async def test_a_delayed_send_is_answered_minus_one_again_even_when_it_is_visible(
    way, client, inbox
):
    assert await client.send(inbox, "a", id="x", delay=10) == -1
    assert await client.send(inbox, "a", id="x", delay=10) == -1
    assert (await client.mailbox_status(inbox)).delayed == 1
    await way.clock.advance(10)

    assert await client.send(inbox, "a", id="x", delay=10) == -1
    assert await client.send(inbox, "a", id="x") == -1
    assert bodies(await client.query(inbox)) == ["a"]


@pytest.mark.parametrize("end", ["delete", "expire", "replace", "ack"])
async def test_the_first_answer_stands_when_the_message_is_gone(way, client, inbox, end):
    await client.send(inbox, "a", id="x", ttl=10, key="k")
    if end == "delete":
        await client.delete(inbox, 0)
    elif end == "expire":
        await way.clock.advance(10)
    elif end == "replace":
        await client.send(inbox, "b", key="k")
    else:
        await client.fetch(inbox, group_name="g", deliver="earliest")
        await client.ack(inbox, "g", 0)
    before = bodies(await client.query(inbox))

    assert await client.send(inbox, "a", id="x", ttl=10, key="k") == 0
    assert bodies(await client.query(inbox)) == before


async def test_an_id_is_remembered_for_seven_days_and_forgotten_some_time_later(way, client, inbox):
    await client.send(inbox, "a", id="x")
    for _ in range(7):
        await way.clock.advance(DAY - 1)
        assert await client.send(inbox, "a", id="x") == 0
    await way.clock.advance(DAY)

    assert await client.send(inbox, "new body", id="x") == 1


async def test_a_refused_send_leaves_its_id_free(client):
    with pytest.raises(Exception, match="mailbox not found"):
        await client.send("later.made", "a", id="x")
    await client.mailbox_create(name="later.made")

    assert await client.send("later.made", "b", id="x") == 0
