"""What one broker takes, and what makes room in a full mailbox."""

import pytest

from mq9 import LimitReached, MailboxFull, PayloadTooLarge
from mq9.engine.commands import Limits

from .reading import bodies, send_all


@pytest.fixture
async def small(open_way):
    """A broker whose mailboxes take three messages of 100 bytes together."""
    return open_way(Limits(max_messages=3, max_bytes=100))


@pytest.fixture
async def sender(small):
    client = await small.client()
    await client.mailbox_create(name="box")
    return client


async def test_a_full_mailbox_refuses_a_send_and_names_the_limit(sender):
    await sender.send("box", "a", id="x")
    await send_all(sender, "box", "b", "c")

    with pytest.raises(MailboxFull, match=r"max_messages.*3"):
        await sender.send("box", "d")
    assert await sender.send("box", "a", id="x") == 0  # it was answered before
    assert bodies(await sender.query("box")) == ["a", "b", "c"]
    await sender.mailbox_create(name="other")
    assert await sender.send("other", "a") == 0


async def test_bytes_are_a_limit_as_well(sender):
    await send_all(sender, "box", bytes(60), bytes(40))

    with pytest.raises(MailboxFull, match=r"max_bytes.*100"):
        await sender.send("box", "x")
    assert await sender.send("box", "") == 2


async def test_all_text_beside_a_payload_counts(small, sender):
    for number, options in enumerate(
        (
            {"key": "k" * 30},
            {"tags": ["a" * 20, "b" * 10]},
            {"sender": "雪" * 10},
            {"reply_to": "r" * 30},
            {"correlation_id": "c" * 30},
            {"path": ["a" * 10, "b" * 10, "c" * 10]},
            {"headers": {"n" * 10: "v" * 10, "m" * 5: "w" * 5}},
            {"delay": 60, "key": "k" * 30},
        )
    ):
        await sender.send("box", bytes(70), **options)
        assert (await sender.mailbox_status("box")).stored_bytes == 100, options
        with pytest.raises(MailboxFull, match="max_bytes: 100 and 1 bytes are more than 100"):
            await sender.send("box", "x")
        await small.clock.advance(60)
        await sender.delete("box", number)
        assert (await sender.mailbox_status("box")).stored_bytes == 0


async def test_what_a_move_says_counts_where_it_was_moved_to(small, sender):
    await sender.mailbox_create(name="dead")
    await sender.send("box", bytes(60), key="gone", sender="ada")
    await sender.fetch("box", group_name="g", deliver="earliest", consumer="bob/1")
    with pytest.raises(MailboxFull, match="max_bytes: 0 and 101 bytes are more than 100"):
        await sender.move("box", "g", 0, to="dead", consumer="bob/1", reason="w" * 31)
    await sender.move("box", "g", 0, to="dead", consumer="bob/1", reason="w" * 30)
    assert (await sender.mailbox_status("dead")).stored_bytes == 60 + 3 + len("boxgbob") + 30
    await sender.delete("dead", 0)
    assert (await sender.mailbox_status("dead")).stored_bytes == 0


async def test_the_oldest_acked_of_all_priorities_makes_room(sender):
    for text, priority in {"a": "normal", "b": "critical", "c": "urgent"}.items():
        await sender.send("box", text, priority=priority)
    await sender.fetch("box", group_name="g", deliver="earliest")
    for msg_id in (1, 0):
        await sender.ack("box", "g", msg_id, individual=True)

    assert await sender.send("box", "d") == 3
    assert bodies(await sender.query("box")) == ["b", "c", "d"]
    assert (await sender.mailbox_status("box", msg_id=0)).message.state == "evicted"
    assert await sender.send("box", "e") == 4
    with pytest.raises(MailboxFull):
        await sender.send("box", "f")
    assert bodies(await sender.query("box")) == ["c", "d", "e"]


async def test_as_many_make_room_as_are_needed(sender):
    await send_all(sender, "box", bytes(30), bytes(30), bytes(40))
    await sender.fetch("box", group_name="g", deliver="earliest")
    await sender.ack("box", "g", 1)

    assert await sender.send("box", bytes(50)) == 3
    assert [len(message.payload) for message in await sender.query("box")] == [40, 50]


async def test_a_refused_send_evicts_nothing(sender):
    await send_all(sender, "box", bytes(30), bytes(70))
    await sender.fetch("box", group_name="g", deliver="earliest")
    await sender.ack("box", "g", 0)

    with pytest.raises(MailboxFull):
        await sender.send("box", bytes(90), id="x")
    assert [len(message.payload) for message in await sender.query("box")] == [30, 70]
    assert (await sender.mailbox_status("box")).stored_bytes == 100


async def test_what_another_group_still_has_to_deliver_stays(sender):
    await sender.fetch("box", group_name="slow", deliver="earliest", max_wait_ms=0)
    await send_all(sender, "box", "a", "b", "c")
    await sender.fetch("box", group_name="quick", deliver="earliest")
    await sender.ack("box", "quick", 2)

    with pytest.raises(MailboxFull):
        await sender.send("box", "d")
    await sender.fetch("box", group_name="slow")
    with pytest.raises(MailboxFull):
        await sender.send("box", "d")
    await sender.ack("box", "slow", 0)
    assert await sender.send("box", "d") == 3


async def test_a_group_that_starts_later_has_nothing_to_deliver_of_it(sender):
    await send_all(sender, "box", "a", "b", "c")
    await sender.fetch("box", group_name="early", deliver="earliest")
    await sender.ack("box", "early", 2)
    await sender.fetch("box", group_name="late", deliver="new", max_wait_ms=0)

    assert await sender.send("box", "d") == 3


async def test_what_no_group_has_acked_never_makes_room(small, sender):
    await send_all(sender, "box", "a", "b", "c")
    for reader in ({}, {"group_name": "g"}):
        await sender.fetch("box", deliver="earliest", **reader)
        await small.clock.advance(3_600)

        with pytest.raises(MailboxFull):
            await sender.send("box", "d")


async def test_replacement_comes_before_the_limit(sender):
    await sender.send("box", "old", key="k")
    await send_all(sender, "box", "b", "c")

    assert await sender.send("box", "new", key="k") == 3
    assert bodies(await sender.query("box")) == ["b", "c", "new"]


async def test_delayed_messages_count_when_sent(small, sender):
    await send_all(sender, "box", "a", "b")
    await sender.send("box", "later", delay=10)

    with pytest.raises(MailboxFull):
        await sender.send("box", "d")
    with pytest.raises(MailboxFull):
        await sender.send("box", "d", delay=5)
    await small.clock.advance(10)
    assert bodies(await sender.query("box")) == ["a", "b", "later"]


async def test_what_expires_or_is_deleted_makes_room(small, sender):
    await sender.send("box", "brief", ttl=10)
    await send_all(sender, "box", "b", "c")
    await small.clock.advance(10)

    assert await sender.send("box", "d") == 3
    await sender.delete("box", 1)
    assert await sender.send("box", "e") == 4


async def test_a_registration_and_a_report_are_limited(open_way):
    client = await open_way(Limits(max_registration=60)).client()
    await client.agent_register({"name": "small"})

    with pytest.raises(PayloadTooLarge, match="bytes are more than 60"):
        await client.agent_register({"name": "large", "payload": "x" * 60})
    with pytest.raises(PayloadTooLarge, match="bytes are more than 60"):
        await client.agent_report({"name": "small", "told": "x" * 60})

    [agent] = await client.agent_discover()
    assert (agent["name"], agent.match.status) == ("small", None)


async def test_mailboxes_are_limited_and_expired_ones_do_not_count(open_way):
    way = open_way(Limits(max_mailboxes=2))
    client = await way.client()
    await client.mailbox_create(name="a", ttl=10)
    await client.mailbox_create(name="b")

    with pytest.raises(LimitReached, match=r"max_mailboxes: 2 .* 2"):
        await client.mailbox_create(name="c")
    await client.mailbox_create(name="b", renew=True)
    await way.clock.advance(10)
    await client.mailbox_create(name="c")
    await client.mailbox_drop("b")
    await client.mailbox_create()


async def test_agents_are_limited_and_gone_ones_do_not_count(open_way):
    way = open_way(Limits(max_agents=2))
    client = await way.client()
    await client.agent_register({"name": "a"}, ttl=10)
    await client.agent_register({"name": "b"})

    with pytest.raises(LimitReached, match=r"max_agents: 2 .* 2"):
        await client.agent_register({"name": "c"})
    await client.agent_register({"name": "b", "payload": "again"})
    await way.clock.advance(10)
    await client.agent_register({"name": "c"})
    await client.agent_unregister(name="b")
    await client.agent_register({"name": "d"})


async def test_a_mailbox_takes_so_many_groups(open_way):
    way = open_way(Limits(max_groups=2))
    client = await way.client()
    inbox = await client.mailbox_create(name="inbox")
    for group in ("one", "two", "one"):
        await client.fetch(inbox, group_name=group, max_wait_ms=0)
    with pytest.raises(LimitReached, match="max_groups: 2 groups of inbox reach the limit of 2"):
        await client.fetch(inbox, group_name="three", max_wait_ms=0)
    await way.clock.advance(31 * 86_400)  # by then the others are forgotten
    assert await client.fetch(inbox, group_name="three", max_wait_ms=0) == []


async def test_a_mailbox_remembers_so_many_ids_and_forgets_none_for_a_new_one(open_way):
    way = open_way(Limits(max_ids=2))
    client = await way.client()
    for box in ("inbox", "other"):
        await client.mailbox_create(name=box)
    for number in range(2):
        await client.send("inbox", f"{number}", id=f"{number}", key="k")
    with pytest.raises(LimitReached, match="max_ids: 2 idempotency ids in inbox reach the limit"):
        await client.send("inbox", "2", id="2", key="k")

    assert bodies(await client.query("inbox")) == ["1"]
    assert [await client.send("inbox", f"{n}", id=f"{n}") for n in range(2)] == [0, 1]
    assert await way.ask("MSG.SEND.inbox", b"without") == {"error": "", "msg_id": 2}
    assert await client.send("other", "2", id="2") == 0
    await way.clock.advance(7 * 86_400)
    assert await client.send("inbox", "2", id="2") == 3
    assert await client.send("inbox", "again", id="0") == 4


async def test_a_group_that_fetches_its_own_for_ever_is_refused_until_it_acks_or_an_hour_is_over(
    open_way,
):
    way = open_way(Limits(max_redelivered=3_000))
    client = await way.client()
    await client.mailbox_create(name="inbox")
    await send_all(client, "inbox", "a", "b")
    fetch = {"group_name": "g", "deliver": "earliest", "lease_ms": 86_400_000, "max_wait_ms": 0}
    for count in range(1, 6):
        fetched = await client.fetch("inbox", **fetch)
        assert [message.delivery_count for message in fetched] == [count, count]
    with pytest.raises(LimitReached, match=r"max_redelivered: .* group g of inbox"):
        await client.fetch("inbox", **fetch)

    assert bodies(await client.fetch("inbox", **{**fetch, "group_name": "h"})) == ["a", "b"]
    assert bodies(await client.query("inbox")) == ["a", "b"]
    assert await client.ack("inbox", "g", 0) == [0]
    await way.clock.advance(3_600)
    assert bodies(await client.fetch("inbox", **fetch)) == ["b"]
    assert await client.ack("inbox", "g", 1) == [1]
    for text in "cde":
        await client.send("inbox", text)
        assert bodies(await client.fetch("inbox", redeliver_own=False, **fetch)) == [text]


async def test_a_send_that_was_refused_in_vain_hides_nothing_that_may_make_room(small, sender):
    await send_all(sender, "box", bytes(10), bytes(10), bytes(60))
    fetched = await sender.fetch("box", group_name="g", deliver="earliest", num_msgs=3)
    await sender.ack("box", "g", fetched[1].msg_id)
    for _ in range(2):
        with pytest.raises(MailboxFull):  # what two acked ones leave is still too little
            await sender.send("box", bytes(50))
    assert (await sender.mailbox_status("box")).stored == 3

    assert await sender.send("box", bytes(40)) == 3  # and for this it is enough
    assert [message.msg_id for message in await sender.query("box")] == [2, 3]


async def test_what_is_acked_after_a_refusal_makes_room(small, sender):
    await send_all(sender, "box", "a", "b", "c")
    fetched = await sender.fetch("box", group_name="g", deliver="earliest")
    for key in (None, "k"):
        with pytest.raises(MailboxFull):
            await sender.send("box", "d", key=key)
    await sender.ack("box", "g", fetched[1].msg_id, individual=True)
    assert await sender.send("box", "d") == 3
    with pytest.raises(MailboxFull):
        await sender.send("box", "e")
    await sender.ack("box", "g", fetched[0].msg_id, individual=True)
    assert await sender.send("box", "e") == 4
    assert bodies(await sender.query("box")) == ["c", "d", "e"]


async def test_a_key_replaced_in_vain_may_still_make_room(small, sender):
    await send_all(sender, "box", bytes(30), bytes(60))
    await sender.delete("box", 0)
    await sender.send("box", bytes(30), key="k")
    fetched = await sender.fetch("box", group_name="g", deliver="earliest")
    await sender.ack("box", "g", fetched[-1].msg_id, individual=True)
    with pytest.raises(MailboxFull):
        await sender.send("box", bytes(50), key="k")
    assert await sender.send("box", bytes(40)) == 3
    assert [message.msg_id for message in await sender.query("box")] == [1, 3]
