"""A client of a fake broker with a mailbox to play with, and URLs of real brokers."""

import pytest

from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.concurrency.portal import Portal
from mq9.engine.commands import Limits
from mq9.server.server import Server


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="inbox")
        yield client


@pytest.fixture(params=["memory", "file", "server"])
def url(request, tmp_path):
    """Each way to reach a broker."""
    if request.param == "memory":
        yield f"memory://{tmp_path.name}"
        return
    if request.param == "file":
        yield f"sqlite:///{tmp_path / 'mq9.db'}"
        return
    portal = Portal("server")

    async def start():
        broker = EmbeddedBroker.in_memory(SystemClock())
        server = Server(broker, max_payload=Limits().max_payload)
        await server.start(port=0)
        return broker, server

    async def stop():
        await server.close()
        await broker.close()

    broker, server = portal.call(start())
    yield server.url
    portal.call(stop())
    portal.stop()
