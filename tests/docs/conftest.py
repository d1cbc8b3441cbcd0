"""A server for what the documentation shows."""

import pytest

from tests.hosted import running


@pytest.fixture
async def server():
    """What `mq9 serve` would run, on a port that is free here."""
    async with running() as server:
        yield server
