"""Who may send to a mailbox: everyone, those it is granted to, or its creator."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound, ReplyForbidden
from mq9.models import SendPolicy

from .parsing import only_read
from .reading import bodies

AGENTS = ["ada", "bob", "carol"]


@pytest.fixture
async def carol(way):
    return await way.client(agent="carol")


async def may_send(client, box, **options):
    """Send a message, and tell whether that is allowed."""
    try:
        await client.send(box, "x", **options)
    except Forbidden:
        return False
    return True


async def test_everyone_may_send_until_the_creator_or_an_operator_says_otherwise(
    ada, bob, operator
):
    box = await ada.mailbox_create(name="box")
    assert (await ada.mailbox_status(box)).send_policy is SendPolicy.EVERYONE
    assert await may_send(bob, box)

    assert (await ada.mailbox_grant(box, send_policy="creator")).send_policy == "creator"
    assert not await may_send(bob, box)
    with pytest.raises(Forbidden):
        await bob.mailbox_grant(box, send_policy="everyone")
    assert not await may_send(bob, box)
    await operator.mailbox_grant(box, send_policy="everyone")
    assert await may_send(bob, box)


async def test_only_its_creator_may_send_to_a_mailbox_of_that_policy(way, ada, bob, operator):
    box = await ada.mailbox_create(name="box", send_policy="creator")
    await ada.mailbox_grant(box, ["carol"], senders=["bob"])
    carol = await way.client(agent="carol")
    before = way.state()

    for other in (bob, carol):
        for options in ({}, {"delay": 5}, {"id": "i"}, {"key": "k"}):
            with pytest.raises(Forbidden, match=r"box takes messages only from its creator"):
                await other.send(box, "forged", **options)
    assert way.state() == before
    assert await may_send(ada, box)
    assert await may_send(operator, box)


async def test_those_it_is_granted_to_may_send_to_a_mailbox_of_that_policy(ada, bob, carol):
    box = await ada.mailbox_create(name="box", send_policy="granted")
    await ada.mailbox_grant(box, viewers=["bob"])
    with pytest.raises(Forbidden, match="only from those it is granted to"):
        await bob.send(box, "x")

    await ada.mailbox_grant(box, senders=["bob"])
    assert await may_send(bob, box)
    assert not await may_send(carol, box)

    await ada.mailbox_grant(box, ["carol"], senders=[])
    assert await may_send(carol, box)
    assert not await may_send(bob, box)


async def test_nobody_moves_a_message_to_where_they_may_not_send(way, ada, bob):
    await ada.mailbox_create(name="box", send_policy="creator")
    await bob.mailbox_create(name="own")
    await bob.send("own", "forged")
    [message] = await bob.fetch("own", group_name="g", deliver="earliest")
    before = way.state()

    with pytest.raises(Forbidden, match="box takes messages only from its creator"):
        await message.move("box")

    assert way.state() == before
    await ada.mailbox_grant("box", senders=["bob"], send_policy="granted")
    assert await message.move("box") == 0
    assert bodies(await ada.query("box")) == ["forged"]


async def test_whether_a_delayed_message_may_be_sent_is_decided_when_it_is_sent(way, ada, bob):
    box = await ada.mailbox_create(name="box")
    await bob.send(box, "in time", delay=5)
    await ada.mailbox_grant(box, send_policy="creator")

    await way.clock.advance(5)

    assert bodies(await ada.query(box)) == ["in time"]


async def test_a_repeated_send_is_answered_as_the_first_time(ada, bob):
    box = await ada.mailbox_create(name="box")
    assert await bob.send(box, "x", id="i") == 0
    await ada.mailbox_grant(box, send_policy="creator")

    assert await bob.send(box, "x", id="i") == 0
    assert len(await ada.query(box)) == 1


@pytest.mark.parametrize("dead_letter", [None, "dead"])
async def test_an_answer_that_may_not_be_sent_does_not_repeat_the_work(way, ada, bob, dead_letter):
    await ada.mailbox_create(name="closed", send_policy="creator")
    for name in ("work", "dead"):
        await bob.mailbox_create(name=name)
    await ada.send("work", "?", reply_to="closed")
    runs = []

    def handle(message):
        runs.append(message.text)
        return "an answer"

    async with await bob.consume(
        "work", handle, group_name="g", dead_letter=dead_letter
    ) as consumer:
        await way.clock.advance(3_600)
        assert (runs, consumer.counters.rejected) == (["?"], 1)

    group = (await bob.mailbox_status("work", group_name="g")).group
    assert (group.acked, group.moved) == ((1, 0) if dead_letter is None else (0, 1))
    reasons = [one.moved.reason for one in await bob.query("dead")]
    told = "mail_address: closed takes messages only from its creator (send_policy creator)"
    assert reasons == ([] if dead_letter is None else [told])
    [question] = await bob.query("work")
    with pytest.raises(ReplyForbidden, match="closed takes messages only from its creator"):
        await question.reply("an answer")


async def test_a_renewed_mailbox_keeps_its_policy(way, ada, bob):
    await ada.mailbox_create(name="box")
    body = {"name": "box", "renew": True, "send_policy": "creator"}

    reply = await way.ask("MAILBOX.CREATE", body, agent="ada")

    assert reply == {
        "error": "",
        "mail_address": "box",
        "send_policy": "everyone",
        "enforced": True,
    }
    assert await may_send(bob, "box")


async def test_a_policy_ends_with_the_mailbox(ada, bob):
    await ada.mailbox_create(name="box", send_policy="creator")
    await ada.mailbox_drop("box")
    with pytest.raises(MailboxNotFound):
        await bob.send("box", "x")
    await ada.mailbox_create(name="box")

    assert await may_send(bob, "box")


async def test_the_owner_of_an_address_sends_there_whoever_made_the_mailbox(way, bob):
    way.configure(None)
    await (await way.client(agent="eve")).mailbox_create(name="ada.timers", send_policy="creator")
    way.configure(AGENTS)
    ada, bob = await way.client(agent="ada"), await way.client(agent="bob")

    assert await may_send(ada, "ada.timers")
    assert not await may_send(bob, "ada.timers")


@only_read
async def test_what_is_no_policy_is_refused(way, ada):
    before = way.state()
    for verb, body in (
        ("MAILBOX.CREATE", {"name": "box", "send_policy": "nobody"}),
        ("MAILBOX.GRANT.box", {"send_policy": "nobody"}),
    ):
        reply = await way.ask(verb, body, agent="ada")
        assert reply["code"] == "invalid_request"
        assert "send_policy: 'nobody' is not one of everyone, granted, creator" in reply["error"]
    with pytest.raises(InvalidRequest, match="send_policy"):
        await ada.mailbox_create(name="box", send_policy="nobody")
    assert way.state() == before


class TestWhereNobodyIsToldApart:
    """A broker that knows no senders says that it enforces no limits."""

    @pytest.fixture
    async def anybody(self, way):
        way.configure(None)
        return await way.client()

    async def test_a_policy_is_kept_and_not_enforced(self, way, anybody):
        body = {"name": "box", "send_policy": "creator"}
        reply = await way.ask("MAILBOX.CREATE", body)
        assert (reply["send_policy"], reply["enforced"]) == ("creator", False)

        granted = await anybody.mailbox_grant("box", ["bob"], viewers=["carol"])

        assert (granted.send_policy, granted.enforced) == ("creator", False)
        assert await may_send(anybody, "box")
        status = await anybody.mailbox_status("box")
        assert (status.send_policy, status.enforced) == ("creator", False)
        assert status.rights == ("look", "take", "send", "grant")

    async def test_it_is_enforced_once_agents_are_configured(self, way, anybody):
        await anybody.mailbox_create(name="box", send_policy="granted")
        await anybody.mailbox_grant("box", senders=["carol"])
        way.configure(AGENTS)

        assert not await may_send(await way.client(agent="bob"), "box")
        assert await may_send(await way.client(agent="carol"), "box")
