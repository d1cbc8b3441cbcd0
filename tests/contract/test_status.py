"""STATUS: what is stored, where a group stands, what became of a message, and the unread line."""

import pytest

from mq9 import MailboxFull, Removed, Unread
from mq9.engine.commands import Limits
from mq9.models import Priority, Standing

from .reading import START, send_all


async def test_a_mailbox_tells_what_it_is(client):
    box = await client.mailbox_create(name="box", ttl=60, desc="for tests", public=True)

    status = await client.mailbox_status(box)

    assert (status.mail_address, status.desc, status.public) == ("box", "for tests", True)
    assert (status.ttl, status.expires_at) == (60, START + 60)
    assert (status.stored, status.stored_bytes, status.delayed) == (0, 0, 0)
    assert status.next_due is status.group is status.message is None


async def test_stored_and_delayed_are_counted_apart(client, inbox):
    await send_all(client, inbox, "12345", "678")
    await client.send(inbox, "later", delay=60)
    await client.send(inbox, "sooner", delay=30)

    status = await client.mailbox_status(inbox)

    assert (status.stored, status.delayed, status.next_due) == (2, 2, START + 30)
    assert status.stored_bytes == 8 + 5 + 6


async def test_a_group_tells_what_is_pending_leased_and_acked(way, inbox):
    one, two = await way.client(), await way.client()
    for priority in ("normal", "critical", "urgent", "normal", "normal", "urgent"):
        await one.send(inbox, "x", priority=priority)
    await one.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2, lease_ms=10_000)
    await one.ack(inbox, "g", 1)
    await two.fetch(inbox, group_name="g", num_msgs=2, lease_ms=20_000)

    group = (await one.mailbox_status(inbox, group_name="g")).group

    assert (group.group_name, group.exists, group.acked) == ("g", True, 1)
    assert group.pending == Unread(critical=0, urgent=0, normal=2)
    assert [(held.consumer, held.count, held.until - START) for held in group.leased] == [
        (one.consumer, 1, 10),
        (two.consumer, 2, 20),
    ]
    await way.clock.advance(10)
    group = (await one.mailbox_status(inbox, group_name="g")).group
    assert group.pending == Unread(critical=0, urgent=1, normal=2)
    assert len(group.leased) == 1


async def test_a_group_counts_from_its_start_and_one_that_does_not_exist_from_the_earliest(
    client, inbox
):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="new", max_wait_ms=0)
    await client.send(inbox, "c")

    for name, exists, pending in (("g", True, 1), ("another", False, 3)):
        group = (await client.mailbox_status(inbox, group_name=name)).group
        told = (group.exists, group.pending.total, group.acked, group.leased)
        assert told == (exists, pending, 0, ())


async def test_status_changes_nothing(way, client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    before = way.state()

    await client.mailbox_status(inbox, group_name="g", msg_id=0)
    await client.mailbox_status(inbox, group_name="new", msg_id=99)

    assert way.state() == before


async def test_a_message_tells_where_it_stands_with_each_group(way, client, inbox):
    await client.send(inbox, "a")
    for group in ("acked", "held", "given back", "ended"):
        await client.fetch(inbox, group_name=group, deliver="earliest", lease_ms=60_000)
    await client.ack(inbox, "acked", 0)
    await client.nack(inbox, "given back", 0, delay_ms=5_000)
    await client.nack(inbox, "ended", 0)
    await client.fetch(inbox, group_name="later", deliver="new", max_wait_ms=0)
    for priority in ("normal", "urgent", "critical"):
        await client.send(inbox, priority, priority=priority)

    life = (await client.mailbox_status(inbox, msg_id=0)).message

    assert (life.msg_id, life.state, life.since) == (0, "stored", START)
    assert (life.sent, life.visible, life.expires) == (START, START, None)
    assert (life.priority, life.key, life.replaced_by) == (Priority.NORMAL, None, None)
    assert life.groups == (
        Standing(group_name="acked", state="acked"),
        Standing(group_name="ended", state="pending", deliveries=1, ahead=2),
        Standing(group_name="given back", state="given_back", until=START + 5, deliveries=1),
        Standing(
            group_name="held",
            state="leased",
            consumer=client.consumer,
            until=START + 60,
            deliveries=1,
        ),
        Standing(group_name="later", state="skipped"),
    )


async def test_a_pending_message_tells_how_many_come_before_it(client, inbox):
    for number in range(4):
        await client.send(inbox, f"{number}")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
    await client.nack(inbox, "g", 1)
    await client.send(inbox, "!", priority="critical")

    async def ahead(msg_id):
        [standing] = (await client.mailbox_status(inbox, msg_id=msg_id)).message.groups
        return standing.state, standing.ahead

    assert [await ahead(number) for number in range(5)] == [
        ("leased", 0),
        ("pending", 1),
        ("pending", 2),
        ("pending", 3),
        ("pending", 0),
    ]


async def test_a_delayed_message_tells_when_it_was_sent_and_when_it_fell_due(way, client, inbox):
    await client.send(inbox, "later", delay=30, ttl=90, key="k")
    life = (await client.mailbox_status(inbox, msg_id=0)).message
    assert (life.state, life.sent) == ("unassigned", None)

    await way.clock.advance(60)

    life = (await client.mailbox_status(inbox, msg_id=0)).message
    assert (life.state, life.key) == ("stored", "k")
    assert (life.sent, life.visible, life.expires) == (START, START + 30, START + 90)


async def test_the_life_of_a_message_ends_for_a_reason(way, client, inbox):
    await client.send(inbox, "deleted")
    await client.send(inbox, "replaced", key="k", priority="urgent")
    await client.send(inbox, "expired", ttl=5)
    await way.clock.advance(1)
    await client.delete(inbox, 0)
    await client.send(inbox, "replaces", key="k")
    await way.clock.advance(10)

    lives = [(await client.mailbox_status(inbox, msg_id=number)).message for number in range(5)]

    assert [(life.state, life.since and life.since - START) for life in lives] == [
        ("deleted", 1),
        ("replaced", 1),
        ("expired", 5),
        ("stored", 1),
        ("unassigned", None),
    ]
    assert (lives[1].replaced_by, lives[1].priority, lives[1].visible) == (3, "urgent", START)
    assert lives[2].expires == START + 5


async def test_a_message_that_is_gone_tells_who_had_it(client, inbox):
    await client.send(inbox, "a")
    for group in ("acked", "delivered"):
        await client.fetch(inbox, group_name=group, deliver="earliest")
    await client.fetch(inbox, group_name="never", deliver="new", max_wait_ms=0)
    await client.ack(inbox, "acked", 0)
    await client.delete(inbox, 0)

    life = (await client.mailbox_status(inbox, msg_id=0)).message

    assert life.groups == (
        Standing(group_name="acked", state="acked", deliveries=1),
        Standing(group_name="delivered", state="delivered", deliveries=1),
    )


async def test_any_reply_tells_what_is_unread(way, client, inbox):
    other = await client.mailbox_create(name="other")
    for priority in ("critical", "urgent", "normal", "normal"):
        await client.send(inbox, "x", priority=priority)

    with client.watch_unread(inbox, "g") as watch:
        assert watch.unread is None
        await client.send(other, "x")
        assert watch.unread == Unread(1, 1, 2)
        await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
        assert watch.unread == Unread(0, 0, 2)
        await client.ack(inbox, "g", 0)
        await client.mailbox_list()
        assert watch.unread.total == 2
        await way.clock.advance(60)
        await client.query(other)
        assert watch.unread == Unread(0, 1, 2)
    await client.ack(inbox, "g", 1)
    assert watch.unread.total == 3


async def test_unread_of_a_mailbox_that_is_not_there_is_not_told(client):
    with client.watch_unread("nowhere", "g") as watch:
        await client.mailbox_create(name="box")
        assert watch.unread is None


async def test_asking_for_unread_does_not_create_the_group(client, inbox):
    with client.watch_unread(inbox, "g") as watch:
        await client.send(inbox, "x")

    assert watch.unread.total == 1
    assert not (await client.mailbox_status(inbox, group_name="g")).group.exists


async def test_delayed_and_expired_messages_are_not_unread(way, client, inbox):
    await client.send(inbox, "later", delay=10)
    await client.send(inbox, "brief", ttl=5)

    async def unread():
        with client.watch_unread(inbox, "g") as watch:
            await client.mailbox_list()
        return watch.unread.total

    assert await unread() == 1
    await way.clock.advance(5)
    assert await unread() == 0
    await way.clock.advance(5)
    assert await unread() == 1


async def test_all_that_was_sent_is_stored_or_counted_as_removed(open_way):
    way = open_way(Limits(max_messages=4))
    client = await way.client()
    inbox = await client.mailbox_create(name="inbox")
    await client.send(inbox, "expires", ttl=5)
    await client.send(inbox, "replaced", key="k")
    await client.send(inbox, "newer", key="k")
    await client.send(inbox, "deleted")
    await client.delete(inbox, 3)
    await way.clock.advance(5)
    await client.send(inbox, "evicted")
    await client.send(inbox, "evicted too")
    await client.send(inbox, "stored")
    messages = await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.ack(inbox, "g", messages[-1].msg_id)
    await client.send(inbox, "evicts", delay=1)
    await client.send(inbox, "evicts")

    status = await client.mailbox_status(inbox)

    assert status.removed == Removed(expired=1, replaced=1, deleted=1, evicted=2)
    assert status.stored + status.delayed + status.removed.total == 9

    await way.clock.advance(1)
    assert (await client.mailbox_status(inbox)).removed == status.removed


async def test_what_a_refused_send_would_have_removed_is_not_counted(open_way):
    way = open_way(Limits(max_messages=2, max_bytes=100))
    client = await way.client()
    inbox = await client.mailbox_create(name="inbox")
    await client.send(inbox, "x", key="k")

    with pytest.raises(MailboxFull):
        await client.send(inbox, "y" * 100, key="k")

    status = await client.mailbox_status(inbox)
    assert (status.stored, status.removed) == (1, Removed())
