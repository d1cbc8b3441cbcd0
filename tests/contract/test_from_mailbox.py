"""A message says which mailbox its sender may take messages from, and the broker checks that."""

import pytest

from mq9 import Forbidden, InvalidRequest

from .parsing import only_read

AGENTS = ["ada", "bob", "chief"]


@pytest.fixture
async def desk(ada):
    """A mailbox that ada has made."""
    return await ada.mailbox_create(name="desk")


@pytest.fixture
async def answers(bob):
    return await bob.mailbox_create(name="answers")


async def said(bob):
    """Who sent the newest message, and from which mailbox."""
    message = (await bob.query("answers"))[-1]
    return message.sender, message.sender_verified, message.from_mailbox


async def test_the_creator_of_a_mailbox_sends_from_it_when_it_says_so(ada, bob, desk, answers):
    await ada.send(answers, "no")
    assert await said(bob) == ("ada", True, None)
    await ada.send(answers, "yes", from_mailbox=desk)

    assert await said(bob) == ("ada", True, "desk")
    [_, fetched] = await bob.fetch(answers, group_name="g", deliver="earliest")
    assert fetched.from_mailbox == "desk"


async def test_a_handler_answers_from_the_mailbox_that_was_asked(ada, bob, desk, answers):
    async def handle(message):
        await message.reply("yes", from_mailbox=message.mail_address)

    await bob.send(desk, "may I?", reply_to=answers, correlation_id="q")
    async with await ada.consume(desk, handle):
        await bob.fetch(answers, deliver="earliest", max_wait_ms=60_000)

    assert await said(bob) == ("ada", True, "desk")


async def test_whoever_was_granted_a_mailbox_sends_from_it(way, ada, bob, desk, answers):
    chief = await way.client(agent="chief")
    await ada.mailbox_grant(desk, ["chief"])
    await chief.send(answers, "yes", from_mailbox=desk)
    assert await said(bob) == ("chief", True, "desk")

    await ada.mailbox_grant(desk, [])
    with pytest.raises(Forbidden, match="from_mailbox: you may not take messages from desk"):
        await chief.send(answers, "no", from_mailbox=desk)


async def test_nobody_else_says_so(way, ada, bob, desk, answers):
    before = way.state()
    for options in ({}, {"delay": 5}, {"id": "once"}, {"key": "k"}):
        with pytest.raises(Forbidden, match="from_mailbox: you may not take messages from desk"):
            await bob.send(answers, "yes", from_mailbox=desk, **options)
    assert way.state() == before


async def test_the_owner_of_an_address_sends_from_it_whoever_made_the_mailbox(way, bob, answers):
    way.configure(None)
    await (await way.client()).mailbox_create(name="ada")
    way.configure(AGENTS)
    ada, bob = await way.client(agent="ada"), await way.client(agent="bob")

    await ada.send(answers, "yes", from_mailbox="ada")

    assert await said(bob) == ("ada", True, "ada")
    with pytest.raises(Forbidden):
        await bob.send(answers, "yes", from_mailbox="ada")


async def test_a_mailbox_that_does_not_exist_is_named(way, ada, answers):
    before = way.state()
    with pytest.raises(InvalidRequest, match="from_mailbox: nowhere does not exist"):
        await ada.send(answers, "yes", from_mailbox="nowhere")
    assert way.state() == before


async def test_without_authentication_it_is_a_claim(way, bob, answers):
    await (await way.client()).send(answers, "yes", from_mailbox="nowhere", sender="ada")
    assert await said(bob) == ("ada", False, "nowhere")


async def test_a_repeated_send_is_answered_as_the_first_time(ada, bob, desk, answers):
    assert await ada.send(answers, "yes", id="i", from_mailbox=desk) == 0
    await ada.mailbox_drop(desk)
    assert await ada.send(answers, "yes", id="i", from_mailbox=desk) == 0


async def test_it_counts_and_stays_while_a_message_is_delayed_and_when_it_is_moved(
    way, ada, bob, desk, answers
):
    await ada.send(answers, "later", from_mailbox=desk, delay=5)
    await bob.mailbox_create(name="dead")
    await way.clock.advance(5)
    [message] = await bob.fetch(answers, group_name="g", deliver="earliest")
    assert message.from_mailbox == "desk"
    assert (await bob.mailbox_status(answers)).stored_bytes == len("later" + "ada" + "desk")

    await message.move("dead")

    [moved] = await bob.query("dead")
    assert (moved.sender, moved.sender_verified, moved.from_mailbox) == ("ada", True, "desk")


@only_read
async def test_what_is_no_address_is_refused(way, ada, answers):
    before = way.state()
    reply = await way.ask("MSG.SEND.answers", b"x", ("mq9-from-mailbox", "No Address"), agent="ada")
    assert reply["code"] == "invalid_address"
    assert way.state() == before
