"""A broker with nothing in it, and the desk of the boss."""

import pytest

from tests.desk.screens import desk_of


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        yield client


@pytest.fixture
async def desk(client):
    async with desk_of(client) as desk:
        yield desk
