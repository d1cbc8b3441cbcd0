"""Who may: where users are configured, an older generation opens nothing more."""

import orjson
import pytest
from raw import publish

from mq9.server.users import User, Users

from .hearing import PONG, ROOT, Post, headers_of

USERS = [User("adas", agent="ada"), User("bobs", agent="bob"), User("operators")]
ADA, BOB, OPERATOR = [{"auth_token": token} for token in ("adas", "bobs", "operators")]


@pytest.fixture
async def post(open_hosted):
    """A server at which ada has made the mailbox ``box`` and has mail."""
    post = Post(await open_hosted(guard=Users(USERS)))
    made = await post.ask("MAILBOX.CREATE", b'{"public":true,"name":"box"}', **ADA)
    assert made["error"] == ""
    assert (await post.ask("MAILBOX.MSG.box", b"for ada", **BOB))["error"] == ""
    return post


async def grant(post, *readers):
    body = orjson.dumps({"readers": readers})
    assert (await post.ask("MAILBOX.GRANT.box", body, **ADA))["error"] == ""


def refusal(subject):
    why = "mail_address: box belongs to another agent"
    return "-ERR", f"'Permissions Violation for Subscription to \"{ROOT}{subject}\", {why}'"


@pytest.mark.parametrize("queue", ["", "workers"])
@pytest.mark.parametrize("subject", ["MAILBOX.MSG.box", "INBOX.box.>", "INBOX.box"])
async def test_mail_of_another_is_refused_and_nothing_leaks(post, subject, queue):
    bob = await post.listen(subject, queue, **BOB)
    await post.ask("MAILBOX.MSG.box", b"more", **BOB)

    assert await bob.frames() == [refusal(subject)]
    assert not post.hosted.broker.waiting
    assert not post.hosted.server.hub.router.has_interest(ROOT + subject)
    status = await post.ask("MAILBOX.STATUS.box", b'{"group_name":"workers"}', **ADA)
    assert status["group"]["exists"] is False


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_its_creator_and_an_operator_are_sent_it(post, queue):
    for who in (ADA, OPERATOR):
        listener = await post.listen(queue=queue and f"{queue}.{who['auth_token']}", **who)
        assert await listener.heard() == ["for ada"]


async def test_who_sent_it_is_said_by_the_broker(post):
    for verb in ("MAILBOX.MSG.box", "INBOX.box.normal"):
        await post.ask(verb, b"forged", [("mq9-from", "ada")], **BOB)
    await post.ask("MAILBOX.MSG.box", b"claimed", [("mq9-from", "ada")], **OPERATOR)

    ada = await post.listen(**ADA)

    frames = await ada.frames()
    verified = ("bob", "true")
    assert [
        (headers.get("mq9-from"), headers.get("mq9-from-verified"))
        for headers in map(dict, map(headers_of, frames))
    ] == [verified, verified, verified, ("ada", None)]


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_whoever_is_granted_it_is_sent_it_until_that_is_revoked(post, queue):
    await grant(post, "bob")
    bob = await post.listen(queue=queue, **BOB)
    assert await bob.heard() == ["for ada"]

    await grant(post)
    await post.ask("MAILBOX.MSG.box", b"for ada alone", **BOB)

    assert await bob.frames() == [refusal("MAILBOX.MSG.box")]
    assert await bob.heard() == []
    await grant(post, "bob")
    again = await post.listen(queue=queue, **BOB)
    assert "for ada alone" in await again.heard()


async def test_whoever_may_only_look_is_sent_it_and_takes_nothing(post):
    body = orjson.dumps({"viewers": ["bob"]})
    assert (await post.ask("MAILBOX.GRANT.box", body, **ADA))["error"] == ""

    for subject in ("MAILBOX.MSG.box", "INBOX.box.>"):
        bob = await post.listen(subject, **BOB)
        assert await bob.heard() == ["for ada"]
    member = await post.listen(queue="workers", **BOB)
    [(kind, told)] = await member.frames()
    assert kind == "-ERR"
    assert "box is granted to you to look at only" in told
    assert (await post.ask("MAILBOX.DELETE.box.0", **BOB))["code"] == "forbidden"
    for name in ("workers", "mq9.inbox"):
        status = await post.ask("MAILBOX.STATUS.box", orjson.dumps({"group_name": name}), **ADA)
        assert status["group"]["exists"] is False


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_who_waits_for_a_mailbox_that_another_makes_is_refused_then(post, queue):
    bob = await post.listen("MAILBOX.MSG.later", queue, **BOB)
    assert await bob.frames() == []

    await post.ask("MAILBOX.CREATE", b'{"name":"later"}', **ADA)
    await post.ask("MAILBOX.MSG.later", b"for ada", **BOB)

    [(name, text)] = await bob.frames()
    assert name == "-ERR"
    assert text.endswith("mail_address: later belongs to another agent'")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("MAILBOX.LIST.box", b""),
        ("MAILBOX.DELETE.box.0", b""),
        ("MAILBOX.QUERY.box", b'{"token":"x"}'),
        ("MAILBOX.CREATE", b'{"public":true,"name":"box"}'),
    ],
)
async def test_every_other_request_is_refused_as_in_the_current_generation(post, verb, body):
    assert (await post.ask(verb, body, **BOB))["code"] == "forbidden"
    assert [one["payload"] for one in (await post.ask("MAILBOX.LIST.box", **ADA))["messages"]] == [
        "for ada"
    ]


async def test_publishing_to_it_is_open_as_sending_is(post):
    bob = await post.hosted.raw(**BOB)
    for verb in ("MAILBOX.MSG.box.urgent", "INBOX.box.notify"):
        await bob.send_all(publish(ROOT + verb, verb.encode()))
    bob.send(b"PING\r\n")
    assert await bob.frame() == PONG

    ada = await post.listen(**ADA)
    assert await ada.heard() == ["MAILBOX.MSG.box.urgent", "for ada", "INBOX.box.notify"]


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_an_agent_that_waits_for_mail_lives(post, queue):
    await post.ask("AGENT.REGISTER", b'{"name":"ada","mailbox":"box","ttl":100}', **ADA)
    ada = await post.listen(queue=queue, **ADA)
    await ada.heard()

    async def is_known():
        found = await post.ask("AGENT.DISCOVER", **OPERATOR)
        return [one["name"] for one in found["matches"]] == ["ada"]

    for _ in range(5):
        await post.clock.advance(99)
        assert await is_known()
    await ada.leave()
    await post.clock.advance(100)
    assert not await is_known()
