"""The addresses below a configured agent's slug are its own, as the slug is."""

import pytest

from mq9 import Forbidden
from mq9.engine.commands import Actor
from mq9.protocol.reserved import Reserved

from .reading import refused

AGENTS = ("Claude", "Claude-Code", "bob")
OF_CLAUDE = ("claude.questions", "claude.turns.7", "claude.dead", "claude.codes.x")
OF_CODE = ("claude.code", "claude.code.questions", "claude.code.turns.7")


@pytest.fixture
async def claude(way):
    return await way.client(agent="Claude")


@pytest.fixture
async def code(way):
    return await way.client(agent="Claude-Code")


async def test_nobody_else_makes_them_or_points_there(way, bob, operator):
    before = way.state()
    for address in (*OF_CLAUDE, *OF_CODE):
        for other in (bob, operator):
            await refused(
                other.mailbox_create(name=address),
                other.mailbox_create(name=address, renew=True),
                other.mailbox_create(prefix=address),
                other.agent_register({"name": "helper", "mailbox": address}),
                other.agent_register({"mailbox": address}),
                other.agent_unregister(address),
                other.agent_report({"mailbox": address}),
                match="belongs to another agent",
            )
    assert way.state() == before


async def test_the_agent_of_the_longest_slug_makes_them(claude, code, bob):
    for owner, other, addresses in ((claude, code, OF_CLAUDE), (code, claude, OF_CODE)):
        for address in addresses:
            await refused(other.mailbox_create(name=address))
            await owner.mailbox_create(name=address)
            await owner.mailbox_create(prefix=address)
            assert (await owner.mailbox_status(address)).own is True
            await refused(bob.query(address), match="belongs to another agent")


async def test_a_registration_that_points_there_is_the_agent_s(way, claude, code, bob):
    way.configure(None)
    stranger = await way.client()
    await stranger.agent_register({"name": "a", "mailbox": "claude.help"})
    await stranger.agent_register({"name": "b", "mailbox": "claude.code.help"})
    way.configure(AGENTS)

    for client, name in ((bob, "a"), (code, "a"), (claude, "b")):
        with pytest.raises(Forbidden):
            await client.agent_unregister(name=name)
    await claude.agent_unregister(name="a")
    await code.agent_unregister(name="b")


async def test_addresses_that_only_look_alike_are_nobody_s(bob):
    for address in ("claudes", "claude1.questions", "x.claude", "code.claude.questions"):
        await bob.mailbox_create(name=address)


async def test_what_was_stored_there_is_claimed_for_its_agent(way):
    way.configure(None)
    stranger, eve = await way.client(), await way.client(agent="eve")
    for address in ("claude.a", "claude.code.a", "claudes", "bob"):
        await stranger.mailbox_create(name=address)
    await eve.mailbox_create(name="claude.b", send_policy="granted")
    await eve.mailbox_grant("claude.b", ["eve"], viewers=["eve"], senders=["eve"])
    await stranger.mailbox_grant("claude.a", viewers=["eve"])
    await eve.agent_register({"name": "helper", "mailbox": "claude.b"})
    await eve.agent_register({"name": "other", "mailbox": "claudes"})

    claimed = await way.broker.claim(Reserved(AGENTS))

    assert sorted(claimed.mailboxes) == ["bob", "claude.a", "claude.b", "claude.code.a"]
    assert claimed.removed == ("helper",)
    assert claimed.first_closed == ("claudes",)
    way.configure([*AGENTS, "eve"])
    claude, eve = await way.client(agent="Claude"), await way.client(agent="eve")
    mine = await claude.mailbox_grant("claude.b", [])
    assert (mine.viewers, mine.senders, mine.send_policy) == ((), (), "granted")
    assert (await eve.mailbox_status("claude.a")).rights == ("look", "send")
    again = await way.broker.claim(Reserved(AGENTS))
    assert (again.mailboxes, again.removed) == ((), ())


def test_an_actor_owns_what_is_below_its_slug_and_apart_from_no_other():
    actor = Actor("Claude", own=("Claude", "claude"), below="claude", apart=("claude.code",))

    assert all(map(actor.owns, ("claude", *OF_CLAUDE)))
    assert not any(map(actor.owns, ("", "bob", "claudes", "x.claude", *OF_CODE)))
    assert not any(map(Actor("Claude", own=("Claude", "claude")).owns, OF_CLAUDE))
