"""Where agents are configured, their names and mailboxes are theirs before they connect."""

import pytest

from mq9 import Forbidden, MailboxExists, MailboxNotFound

from .reading import bodies, looks, refused, takes

AGENTS = ("Ada", "bob", "翻译")


@pytest.fixture
async def ada(way):
    return await way.client(agent="Ada")


async def test_nobody_else_makes_the_mailbox_of_an_agent_that_never_connected(way, bob, operator):
    before = way.state()

    await refused(
        bob.mailbox_create(name="ada"),
        bob.mailbox_create(name="ada", renew=True),
        operator.mailbox_create(name="ada"),
        operator.mailbox_create(name="ada", renew=True),
        bob.mailbox_create(prefix="ada"),
    )
    assert way.state() == before


async def test_an_agent_makes_its_own_mailbox_and_is_its_creator(ada, bob, operator):
    await ada.mailbox_create(name="ada")
    await bob.send("ada", "hello")

    assert bodies(await ada.query("ada")) == ["hello"]
    assert bodies(await operator.query("ada")) == ["hello"]
    await operator.mailbox_create(name="ada", renew=True)
    await refused(bob.query("ada"), bob.mailbox_create(name="ada", renew=True))
    with pytest.raises(MailboxExists):
        await ada.mailbox_create(name="ada")


async def test_nobody_else_registers_under_the_name_of_an_agent(way, bob, operator):
    await bob.mailbox_create(name="trap")
    before = way.state()

    for name in ("Ada", "ada", "ADA", "-ada-", "翻译"):
        for other in (bob, operator):
            await refused(
                other.agent_register({"name": name, "mailbox": "trap"}),
                other.agent_report({"name": name, "status": "gone"}),
                other.agent_unregister(name=name),
            )
    assert way.state() == before


async def test_nobody_else_points_a_registration_at_the_mailbox_of_an_agent(way, ada, bob):
    await ada.mailbox_create(name="ada")
    before = way.state()

    await refused(
        bob.agent_register({"name": "helper", "mailbox": "ada"}),
        bob.agent_register({"mailbox": "ada"}),
        bob.agent_register({"mailbox": "mq9://broker/ada"}),
        bob.agent_unregister("ada"),
        bob.agent_report({"mailbox": "ada", "status": "gone"}),
    )
    assert way.state() == before


async def test_an_agent_registers_reports_and_unregisters_in_any_spelling_of_its_name(ada):
    await ada.agent_register({"name": "Ada", "payload": "one"})
    await ada.agent_register({"name": "ADA", "payload": "two"})
    await ada.agent_report({"name": "ADA", "load": 1})

    found = {agent.match.name: agent.match.mailbox for agent in await ada.agent_discover()}
    assert found == {"Ada": "ada", "ADA": "ada"}
    await ada.agent_unregister(name="ADA")
    await ada.agent_unregister("ada")
    assert not await ada.agent_discover()


async def test_an_agent_may_have_further_names_that_are_nobody_s(ada, bob):
    await ada.agent_register({"name": "reviewer", "mailbox": "ada"})
    await bob.agent_register({"name": "writer"})

    await refused(
        bob.agent_register({"name": "reviewer"}),
        ada.agent_unregister(name="writer"),
        ada.agent_unregister("nowhere", name="writer"),
    )


class TestWhatNobodyAuthenticatedMade:
    """An operator's mailboxes and registrations, and those of another process on the file."""

    @pytest.fixture
    async def stranger(self, way):
        """Somebody who reaches the same broker where no agents are configured."""
        way.configure(None)
        client = await way.client()
        way.configure(AGENTS)
        return client

    async def test_a_mailbox_without_creator_is_closed_to_agents(self, way, ada, bob, operator):
        await operator.mailbox_create(name="open")
        await operator.send("open", "x")
        await operator.fetch("open", group_name="g", deliver="earliest")
        await bob.send("open", "y")
        before = way.state()

        await refused(
            *looks(bob, "open"), *takes(bob, "open"), bob.mailbox_create(name="open", renew=True)
        )
        with pytest.raises(Forbidden), ada.watch_unread("open", "g") as watch:
            await ada.mailbox_list()
        assert watch.unread is None
        assert way.state() == before

    async def test_an_operator_may_use_it_and_grant_it(self, ada, bob, operator):
        await operator.mailbox_create(name="open")
        await operator.send("open", "x")
        assert bodies(await operator.query("open")) == ["x"]
        with pytest.raises(Forbidden, match="no creator and is closed to agents"):
            await bob.query("open")

        await operator.mailbox_grant("open", ["bob"])

        assert bodies(await bob.query("open")) == ["x"]
        await refused(ada.query("open"), bob.mailbox_grant("open", ["bob", "Ada"]))

    @pytest.mark.parametrize("touch", ["query", "fetch", "renew", "grant"])
    async def test_the_agent_whose_slug_it_is_may_use_it_and_becomes_its_creator_by_any_change(
        self, way, stranger, ada, bob, touch
    ):
        await stranger.mailbox_create(name="ada", desc="from before")
        await stranger.send("ada", "x")
        await refused(bob.query("ada"), bob.mailbox_grant("ada", ["bob"]))

        if touch == "query":
            assert (await ada.mailbox_status("ada")).own is True
            assert bodies(await ada.query("ada")) == ["x"]
        elif touch == "fetch":
            assert bodies(await ada.fetch("ada", group_name="g", deliver="earliest")) == ["x"]
        elif touch == "renew":
            await ada.mailbox_create(name="ada", renew=True)
        else:
            await ada.mailbox_grant("ada", ["bob"])
            assert bodies(await bob.query("ada")) == ["x"]
            await ada.mailbox_grant("ada", [])

        await refused(bob.query("ada"), bob.mailbox_drop("ada"))
        if touch != "query":
            way.configure(None)
            bob = await way.client(agent="bob")
            await refused(bob.query("ada"), match="belongs to another agent")

    async def test_a_mailbox_that_another_agent_made_there_is_the_owner_s(self, way, ada, bob):
        way.configure(["bob"])
        squatter = await way.client(agent="bob")
        await squatter.mailbox_create(name="ada")
        way.configure(AGENTS)
        bob = await way.client(agent="bob")
        await bob.send("ada", "x")

        await refused(bob.query("ada"), bob.mailbox_drop("ada"))
        assert bodies(await ada.query("ada")) == ["x"]

    async def test_a_registration_that_no_agent_made_is_closed_to_agents(self, operator, ada, bob):
        await operator.agent_register({"name": "desk", "mailbox": "desk"})
        await refused(
            bob.agent_register({"name": "desk", "mailbox": "trap"}),
            bob.agent_report({"name": "desk"}),
            bob.agent_unregister(name="desk"),
            bob.agent_unregister("desk"),
        )
        [found] = await ada.agent_discover()
        assert found.match.mailbox == "desk"
        await operator.agent_unregister(name="desk")

    async def test_without_configured_agents_it_stays_open(self, way, stranger):
        await stranger.mailbox_create(name="open")
        way.configure(None)
        bob = await way.client(agent="bob")
        await bob.send("open", "x")

        assert bodies(await bob.query("open")) == ["x"]
        await bob.mailbox_create(name="open", renew=True)
        assert bodies(await (await way.client(agent="Ada")).query("open")) == ["x"]


async def test_a_mailbox_that_is_not_there_is_not_found_for_everybody(ada, bob):
    for client in (ada, bob):
        with pytest.raises(MailboxNotFound):
            await client.query("ada")


class TestTheBacklogOfOthers:
    """DISCOVER tells a mailbox's backlog only to who may read it."""

    async def seen(self, client, **question):
        found = await client.agent_discover(**question)
        return {agent.match.name: agent.match.backlog for agent in found}

    @pytest.mark.parametrize(
        "question", [{}, {"text": "mail"}, {"semantic": "who handles mail"}], ids=str
    )
    async def test_is_told_to_who_may_read_it(self, ada, bob, operator, question):
        await ada.mailbox_create(name="ada")
        await ada.agent_register({"name": "Ada", "payload": "handles mail"})
        await operator.mailbox_create(name="open")
        await operator.agent_register({"name": "open", "payload": "handles mail"})
        for address in ("ada", "open"):
            await bob.send(address, "x")

        assert await self.seen(ada, **question) == {"Ada": 1, "open": None}
        assert await self.seen(bob, **question) == {"Ada": None, "open": None}
        assert await self.seen(operator, **question) == {"Ada": 1, "open": 1}

        await ada.mailbox_grant("ada", ["bob"])
        assert await self.seen(bob, **question) == {"Ada": 1, "open": None}

    async def test_is_told_to_the_agent_whose_address_it_is(self, way, ada):
        way.configure(None)
        stranger = await way.client()
        await stranger.mailbox_create(name="ada")
        await stranger.agent_register({"name": "Ada"})
        await stranger.send("ada", "x")

        assert await self.seen(ada) == {"Ada": 1}
