"""A server of the current generation alone, as there were before."""

import pytest
from raw import publish

from mq9.dialects import Dialects

from .hearing import PONG, ROOT, Post


@pytest.fixture
async def post(open_hosted):
    post = Post(await open_hosted(dialects=Dialects.CURRENT))
    await post.ask("MAILBOX.CREATE", b'{"name":"box"}')
    return post


@pytest.mark.parametrize(
    "verb",
    [
        *("MAILBOX.MSG.box.urgent", "MAILBOX.LIST.box", "MAILBOX.DELETE.box.0"),
        *("MAILBOX.QUERY.box", "INBOX.box.normal", "BROADCAST.a.b"),
    ],
)
async def test_no_older_verb_is_answered(post, verb):
    reply = await post.ask(verb, b'{"token":"x"}')

    assert reply["code"] == "invalid_request"
    assert "is not a verb of mq9" in reply["error"]
    assert (await post.hosted.broker.totals()).messages == 0


@pytest.mark.parametrize(
    "subject",
    ["MAILBOX.MSG.box", "INBOX.box.*", "INBOX.box.urgent", "BROADCAST.a.b", "BROADCAST.>"],
)
async def test_nothing_of_mq9_is_subscribed_to(post, subject):
    listener = await post.listen(subject)

    assert await listener.frames() == [
        ("-ERR", f"'Permissions Violation for Subscription to \"{ROOT}{subject}\"'")
    ]
    assert not post.hosted.broker.waiting


async def test_a_broadcast_reaches_nobody(post):
    everything = await post.hosted.raw()
    everything.send(b"SUB > 1\r\nPING\r\n")
    assert await everything.frame() == PONG
    talker = await post.hosted.raw()
    await talker.send_all(publish(f"{ROOT}BROADCAST.a.b", b"x") + b"PING\r\n")
    assert await talker.frame() == PONG

    everything.send(b"PING\r\n")
    assert await everything.frame() == PONG


async def test_a_create_is_of_the_current_generation_whatever_it_says(post):
    typed = await post.ask("MAILBOX.CREATE", b'{"type":"standard"}')
    assert typed.keys() == {"error", "mail_address"}
    for code in (None, "mailbox_exists"):
        public = await post.ask("MAILBOX.CREATE", b'{"public":true,"name":"named"}')
        assert public.get("code") == code
