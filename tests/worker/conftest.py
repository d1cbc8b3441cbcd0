"""A fake broker, and a client of it."""

import pytest

from mq9.testing import FakeBroker


@pytest.fixture
def broker():
    with FakeBroker() as broker:
        yield broker


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        yield client
