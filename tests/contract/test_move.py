"""MOVE stores a message in another mailbox and confirms it in its own, or does neither."""

import asyncio
from dataclasses import replace

import pytest

from mq9 import (
    InvalidAddress,
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    MessageNotFound,
    Moved,
)
from mq9.engine.commands import Limits
from mq9.models import Standing
from mq9.protocol.reserved import REDRIVE_GROUP

from .parsing import only_read
from .reading import START, bodies, ids, send_all


@pytest.fixture
async def dead(client):
    return await client.mailbox_create(name="dead")


async def fetched(client, box, *, group_name="g", **options):
    options = {"deliver": "earliest", "max_wait_ms": 0, **options}
    return await client.fetch(box, group_name=group_name, **options)


async def acked(client, box, group_name="g"):
    return (await client.mailbox_status(box, group_name=group_name)).group.acked


async def test_the_copy_is_the_message_but_for_its_key_and_says_where_it_was(
    way, client, inbox, dead
):
    await client.send(
        inbox,
        b"\xff\0",
        priority="urgent",
        key="k",
        ttl=60,
        tags=["a", "b"],
        sender="someone",
        reply_to="asker",
        correlation_id="c",
        path=["p", "q"],
    )
    [first] = await fetched(client, inbox, consumer="worker/7")
    await way.clock.advance(1.5)

    assert (
        await client.move(inbox, "g", 0, to=dead, reason="no,\nnot this", consumer="worker/7") == 0
    )

    [copy] = await client.query(dead)
    for name in ("payload", "priority", "tags", "sender", "sender_verified", "reply_to", "path"):
        assert getattr(copy, name) == getattr(first, name)
    assert (copy.correlation_id, copy.key, copy.create_time) == ("c", None, START + 1)
    assert copy.moved == Moved(
        mailbox=inbox,
        group="g",
        msg_id=0,
        by="worker",
        by_verified=False,
        reason="no,\nnot this",
        deliveries=1,
        at=START + 1.5,
    )
    [leased] = await fetched(client, dead)
    assert leased.moved == copy.moved


async def test_it_is_acked_by_its_group_and_by_no_other(client, inbox, dead):
    await send_all(client, inbox, "a", "b", "c")
    await fetched(client, inbox)
    await fetched(client, inbox, group_name="h")

    await client.move(inbox, "g", 1, to=dead)

    assert await client.ack(inbox, "g", 1, individual=True) == [1]  # as if it had been
    assert bodies(await fetched(client, inbox)) == ["a", "c"]
    assert bodies(await fetched(client, inbox, group_name="h")) == ["a", "b", "c"]
    assert bodies(await client.query(inbox)) == ["a", "b", "c"]
    life = (await client.mailbox_status(inbox, msg_id=1)).message
    assert (life.state, [one.state for one in life.groups]) == ("stored", ["moved", "leased"])


async def test_it_replaces_nothing_and_does_not_expire_with_the_original(way, client, inbox, dead):
    await client.send(dead, "other", key="k")
    await client.send(inbox, "x", key="k", ttl=5)
    await fetched(client, inbox)
    await client.move(inbox, "g", 0, to=dead)
    await way.clock.advance(5)

    assert await client.query(inbox) == []
    assert bodies(await client.query(dead)) == ["other", "x"]


async def test_who_waits_there_is_given_it_at_once(way, client, inbox, dead):
    await client.send(inbox, "x")
    await fetched(client, inbox)
    waiting = await way.begin((await way.client()).fetch(dead, group_name="g", max_wait_ms=60_000))
    await client.move(inbox, "g", 0, to=dead)
    async with asyncio.timeout(10):
        assert bodies(await waiting) == ["x"]


async def test_repeated_it_names_the_same_copy_and_makes_no_other(client, inbox, dead):
    other = await client.mailbox_create(name="other")
    await send_all(client, inbox, "a", "b")
    await fetched(client, inbox)
    await client.move(inbox, "g", 1, to=dead)
    for _ in range(2):
        assert await client.move(inbox, "g", 0, to=dead) == 1
    assert bodies(await client.query(dead)) == ["b", "a"]

    assert await client.move(inbox, "g", 0, to=other) is None
    assert await client.query(other) == []
    await client.mailbox_drop(dead)
    assert await client.move(inbox, "g", 0, to=dead) == 1


async def test_what_was_acked_or_has_expired_is_not_moved(way, client, inbox, dead):
    await client.send(inbox, "acked")
    await client.send(inbox, "expired", ttl=1)
    await fetched(client, inbox)
    await client.ack(inbox, "g", 0)
    await way.clock.advance(1)
    for number in range(2):
        assert await client.move(inbox, "g", number, to=dead) is None
    assert await client.query(dead) == []


async def test_what_another_consumer_holds_by_now_is_not_moved_and_what_nobody_holds_is(
    way, inbox, dead
):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "a")
    for client in (one, two):
        await fetched(client, inbox, lease_ms=1_000)
        if client is two:
            assert await one.move(inbox, "g", 0, to=dead) is None
        await way.clock.advance(1)
    assert await one.query(dead) == []
    assert await two.move(inbox, "g", 0, to=dead) == 0
    assert (await one.query(dead))[0].moved.deliveries == 2


async def test_a_full_mailbox_takes_nothing_and_nothing_is_acked(open_way):
    client = await open_way(Limits(max_messages=2)).client()
    for box in ("inbox", "dead"):
        await client.mailbox_create(name=box)
    await send_all(client, "dead", "1", "2")
    await client.send("inbox", "a")
    await fetched(client, "inbox")
    with pytest.raises(MailboxFull, match="dead is full"):
        await client.move("inbox", "g", 0, to="dead")
    assert await acked(client, "inbox") == 0

    await client.delete("dead", 0)
    assert await client.move("inbox", "g", 0, to="dead") == 2
    assert bodies(await client.query("dead")) == ["2", "a"]
    told = len("inbox" + "g" + client.consumer)
    assert (await client.mailbox_status("dead")).stored_bytes == 2 + told


async def test_what_is_acked_there_makes_room(open_way):
    client = await open_way(Limits(max_messages=1)).client()
    for box in ("inbox", "dead"):
        await client.mailbox_create(name=box)
        await client.send(box, box)
        await fetched(client, box)
    await client.ack("dead", "g", 0)
    assert await client.move("inbox", "g", 0, to="dead") == 1
    assert bodies(await client.query("dead")) == ["inbox"]


async def test_whatever_could_be_stored_can_be_moved(client, inbox, dead):
    """As large as the payload may be, with as much beside it as a server reads."""
    tags = tuple(f"{number}".ljust(256, "雪") for number in range(64))
    path = tuple(f"{number}".ljust(256, "p") for number in range(48))
    await client.send(
        inbox,
        bytes(1024 * 1024),
        tags=tags,
        path=path,
        sender="s" * 256,
        correlation_id="c" * 256,
        reply_to="r" * 128,
        key="k" * 256,
    )
    group = "g" * 256
    await fetched(client, inbox, group_name=group)
    assert await client.move(inbox, group, 0, to=dead, reason="\0" * 1_024) == 0
    [copy] = await client.query(dead)
    assert (len(copy.payload), copy.tags, copy.path) == (1024 * 1024, tags, path)
    assert copy.moved.reason == "\0" * 1_024


async def test_moved_back_it_still_has_its_first_sender(way, inbox, dead):
    ada, bob, worker = [await way.client(agent=name) for name in ("ada", "bob", None)]
    await bob.mailbox_create(name="bob.inbox")
    await bob.mailbox_create(name="bob.dead")
    await ada.send("bob.inbox", "x")
    await fetched(bob, "bob.inbox")
    await bob.move("bob.inbox", "g", 0, to="bob.dead")
    [letter] = await fetched(worker, "bob.dead", consumer="operator")

    assert await worker.move("bob.dead", "g", 0, to=letter.moved.mailbox, consumer="operator") == 1

    back = (await bob.query("bob.inbox"))[-1]
    assert (back.text, back.sender, back.sender_verified) == ("x", "ada", True)
    assert (back.moved.mailbox, back.moved.by, back.moved.by_verified) == (
        "bob.dead",
        "operator",
        False,
    )
    assert (letter.moved.by, letter.moved.by_verified) == ("bob", True)


async def test_who_moved_it_is_not_told_where_nobody_was_named(way, client, inbox, dead):
    await client.send(inbox, "x")
    fetch = {"group_name": "g", "deliver": "earliest"}
    await way.ask(f"MSG.FETCH.{inbox}", fetch)
    move = {"group_name": "g", "msg_id": 0, "to": dead}
    assert await way.ask(f"MSG.MOVE.{inbox}", move) == {"error": "", "msg_id": 0}
    [item] = (await way.ask(f"MSG.QUERY.{dead}"))["messages"]
    assert item["moved"] == {
        "mailbox": inbox,
        "group": "g",
        "msg_id": 0,
        "by_verified": False,
        "deliveries": 1,
        "at": START,
    }


async def test_only_who_may_read_a_mailbox_may_move_out_of_it_and_anybody_into_another(way):
    ada, bob = [await way.client(agent=name) for name in ("ada", "bob")]
    await ada.mailbox_create(name="hers")
    await bob.mailbox_create(name="his")
    await ada.send("hers", "x")
    await fetched(ada, "hers")
    move = {"group_name": "g", "msg_id": 0, "to": "his"}
    before = way.state()
    assert (await way.ask("MSG.MOVE.hers", move, agent="bob"))["code"] == "forbidden"
    assert way.state() == before

    assert await ada.move("hers", "g", 0, to="his") == 0
    assert ids(await bob.query("his")) == [0]


async def test_what_the_group_was_not_handed_cannot_be_moved(client, inbox, dead):
    await client.send(inbox, "x")
    with pytest.raises(MessageNotFound):
        await client.move(inbox, "g", 0, to=dead)
    await fetched(client, inbox)
    with pytest.raises(MessageNotFound):
        await client.move(inbox, "g", 1, to=dead)
    with pytest.raises(MailboxNotFound):
        await client.move("nowhere", "g", 0, to=dead)


@only_read
async def test_a_refused_move_changes_nothing(way, client, inbox, dead):
    await client.send(inbox, "x")
    await fetched(client, inbox)
    before = way.state()
    for options, error, told in (
        ({"to": "nowhere"}, MailboxNotFound, "nowhere"),
        ({"to": "Dead"}, InvalidAddress, "invalid mail_address"),
        ({"to": None}, InvalidRequest, "to: must be given"),
        ({"to": "inbox"}, InvalidRequest, "to: inbox is the mailbox itself"),
        ({"to": "mq9://here/inbox"}, InvalidRequest, "to: inbox is the mailbox itself"),
        ({"to": "dead", "reason": "x" * 1_025}, InvalidRequest, "reason: 1025 characters"),
        ({"to": "dead", "reason": 5}, InvalidRequest, "reason: 5 is not a text"),
    ):
        with pytest.raises(error, match=told):
            await client.move(inbox, "g", 0, **options)
        reply = await way.ask(f"MSG.MOVE.{inbox}", {"group_name": "g", "msg_id": 0, **options})
        assert reply["code"] == error.code
        assert told in reply["error"]
    assert way.state() == before
    assert await acked(client, inbox) == 0


async def where(client, box, msg_id):
    """Return where a message stands with each group, by name."""
    found = (await client.mailbox_status(box, msg_id=msg_id)).message
    return {one.group_name: one for one in found.groups}


async def test_a_dead_letter_tells_where_it_went_and_where_it_came_from(way, client, inbox, dead):
    await send_all(client, inbox, "a", "b")
    await fetched(client, inbox, consumer="worker/7")
    await client.ack(inbox, "g", 1, consumer="worker/7", individual=True)
    await way.clock.advance(1.5)
    await client.move(inbox, "g", 0, to=dead, reason="no", consumer="worker/7")

    moved = Moved(mailbox=inbox, group="g", msg_id=0, by="worker", reason="no", deliveries=1)
    moved = replace(moved, at=START + 1.5)
    assert await where(client, inbox, 0) == {
        "g": Standing(group_name="g", state="moved", moved_to=dead, moved_as=0, moved=moved)
    }
    assert (await where(client, inbox, 1))["g"].state == "acked"
    assert (await client.mailbox_status(inbox, msg_id=0)).message.moved is None
    assert (await client.mailbox_status(dead, msg_id=0)).message.moved == moved


async def test_what_was_moved_is_counted_apart_from_what_was_acked(client, inbox, dead):
    await send_all(client, inbox, "a", "b", "c")
    await fetched(client, inbox)
    await client.ack(inbox, "g", 0)
    await client.move(inbox, "g", 1, to=dead)
    await client.ack(inbox, "g", 2)

    group = (await client.mailbox_status(inbox, group_name="g")).group
    assert (group.acked, group.moved, group.pending.total, group.leased) == (2, 1, 0, ())
    waiting = (await fetched(client, inbox)).waiting
    assert (waiting.acked, waiting.moved) == (2, 1)

    await client.delete(inbox, 1)
    group = (await client.mailbox_status(inbox, group_name="g")).group
    assert (group.acked, group.moved) == (2, 0)
    gone = (await where(client, inbox, 1))["g"]
    assert (gone.state, gone.moved_to, gone.moved_as) == ("moved", dead, 0)


async def test_a_group_that_begins_again_has_moved_nothing(client, inbox, dead):
    await client.send(inbox, "a")
    await fetched(client, inbox)
    await client.move(inbox, "g", 0, to=dead)

    assert bodies(await fetched(client, inbox, force_deliver=True)) == ["a"]

    group = (await client.mailbox_status(inbox, group_name="g")).group
    assert (group.acked, group.moved) == (0, 0)
    assert await client.move(inbox, "g", 0, to=dead) == 1
    assert (await where(client, inbox, 0))["g"].moved_as == 1


async def test_a_message_that_is_moved_back_and_away_again_says_so(client, inbox, dead):
    await client.send(inbox, "a")
    found = []
    for source, target in ((inbox, dead), (dead, inbox), (inbox, dead), (dead, inbox)):
        [message] = await fetched(client, source)
        await client.move(source, "g", message.msg_id, to=target)
        [*_, copy] = await client.query(target)
        found.append(copy.moved.back)

    assert found == [False, True, False, True]


async def test_what_waits_for_a_redrive_waits_for_nobody(client, inbox, dead):
    await client.agent_register({"name": "undertaker", "mailbox": dead})
    await send_all(client, inbox, "a", "b")
    await fetched(client, inbox)
    await client.move(inbox, "g", 0, to=dead)
    await fetched(client, dead, group_name=REDRIVE_GROUP)
    await client.nack(dead, REDRIVE_GROUP, 0)
    await client.move(inbox, "g", 1, to=dead)

    assert await where(client, dead, 0) == await where(client, dead, 1) == {}
    [agent] = await client.agent_discover()
    assert agent.match.backlog == 2  # of the agent itself
    await fetched(client, dead, group_name=dead)
    await client.ack(dead, dead, 1)
    [agent] = await client.agent_discover()
    assert agent.match.backlog == 0
