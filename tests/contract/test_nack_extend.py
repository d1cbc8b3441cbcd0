"""NACK gives a lease back, EXTEND keeps it."""

import pytest

from mq9 import Extended, InvalidRequest, MessageNotFound

from .reading import START, bodies, ids, send_all


async def test_nack_gives_a_message_to_whoever_asks_next_in_that_group(way, inbox):
    one, two = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b")
    for group in ("g", "h"):
        await one.fetch(inbox, group_name=group, deliver="earliest")
    await one.ack(inbox, "h", 1, individual=True)

    await one.nack(inbox, "g", 0)

    [again] = await two.fetch(inbox, group_name="g")
    assert (again.text, again.delivery_count) == ("a", 2)
    assert bodies(await one.fetch(inbox, group_name="g")) == ["b"]
    [held] = (await one.mailbox_status(inbox, group_name="h")).group.leased
    assert held.count == 1


async def test_nobody_gets_it_before_its_delay_is_over_not_even_the_old_holder(way, inbox):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "a")
    await one.fetch(inbox, group_name="g", deliver="earliest")

    await one.nack(inbox, "g", 0, delay_ms=5_000)

    await way.clock.advance(4.999)
    assert await one.fetch(inbox, group_name="g", max_wait_ms=0) == []
    assert await two.fetch(inbox, group_name="g", max_wait_ms=0) == []
    await way.clock.advance(0.001)
    assert bodies(await two.fetch(inbox, group_name="g", max_wait_ms=0)) == ["a"]


async def test_what_was_given_back_is_confirmed_by_naming_it_or_once_it_is_fetched_again(
    way, client, inbox
):
    await send_all(client, inbox, "a", "b", "c", "d")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    for msg_id in (0, 1):
        await client.nack(inbox, "g", msg_id, delay_ms=1_000)

    assert await client.ack(inbox, "g", 2) == [2]
    assert await client.ack(inbox, "g", 1) == [1]
    await way.clock.advance(1)
    assert ids(await client.fetch(inbox, group_name="g")) == [0, 3]
    assert await client.ack(inbox, "g", 3) == [0, 3]
    assert await client.fetch(inbox, group_name="g", max_wait_ms=0) == []


async def test_nack_of_a_lease_or_a_message_that_is_gone_succeeds_and_does_nothing(way, inbox):
    slow, quick = await way.client(), await way.client()
    await slow.send(inbox, "a")
    await slow.fetch(inbox, group_name="g", deliver="earliest", lease_ms=1_000)
    await way.clock.advance(1)
    await quick.fetch(inbox, group_name="g")

    await slow.nack(inbox, "g", 0)

    [lease] = (await quick.mailbox_status(inbox, group_name="g")).group.leased
    assert lease.consumer == quick.consumer
    await quick.ack(inbox, "g", 0)
    await slow.nack(inbox, "g", 0)
    assert await slow.fetch(inbox, group_name="g", max_wait_ms=0) == []
    await slow.delete(inbox, 0)
    await slow.nack(inbox, "g", 0)


async def test_nack_fails_as_ack_does(client, inbox):
    await send_all(client, inbox, "a", "b")
    batch = await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1)

    for msg_id in (1, 2):
        with pytest.raises(MessageNotFound):
            await client.nack(inbox, "g", msg_id)
    with pytest.raises(InvalidRequest, match="batch"):
        await client.nack(inbox, "g", 1, batch=batch.batch)


async def test_nack_gives_back_nothing_that_was_handed_to_others_only(way, inbox):
    one, other = await way.client(), await way.client()
    await one.send(inbox, "a")
    await one.fetch(inbox, group_name="g", deliver="earliest")

    with pytest.raises(MessageNotFound, match="0 was delivered to another consumer"):
        await other.nack(inbox, "g", 0)
    assert (await one.mailbox_status(inbox, group_name="g")).group.leased != ()

    await way.ask(f"MSG.NACK.{inbox}", {"group_name": "g", "msg_id": 0})
    assert (await one.mailbox_status(inbox, group_name="g")).group.leased == ()


async def test_a_message_given_back_keeps_its_place_in_the_order(client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.send(inbox, "c", priority="urgent")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.nack(inbox, "g", 0)
    await client.nack(inbox, "g", 2)

    assert ids(await client.fetch(inbox, group_name="g", redeliver_own=False)) == [2, 0]


async def test_extend_renews_what_is_held_and_says_what_is_lost(way, inbox):
    one, two = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b", "c")
    await one.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2, lease_ms=10_000)
    await two.fetch(inbox, group_name="g")
    await one.ack(inbox, "g", 0)
    await way.clock.advance(9)

    renewed = await one.extend(inbox, "g", [2, 1, 0, 99, 1, 2], lease_ms=10_000)
    assert renewed == Extended((1,), (2, 0, 99))  # each is named once

    await way.clock.advance(9.999)
    [standing] = (await one.mailbox_status(inbox, msg_id=1)).message.groups
    assert (standing.consumer, standing.until, standing.deliveries) == (one.consumer, START + 19, 1)
    await way.clock.advance(0.001)
    assert await one.extend(inbox, "g", [1]) == Extended((), (1,))


async def test_extend_does_not_reach_into_another_group_or_consumer(way, inbox):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "a")
    await one.fetch(inbox, group_name="g", deliver="earliest")

    assert (await one.extend(inbox, "h", [0])).lost == (0,)
    assert (await two.extend(inbox, "g", [0])).lost == (0,)
    assert (await two.extend(inbox, "g", [0], consumer=one.consumer)).extended == (0,)
