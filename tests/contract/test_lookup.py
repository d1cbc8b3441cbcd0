"""LOOKUP finds agents by their exact names or mailboxes, and says since when they have written."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound
from mq9.models import AgentEntry

from .reading import START, send_all


@pytest.fixture
async def registered(client):
    await client.agent_register({"name": "Ada", "payload": "plans"})
    await client.agent_register({"name": "Ada Two", "mailbox": "ada"})
    await client.agent_register({"mailbox": "desk"})


async def names_of(client, **options):
    return [one.name for one in await client.agent_lookup(**options)]


async def test_each_name_is_told_of_registered_or_not(way, client, registered):
    await way.clock.advance(10)
    await client.agent_report({"name": "Ada"})

    found = await client.agent_lookup(["nobody", "Ada", "desk", "ada", "nobody"])

    assert found == [
        AgentEntry(name="nobody", registered=False),
        AgentEntry(name="Ada", registered=True, mailbox="ada", last_seen=START + 10),
        AgentEntry(name="desk", registered=True, mailbox="desk", last_seen=START),
        AgentEntry(name="ada", registered=False),
    ]


async def test_the_reply_has_what_applies(way, registered):
    body = {"names": ["Ada", "nobody"], "mailboxes": ["desk"]}
    assert await way.ask("AGENT.LOOKUP", body) == {
        "error": "",
        "agents": [
            {"name": "Ada", "registered": True, "mailbox": "ada", "last_seen": START},
            {"name": "nobody", "registered": False},
            {"name": "desk", "registered": True, "mailbox": "desk", "last_seen": START},
        ],
    }


async def test_by_mailbox_everybody_there_is_found_who_was_not_named(client, registered):
    assert await names_of(client, mailboxes=["desk", "ada", "nowhere"]) == [
        "desk",
        "Ada",
        "Ada Two",
    ]
    assert await names_of(client, names=["Ada Two"], mailboxes=["mq9://any/ada"]) == [
        "Ada Two",
        "Ada",
    ]
    assert await names_of(client, mailboxes=["nowhere"]) == []


async def test_of_one_mailbox_ten_are_told(client, registered):
    for number in range(12):
        await client.agent_register({"name": f"n{number:02}", "mailbox": "crowd"})

    found = await names_of(client, mailboxes=["crowd", "desk"])

    assert found == [*(f"n{number:02}" for number in range(10)), "desk"]


async def test_who_expired_or_was_removed_is_not_registered(way, client, registered):
    await client.agent_register({"name": "brief"}, ttl=5)
    await client.agent_unregister(name="Ada")
    await way.clock.advance(5)

    found = await client.agent_lookup(["brief", "Ada"], mailboxes=["brief", "ada"])

    assert [(one.name, one.registered) for one in found] == [
        ("brief", False),
        ("Ada", False),
        ("Ada Two", True),
    ]


async def test_who_registered_it_is_told_where_that_is_known(ada, client, registered):
    await ada.agent_register({"name": "notes", "mailbox": "ada.notes"})
    found = await client.agent_lookup(["notes", "Ada"])
    assert [one.by for one in found] == ["ada", None]


class TestSinceWhen:
    """With a mailbox, of each name since when there are messages from it."""

    async def test_each_name_has_written_since(self, way, client, registered, inbox):
        await client.send(inbox, "1", sender="Ada")
        await way.clock.advance(10.5)
        await client.send(inbox, "2", sender="Ada")
        await client.send(inbox, "3", sender="stranger")
        await client.send(inbox, "4")

        found = await client.agent_lookup(
            ["Ada", "stranger", "nobody"], mailboxes=["ada"], wrote_to=inbox
        )

        assert [(one.name, one.registered, one.wrote) for one in found] == [
            ("Ada", True, START),
            ("stranger", False, START + 10.5),
            ("nobody", False, None),
            ("Ada Two", True, None),
        ]
        assert not any(one.wrote_verified for one in found)

    async def test_the_message_in_hand_and_later_ones_are_left_out(self, way, client, inbox):
        await client.send(inbox, "0", sender="a")
        await way.clock.advance(1)
        await send_all(client, inbox, "1", "2", sender="b")

        for before, expected in {0: [None, None], 1: [START, None], 2: [START, START + 1]}.items():
            found = await client.agent_lookup(["a", "b"], wrote_to=inbox, before=before)
            assert [one.wrote for one in found] == expected

    async def test_a_claim_is_told_apart_from_what_is_known(self, way, client, ada, inbox):
        await client.send(inbox, "a claim", sender="ada")
        await way.clock.advance(5)
        assert (await client.agent_lookup(["ada"], wrote_to=inbox))[0].wrote_verified is None
        await ada.send(inbox, "herself")

        [found] = await client.agent_lookup(["ada"], wrote_to=inbox)

        assert (found.wrote, found.wrote_verified) == (START, START + 5)

    async def test_it_looks_back_a_thousand_messages(self, client, inbox):
        await client.send(inbox, "long ago", sender="a")
        await send_all(client, inbox, *["x"] * 999, sender="b")
        assert (await client.agent_lookup(["a"], wrote_to=inbox))[0].wrote == START

        await client.send(inbox, "x", sender="b")

        assert (await client.agent_lookup(["a"], wrote_to=inbox))[0].wrote is None
        [found] = await client.agent_lookup(["a"], wrote_to=inbox, before=1_000)
        assert found.wrote == START

    async def test_what_was_moved_there_or_has_expired_was_not_written_there(
        self, way, client, inbox
    ):
        await client.mailbox_create(name="other")
        await client.send("other", "x", sender="a")
        await client.send(inbox, "x", sender="b", ttl=5)
        [message] = await client.fetch("other", group_name="g")
        await message.move(inbox)
        assert [one.wrote for one in await client.agent_lookup(["a", "b"], wrote_to=inbox)] == [
            None,
            START,
        ]
        await way.clock.advance(5)
        assert (await client.agent_lookup(["b"], wrote_to=inbox))[0].wrote is None

    async def test_a_message_that_has_fallen_due_counts(self, way, client, inbox):
        await client.send(inbox, "x", sender="a", delay=5)
        assert (await client.agent_lookup(["a"], wrote_to=inbox))[0].wrote is None
        await way.clock.advance(5)
        assert (await client.agent_lookup(["a"], wrote_to=inbox))[0].wrote == START + 5

    async def test_only_who_may_look_is_told(self, ada, bob):
        await ada.mailbox_create(name="box")
        with pytest.raises(Forbidden):
            await bob.agent_lookup(["ada"], wrote_to="box")
        await ada.mailbox_grant("box", viewers=["bob"])
        assert (await bob.agent_lookup(["ada"], wrote_to="box"))[0].wrote is None
        with pytest.raises(MailboxNotFound):
            await bob.agent_lookup(["ada"], wrote_to="nowhere")


async def test_it_changes_nothing(way, client, registered, inbox):
    await client.send(inbox, "x", sender="Ada")
    before = way.state()
    await client.agent_lookup(["Ada"], mailboxes=["desk"], wrote_to=inbox)
    assert way.state() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "names"),
        ({"names": []}, "names"),
        ({"wrote_to": "inbox"}, "names"),
        ({"names": "Ada"}, "names"),
        ({"names": [" Ada"]}, "names"),
        ({"names": [7]}, "names"),
        ({"names": [f"n{number}" for number in range(101)]}, "names"),
        ({"mailboxes": ["desk"] * 101}, "mailboxes"),
        ({"names": ["Ada"], "before": 3}, "before"),
        ({"names": ["Ada"], "wrote_to": "inbox", "before": -1}, "before"),
    ],
)
async def test_what_makes_no_sense_is_refused(way, client, inbox, body, field):
    refused = await way.ask("AGENT.LOOKUP", body)
    assert (refused["code"], refused["error"].partition(":")[0]) == ("invalid_request", field)
    with pytest.raises(InvalidRequest, match=field):
        await client.agent_lookup(**body)


async def test_what_is_no_address_is_refused(way):
    for body in ({"mailboxes": ["A b"]}, {"names": ["x"], "wrote_to": "A b"}):
        assert (await way.ask("AGENT.LOOKUP", body))["code"] == "invalid_address"
