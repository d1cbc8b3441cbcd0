"""A client of a fake broker with a mailbox to play with, and URLs of real brokers."""

import pytest

from mq9 import SyncMq9Client
from mq9.concurrency.portal import Portal
from tests.hosted import running
from tests.sdk.consuming import Handler


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="inbox")
        yield client


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
async def dead(client):
    """A mailbox of dead letters."""
    return await client.mailbox_create(name="dead")


@pytest.fixture
async def asker(client):
    """The mailbox of somebody who waits for answers."""
    return await client.mailbox_create(name="asker")


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
    server = running()
    yield portal.call(server.__aenter__()).url
    portal.call(server.__aexit__(None, None, None))
    portal.stop()


@pytest.fixture
def blocking(url):
    """A client without an event loop, of each of them."""
    with SyncMq9Client(url) as client:
        yield client
