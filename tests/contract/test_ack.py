"""ACK: confirms a message and those before it in the same reply, and nothing else ever."""

import pytest

from mq9 import InvalidRequest, MessageNotFound

from .parsing import only_read
from .reading import bodies, ids, send_all


async def _rest(client, inbox, **options):
    return ids(await client.fetch(inbox, group_name="g", max_wait_ms=0, **options))


async def _leased(client, inbox):
    return (await client.mailbox_status(inbox, group_name="g")).group.leased


async def _lost(way, inbox, *texts):
    """Send messages that one client fetches and keeps for too long; it, and another client."""
    slow, quick = await way.client(), await way.client()
    await send_all(slow, inbox, *texts)
    await slow.fetch(inbox, group_name="g", deliver="earliest", lease_ms=1_000)
    await way.clock.advance(1)
    return slow, quick


async def test_an_ack_confirms_one_or_all_before_it_too_and_names_the_same_ids_again(client, inbox):
    await send_all(client, inbox, "a", "b", "c", "d")
    await client.fetch(inbox, group_name="g", deliver="earliest")

    assert await client.ack(inbox, "g", 2, individual=True) == [2]
    for _ in range(2):
        assert await client.ack(inbox, "g", 1) == [0, 1]
    assert await client.ack(inbox, "g", 0) == []
    assert await _rest(client, inbox) == [3]
    assert await client.ack(inbox, "g", 3) == [3]
    assert await _rest(client, inbox) == []


async def test_before_it_means_earlier_in_the_reply_and_not_a_smaller_id(client, inbox):
    for priority in ("normal", "critical", "normal", "urgent"):
        await client.send(inbox, priority, priority=priority)
    assert ids(await client.fetch(inbox, group_name="g", deliver="earliest")) == [1, 3, 0, 2]

    assert await client.ack(inbox, "g", 3) == [1, 3]
    assert await _rest(client, inbox) == [0, 2]


async def test_an_ack_never_reaches_into_another_reply(client, inbox):
    await send_all(client, inbox, "a", "b", "c")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1)
    await client.fetch(inbox, group_name="g", num_msgs=1, redeliver_own=False)

    assert await client.ack(inbox, "g", 1) == [1]
    assert await _rest(client, inbox) == [0, 2]


async def test_a_late_ack_confirms_nothing_that_another_holds_by_now(way, inbox):
    slow, quick = await _lost(way, inbox, "a", "b")
    await quick.fetch(inbox, group_name="g")

    assert await slow.ack(inbox, "g", 1) == []

    assert ids(await quick.fetch(inbox, group_name="g")) == [0, 1]
    assert await quick.ack(inbox, "g", 1) == [0, 1]


async def test_a_late_ack_confirms_what_of_its_reply_nobody_else_holds(way, inbox):
    slow, quick = await _lost(way, inbox, "a", "b", "c")
    await quick.fetch(inbox, group_name="g", num_msgs=2)

    assert await slow.ack(inbox, "g", 2) == [2]

    [standing] = (await slow.mailbox_status(inbox, msg_id=2)).message.groups
    assert standing.state == "acked"
    assert ids(await quick.fetch(inbox, group_name="g")) == [0, 1]


async def test_a_late_ack_still_counts_when_nobody_took_the_message(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest", lease_ms=1_000)
    await way.clock.advance(3_600)

    assert await client.ack(inbox, "g", 1) == [0, 1]
    assert await _rest(client, inbox) == []


async def test_a_message_the_other_has_acked_is_not_confirmed_twice(way, inbox):
    slow, quick = await _lost(way, inbox, "a", "b")
    await quick.fetch(inbox, group_name="g")
    await quick.ack(inbox, "g", 0)
    await quick.nack(inbox, "g", 1)

    assert await slow.ack(inbox, "g", 1) == [1]


async def test_the_token_says_which_reply_is_meant(client, inbox):
    await send_all(client, inbox, "a", "b")
    others = await client.fetch(inbox, group_name="h", deliver="earliest")
    first = await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1)
    both = await client.fetch(inbox, group_name="g")
    assert ids(both) == [0, 1]

    for wrong in (first, others):
        with pytest.raises(InvalidRequest, match="batch"):
            await client.ack(inbox, "g", 1, batch=wrong.batch)
    assert await client.ack(inbox, "g", 1, batch=both.batch) == [0, 1]


async def test_without_a_token_the_latest_reply_to_the_consumer_counts(way, client, inbox):
    await send_all(client, inbox, "a", "b", "c")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
    await client.fetch(inbox, group_name="g", consumer="other")
    body = {"group_name": "g", "mail_address": inbox, "msg_id": 1, "consumer": client.consumer}

    reply = await way.ask(f"MSG.ACK.{inbox}", body)

    assert reply == {"error": "", "acked": [0, 1]}


async def test_an_ack_without_a_token_confirms_nothing_that_was_handed_to_others_only(way, inbox):
    one, other = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b")
    await one.fetch(inbox, group_name="g", deliver="earliest")

    with pytest.raises(MessageNotFound, match="message not found: 1 was delivered to another cons"):
        await other.ack(inbox, "g", 1)
    assert [lease.count for lease in await _leased(one, inbox)] == [2]

    await one.ack(inbox, "g", 0)
    await one.delete(inbox, 0)
    with pytest.raises(MessageNotFound, match="another consumer"):
        await other.ack(inbox, "g", 0)


async def test_an_ack_of_what_another_got_later_is_of_ones_own_fetch(way, inbox):
    slow, quick = await _lost(way, inbox, "a", "b")
    await quick.fetch(inbox, group_name="g", num_msgs=1)
    body = {"group_name": "g", "msg_id": 1, "consumer": slow.consumer}

    assert (await way.ask(f"MSG.ACK.{inbox}", body))["acked"] == [1]
    assert [lease.consumer for lease in await _leased(slow, inbox)] == [quick.consumer]


async def test_an_ack_that_names_no_consumer_speaks_for_the_group(way, inbox):
    one, other = await way.client(), await way.client()
    await send_all(one, inbox, "a", "b", "c")
    await one.fetch(inbox, group_name="g", deliver="earliest", num_msgs=2)
    await other.fetch(inbox, group_name="g", num_msgs=1)
    body = {"group_name": "g", "mail_address": inbox, "msg_id": 1}

    assert await way.ask(f"MSG.ACK.{inbox}", body) == {"error": "", "acked": [0, 1]}
    assert await one.ack(inbox, "g", 2, any_consumer=True) == [2]


async def test_an_ack_that_names_no_consumer_means_the_fetch_of_its_own_connection_first(
    way, client, inbox
):
    await send_all(client, inbox, "a", "b", "c")
    fetch = {"group_name": "g", "deliver": "earliest", "config": {"num_msgs": 2, "lease_ms": 1_000}}
    await way.ask(f"MSG.FETCH.{inbox}", fetch, consumer="connection.1")
    await way.clock.advance(1)
    await way.ask(f"MSG.FETCH.{inbox}", {"group_name": "g"}, consumer="connection.2")
    body = {"group_name": "g", "msg_id": 1}

    late = await way.ask(f"MSG.ACK.{inbox}", body, consumer="connection.1")
    assert late == {"error": "", "acked": []}
    mine = await way.ask(f"MSG.ACK.{inbox}", body, consumer="connection.2")
    assert mine == {"error": "", "acked": [0, 1]}


async def test_a_new_client_may_ack_what_an_earlier_one_fetched(way, inbox):
    before = await way.client()
    await send_all(before, inbox, "a", "b")
    batch = await before.fetch(inbox, group_name="g", deliver="earliest")
    await before.close()
    after = await way.client()

    assert await after.ack(inbox, "g", 1, batch=batch.batch) == [0, 1]


@pytest.mark.parametrize("end", ["delete", "expire", "replace"])
async def test_acking_a_message_that_is_gone_confirms_those_before_it(way, client, inbox, end):
    await client.send(inbox, "a")
    await client.send(inbox, "b", key="k", ttl=10)
    await client.send(inbox, "c")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    if end == "delete":
        await client.delete(inbox, 1)
    elif end == "expire":
        await way.clock.advance(10)
    else:
        await client.send(inbox, "b2", key="k")

    assert await client.ack(inbox, "g", 1) == [0]
    assert (await _rest(client, inbox))[0] == 2


async def test_acking_a_message_that_went_before_it_was_handed_out_succeeds(client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
    await client.send(inbox, "b")
    await client.delete(inbox, 1)

    assert await client.ack(inbox, "g", 1) == []


async def test_what_the_group_was_not_handed_is_not_found(client, inbox):
    await send_all(client, inbox, "before its start", "a", "b")
    await client.fetch(inbox, group_name="g", deliver="from_id", from_id=1, num_msgs=1)
    await client.fetch(inbox, group_name="h", deliver="earliest")

    for group_name, msg_id in (("g", 0), ("g", 2), ("g", 3), ("nobody", 0)):
        with pytest.raises(MessageNotFound, match="message not found"):
            await client.ack(inbox, group_name, msg_id)
    assert await _rest(client, inbox) == [1, 2]


async def test_a_token_of_an_earlier_mailbox_confirms_nothing_and_succeeds(way, inbox):
    old, new = await way.client(), await way.client()
    await old.send(inbox, "a")
    await old.fetch(inbox, group_name="g", deliver="earliest")
    await new.mailbox_drop(inbox)
    await new.mailbox_create(name=inbox)
    await new.send(inbox, "b")
    await new.fetch(inbox, group_name="g", deliver="earliest")

    assert await old.ack(inbox, "g", 0) == []
    assert await old.ack(inbox, "g", 5, batch="0123456789abcdef-0") == []

    assert bodies(await new.fetch(inbox, group_name="g")) == ["b"]


async def test_a_client_that_made_the_mailbox_anew_sends_no_old_token(client, inbox):
    await client.send(inbox, "a")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    await client.mailbox_drop(inbox)
    await client.mailbox_create(name=inbox)

    with pytest.raises(MessageNotFound):
        await client.ack(inbox, "g", 0)


@only_read
async def test_the_address_in_the_body_must_be_that_of_the_subject(way, client, inbox):
    await client.mailbox_create(name="other")
    body = {"group_name": "g", "mail_address": "other", "msg_id": 0}

    reply = await way.ask(f"MSG.ACK.{inbox}", body)

    assert reply["code"] == "invalid_request"
    assert "mail_address" in reply["error"]
