"""Consumer groups: where one starts, and that none affects another."""

import pytest

from mq9 import InvalidRequest

from .parsing import only_read
from .reading import START, bodies, ids, send_all

DAY = 86_400


async def test_groups_of_other_names_and_of_other_mailboxes_are_apart(client, inbox):
    other = await client.mailbox_create(name="other")
    for box in (inbox, other):
        await send_all(client, box, "a", "b")
    for box, group in ((inbox, "g"), (inbox, "h"), (other, "g")):
        assert bodies(await client.fetch(box, group_name=group, deliver="earliest")) == ["a", "b"]

    await client.ack(inbox, "g", 1)

    assert await client.fetch(inbox, group_name="g", max_wait_ms=0) == []
    for box, group in ((inbox, "h"), (other, "g")):
        again = await client.fetch(box, group_name=group)
        assert bodies(again) == ["a", "b"]
        assert [message.delivery_count for message in again] == [2, 2]


async def test_a_new_group_starts_with_what_is_stored_unless_told_otherwise(way, client, inbox):
    await send_all(client, inbox, "a", "b")

    for number, body in enumerate(({}, {"deliver": ""}, {"deliver": None})):
        reply = await way.ask(f"MSG.FETCH.{inbox}", {"group_name": f"g{number}", **body})
        assert [message["payload"] for message in reply["messages"]] == ["a", "b"]
    assert bodies(await client.fetch(inbox, group_name="h")) == ["a", "b"]


async def test_a_new_group_at_new_gets_what_becomes_visible_after_it(way, client, inbox):
    await client.send(inbox, "before")
    await client.send(inbox, "later", delay=10)
    assert await client.fetch(inbox, group_name="g", deliver="new", max_wait_ms=0) == []
    await client.send(inbox, "after")
    await way.clock.advance(10)

    assert bodies(await client.fetch(inbox, group_name="g")) == ["after", "later"]


async def test_a_new_group_at_latest_gets_the_newest_and_what_comes_after_it(client, inbox):
    await client.send(inbox, "older, but more urgent", priority="urgent")
    await client.send(inbox, "newest")
    assert bodies(await client.fetch(inbox, group_name="g", deliver="latest")) == ["newest"]
    await client.ack(inbox, "g", 1)
    await send_all(client, inbox, "after", "and after that")

    assert bodies(await client.fetch(inbox, group_name="g", deliver="latest")) == [
        "after",
        "and after that",
    ]


async def test_the_newest_is_the_newest_that_is_still_stored(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.send(inbox, "expires", ttl=5)
    await client.send(inbox, "not due yet", delay=60)
    await client.send(inbox, "deleted")
    await client.delete(inbox, 3)
    await way.clock.advance(5)

    for options in ({}, {"group_name": "g"}):
        assert bodies(await client.fetch(inbox, deliver="latest", **options)) == ["b"]


async def test_the_first_fetch_creates_the_group_even_when_it_returns_nothing(client, inbox):
    for start in ("earliest", "latest"):
        assert not await client.fetch(inbox, group_name=start, deliver=start, max_wait_ms=0)
    await send_all(client, inbox, "a", "b")

    for start in ("earliest", "latest"):
        assert bodies(await client.fetch(inbox, group_name=start, deliver="latest")) == ["a", "b"]


async def test_from_id_starts_with_that_message_in_all_priorities(client, inbox):
    for priority in ("critical", "urgent", "normal") * 2:
        await client.send(inbox, priority, priority=priority)

    for start, found in {0: [0, 3, 1, 4, 2, 5], 2: [3, 4, 2, 5], 3: [3, 4, 5], 5: [5]}.items():
        read = {"group_name": f"g{start}", "deliver": "from_id", "from_id": start}
        assert ids(await client.fetch(inbox, **read)) == found


async def test_from_an_id_beyond_the_end_means_new(client, inbox):
    await send_all(client, inbox, "a", "b", "c")
    starts = (3, 4, 2**53 - 1)
    for start in starts:
        read = {"group_name": f"g{start}", "deliver": "from_id", "from_id": start}
        assert await client.fetch(inbox, **read, max_wait_ms=0) == []
    await client.send(inbox, "d")

    for start in starts:
        assert bodies(await client.fetch(inbox, group_name=f"g{start}")) == ["d"]


async def test_from_time_starts_with_what_became_visible_then(way, client, inbox):
    await client.send(inbox, "a")
    await way.clock.advance(10)
    await client.send(inbox, "b")
    await client.send(inbox, "c", delay=10)
    await way.clock.advance(15)

    firsts = {-1000: 0, 0: 0, 1: 1, 10: 1, 11: 2, 20: 2, 21: 3, 1000: 3}
    for seconds, first in firsts.items():
        for options in ({}, {"group_name": f"g{seconds}"}):
            start = {"deliver": "from_time", "from_time": START + seconds}
            fetched = await client.fetch(inbox, **start, max_wait_ms=0, **options)
            assert bodies(fetched) == ["a", "b", "c"][first:]


async def test_a_from_time_in_the_future_is_a_position_and_not_a_filter(client, inbox):
    await client.send(inbox, "before")
    await client.fetch(
        inbox, group_name="g", deliver="from_time", from_time=START + DAY, max_wait_ms=0
    )
    await client.send(inbox, "after")

    assert bodies(await client.fetch(inbox, group_name="g")) == ["after"]


@only_read
@pytest.mark.parametrize("start", ["from_time", "from_id"])
async def test_a_start_by_time_or_id_must_say_which(client, inbox, start):
    with pytest.raises(InvalidRequest, match=start):
        await client.fetch(inbox, group_name="g", deliver=start)


async def test_deliver_matters_only_when_the_group_is_new(client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.ack(inbox, "g", 1)

    assert (
        await client.fetch(inbox, group_name="g", deliver="from_id", from_id=0, max_wait_ms=0) == []
    )


async def test_force_deliver_forgets_position_leases_and_acks_of_that_group(way, inbox):
    one, two = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b", "c")
    await one.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
    await one.ack(inbox, "g", 0)
    await one.fetch(inbox, group_name="h", deliver="earliest")
    await one.ack(inbox, "h", 2)

    again = await two.fetch(inbox, group_name="g", deliver="earliest", force_deliver=True)

    assert bodies(again) == ["a", "b", "c"]
    assert [message.delivery_count for message in again] == [1, 1, 1]
    assert await one.fetch(inbox, group_name="h", max_wait_ms=0) == []


async def test_a_token_from_before_a_reset_confirms_nothing_and_succeeds(client, inbox):
    await send_all(client, inbox, "a", "b")
    old = await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.fetch(inbox, group_name="g", deliver="earliest", force_deliver=True)

    for group in ("g", "another"):
        assert await client.ack(inbox, group, 1, batch=old.batch) == []
        await client.nack(inbox, group, 1, batch=old.batch)

    status = await client.mailbox_status(inbox, group_name="g")
    assert [held.count for held in status.group.leased] == [2]


async def test_a_reset_that_waits_does_not_reset_again_when_woken(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    waiting = await way.begin(
        client.fetch(inbox, group_name="g", deliver="new", force_deliver=True, max_wait_ms=60_000)
    )
    await client.send(inbox, "c")
    await way.clock.advance(1)

    assert bodies(await waiting) == ["c"]
    assert bodies(await client.fetch(inbox, group_name="g")) == ["c"]


async def test_a_group_is_forgotten_thirty_days_after_its_last_use_and_a_look_is_none(
    way, client, inbox
):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await way.clock.advance(4_000)
    await client.ack(inbox, "g", 1)

    await way.clock.advance(30 * DAY)
    assert (await client.mailbox_status(inbox, group_name="g")).group.exists
    await way.clock.advance(7_200)

    assert not (await client.mailbox_status(inbox, group_name="g")).group.exists
    assert bodies(await client.fetch(inbox, group_name="g", deliver="earliest")) == ["a", "b"]


async def test_a_group_that_is_used_is_kept(way, client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.ack(inbox, "g", 0)
    for _ in range(4):
        await way.clock.advance(20 * DAY)
        assert await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0) == []
