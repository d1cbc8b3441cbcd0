"""Gateways in this process, on a NATS server with JetStream."""

from contextlib import AsyncExitStack

import pytest

from .clusters import Members


@pytest.fixture
async def members(tmp_path):
    async with AsyncExitStack() as stack:
        yield Members(tmp_path, stack)


@pytest.fixture
async def gateways(members):
    """A client of two gateways, with a mailbox."""
    await members.start("one")
    await members.start("two")
    client = await members.client()
    await client.mailbox_create(name="inbox")
    return client
