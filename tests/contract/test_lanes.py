"""Priorities: what is delivered first, and what a cut reply leaves for the next."""

import pytest

from mq9 import InvalidRequest, Priority

from .parsing import only_read
from .reading import bodies, ids


async def _send_mixed(client, inbox):
    priorities = ["normal", "urgent", "critical", "normal", "critical"]
    for number, priority in enumerate(priorities):
        assert await client.send(inbox, str(number), priority=priority) == number
    assert [message.priority for message in await client.query(inbox)] == priorities


async def test_the_most_pressing_come_first_even_when_fewer_are_asked_for(client, inbox):
    await _send_mixed(client, inbox)

    first = await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=3)
    rest = await client.fetch(inbox, group_name="g", redeliver_own=False)

    assert ids(first) == [2, 4, 1]
    assert first.more
    assert ids(rest) == [0, 3]
    assert not rest.more


async def test_fetching_a_few_at_a_time_hands_out_all_once_in_order(client, inbox):
    await _send_mixed(client, inbox)
    for count in range(1, 5):
        read = {"group_name": f"g{count}", "deliver": "earliest", "num_msgs": count}
        seen = []
        while batch := await client.fetch(inbox, **read, max_wait_ms=0):
            assert len(batch) <= count
            seen += ids(batch)
            await client.ack(inbox, f"g{count}", batch[-1].msg_id)
        assert seen == [2, 4, 1, 0, 3]


async def test_a_stateless_read_follows_the_same_order_and_bound(client, inbox):
    await _send_mixed(client, inbox)

    read = await client.fetch(inbox, deliver="earliest", num_msgs=3)

    assert ids(read) == [2, 4, 1]
    assert read.more
    assert ids(await client.fetch(inbox, deliver="earliest", num_msgs=5)) == [2, 4, 1, 0, 3]


async def test_a_critical_message_that_comes_late_overtakes_a_backlog(client, inbox):
    for number in range(5):
        await client.send(inbox, str(number))
    assert ids(await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)) == [0, 1]
    await client.send(inbox, "fire", priority=Priority.CRITICAL)

    rest = await client.fetch(inbox, group_name="g", redeliver_own=False)

    assert bodies(rest) == ["fire", "2", "3", "4"]


async def test_what_one_refetches_stands_in_the_usual_order_among_new_ones(client, inbox):
    await client.send(inbox, "normal")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.send(inbox, "urgent", priority="urgent")
    await client.send(inbox, "another")

    fetched = await client.fetch(inbox, group_name="g")

    given = [(message.text, message.delivery_count) for message in fetched]
    assert given == [("urgent", 1), ("normal", 2), ("another", 1)]


@only_read
async def test_an_unknown_priority_is_refused_and_nothing_is_stored(client, inbox):
    with pytest.raises(InvalidRequest, match=r"priority: 'high'.*critical, urgent, normal"):
        await client.send(inbox, "x", priority="high")
    assert await client.query(inbox) == []
