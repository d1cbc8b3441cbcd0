"""Which mailboxes an agent of the MCP server takes for its own, whatever others make of them."""

import pytest
from attacks import refusals, state
from hosting import Host
from mcp import Client

from mcp_server import Callers, Settings, make_server
from mq9.operations.identity import Identity

SECRET = "the secret"


async def is_shut(host, address):
    """Whether nothing is read in a mailbox, sent there, or answered there; all or nothing."""
    refused = {
        "not " in told and SECRET not in told
        async for variant, given, told in refusals(host, address)
        if told is not None and "message not found" not in told
    }
    for arguments in (
        {"mail_address": address},
        {"mail_address": "team.one", "reply_to": address},
    ):
        result = await host.call("send_message", content="x", **arguments)
        refused.add("may send to team.*" in result.content[0].text)
    assert len(refused) == 1, refused
    return refused.pop()


@pytest.fixture
async def attacker(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="team.one")
        yield client


@pytest.fixture
async def desk(open_host, era, attacker):
    return await open_host("desk", era=era, allow_send=["team.*"])


@pytest.mark.parametrize("where", [{"name": "evil"}, {"prefix": "desk"}], ids=str)
async def test_no_description_by_another_client_makes_a_mailbox_its_own(
    desk, attacker, broker, where
):
    own = (await desk.do("create_mailbox"))["mail_address"]
    copied = (await attacker.mailbox_status(own)).desc
    for desc in ("made by agent desk", copied, f"made by agent desk, proof {'0' * 32}"):
        evil = await attacker.mailbox_create(desc=desc, public=True, **where)
        await attacker.send(evil, SECRET)
        before = state(broker)

        assert await is_shut(desk, evil)
        assert state(broker) == before
        await attacker.mailbox_drop(evil)


async def test_its_own_are_open_to_it_in_every_process(desk, open_host, era):
    for name in (None, "scratch"):
        own = (await desk.do("create_mailbox", name=name))["mail_address"]
        again = await open_host("desk", era=era, allow_send=["team.*"])
        other = await open_host("other", era=era, allow_send=["team.*"])
        await again.do("send_message", mail_address=own, content="mine")

        assert (await again.do("query_messages", mail_address=own))["messages"]
        assert (await again.read(f"mq9://mailbox/{own}"))["messages"]
        assert await is_shut(other, own)


async def test_one_that_another_made_anew_is_no_longer_its_own(desk, attacker, broker):
    own = (await desk.do("create_mailbox", ttl=10))["mail_address"]
    await broker.clock.advance(11)
    await attacker.mailbox_create(name=own)
    await attacker.send(own, SECRET)

    assert await is_shut(desk, own)


async def test_one_that_another_agent_granted_is_not_its_own(broker, era):
    """Where both have authenticated, so that the broker lets the agent in."""
    settings = Settings(allow_send=["team.*"])
    callers = Callers(lambda name: broker.client(agent=name), settings, agent="desk")
    mode = "auto" if era > "2026" else "legacy"
    async with (
        broker.client(agent="eve") as eve,
        Client(make_server(callers, settings), mode=mode) as client,
    ):
        desk = Host(client, None, callers)
        own = (await desk.do("create_mailbox"))["mail_address"]
        await eve.mailbox_create(name="team.one")
        evil = await eve.mailbox_create(name="evil", desc=Identity("desk").description("evil"))
        await eve.send(evil, SECRET)
        await eve.mailbox_grant(evil, ["desk"])

        assert await is_shut(desk, evil)
        assert (await desk.do("query_messages", mail_address=own))["messages"] == []
