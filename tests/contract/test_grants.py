"""GRANT: who may read a mailbox that an authenticated agent made."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound


async def reads(client, box):
    """Which of the private verbs a client may use."""
    allowed = set()
    for name, attempt in {
        "fetch": client.fetch(box, group_name="g", deliver="earliest", max_wait_ms=0),
        "read": client.fetch(box, deliver="earliest", max_wait_ms=0),
        "query": client.query(box),
        "status": client.mailbox_status(box),
    }.items():
        try:
            await attempt
        except Forbidden:
            continue
        allowed.add(name)
    return allowed


EVERYTHING = {"fetch", "read", "query", "status"}


@pytest.fixture
async def box(ada):
    return await ada.mailbox_create(name="box")


async def test_a_mailbox_is_open_to_those_it_was_granted_to(ada, bob, box):
    assert await reads(bob, box) == set()

    assert await ada.mailbox_grant(box, ["bob", "carol", "bob"]) == ["bob", "carol"]

    assert await reads(bob, box) == EVERYTHING
    await bob.send(box, "x")
    await bob.delete(box, 0)


async def test_what_was_granted_is_taken_away_by_leaving_it_out(ada, bob, box):
    await ada.mailbox_grant(box, ["bob"])
    await ada.mailbox_grant(box, [])

    assert await reads(bob, box) == set()
    assert await reads(ada, box) == EVERYTHING


async def test_only_its_creator_may_grant_a_mailbox(ada, bob, box):
    await ada.mailbox_grant(box, ["bob"])
    with pytest.raises(Forbidden, match="another agent"):
        await bob.mailbox_grant(box, ["carol"])


async def test_an_operator_may_grant_any_mailbox(client, bob, box):
    await client.mailbox_grant(box, ["bob"])
    assert await reads(bob, box) == EVERYTHING


async def test_a_mailbox_without_creator_is_nobody_s_to_grant(client, bob, inbox):
    with pytest.raises(Forbidden, match="no creator"):
        await bob.mailbox_grant(inbox, ["ada"])
    await client.mailbox_grant(inbox, ["ada"])
    assert await reads(bob, inbox) == EVERYTHING  # it stays open to whoever knows it


async def test_a_grant_ends_with_the_mailbox(ada, bob, box):
    await ada.mailbox_grant(box, ["bob"])
    await ada.mailbox_drop(box)
    await ada.mailbox_create(name=box)

    assert await reads(bob, box) == set()


async def test_a_grant_is_for_a_mailbox_that_is_there(ada):
    with pytest.raises(MailboxNotFound):
        await ada.mailbox_grant("nowhere", ["bob"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "readers"),
        ({"readers": None}, "readers"),
        ({"readers": "bob"}, "readers: 'bob' is not a list"),
        ({"readers": [1]}, "readers: 1 is not a text"),
        ({"readers": ["a\nb"]}, "readers: 'a\\nb' has characters that are not printable"),
        ({"readers": [""]}, "readers: ''"),
        ({"readers": [f"a{n}" for n in range(65)]}, "readers: 65 agents are more than 64"),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(way, ada, bob, box, body, told):
    reply = await way.ask("MAILBOX.GRANT.box", body, agent="ada")

    assert reply["code"] == "invalid_request"
    assert told in reply["error"]
    assert await reads(bob, box) == set()


async def test_the_client_refuses_it_before_it_asks(ada, bob, box):
    with pytest.raises(InvalidRequest, match="readers"):
        await ada.mailbox_grant(box, ["bob", "a\nb"])
    assert await reads(bob, box) == set()


async def test_the_unread_line_of_a_granted_mailbox_is_told(ada, bob, box):
    await ada.send(box, "x")
    with pytest.raises(Forbidden), bob.watch_unread(box, "g"):
        await bob.mailbox_list()
    await ada.mailbox_grant(box, ["bob"])
    with bob.watch_unread(box, "g") as watch:
        await bob.mailbox_list()
    assert watch.unread.total == 1
