"""A client of a fake broker."""

import pytest


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        yield client
