"""A server for what the documentation shows."""

import pytest

from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.engine.commands import Limits
from mq9.server.server import Server


@pytest.fixture
async def server():
    """What `mq9 serve` would run, on a port that is free here."""
    broker = EmbeddedBroker.in_memory(SystemClock())
    server = Server(broker, max_payload=Limits().max_payload)
    await server.start(port=0)
    yield server
    await server.close()
    await broker.close()
