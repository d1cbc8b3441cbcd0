"""QUERY says of each message where it stands with a group, finds by it, and goes on before one."""

import pytest

from mq9 import InvalidRequest

from .reading import START, bodies, ids, send_all


@pytest.fixture
async def states(client, inbox):
    """A message of each state for the group g, each called like its state."""
    await send_all(client, inbox, "skipped")
    await client.fetch(inbox, group_name="g", deliver="new", max_wait_ms=0)
    await send_all(client, inbox, "acked", "moved", "given_back", "leased", "pending")
    await client.mailbox_create(name="dead")
    fetched = await client.fetch(inbox, group_name="g", consumer="worker", num_msgs=4)
    acked, moved, given_back, _ = fetched
    await acked.ack()
    await moved.move("dead", reason="no")
    await given_back.nack(delay=30)


async def test_each_message_says_where_it_stands_as_status_does(way, client, inbox, states):
    found = await client.query(inbox, group_name="g")

    assert [one.standing.state for one in found] == bodies(found)
    for message in found:
        history = (await client.mailbox_status(inbox, msg_id=message.msg_id)).message
        told = next(one for one in history.groups if one.group_name == "g")
        for name in ("state", "consumer", "until", "deliveries", "moved_to", "moved_as"):
            assert getattr(message.standing, name) == getattr(told, name), (message.text, name)
    assert not any(one.standing for one in await client.query(inbox))


async def test_the_reply_has_what_applies(way, client, inbox, states):
    found = (await way.ask(f"MSG.QUERY.{inbox}", {"group_name": "g"}))["messages"]

    told = {one["payload"]: one["standing"] for one in found}
    assert all(one.pop("group_name") == "g" for one in told.values())
    assert told == {
        "skipped": {"state": "skipped", "deliveries": 0},
        "acked": {"state": "acked", "deliveries": 0},
        "moved": {"state": "moved", "deliveries": 0, "moved_to": "dead", "moved_as": 0},
        "given_back": {"state": "given_back", "deliveries": 1, "until": START + 30},
        "leased": {
            "state": "leased",
            "deliveries": 1,
            "consumer": "worker",
            "until": START + 60,
        },
        "pending": {"state": "pending", "deliveries": 0},
    }
    found = (await way.ask(f"MSG.QUERY.{inbox}"))["messages"]
    assert not any("standing" in one for one in found)


async def test_what_was_leased_or_given_back_is_pending_afterwards(way, client, inbox, states):
    await way.clock.advance(60)

    found = await client.query(inbox, group_name="g", state="pending")

    assert bodies(found) == ["given_back", "leased", "pending"]
    told = [(one.standing.deliveries, one.standing.until, one.standing.consumer) for one in found]
    assert told == [(1, None, None), (1, None, None), (0, None, None)]


async def test_a_whole_batch_is_leased_message_by_message(client, inbox):
    for priority in ("normal", "critical", "urgent", "normal"):
        await client.send(inbox, priority, priority=priority)
    await client.fetch(inbox, group_name="g", consumer="a", num_msgs=3)

    found = await client.query(inbox, group_name="g")

    assert [one.standing.consumer for one in found] == ["a", "a", "a", None]
    await client.delete(inbox, 1)
    assert ids(await client.query(inbox, group_name="g", state="leased")) == [0, 2]


async def test_a_state_finds_its_messages_alone(client, inbox, states):
    for state in ("skipped", "acked", "moved", "given_back", "leased", "pending"):
        assert bodies(await client.query(inbox, group_name="g", state=state)) == [state]
    await send_all(client, inbox, "pending", "pending")
    newest = await client.query(inbox, group_name="g", state="pending", limit=2)
    assert (ids(newest), newest.more) == ([6, 7], True)
    assert await client.query(inbox, group_name="g", state="acked", msg_id=0) == []


async def test_a_state_and_tags_must_hold_together(client, inbox):
    await send_all(client, inbox, "a", "b", tags=["t", "u"])
    await client.send(inbox, "c", tags=["u"])
    await client.fetch(inbox, group_name="g", num_msgs=1)
    await client.ack(inbox, "g", 0)

    assert bodies(await client.query(inbox, group_name="g", state="pending", tags=["t"])) == ["b"]
    assert bodies(await client.query(inbox, group_name="g", state="acked", tags=["t"])) == ["a"]
    found = await client.query(inbox, group_name="g", tags=["u"], limit=2)
    assert ([one.standing.state for one in found], found.more) == (["pending"] * 2, True)


async def test_for_a_group_that_is_not_there_everything_is_pending(way, client, inbox, states):
    before = way.state()

    found = await client.query(inbox, group_name="other")

    assert {one.standing.state for one in found} == {"pending"}
    assert await client.query(inbox, group_name="other", state="acked") == []
    assert way.state() == before


async def test_a_reset_begins_anew(client, inbox, states):
    await client.fetch(inbox, group_name="g", force_deliver=True, num_msgs=1, consumer="again")

    found = await client.query(inbox, group_name="g")

    assert [one.standing.state for one in found] == ["leased"] + ["pending"] * 5


async def test_before_an_id_a_cut_page_goes_on(client, inbox):
    await send_all(client, inbox, *map(str, range(7)))

    pages, before = [], None
    while before is None or pages[-1].more:
        pages.append(await client.query(inbox, limit=3, before_id=before))
        before = pages[-1][0].msg_id

    assert [ids(page) for page in pages] == [[4, 5, 6], [1, 2, 3], [0]]
    assert await client.query(inbox, before_id=0) == []
    cut = await client.query(inbox, max_bytes=1)
    assert ids(await client.query(inbox, max_bytes=1, before_id=cut[0].msg_id)) == [5]


async def test_before_an_id_goes_with_all_else(client, inbox, states):
    found = await client.query(inbox, group_name="g", state="acked", before_id=2)
    assert bodies(found) == ["acked"]
    assert await client.query(inbox, group_name="g", state="acked", before_id=1) == []
    assert await client.query(inbox, msg_id=3, before_id=3) == []


async def test_the_standing_counts_as_bytes_of_the_reply(client, inbox):
    name = "g" * 256
    await send_all(client, inbox, *"abcdef")
    plain = await client.query(inbox, max_bytes=1_000)

    told = await client.query(inbox, max_bytes=1_000, group_name=name)

    assert len(plain) == 3
    assert (len(told), told.more) == (1, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"state": "acked"}, "state"),
        ({"group_name": "g", "state": "done"}, "state"),
        ({"group_name": "g", "state": ["acked"]}, "state"),
        ({"group_name": " g"}, "group_name"),
        ({"before_id": -1}, "before_id"),
        ({"before_id": "3"}, "before_id"),
    ],
)
async def test_what_makes_no_sense_is_refused(way, client, inbox, body, field):
    refused = await way.ask(f"MSG.QUERY.{inbox}", body)
    assert (refused["code"], refused["error"].partition(":")[0]) == ("invalid_request", field)
    with pytest.raises(InvalidRequest, match=field):
        await client.query(inbox, **body)
