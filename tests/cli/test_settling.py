"""Actions of a person on a message: give it back, drop it, answer it with an error."""

import pytest

from mq9 import ErrorAnswer
from mq9.cli.settling import Place, answer_with_error, drop, give_back
from mq9.errors import MailboxNotFound, MessageNotFound

PLACE = Place(mail_address="orders", msg_id=0, group_name="workers")


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("orders", "asker"):
            await client.mailbox_create(name=name)
        yield client


async def fetch(client, consumer="w1"):
    return await client.fetch("orders", group_name="workers", consumer=consumer, max_wait_ms=0)


async def state(client, group="workers"):
    """How the group stands with message 0."""
    status = await client.mailbox_status("orders", msg_id=0)
    return next(one.state for one in status.message.groups if one.group_name == group)


async def test_a_message_is_given_back_by_whoever_holds_it(client):
    await client.send("orders", "tea")
    await fetch(client, "w 1")
    assert await give_back(client, PLACE, name="boss") == (
        "Message 0 of orders is given back: the lease of 'w 1' has ended."
    )
    assert await state(client) == "pending"
    status = await client.mailbox_status("orders", msg_id=0)
    assert status.message.groups[0].reason == "given back by boss"
    assert await give_back(client, PLACE, name="boss") == (
        "Message 0 of orders is not leased, so nothing was given back."
    )


@pytest.mark.parametrize("delay_ms", [None, 60_000, 0])
async def test_what_is_dropped_is_acked_for_its_group_alone(client, delay_ms):
    """Leased, kept from everybody for a minute, or waiting for its next delivery."""
    await client.send("orders", "tea")
    await client.fetch("orders", group_name="audit", max_wait_ms=0)
    await fetch(client)
    if delay_ms is not None:
        await client.nack("orders", "workers", 0, delay_ms=delay_ms, consumer="w1")
    told = "Message 0 of orders is dropped: group workers does not get it again."
    assert await drop(client, PLACE) == told
    assert (await state(client), await state(client, "audit")) == ("acked", "leased")
    assert await drop(client, PLACE) == "Message 0 of orders is acked already."


async def test_what_no_group_was_given_is_deleted(client):
    await client.send("orders", "tea")
    await client.send("orders", "rice")
    assert await drop(client, Place(mail_address="orders", msg_id=0)) == (
        "Message 0 of orders is deleted."
    )
    assert await drop(client, Place(mail_address="orders", msg_id=0)) == (
        "Message 0 of orders is no longer stored."
    )
    await client.fetch("orders", group_name="workers", deliver="new", max_wait_ms=0)
    await client.send("orders", "tea")
    waiting = Place(mail_address="orders", msg_id=2, group_name="workers")
    assert await drop(client, waiting) == "Message 2 of orders is deleted."
    with pytest.raises(MessageNotFound):
        await drop(client, waiting)
    with pytest.raises(MailboxNotFound):
        await drop(client, Place(mail_address="nowhere", msg_id=0))


async def test_an_error_answer_tells_the_asker_once_and_takes_the_message(client):
    await client.send("orders", "tea", sender="ada", reply_to="asker", correlation_id="q-1")
    await fetch(client)
    done = await answer_with_error(client, PLACE, reason="no tea today", name="boss")
    assert done == (
        "ada (claimed) gets the error: no tea today. "
        "Message 0 of orders is dropped: group workers does not get it again."
    )
    again = await answer_with_error(client, PLACE, reason="nor tomorrow", name="boss")
    assert again == ("Its sender got an error before. Message 0 of orders is acked already.")
    [told] = await client.query("asker")
    assert (told.sender, told.correlation_id, told.reply_to) == ("boss", "q-1", None)
    failed = ErrorAnswer.read(told)
    assert (failed.code, failed.reason) == ("rejected", "no tea today")


async def test_who_cannot_be_told_is_named(client):
    await client.send("orders", "tea")
    assert await answer_with_error(client, PLACE, reason="no", name="boss") == (
        "Message 0 of orders has no reply_to, so it cannot be answered."
    )
    await client.send("orders", "tea", reply_to="gone")
    gone = Place(mail_address="orders", msg_id=1, group_name="workers")
    await fetch(client)
    assert (await answer_with_error(client, gone, reason="no", name="boss")).startswith(
        "The mailbox for its answer no longer exists. Message 1 of orders is dropped"
    )
    await client.send("orders", "x", reply_to="asker", headers={"error": "failed"})
    answer = Place(mail_address="orders", msg_id=2)
    assert "itself an error answer" in await answer_with_error(
        client, answer, reason="no", name="boss"
    )
    assert await answer_with_error(
        client, Place(mail_address="orders", msg_id=9), reason="no", name="boss"
    ) == ("Message 9 of orders is no longer stored.")
