"""Keys: at most one visible message for each, the newest."""

import pytest

from mq9 import Forbidden

from .reading import START, bodies, ids


async def test_a_newer_message_replaces_the_older_of_its_key_and_takes_a_new_id(client, inbox):
    other = await client.mailbox_create(name="other")
    await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
    await client.send(other, "elsewhere", key="k")
    await client.send(inbox, "another", key="l")
    await client.send(inbox, "one", key="k")

    assert await client.send(inbox, "two", key="k", priority="critical") == 2

    assert bodies(await client.query(inbox)) == ["another", "two"]
    assert bodies(await client.fetch(inbox, group_name="g")) == ["two", "another"]
    assert bodies(await client.query(other)) == ["elsewhere"]
    life = (await client.mailbox_status(inbox, msg_id=1)).message
    assert life.state == "replaced"


async def test_replacing_voids_the_lease_on_the_older(way, inbox):
    holder, other = await way.client(), await way.client()
    await holder.send(inbox, "one", key="k")
    await holder.fetch(inbox, group_name="g", deliver="earliest")

    await holder.send(inbox, "two", key="k")

    assert bodies(await other.fetch(inbox, group_name="g")) == ["two"]
    assert await holder.fetch(inbox, group_name="g", max_wait_ms=0) == []
    assert (await holder.extend(inbox, "g", [0])).lost == (0,)


async def test_a_key_is_free_again_after_expiry_and_deletion(way, client, inbox):
    await client.send(inbox, "brief", key="k", ttl=5)
    await way.clock.advance(5)
    await client.send(inbox, "second", key="k")
    assert (await client.mailbox_status(inbox, msg_id=0)).message.state == "expired"

    await client.delete(inbox, 1)
    assert await client.send(inbox, "third", key="k") == 2
    assert bodies(await client.query(inbox, key="k")) == ["third"]


async def test_a_delayed_message_replaces_when_it_falls_due_even_what_was_sent_later(
    way, client, inbox
):
    await client.send(inbox, "old", key="k")
    assert await client.send(inbox, "last", key="k", delay=20) == -1
    await client.send(inbox, "first", key="k", delay=10)
    assert bodies(await client.query(inbox)) == ["old"]
    await client.send(inbox, "sent later", key="k")

    for msg_id, text in ((1, "sent later"), (2, "first"), (3, "last")):
        found = await client.query(inbox)
        assert (bodies(found), ids(found)) == ([text], [msg_id])
        await way.clock.advance(10)


async def test_what_falls_due_together_replaces_one_after_the_other(way, client, inbox):
    await client.send(inbox, "stored", key="k")
    await client.send(inbox, "first", key="k", delay=10, tags=["a"])
    await client.send(inbox, "last", key="k", delay=30)
    await client.send(inbox, "second", key="k", delay=20, ttl=25)
    await client.send(inbox, "other", key="l", delay=5)
    await client.send(inbox, "plain", delay=25)

    await way.clock.advance(100)

    found = await client.query(inbox)
    assert [(one.msg_id, one.text, one.key, one.create_time - START) for one in found] == [
        (1, "other", "l", 5),
        (4, "plain", None, 25),
        (5, "last", "k", 30),
    ]
    lives = [(await client.mailbox_status(inbox, msg_id=one)).message for one in (0, 2, 3)]
    assert [(life.state, life.since - START, life.replaced_by) for life in lives] == [
        ("replaced", 10, 2),
        ("replaced", 20, 3),
        ("expired", 25, None),
    ]
    status = await client.mailbox_status(inbox)
    assert (status.stored, status.stored_bytes) == (3, len("otherl" + "plain" + "lastk"))


class TestAKeyIsItsSenders:
    """Where senders are verified, nobody replaces what another has sent."""

    async def test_only_the_verified_sender_replaces_its_message(
        self, way, client, inbox, ada, bob
    ):
        await ada.send(inbox, "one", key="k")
        await bob.send(inbox, "his", key="l")
        before = way.state()

        for other in (bob, client):
            with pytest.raises(Forbidden, match="key: 'k' in inbox belongs to another sender"):
                await other.send(inbox, "two", key="k", sender="ada")
        assert way.state() == before

        assert await ada.send(inbox, "two", key="k") == 2
        assert bodies(await client.query(inbox)) == ["his", "two"]

    async def test_a_verified_sender_replaces_what_claims_to_be_its_own_and_nothing_else(
        self, client, inbox, ada
    ):
        await client.send(inbox, "nobody's", key="a")
        await client.send(inbox, "bob's?", key="b", sender="bob")
        await client.send(inbox, "ada's?", key="c", sender="ada")

        for key in "ab":
            with pytest.raises(Forbidden):
                await ada.send(inbox, "x", key=key)
        await ada.send(inbox, "ada's", key="c")
        assert bodies(await client.query(inbox)) == ["nobody's", "bob's?", "ada's"]

    async def test_claims_replace_each_other_as_ever(self, client, inbox):
        await client.send(inbox, "one", key="k", sender="ada")
        await client.send(inbox, "two", key="k", sender="bob")

        assert bodies(await client.query(inbox)) == ["two"]

    async def test_a_key_is_free_again_when_its_message_is_gone(self, way, client, inbox, ada, bob):
        await ada.send(inbox, "brief", key="k", ttl=5)
        await way.clock.advance(5)
        await bob.send(inbox, "his", key="k")
        await client.delete(inbox, 1)
        await ada.send(inbox, "hers", key="k")

        assert bodies(await client.query(inbox)) == ["hers"]

    async def test_a_repeated_send_is_answered_whoever_has_the_key_now(
        self, client, inbox, ada, bob
    ):
        await ada.send(inbox, "one", key="k", id="1")
        await client.delete(inbox, 0)
        await bob.send(inbox, "his", key="k")

        assert await ada.send(inbox, "one", key="k", id="1") == 0

    async def test_a_delayed_message_for_the_key_of_another_is_refused_when_it_is_sent(
        self, way, client, inbox, ada, bob
    ):
        await ada.send(inbox, "hers", key="k", ttl=10)
        before = way.state()
        with pytest.raises(Forbidden):
            await bob.send(inbox, "his", key="k", delay=9)
        assert way.state() == before

        assert await bob.send(inbox, "his", key="k", delay=10) == -1, "hers is gone by then"
        await way.clock.advance(10)
        [message] = await client.query(inbox)
        assert (message.text, message.key) == ("his", "k")

    async def test_one_that_falls_due_under_a_key_that_another_took_since_keeps_its_body_alone(
        self, way, client, inbox, ada, bob
    ):
        await bob.send(inbox, "his", key="k", delay=10)
        await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
        await ada.send(inbox, "hers", key="k")

        await way.clock.advance(10)

        found = await client.query(inbox)
        assert [(message.text, message.key) for message in found] == [("hers", "k"), ("his", None)]
        assert bodies(await client.fetch(inbox, group_name="g")) == ["hers", "his"]
        await ada.send(inbox, "hers again", key="k")
        assert bodies(await client.query(inbox)) == ["his", "hers again"]

    async def test_delayed_ones_of_two_senders_keep_both(self, way, client, inbox, ada, bob):
        await ada.send(inbox, "hers", key="k", delay=10)
        await bob.send(inbox, "his", key="k", delay=10)
        await ada.send(inbox, "hers later", key="k", delay=20)

        await way.clock.advance(20)

        found = await client.query(inbox)
        assert [(one.text, one.key) for one in found] == [("his", None), ("hers later", "k")]
