"""A read that takes too long is stopped, and keeps nobody waiting."""

import pytest

from mq9 import TooExpensive

from .reading import bodies

TAGS = [f"tag{number}" for number in range(64)]


async def test_all_of_many_tags_are_looked_for(client, inbox):
    for number in range(5):
        await client.send(inbox, str(number), tags=[tag for tag in TAGS if tag != f"tag{number}"])
    await client.send(inbox, "all", tags=TAGS)
    await client.send(inbox, "none")
    assert bodies(await client.query(inbox, tags=TAGS)) == ["all"]
    assert bodies(await client.query(inbox, tags=TAGS[1:5])) == ["0", "all"]
    assert bodies(await client.query(inbox, tags=TAGS[5:], limit=2)) == ["4", "all"]
    assert bodies(await client.query(inbox, tags=["tag"])) == []


async def test_a_query_that_takes_too_long_is_refused_and_smaller_ones_are_not(open_way):
    way = open_way(max_read_steps=10_000)
    client = await way.client(reconnect_attempts=0)
    inbox = await client.mailbox_create(name="inbox")
    for number in range(1_500):
        await client.send(inbox, str(number), tags=["common"])
    with pytest.raises(TooExpensive, match="more than 10000 steps and was stopped; ask for less"):
        await client.query(inbox, tags=["rare"])
    assert bodies(await client.query(inbox, tags=["common"], limit=2)) == ["1498", "1499"]
    assert bodies(await client.query(inbox, msg_id=7)) == ["7"]
    assert await client.send(inbox, "still served") == 1_500


async def test_a_query_that_takes_too_long_is_carried_out_once(open_way, requests_of):
    way = open_way(max_read_steps=10_000)
    client = await way.client()
    inbox = await client.mailbox_create(name="inbox")
    for number in range(1_500):
        await client.send(inbox, str(number), tags=["common"])
    asked = requests_of(client)
    with pytest.raises(TooExpensive):
        await client.query(inbox, tags=["rare"])
    assert len(asked) == 1


async def test_to_find_a_correlation_id_others_are_not_looked_at(open_way):
    way = open_way(max_read_steps=2_000)
    client = await way.client(reconnect_attempts=0)
    inbox = await client.mailbox_create(name="inbox")
    for number in range(500):
        await client.send(inbox, str(number), correlation_id=f"q{number}")

    assert bodies(await client.query(inbox, correlation_id="q7")) == ["7"]
    assert await client.query(inbox, correlation_id="of no message") == []
    assert await client.query(inbox, correlation_id="q7", key="of another") == []
