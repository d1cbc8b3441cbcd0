"""Who may look at a mailbox: those it is granted to, or every authenticated agent."""

import pytest

from mq9 import Forbidden, InvalidRequest

from .reading import bodies


async def test_under_everyone_each_agent_looks_and_takes_nothing(ada, bob):
    await ada.mailbox_create(name="box", look_policy="everyone")
    await ada.send("box", "x")

    assert bodies(await bob.query("box")) == bodies(await bob.fetch("box")) == ["x"]
    assert (await bob.mailbox_status("box")).rights == ("look", "send")
    for attempt in (
        bob.fetch("box", group_name="g"),
        bob.delete("box", 0),
        bob.mailbox_drop("box"),
    ):
        with pytest.raises(Forbidden, match="open to you to look at only"):
            await attempt


async def test_a_grant_changes_it_and_tells_it(ada, bob):
    await ada.mailbox_create(name="box")
    with pytest.raises(Forbidden):
        await bob.query("box")
    assert (await ada.mailbox_grant("box", look_policy="everyone")).look_policy == "everyone"
    assert (await ada.mailbox_grant("box", senders=["eve"])).look_policy == "everyone"
    assert await bob.query("box") == []
    await ada.mailbox_grant("box", look_policy="granted")
    with pytest.raises(Forbidden):
        await bob.query("box")


async def test_a_mailbox_is_made_with_viewers(way, ada, bob):
    body = {"name": "box", "viewers": ["bob"]}
    assert await way.ask("MAILBOX.CREATE", body, agent="ada") == {
        "error": "",
        "mail_address": "box",
        "viewers": ["bob"],
        "enforced": True,
    }
    assert await bob.query("box") == []
    with pytest.raises(Forbidden, match="as a viewer"):
        await bob.fetch("box", group_name="g")


async def test_what_is_renewed_keeps_its_own(way, ada):
    await ada.mailbox_create(name="box", viewers=["bob"])
    body = {"name": "box", "renew": True, "look_policy": "everyone", "viewers": ["eve"]}
    reply = await way.ask("MAILBOX.CREATE", body, agent="ada")
    assert (reply["look_policy"], reply["viewers"]) == ("granted", ["bob"])


async def test_status_lists_whom_it_is_granted_to_for_who_may_grant(ada, bob):
    await ada.mailbox_create(name="box", look_policy="everyone", viewers=["carol"])
    await ada.mailbox_grant("box", ["dave"], senders=["eve"])

    own, seen = [await client.mailbox_status("box") for client in (ada, bob)]

    assert (own.readers, own.viewers, own.senders) == (("dave",), ("carol",), ("eve",))
    assert (seen.readers, seen.viewers, seen.senders) == (None, None, None)
    assert own.look_policy == seen.look_policy == "everyone"


async def test_what_makes_no_sense_is_refused(way, client):
    for field, value in (("look_policy", "nobody"), ("viewers", "bob")):
        refused = await way.ask("MAILBOX.CREATE", {field: value})
        assert (refused["code"], refused["error"].partition(":")[0]) == ("invalid_request", field)
        with pytest.raises(InvalidRequest, match=field):
            await client.mailbox_create(**{field: value})
