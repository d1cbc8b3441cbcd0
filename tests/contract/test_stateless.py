"""Reading without a group: nothing is remembered, nothing is leased."""

import pytest

from mq9 import InvalidRequest, Priority

from .parsing import only_read
from .reading import bodies, ids, send_all


async def test_reading_again_gives_the_same_again_whatever_a_group_holds_or_acked(client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.ack(inbox, "g", 0)

    for _ in range(2):
        read = await client.fetch(inbox, deliver="earliest")
        assert bodies(read) == ["a", "b"]
        assert [message.delivery_count for message in read] == [0, 0]
        assert read.batch is read.lease_until is None


async def test_reading_changes_nothing_at_all(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1)
    before = way.state()

    for deliver in ("earliest", "latest", "new"):
        await client.fetch(inbox, deliver=deliver, max_wait_ms=0)
    await client.fetch(inbox, deliver="from_id", from_id=1)
    await client.fetch(inbox, deliver="from_time", from_time=0)

    assert way.state() == before


async def test_an_empty_group_name_is_no_group(way, client, inbox):
    await client.send(inbox, "a")

    reply = await way.ask(f"MSG.FETCH.{inbox}", {"group_name": "", "deliver": "earliest"})

    assert "batch" not in reply
    assert bodies(await client.fetch(inbox, group_name="", deliver="earliest")) == ["a"]


async def test_one_reads_on_from_where_one_stopped(client, inbox):
    await send_all(client, inbox, *map(str, range(5)))
    seen, position = [], 0
    while page := await client.fetch(
        inbox, deliver="from_id", from_id=position, num_msgs=2, max_wait_ms=0
    ):
        seen += ids(page)
        position = page[-1].msg_id + 1

    assert seen == [0, 1, 2, 3, 4]


async def test_a_read_begins_with_everything_unless_told_otherwise(client, inbox):
    await send_all(client, inbox, "a", "b")

    assert bodies(await client.fetch(inbox)) == ["a", "b"]
    assert bodies(await client.fetch(inbox, deliver="latest")) == ["b"]
    assert await client.fetch(inbox, deliver="new", max_wait_ms=0) == []


async def test_a_read_of_one_priority_goes_through_it_page_by_page(client, inbox):
    for number in range(9):
        await client.send(inbox, str(number), priority=list(Priority)[number % 3])

    async def read(priority, **options):
        return await client.fetch(
            inbox, deliver="from_id", priority=priority, max_wait_ms=0, **options
        )

    page = await read("urgent", from_id=0, num_msgs=2)
    rest = await read(Priority.URGENT, from_id=page[-1].msg_id + 1, num_msgs=2)

    assert (bodies(page), page.more) == (["1", "4"], True)
    assert (bodies(rest), rest.more) == (["7"], False)
    assert bodies(await read("critical", from_id=0)) == ["0", "3", "6"]
    assert await read("normal", from_id=9) == []


async def test_a_read_of_one_priority_waits_for_that_one(way, client, inbox):
    waiting = await way.begin(client.fetch(inbox, priority="critical", max_wait_ms=60_000))

    await client.send(inbox, "urgent", priority="urgent")
    await way.clock.advance(0)
    assert not waiting.done()
    await client.send(inbox, "critical", priority="critical")

    assert bodies(await waiting) == ["critical"]


@only_read
async def test_a_group_is_of_all_priorities(client, inbox):
    with pytest.raises(InvalidRequest, match=r"^priority: urgent goes with a read without a group"):
        await client.fetch(inbox, group_name="g", priority="urgent")
