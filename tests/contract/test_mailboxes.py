"""Mailboxes: made, listed, renewed, dropped, and gone when their time is over."""

import re

import pytest

from mq9 import (
    InvalidAddress,
    InvalidRequest,
    MailboxExists,
    MailboxNotFound,
    PublicMailbox,
    Removed,
)

from .parsing import only_read
from .reading import START, bodies, ids, looks, refused, takes


async def test_a_generated_address_is_long_and_never_the_same(client):
    made = {await client.mailbox_create(name=name) for name in [None, ""] * 25}

    assert len(made) == 50
    # 26 characters of base32 are 130 bits.
    assert all(re.fullmatch(r"[a-z2-7]{26,64}", address) for address in made)


async def test_a_prefix_stands_before_the_random_part(client):
    address = await client.mailbox_create(prefix="team.blue")

    assert re.fullmatch(r"team\.blue\.[a-z2-7]{26,64}", address)


@only_read
async def test_a_prefix_beside_a_name_or_one_that_leaves_no_room_is_refused(client):
    with pytest.raises(InvalidRequest, match="prefix"):
        await client.mailbox_create(name="a", prefix="b")
    with pytest.raises(InvalidAddress):
        await client.mailbox_create(prefix="a" * 128)


@pytest.mark.parametrize("form", ["mq9://localhost:4222/inbox", "mq9://other.org/inbox"])
async def test_the_url_form_of_an_address_is_accepted_everywhere(client, inbox, form):
    await client.send(form, "hello", reply_to=form)

    [message] = await client.fetch(form, group_name="g", deliver="earliest")
    assert message.mail_address == message.reply_to == inbox
    assert await client.ack(form, "g", message.msg_id) == [0]
    assert (await client.extend(form, "g", [0])).lost == (0,)
    await client.nack(form, "g", 0)
    assert ids(await client.query(form)) == [0]
    assert (await client.mailbox_status(form)).stored == 1
    await client.delete(form, 0)
    with pytest.raises(MailboxExists):
        await client.mailbox_create(name=form)
    await client.mailbox_drop(form)


@only_read
async def test_what_is_no_address_is_refused_before_anything_is_sent(client, requests_of):
    asked = requests_of(client)
    wrong = ["", "A", "a_b", "a-b", ".a", "a.", "a..b", "a b", "a/b", "é", "a*", "a.>", "a\n"]
    wrong += ["a" * 129, "mq9://host/", "mq9://host/A", "mq9:/host/a", "https://host/a"]
    wrong += ["mq9://host/a/b"]
    for address in wrong:
        with pytest.raises(InvalidAddress, match="invalid mail_address"):
            await client.send(address, "x")
    assert asked == []


async def test_what_is_an_address_is_accepted(client):
    for address in ("a", "0", "a.b.c", "9.a", "a" * 128, "a." * 63 + "ab"):
        assert await client.mailbox_create(name=address) == address
        assert await client.send(address, "x") == 0


async def test_a_mailbox_without_ttl_never_expires_even_when_it_is_renewed(way, client, inbox):
    await client.mailbox_create(name=inbox, renew=True, ttl=5)
    await way.clock.advance(10 * 365 * 86_400)

    assert await client.send(inbox, "still there") == 0
    assert (await client.mailbox_status(inbox)).ttl == 0


async def test_a_mailbox_is_gone_the_moment_its_ttl_has_passed(way, client):
    box = await client.mailbox_create(name="brief", ttl=60, public=True)
    await client.send(box, "x")
    await way.clock.advance(59.999)
    assert (await client.mailbox_status(box)).expires_at == START + 60
    assert len(await client.mailbox_list()) == 1

    await way.clock.advance(0.001)

    await refused(
        client.send(box, "x"),
        *looks(client, box),
        *takes(client, box),
        match="mailbox not found: brief does not exist",
        error=MailboxNotFound,
    )
    assert await client.mailbox_list() == []


async def test_an_expired_name_is_free_and_the_new_mailbox_starts_empty(way, client):
    box = await client.mailbox_create(name="brief", ttl=60)
    await client.send(box, "old", key="k", id="once")
    await client.send(box, "late", delay=30)
    await client.fetch(box, group_name="g", deliver="earliest")
    await client.delete(box, await client.send(box, "deleted"))
    await way.clock.advance(60)

    assert await client.mailbox_create(name="brief", desc="new") == box

    assert await client.query(box) == []
    status = await client.mailbox_status(box, group_name="g", msg_id=0)
    assert (status.stored, status.delayed, status.stored_bytes, status.ttl) == (0, 0, 0, 0)
    assert status.removed == Removed()
    assert not status.group.exists
    assert status.message.state == "unassigned"
    assert await client.send(box, "new", id="once") == 0
    assert bodies(await client.fetch(box, group_name="g", deliver="earliest")) == ["new"]


async def test_a_waiting_fetch_is_told_that_the_mailbox_expired(way, client):
    box = await client.mailbox_create(name="brief", ttl=30)
    grouped = await way.begin(client.fetch(box, group_name="g", max_wait_ms=60_000))
    stateless = await way.begin(client.fetch(box, max_wait_ms=60_000))
    told_at = []
    grouped.add_done_callback(lambda _: told_at.append(way.clock.now_ms()))

    await way.clock.advance(100)

    for fetch in (grouped, stateless):
        with pytest.raises(MailboxNotFound):
            await fetch
    assert told_at == [(START + 30) * 1000]


async def test_renew_makes_a_mailbox_or_starts_its_ttl_again_and_ignores_the_rest(way, client):
    box = await client.mailbox_create(name="kept", renew=True, ttl=60, desc="first")
    await client.send(box, "x")
    await way.clock.advance(59)

    assert await client.mailbox_create(name=box, renew=True, ttl=5, desc="second") == box
    await way.clock.advance(59)

    status = await client.mailbox_status(box)
    assert (status.desc, status.ttl, status.stored, status.public) == ("first", 60, 1, False)
    await way.clock.advance(1)
    with pytest.raises(MailboxNotFound):
        await client.mailbox_status(box)


async def test_drop_takes_everything_at_once(way, client, inbox):
    await client.send(inbox, "x")
    await client.agent_register({"name": "In", "mailbox": inbox})
    waiting = await way.begin(client.fetch(inbox, deliver="new", max_wait_ms=60_000))

    await client.mailbox_drop(inbox)
    await way.clock.advance(0)

    assert waiting.done()
    with pytest.raises(MailboxNotFound):
        await waiting
    assert await client.agent_discover() == []
    with pytest.raises(MailboxNotFound):
        await client.mailbox_drop(inbox)
    await client.mailbox_create(name=inbox)
    assert await client.send(inbox, "first") == 0


async def test_only_public_mailboxes_are_listed_by_address(client, inbox):
    await client.mailbox_create(name="z.open", public=True, desc="last")
    await client.mailbox_create(name="a.open", public=True, desc="前台")
    await client.mailbox_create(name="hidden", desc="not for you")

    assert await client.mailbox_list() == [
        PublicMailbox("a.open", "前台"),
        PublicMailbox("z.open", "last"),
    ]


async def test_addresses_that_share_a_beginning_are_strangers(client):
    for name in ("a", "a.b", "a.b.c", "ab"):
        await client.mailbox_create(name=name)
    for name in ("a.b", "a.b.c"):
        await client.send(name, "x")
        await client.fetch(name, group_name="g", deliver="earliest")

    stored = [(await client.mailbox_status(name)).stored for name in ("a", "a.b", "a.b.c", "ab")]
    assert stored == [0, 1, 1, 0]
    await client.mailbox_drop("a.b")
    assert bodies(await client.fetch("a.b.c", group_name="g")) == ["x"]
