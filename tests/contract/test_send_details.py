"""A sender that asks for details learns what its message replaced, and how to take it back."""

import pytest

from mq9 import SendOutcome


async def test_a_message_that_replaces_nothing_has_its_number_alone(client, inbox):
    assert await client.send_detailed(inbox, "a") == SendOutcome(msg_id=0)
    assert await client.send(inbox, "b") == 1


@pytest.mark.parametrize("kind", ["standard", "latest"])
async def test_the_message_that_was_replaced_is_named(client, kind):
    await client.mailbox_create(name="box", type=kind)
    options = {"key": "k"} if kind == "standard" else {}
    await client.send_detailed("box", "a", **options)

    assert await client.send_detailed("box", "b", **options) == SendOutcome(msg_id=1, replaced=0)


async def test_a_delayed_message_has_a_number_of_its_own_until_it_is_due(way, client, inbox):
    first = await client.send_detailed(inbox, "a", delay=60, id="a")
    assert (first.msg_id, first.replaced) == (-1, None)
    assert first.delayed_id is not None
    assert await client.send_detailed(inbox, "a", delay=60, id="a") == first
    assert await client.send(inbox, "a", delay=60, id="a") == -1
    second = await client.send_detailed(inbox, "b", delay=60)
    assert second.delayed_id != first.delayed_id

    await way.clock.advance(60)
    assert await client.send_detailed(inbox, "a", delay=60, id="a") == SendOutcome(msg_id=-1)


async def test_the_number_takes_the_message_back(way, client, inbox):
    sent = await client.send_detailed(inbox, "a", delay=60, id="a", sender="planner")

    await client.cancel(inbox, sent.delayed_id, sender="planner")

    await way.clock.advance(60)
    assert await client.query(inbox) == []
    assert await client.send(inbox, "a", delay=60, id="a", sender="planner") == -1


async def test_a_repeated_send_says_no_more_of_what_it_replaced(client, inbox):
    await client.send(inbox, "a", key="k")
    assert (await client.send_detailed(inbox, "b", key="k", id="b")).replaced == 0
    assert await client.send_detailed(inbox, "b", key="k", id="b") == SendOutcome(msg_id=1)
