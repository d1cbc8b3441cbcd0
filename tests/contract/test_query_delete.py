"""QUERY looks, DELETE removes one message."""

import pytest

from mq9 import MessageNotFound

from .reading import START, bodies, ids, send_all


async def test_query_is_the_newest_that_match_oldest_first(client, inbox):
    await send_all(client, inbox, *map(str, range(5)))

    newest = await client.query(inbox, limit=2)

    assert (bodies(newest), newest.more) == (["3", "4"], True)
    assert bodies(await client.query(inbox)) == ["0", "1", "2", "3", "4"]
    assert not (await client.query(inbox, limit=5)).more


async def test_query_shows_a_hundred_unless_told_otherwise(client, inbox):
    await send_all(client, inbox, *map(str, range(120)))

    assert ids(await client.query(inbox)) == list(range(20, 120))
    assert len(await client.query(inbox, limit=1_000)) == 120


async def test_query_ignores_priority(client, inbox):
    for priority in ("normal", "critical", "urgent"):
        await client.send(inbox, priority, priority=priority)

    assert ids(await client.query(inbox)) == [0, 1, 2]


async def test_tags_mean_all_of_them(client, inbox):
    await client.send(inbox, "ab", tags=["a", "b"])
    await client.send(inbox, "a", tags=["a"])
    await client.send(inbox, "abc", tags=["c", "b", "a"])
    await client.send(inbox, "none")

    assert bodies(await client.query(inbox, tags=["a", "b"])) == ["ab", "abc"]
    assert bodies(await client.query(inbox, tags=["b", "a", "b"])) == ["ab", "abc"]
    assert bodies(await client.query(inbox, tags=["a"])) == ["ab", "a", "abc"]
    assert await client.query(inbox, tags=["a", "x"]) == []


async def test_a_tag_matches_itself_alone(client, inbox):
    tags = ["a", "%", "_", "A", "ab", "a%", "*", "a b", "'", '"', "雪"]
    for tag in tags:
        await client.send(inbox, tag, tags=["x", tag, "y"])
    for tag in tags:
        assert bodies(await client.query(inbox, tags=[tag])) == [tag]


async def test_a_correlation_id_matches_itself_alone(client, inbox):
    await client.send(inbox, "about nothing")
    wanted = ["q", "Q", "%", "_", "q*", "雪", "x" * 256]
    for one in (*wanted, "qq", "x" * 255):
        await client.send(inbox, one, correlation_id=one, reply_to="asker")
        await client.send(inbox, f"answer {one}", correlation_id=one, priority="critical")
    for one in wanted:
        assert bodies(await client.query(inbox, correlation_id=one)) == [one, f"answer {one}"]
        assert bodies(await client.query(inbox, correlation_id=one, limit=1)) == [f"answer {one}"]
    assert await client.query(inbox, correlation_id="x") == []


async def test_a_correlation_id_is_found_whatever_became_of_its_message_but_its_end(
    way, client, inbox
):
    await client.send(inbox, "acked", correlation_id="q")
    await client.send(inbox, "expired", correlation_id="q", ttl=5)
    await client.send(inbox, "deleted", correlation_id="q")
    await client.send(inbox, "replaced", correlation_id="q", key="k")
    await client.send(inbox, "newer", correlation_id="other", key="k")
    await client.send(inbox, "delayed", correlation_id="q", delay=10)
    await client.fetch(inbox, group_name="g")
    await client.ack(inbox, "g", 0)
    await client.delete(inbox, 2)
    await way.clock.advance(5)
    assert bodies(await client.query(inbox, correlation_id="q")) == ["acked"]

    await way.clock.advance(5)
    assert bodies(await client.query(inbox, correlation_id="q")) == ["acked", "delayed"]


async def test_a_moved_message_keeps_its_correlation_id(client, inbox):
    await client.mailbox_create(name="other")
    await client.send(inbox, "question", correlation_id="q")
    [message] = await client.fetch(inbox, group_name="g")

    await message.move("other")

    assert bodies(await client.query("other", correlation_id="q")) == ["question"]


async def test_no_correlation_id_means_all_messages(way, client, inbox):
    await client.send(inbox, "a", correlation_id="q")
    await client.send(inbox, "b")

    for absent in (None, ""):
        assert bodies(await client.query(inbox, correlation_id=absent)) == ["a", "b"]
        shown = await way.ask(f"MSG.QUERY.{inbox}", {"correlation_id": absent})
        assert len(shown["messages"]) == 2


async def test_since_is_inclusive(way, client, inbox):
    await client.send(inbox, "a")
    await way.clock.advance(10.5)
    await client.send(inbox, "b")

    assert bodies(await client.query(inbox, since=START)) == ["a", "b"]
    assert bodies(await client.query(inbox, since=START + 1)) == ["b"]
    assert bodies(await client.query(inbox, since=START + 10)) == ["b"]
    assert await client.query(inbox, since=START + 11) == []


async def test_all_given_filters_must_hold_together(way, client, inbox):
    await client.send(inbox, "old", tags=["t"], key="old")
    await way.clock.advance(10)
    await client.send(inbox, "right", tags=["t"], key="k")
    await client.send(inbox, "untagged", key="l")

    assert bodies(await client.query(inbox, tags=["t"], since=START + 5)) == ["right"]
    assert bodies(await client.query(inbox, key="k", tags=["t"], since=START, msg_id=1)) == [
        "right"
    ]
    assert await client.query(inbox, key="l", tags=["t"]) == []
    assert await client.query(inbox, key="k", msg_id=0) == []
    assert bodies(await client.query(inbox, tags=["t"], limit=1)) == ["right"]
    await client.send(inbox, "asked", tags=["t"], correlation_id="q")
    await client.send(inbox, "untagged", correlation_id="q")
    assert bodies(await client.query(inbox, tags=["t"], correlation_id="q")) == ["asked"]


async def test_by_msg_id_it_is_that_message_or_none(client, inbox):
    await send_all(client, inbox, "a", "b")

    assert bodies(await client.query(inbox, msg_id=1)) == ["b"]
    assert await client.query(inbox, msg_id=7) == []


async def test_query_touches_no_group_and_no_lease(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    before = way.state()

    await client.query(inbox, tags=["x"], key="k", since=0)
    await client.query(inbox)

    assert way.state() == before


async def test_acked_messages_stay_queryable(way, client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.ack(inbox, "g", 0)
    await way.clock.advance(3 * 365 * 86_400)

    assert bodies(await client.query(inbox)) == ["a"]


async def test_a_reply_cut_by_bytes_keeps_the_newest_and_says_more(client, inbox):
    await send_all(client, inbox, *[bytes(10_000)] * 5)

    newest = await client.query(inbox, max_bytes=30_000)

    assert (ids(newest), newest.more) == ([3, 4], True)
    assert ids(await client.query(inbox, max_bytes=1)) == [4]


async def test_delete_removes_one_message_for_everybody(client, inbox):
    await send_all(client, inbox, "a", "b", "c")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)

    await client.delete(inbox, 1)

    assert bodies(await client.query(inbox)) == ["a", "c"]
    assert bodies(await client.fetch(inbox, group_name="g")) == ["a", "c"]
    assert (await client.mailbox_status(inbox, msg_id=1)).message.state == "deleted"


async def test_what_is_not_there_cannot_be_deleted(client, inbox):
    await client.send(inbox, "a")
    await client.delete(inbox, 0)

    for msg_id in (0, 1, 2**53 - 1):
        with pytest.raises(MessageNotFound, match="message not found"):
            await client.delete(inbox, msg_id)


async def test_a_delayed_message_has_no_id_to_be_deleted_by(way, client, inbox):
    await client.send(inbox, "later", delay=5)
    with pytest.raises(MessageNotFound):
        await client.delete(inbox, 0)

    await way.clock.advance(5)
    await client.delete(inbox, 0)
    assert await client.query(inbox) == []


async def test_delete_says_so_on_the_wire(way, client, inbox):
    await client.send(inbox, "a")

    assert await way.ask(f"MSG.DELETE.{inbox}.0") == {"error": "", "deleted": True}


async def test_an_address_that_ends_in_a_number_is_not_mistaken_for_an_id(way, client):
    box = await client.mailbox_create(name="inbox.0")
    await client.send(box, "a")

    await client.delete(box, 0)

    assert await client.query(box) == []
