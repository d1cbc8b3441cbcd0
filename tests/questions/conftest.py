"""A fake broker, and a client of it, with the mailboxes of an asker and of two people."""

import pytest

from mq9.testing import FakeBroker


@pytest.fixture
def broker():
    with FakeBroker() as broker:
        yield broker


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("asker", "boss", "chief"):
            await client.mailbox_create(name=name)
        yield client
