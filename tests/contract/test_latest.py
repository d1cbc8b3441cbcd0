"""A mailbox of type `latest`: of the visible messages it keeps the newest."""

import pytest

from mq9 import MailboxFull, MailboxType, MessageNotFound, PayloadTooLarge
from mq9.engine.commands import Limits

from .reading import START, bodies, ids, send_all


@pytest.fixture
async def state(client):
    """A mailbox that keeps the newest message only."""
    return await client.mailbox_create(name="state", type="latest")


async def history(client, box, msg_id):
    return (await client.mailbox_status(box, msg_id=msg_id)).message


async def test_the_newest_replaces_the_older_and_takes_a_new_id(way, client, state):
    await client.send(state, "one")
    await way.clock.advance(1)

    assert await client.send(state, "two!") == 1

    assert bodies(await client.query(state)) == ["two!"]
    assert await client.query(state, msg_id=0) == []
    status = await client.mailbox_status(state, msg_id=0)
    assert (status.stored, status.stored_bytes) == (1, 4)
    assert (status.message.state, status.message.replaced_by) == ("replaced", 1)
    assert status.message.since == START + 1


async def test_a_mailbox_keeps_all_messages_unless_it_is_told_otherwise(client, inbox, state):
    named = await client.mailbox_create(name="named", type=MailboxType.STANDARD)
    for box in (inbox, named):
        await send_all(client, box, "one", "two")
        assert bodies(await client.query(box)) == ["one", "two"]
        assert (await client.mailbox_status(box)).type is MailboxType.STANDARD
    assert (await client.mailbox_status(state)).type is MailboxType.LATEST


async def test_the_reply_tells_the_type_where_another_than_standard_is_asked_for(way):
    wanted = {"name": "state", "type": "latest", "renew": False}
    made = await way.ask("MAILBOX.CREATE", wanted)
    assert made == {"error": "", "mail_address": "state", "type": "latest"}
    assert (await way.ask("MAILBOX.STATUS.state"))["type"] == "latest"
    assert await way.ask("MAILBOX.CREATE", wanted | {"renew": True}) == made
    for number, word in enumerate(("standard", "", None)):
        body = {"name": f"box{number}", "type": word, "renew": False}
        made = await way.ask("MAILBOX.CREATE", body)
        assert made == {"error": "", "mail_address": f"box{number}"}
        assert (await way.ask(f"MAILBOX.STATUS.box{number}"))["type"] == "standard"
    renewed = await way.ask("MAILBOX.CREATE", wanted | {"name": "box0", "renew": True})
    assert renewed == {"error": "", "mail_address": "box0", "type": "standard"}


async def test_renew_leaves_the_type_as_it_is(client, inbox, state):
    await send_all(client, inbox, "one", "two")

    assert await client.mailbox_create(name=inbox, type="latest", renew=True) == inbox
    assert await client.mailbox_create(name=state, renew=True) == state

    assert (await client.mailbox_status(inbox)).type is MailboxType.STANDARD
    assert bodies(await client.query(inbox)) == ["one", "two"]
    assert (await client.mailbox_status(state)).type is MailboxType.LATEST


async def test_the_next_mailbox_of_that_name_has_a_type_of_its_own(client, state):
    await client.mailbox_drop(state)
    await client.mailbox_create(name=state)

    await send_all(client, state, "one", "two")
    assert bodies(await client.query(state)) == ["one", "two"]


async def test_the_newest_replaces_whatever_its_priority_and_key(client, state):
    await client.send(state, "alarm", priority="critical")
    await client.send(state, "calm")
    assert bodies(await client.fetch(state, group_name="g", deliver="earliest")) == ["calm"]

    await client.send(state, "one", key="k")
    await client.send(state, "other", key="l")
    [message] = await client.query(state)
    assert (message.text, message.key) == ("other", "l")


async def test_whoever_sends_replaces(way, client, state):
    ada, bob = await way.client(agent="ada"), await way.client(agent="bob")
    await ada.send(state, "hers", key="k")
    await bob.send(state, "his", key="k", delay=10)

    await bob.send(state, "his now", key="k")
    assert bodies(await client.query(state)) == ["his now"]
    await client.send(state, "nobody's")
    assert bodies(await client.query(state)) == ["nobody's"]
    await way.clock.advance(10)
    [message] = await client.query(state)
    assert (message.text, message.key) == ("his", "k")


async def test_the_lease_on_the_older_is_void(way, state):
    holder, other = await way.client(), await way.client()
    await holder.send(state, "one")
    await holder.fetch(state, group_name="g", deliver="earliest")

    await holder.send(state, "two")

    assert bodies(await other.fetch(state, group_name="g")) == ["two"]
    assert await holder.fetch(state, group_name="g", max_wait_ms=0) == []
    assert (await holder.extend(state, "g", [0])).lost == (0,)
    await holder.nack(state, "g", 0)
    assert await holder.ack(state, "g", 0) == []
    assert await holder.fetch(state, group_name="g", max_wait_ms=0) == []
    [standing] = (await history(holder, state, 0)).groups
    assert (standing.state, standing.deliveries) == ("delivered", 1)


async def test_every_group_is_given_the_newest_once_whatever_it_had_acked(client, state):
    await client.send(state, "one")
    await client.fetch(state, group_name="acked", deliver="earliest")
    await client.ack(state, "acked", 0)
    await client.fetch(state, group_name="waits", deliver="earliest")
    await send_all(client, state, "two", "three")

    for group in ("acked", "waits", "began later"):
        status = await client.mailbox_status(state, group_name=group)
        assert status.group.pending.total == 1
        assert ids(await client.fetch(state, group_name=group)) == [2]
        await client.ack(state, group, 2)
        status = await client.mailbox_status(state, group_name=group)
        assert (status.group.pending.total, status.group.acked) == (0, 1)
        assert await client.fetch(state, group_name=group, max_wait_ms=0) == []
    [first, *_] = (await history(client, state, 0)).groups
    assert (first.group_name, first.state) == ("acked", "acked")


async def test_delayed_messages_replace_in_due_order_each_at_its_instant(way, client, state):
    assert await client.send(state, "third", delay=30) == -1
    await client.send(state, "first", delay=10, priority="critical")
    await client.send(state, "second", delay=20, ttl=25)
    assert await client.send(state, "sent later") == 0
    status = await client.mailbox_status(state)
    assert (status.stored, status.delayed) == (1, 3)

    await way.clock.advance(100)

    found = await client.query(state)
    assert (bodies(found), ids(found)) == (["third"], [3])
    lives = [await history(client, state, msg_id) for msg_id in range(3)]
    assert [(life.state, life.replaced_by, life.since - START) for life in lives] == [
        ("replaced", 1, 10),
        ("replaced", 2, 20),
        ("expired", None, 25),
    ]
    assert (await client.mailbox_status(state)).stored_bytes == len("third")


async def test_when_the_newest_is_gone_the_older_does_not_come_back(way, client, state):
    await send_all(client, state, "one", "two")
    await client.delete(state, 1)
    assert await client.query(state) == []

    await client.send(state, "brief", ttl=5)
    await way.clock.advance(5)
    status = await client.mailbox_status(state)
    assert (status.stored, status.stored_bytes) == (0, 0)
    assert await client.send(state, "next") == 3
    assert (await history(client, state, 2)).state == "expired"
    with pytest.raises(MessageNotFound):
        await client.delete(state, 2)


async def test_a_repeated_send_replaces_nothing(client, state):
    await client.send(state, "one", id="1")
    await client.send(state, "two")

    assert await client.send(state, "one", id="1") == 0
    assert bodies(await client.query(state)) == ["two"]


async def test_a_move_replaces_too(way, client, inbox, state):
    await client.send(state, "one")
    await client.fetch(state, group_name="g", deliver="earliest")
    await client.send(inbox, "moved", key="k")
    await client.fetch(inbox, group_name="g", deliver="earliest")

    assert await client.move(inbox, "g", 0, to=state) == 1
    assert await client.move(inbox, "g", 0, to=state) == 1

    assert bodies(await client.query(state)) == ["moved"]
    assert (await client.extend(state, "g", [0])).lost == (0,)
    replaced = await history(client, state, 0)
    assert (replaced.state, replaced.replaced_by) == ("replaced", 1)
    await client.delete(state, 1)
    assert (await client.mailbox_status(state)).stored_bytes == 0


async def test_what_was_replaced_cannot_be_moved_and_the_newest_can(client, inbox, state):
    await client.send(state, "one")
    await client.fetch(state, group_name="g", deliver="earliest")
    await client.send(state, "two")

    assert await client.move(state, "g", 0, to=inbox) is None
    await client.fetch(state, group_name="g")
    assert await client.move(state, "g", 1, to=inbox) == 0
    assert bodies(await client.query(inbox)) == ["two"]
    assert bodies(await client.query(state)) == ["two"], "other groups may still want it"


async def test_replacing_makes_room_and_a_refused_send_replaces_nothing(open_way):
    small = open_way(Limits(max_payload=50, max_messages=2, max_bytes=60))
    client = await small.client()
    state = await client.mailbox_create(name="state", type="latest")
    inbox = await client.mailbox_create(name="inbox")
    for _ in range(5):
        await client.send(state, bytes(50))
    await client.fetch(state, group_name="g", deliver="earliest")
    await client.ack(state, "g", 4)
    await client.send(inbox, bytes(50))
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.send(state, bytes(10), delay=60)
    before = small.state()

    with pytest.raises(PayloadTooLarge):
        await client.send(state, bytes(51))
    with pytest.raises(MailboxFull, match="max_bytes: 10 and 51 bytes are more than 60"):
        await client.send(state, bytes(50), sender="s")
    with pytest.raises(MailboxFull, match="max_bytes: 10 and "):
        await client.move(inbox, "g", 0, to=state)
    assert small.state() == before
    assert await client.send(state, bytes(50)) == 5
    assert (await history(client, state, 4)).state == "replaced"
