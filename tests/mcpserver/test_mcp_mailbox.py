"""The mailbox of an MCP host exists before its model calls a tool."""

import asyncio

import pytest
from hosting import ERAS

from mcp_server import Callers, Settings
from mq9 import MailboxNotFound, Mq9Client, Unreachable


async def made(broker, address):
    """Wait until a mailbox exists."""
    client = broker.client()
    async with asyncio.timeout(20):
        while True:
            try:
                await client.mailbox_status(address)
            except MailboxNotFound:
                await asyncio.sleep(0)
            else:
                return


async def test_others_can_write_to_a_host_that_has_called_no_tool(broker, open_host, era):
    host = await open_host("desk", era=era)
    if era == ERAS[0]:  # it greets with a request; of the older protocol it suffices to begin
        await host.client.list_tools()
    await made(broker, "desk")
    assert await broker.client().send("desk", "hello") == 0


async def test_a_host_that_may_only_read_has_none_made(broker, open_host, era):
    host = await open_host("desk", era=era, read_only=True)
    await host.client.list_tools()
    for _ in range(100):
        await asyncio.sleep(0)

    with pytest.raises(MailboxNotFound):
        await broker.client().mailbox_status("desk")


async def test_a_broker_that_is_away_keeps_no_host_from_beginning(
    broker, open_host, era, monkeypatch, caplog
):
    away = True
    connect = Mq9Client.open

    async def refuse(client, **options):
        if away:
            raise Unreachable("no broker answers")
        return await connect(client, **options)

    monkeypatch.setattr(Mq9Client, "open", refuse)
    host = await open_host("desk", era=era)
    assert (await host.client.list_tools()).tools
    async with asyncio.timeout(20):
        while "mailbox cannot be made yet: no connection" not in caplog.text:  # noqa: ASYNC110  # other tasks
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)

    away = False
    await host.client.list_resources()

    await made(broker, "desk")


def test_a_server_where_each_request_needs_a_token_makes_none_without_one(broker):
    callers = Callers(lambda _agent: broker.client(), Settings())

    assert callers.agent_name() is None
