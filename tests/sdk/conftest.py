"""A fake broker, and a client of it with a mailbox to play with."""

import pytest

from mq9.testing import FakeBroker


@pytest.fixture
def broker():
    with FakeBroker() as broker:
        yield broker


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="inbox")
        yield client
