"""A client of a fake broker, with the mailboxes of an asker and of two people."""

import pytest


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("asker", "boss", "chief"):
            await client.mailbox_create(name=name)
        yield client
