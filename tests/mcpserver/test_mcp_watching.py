"""New mail is told to whoever subscribed, and to nobody else."""

import asyncio

import pytest
from hosting import at_rest
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification

OWN = "mq9://mailbox/desk"
CURRENT, OLDER = "2026-07-28", "2025-11-25"


class Ear:
    """Hears what a client of the older protocol is told."""

    def __init__(self):
        self.heard = asyncio.Queue()

    async def __call__(self, message):
        if isinstance(message, ResourceUpdatedNotification):
            await self.heard.put(message.params.uri)


@pytest.fixture
async def older(open_host):
    """A host of the older protocol, and what it hears."""
    ear = Ear()
    host = await open_host("desk", era=OLDER, client={"message_handler": ear})
    return host, ear.heard


async def send(broker, address="desk", **options):
    async with broker.client() as client:
        return await client.send(address, "x", **options)


async def test_a_listening_host_hears_of_each_new_message(open_host, broker):
    host = await open_host("desk")
    await host.do("send_message", to="desk", content="old")

    async with host.client.listen(resource_subscriptions=[OWN]) as events:
        for _ in range(3):
            await send(broker)
            assert (await anext(events)).uri == OWN
    await at_rest(broker)


async def test_a_subscribed_host_hears_of_each_new_message(older, broker):
    host, heard = older
    await host.do("send_message", to="desk", content="old")
    await host.client.subscribe_resource(OWN)

    for _ in range(3):
        await send(broker)
        assert await heard.get() == OWN
    # To look for them took none.
    fetched = (await host.do("fetch_messages", wait_seconds=0))["messages"]
    assert ["delivery_count" in one for one in fetched] == [False] * 4
    await host.client.unsubscribe_resource(OWN)
    await at_rest(broker)
    await send(broker)
    await host.do("whoami")
    assert heard.empty()


async def test_mail_is_told_when_it_falls_due_and_though_no_one_looked(older, broker):
    """Between two looks nothing is missed: the next one begins where the last one ended."""
    host, heard = older
    await host.client.subscribe_resource(OWN)
    await send(broker, delay=50)
    await broker.clock.advance(49)
    assert heard.empty()
    await broker.clock.advance(1)
    assert await heard.get() == OWN

    for priority in ("normal", "critical", "normal"):
        await send(broker, priority=priority)
    await heard.get()
    await broker.clock.advance(100)  # two further looks in vain
    while not heard.empty():
        heard.get_nowait()
    await send(broker)
    assert await heard.get() == OWN


async def test_a_host_that_is_closed_is_watched_for_no_longer(open_host, broker):
    from mcp import Client

    for mode in ("legacy", "auto"):
        host = await open_host(f"desk.{mode}")
        async with Client(host.server, mode=mode) as client:
            uri = f"mq9://mailbox/desk.{mode}"
            if mode == "legacy":
                await client.subscribe_resource(uri)
                assert broker.clock.pending_timers == 1
            else:
                async with client.listen(resource_subscriptions=[uri]):
                    assert broker.clock.pending_timers == 1
        await at_rest(broker)


async def test_what_is_no_mailbox_may_be_subscribed_to_and_is_never_updated(older, broker):
    host, heard = older
    for uri in ("mq9://agents", "mq9://protocol", "mq9://message/desk/0", "test://else"):
        await host.client.subscribe_resource(uri)
    assert broker.clock.pending_timers == 0
    await host.do("whoami")  # makes its mailbox
    await send(broker)
    assert heard.empty()


async def test_a_watched_mailbox_that_goes_is_told_once_and_can_be_watched_anew(older, broker):
    host, heard = older
    uri = "mq9://mailbox/desk.more"
    for _ in range(2):
        await host.do("create_mailbox", name="desk.more", ttl=10)
        await host.client.subscribe_resource(uri)
        await send(broker, "desk.more")
        assert await heard.get() == uri
        await broker.clock.advance(10)
        assert await heard.get() == uri  # the mailbox is no longer there
        await at_rest(broker)
        assert heard.empty()


async def test_a_broker_that_was_away_is_asked_again(older, broker):
    host, heard = older
    await host.client.subscribe_resource(OWN)
    broker.lose_next_reply("MSG.FETCH")
    broker.lose_next_reply("MSG.QUERY")
    await send(broker)
    await broker.clock.advance(200)

    await send(broker)
    assert await heard.get() == OWN


async def test_not_everything_is_watched(older, open_host, monkeypatch):
    host, _ = older
    monkeypatch.setattr("mcp_server.features.subscriptions.MAX_WATCHED", 1)
    other = f"mq9://mailbox/{(await host.do('create_mailbox'))['mail_address']}"
    await host.client.subscribe_resource(OWN)
    with pytest.raises(MCPError, match="1 mailboxes are watched for desk already"):
        await host.client.subscribe_resource(other)
    await host.client.unsubscribe_resource(OWN)
    await host.client.subscribe_resource(other)
    # Nor anything without the tool that looks.
    host = await open_host("desk", era=OLDER, tools=["send_message"])
    with pytest.raises(MCPError, match="this is switched off here"):
        await host.client.subscribe_resource(OWN)


async def test_subscribing_at_the_same_time_is_one_subscription(older, broker):
    host, heard = older
    await asyncio.gather(*(host.client.subscribe_resource(OWN) for _ in range(5)))
    assert broker.clock.pending_timers == 1
    await send(broker)
    await heard.get()
    await host.client.unsubscribe_resource(OWN)
    await at_rest(broker)
    assert heard.empty()
