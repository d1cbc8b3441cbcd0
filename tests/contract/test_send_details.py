"""What a SEND with `mq9-details` is told: the number of a delayed message, and what it replaced."""

import pytest

from mq9 import MessageNotFound, SendOutcome

DETAILS = ("mq9-details", "true")


async def test_a_delayed_message_has_a_number_to_take_it_back_by(client, inbox):
    sent = await client.send_detailed(inbox, "later", delay=10)
    assert sent == SendOutcome(msg_id=-1, delayed_id=1)
    other = await client.send_detailed(inbox, "later still", delay=20)
    assert other.delayed_id == 2
    await client.cancel(inbox, sent.delayed_id)
    assert (await client.mailbox_status(inbox)).delayed == 1


async def test_a_repetition_has_the_number_while_it_is_delayed(way, client, inbox):
    for _ in range(2):
        sent = await client.send_detailed(inbox, "later", delay=10, id="once")
        assert sent == SendOutcome(msg_id=-1, delayed_id=1)
    assert await client.send(inbox, "later", delay=10, id="once") == -1
    await way.clock.advance(10)
    sent = await client.send_detailed(inbox, "later", delay=10, id="once")
    assert sent == SendOutcome(msg_id=-1)


async def test_a_repetition_without_details_at_first(client, inbox):
    assert await client.send(inbox, "later", delay=10, id="once") == -1
    sent = await client.send_detailed(inbox, "later", delay=10, id="once")
    assert sent.delayed_id == 1
    await client.cancel(inbox, 1)
    sent = await client.send_detailed(inbox, "later", delay=10, id="once")
    assert sent == SendOutcome(msg_id=-1)
    with pytest.raises(MessageNotFound):
        await client.cancel(inbox, 1)


async def test_what_was_replaced_under_a_key(client, inbox):
    assert await client.send_detailed(inbox, "1", key="k") == SendOutcome(msg_id=0)
    assert await client.send_detailed(inbox, "other", key="l") == SendOutcome(msg_id=1)
    sent = await client.send_detailed(inbox, "2", key="k", id="once")
    assert sent == SendOutcome(msg_id=2, replaced=0)
    sent = await client.send_detailed(inbox, "2", key="k", id="once")
    assert sent == SendOutcome(msg_id=2)


async def test_what_was_replaced_where_only_the_newest_is_kept(client):
    await client.mailbox_create(name="load", type="latest")
    assert await client.send_detailed("load", "1") == SendOutcome(msg_id=0)
    assert await client.send_detailed("load", "2") == SendOutcome(msg_id=1, replaced=0)
    sent = await client.send_detailed("load", "3", delay=5)
    assert sent == SendOutcome(msg_id=-1, delayed_id=1)


async def test_nothing_to_tell_of_a_plain_message(way, client, inbox):
    sent = await client.send_detailed(inbox, "x", priority="urgent", tags=["a"])
    assert sent == SendOutcome(msg_id=0)
    assert (await client.query(inbox))[0].tags == ("a",)
    assert await way.ask(f"MSG.SEND.{inbox}", b"x", DETAILS) == {"error": "", "msg_id": 1}


async def test_only_where_it_is_asked_for(way, inbox):
    send = f"MSG.SEND.{inbox}"
    for headers in ((), (("mq9-details", "false"),)):
        reply = await way.ask(send, b"x", ("mq9-delay", "5"), *headers)
        assert reply == {"error": "", "msg_id": -1}
    reply = await way.ask(send, b"x", ("mq9-delay", "5"), DETAILS)
    assert reply == {"error": "", "msg_id": -1, "delayed_id": 3}


@pytest.mark.parametrize("value", ["yes", "1", "True", "true,false"])
async def test_another_word_is_refused(way, inbox, value):
    reply = await way.ask(f"MSG.SEND.{inbox}", b"x", ("mq9-details", value))
    assert (reply["code"], "mq9-details" in reply["error"]) == ("invalid_request", True)


async def test_an_option_that_there_is_not(client, inbox):
    for send in (client.send, client.send_detailed):
        with pytest.raises(TypeError, match=rf"{send.__name__}\(\) got an unexpected .* 'colour'"):
            await send(inbox, "x", colour="red")
        with pytest.raises(TypeError, match="'details'"):
            await send(inbox, "x", details=True)
