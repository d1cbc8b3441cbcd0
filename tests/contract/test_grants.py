"""GRANT: who may read a mailbox that an authenticated agent made."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound

from .reading import refused, takes


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


async def test_a_mailbox_is_open_to_those_it_was_granted_to_until_they_are_left_out(ada, bob, box):
    assert await reads(bob, box) == set()

    assert await ada.mailbox_grant(box, ["bob", "carol", "bob"]) == ["bob", "carol"]
    assert await reads(bob, box) == EVERYTHING
    await bob.send(box, "x")
    await bob.delete(box, 0)

    await ada.mailbox_grant(box, [])
    assert await reads(bob, box) == set()
    assert await reads(ada, box) == EVERYTHING


async def test_a_grant_ends_with_the_mailbox(ada, bob, box):
    await ada.mailbox_grant(box, ["bob"])
    await ada.mailbox_drop(box)
    with pytest.raises(MailboxNotFound):
        await ada.mailbox_grant(box, ["bob"])
    await ada.mailbox_create(name=box)

    assert await reads(bob, box) == set()


async def test_only_its_creator_or_an_operator_may_grant_a_mailbox(ada, bob, operator, box):
    await operator.mailbox_grant(box, ["bob"])
    assert await reads(bob, box) == EVERYTHING
    with pytest.raises(Forbidden, match="another agent"):
        await bob.mailbox_grant(box, ["carol"])


async def test_a_mailbox_without_creator_is_nobody_s_to_grant(client, bob, inbox):
    with pytest.raises(Forbidden, match="no creator"):
        await bob.mailbox_grant(inbox, ["ada"])
    await client.mailbox_grant(inbox, ["ada"])
    assert await reads(bob, inbox) == EVERYTHING  # it stays open to whoever knows it


async def rights(client, box):
    return (await client.mailbox_status(box)).rights


class TestLooking:
    """Viewers look at a mailbox, and take nothing."""

    @pytest.fixture
    async def box(self, ada, bob, box):
        await ada.send(box, "first")
        await ada.send(box, "second")
        await ada.mailbox_grant(box, viewers=["bob"])
        return box

    async def test_a_viewer_looks(self, bob, box):
        assert [one.text for one in await bob.query(box)] == ["first", "second"]
        assert [one.text for one in await bob.fetch(box, deliver="earliest")] == ["first", "second"]
        assert await bob.fetch(box, deliver="new", max_wait_ms=0) == []
        assert (await bob.mailbox_status(box, group_name="g", msg_id=0)).stored == 2
        with bob.watch_unread(box, "g") as watch:
            await bob.mailbox_list()
        assert watch.unread.total == 2

    async def test_a_viewer_takes_nothing(self, way, ada, bob, box):
        await ada.fetch(box, group_name="g", consumer="c", num_msgs=1)
        await ada.mailbox_create(name="another")
        before = way.state()

        told = "box is granted to you to look at only"
        await refused(bob.fetch(box, group_name="g"), match=told)
        await refused(*takes(bob, box), bob.mailbox_create(name=box, renew=True))
        release = {"group_name": "g", "request_id": "r", "consumer": "c"}
        assert (await way.ask("MSG.RELEASE.box", release, agent="bob"))["code"] == "forbidden"
        assert way.state() == before

    async def test_a_viewer_is_told_the_backlog(self, ada, bob, box):
        await ada.agent_register({"name": "desk", "mailbox": box})
        [desk] = await bob.agent_discover()
        assert desk.match.backlog == 2


class TestLists:
    """Each list says all, and one that is not given stays."""

    async def test_a_list_that_is_not_given_stays_as_it_is(self, ada, box):
        await ada.mailbox_grant(box, ["bob"], viewers=["carol"], senders=["dave"])

        granted = await ada.mailbox_grant(box, viewers=["eve"])

        assert granted == ["bob"]
        assert (granted.readers, granted.viewers) == (("bob",), ("eve",))
        assert (granted.senders, granted.send_policy) == (("dave",), "everyone")
        assert granted.enforced

    async def test_the_reply_says_all(self, way, ada, box):
        body = {"readers": ["bob"], "send_policy": "granted"}
        assert await way.ask("MAILBOX.GRANT.box", body, agent="ada") == {
            "error": "",
            "readers": ["bob"],
            "viewers": [],
            "senders": [],
            "send_policy": "granted",
            "look_policy": "granted",
            "enforced": True,
        }

    @pytest.mark.parametrize("name", ["readers", "viewers", "senders"])
    async def test_a_list_that_makes_no_sense_is_refused(self, way, ada, box, name):
        before = way.state()
        for value in ("bob", [1], ["a\nb"], [""], [f"a{n}" for n in range(65)]):
            reply = await way.ask("MAILBOX.GRANT.box", {name: value}, agent="ada")
            assert reply["code"] == "invalid_request"
            assert reply["error"].startswith(f"{name}: ")
            with pytest.raises(InvalidRequest, match=f"{name}: "):
                await ada.mailbox_grant(box, **{name: value})
        assert way.state() == before

    async def test_what_grants_nothing_is_refused(self, way, ada, box):
        for body in ({}, {"readers": None}):
            reply = await way.ask("MAILBOX.GRANT.box", body, agent="ada")
            assert (reply["code"], "readers" in reply["error"]) == ("invalid_request", True)
        with pytest.raises(
            InvalidRequest, match="give readers, viewers, senders, send_policy or look_policy"
        ):
            await ada.mailbox_grant(box)


async def test_status_says_what_the_asker_may_do(way, ada, bob, client, box):
    everything = ("look", "take", "send", "grant")
    assert await rights(ada, box) == everything
    await ada.mailbox_grant(box, ["bob"], viewers=["carol"], send_policy="granted")

    assert await rights(ada, box) == everything
    assert await rights(bob, box) == ("look", "take", "send")
    assert await rights(await way.client(agent="carol"), box) == ("look",)
    assert await rights(client, box) == everything
    await ada.mailbox_grant(box, send_policy="creator")
    assert await rights(bob, box) == ("look", "take")
