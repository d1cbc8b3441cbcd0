"""Delays and lifetimes: everything happens at its own instant, however late anyone looks."""

import pytest

from mq9 import InvalidRequest, MessageNotFound

from .reading import START, bodies, ids, send_all


async def test_a_delayed_message_is_invisible_until_it_is_due(way, client, inbox):
    assert await client.send(inbox, "later", delay=10) == -1
    await way.clock.advance(9.999)
    assert await client.query(inbox) == []
    assert await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0) == []
    assert await client.fetch(inbox, deliver="earliest", max_wait_ms=0) == []
    assert (await client.mailbox_status(inbox)).stored == 0

    await way.clock.advance(0.001)

    assert (await client.mailbox_status(inbox)).stored == 1
    [message] = await client.fetch(inbox, group_name="g")
    assert (message.msg_id, message.create_time) == (0, START + 10)


async def test_ids_are_given_in_due_order_and_after_what_is_visible(way, client, inbox):
    await send_all(client, inbox, "c", delay=30)
    await send_all(client, inbox, "b", "b2", delay=20)
    await way.clock.advance(25)
    assert await client.send(inbox, "between", delay=0) == 2
    await way.clock.advance(5)

    assert bodies(await client.query(inbox)) == ["b", "b2", "between", "c"]


async def test_however_late_one_looks_create_time_is_the_due_instant_and_equals_go_as_sent(
    way, client, inbox
):
    await client.send(inbox, "first", delay=10)
    await way.clock.advance(5)
    await send_all(client, inbox, "second", "third", delay=5)
    await client.send(inbox, "sooner", delay=2)
    await way.clock.advance(1_000)

    found = [(one.text, one.create_time - START) for one in await client.query(inbox)]

    assert found == [("sooner", 7), ("first", 10), ("second", 10), ("third", 10)]


async def test_delay_ttl_and_priority_work_together(way, client, inbox):
    await client.send(inbox, "normal")
    await client.send(inbox, "flash", priority="critical", delay=10, ttl=20)
    await client.send(inbox, "urgent", priority="urgent", ttl=15)
    await way.clock.advance(10)
    fetched = await client.fetch(inbox, group_name="g", deliver="earliest")
    assert bodies(fetched) == ["flash", "urgent", "normal"]
    assert ids(fetched) == [2, 1, 0]

    await way.clock.advance(5)
    assert bodies(await client.query(inbox)) == ["normal", "flash"]
    await way.clock.advance(5)
    assert bodies(await client.query(inbox)) == ["normal"]


async def test_ttl_counts_from_sending_whatever_the_delay_and_the_ttl_of_the_mailbox(way, client):
    box = await client.mailbox_create(name="brief", ttl=100)
    await client.send(box, "long", ttl=1_000)
    await client.send(box, "short", delay=10, ttl=11)
    await way.clock.advance(10.999)
    assert bodies(await client.query(box)) == ["long", "short"]
    await way.clock.advance(0.001)
    assert bodies(await client.query(box)) == ["long"]


async def test_a_ttl_that_does_not_outlast_the_delay_is_refused(client, inbox):
    for delay, ttl in ((10, 10), (10, 5), (1, 1)):
        with pytest.raises(InvalidRequest, match="ttl"):
            await client.send(inbox, "x", delay=delay, ttl=ttl)
    assert (await client.mailbox_status(inbox)).delayed == 0


async def test_an_expired_message_is_gone_for_every_reader(way, client, inbox):
    await client.send(inbox, "leased", ttl=60)
    await client.fetch(inbox, group_name="g", deliver="earliest", lease_ms=3_600_000)
    await way.clock.advance(60)

    assert await client.query(inbox, msg_id=0) == []
    assert await client.fetch(inbox, deliver="earliest", max_wait_ms=0) == []
    assert await client.fetch(inbox, group_name="g", max_wait_ms=0) == []
    assert await client.fetch(inbox, group_name="h", deliver="earliest", max_wait_ms=0) == []
    with pytest.raises(MessageNotFound):
        await client.delete(inbox, 0)
    status = await client.mailbox_status(inbox, group_name="g", msg_id=0)
    assert (status.stored, status.stored_bytes, status.group.leased) == (0, 0, ())
    assert (status.message.state, status.message.since) == ("expired", START + 60)


async def test_of_an_expired_message_its_latest_fetch_is_remembered(way, client, inbox):
    await client.send(inbox, "brief", ttl=60)
    await client.fetch(inbox, group_name="g", consumer="c", deliver="earliest")
    await client.send(inbox, "pressing", priority="urgent")
    await client.fetch(inbox, group_name="g", consumer="c", lease_ms=3_600_000)
    await way.clock.advance(60)

    [standing] = (await client.mailbox_status(inbox, msg_id=0)).message.groups
    assert (standing.state, standing.deliveries) == ("delivered", 2)
    without_token = await way.client()
    assert await without_token.ack(inbox, "g", 0, consumer="c") == [1]


async def test_ten_years_are_the_longest_delay_and_ttl(way, client, inbox):
    ten_years = 10 * 365 * 86_400
    assert await client.send(inbox, "x", delay=ten_years - 1, ttl=ten_years) == -1
    await way.clock.advance(ten_years - 1)
    assert bodies(await client.query(inbox)) == ["x"]
    with pytest.raises(InvalidRequest, match="delay"):
        await client.send(inbox, "x", delay=ten_years + 1)
    with pytest.raises(InvalidRequest, match="ttl"):
        await client.send(inbox, "x", ttl=ten_years + 1)
