"""A server of ours on a port that the system assigns."""

import asyncio
from contextlib import AsyncExitStack

import loopback
import nats
import pytest
import trustme
from raw import RawClient

from mq9 import Mq9Client
from mq9.broker.embedded import EmbeddedBroker
from mq9.engine.limits import Limits
from mq9.server.server import Server
from mq9.server.settings import Settings
from mq9.testing import ManualClock


class HeldBroker:
    """A broker that answers what it is asked only while `released` is set."""

    def __init__(self, broker):
        self._broker = broker
        self.released = asyncio.Event()
        self.released.set()

    async def handle(self, request):
        await self.released.wait()
        return await self._broker.handle(request)

    def __getattr__(self, name):
        return getattr(self._broker, name)


class Hosted:
    """A server, its broker, and the clients that a test opens, all closed with it."""

    def __init__(self, stack, *, wrap=None, **options):
        self.stack = stack
        self.clock = ManualClock(in_transit=loopback.in_transit)
        self.timers = ManualClock(in_transit=loopback.in_transit)
        self.events = []
        self.broker = EmbeddedBroker.in_memory(self.clock)
        if wrap is not None:
            self.broker = wrap(self.broker)
        options = {"max_payload": Limits().max_payload, **options}
        self.server = Server(self.broker, timers=self.timers, observer=self, **options)

    async def restart(self, **options):
        """Start another server in place of this one, on its port, with the same broker."""
        port = self.server.address[1]
        await self.server.close()
        options = {"max_payload": Limits().max_payload, **options}
        self.server = Server(self.broker, timers=self.timers, observer=self, **options)
        await self.server.start(port=port)
        self.stack.push_async_callback(self.server.close)

    def connection_opened(self):
        self.events.append("opened")

    def connection_closed(self, reason):
        self.events.append(reason)

    def publish_unheard(self):
        self.events.append("unheard")

    async def raw(self, **options):
        """Return a raw client that has said who it is."""
        return await self.stack.enter_async_context(
            await RawClient.connect(self.server.address, **options)
        )

    async def stranger(self):
        """Return a raw client that has said nothing."""
        return await self.stack.enter_async_context(await RawClient.open(self.server.address))

    async def nats(self, **options):
        """Return a client of nats-py."""
        client = await nats.connect(self.server.url, **{"allow_reconnect": False, **options})
        self.stack.push_async_callback(client.close)
        return client

    async def client(self, credentials="", **options):
        """Return a client of ours."""
        host, port = self.server.address
        url = f"nats://{credentials}{host}:{port}"
        return await self.stack.enter_async_context(
            Mq9Client(url, **{"clock": self.clock, **options})
        )


@pytest.fixture
async def open_hosted():
    """Open servers with options of the test's choice."""
    async with AsyncExitStack() as stack:

        async def open_one(**options):
            hosted = Hosted(stack, **options)
            stack.push_async_callback(hosted.broker.close)
            await hosted.server.start(port=0)
            stack.push_async_callback(hosted.server.close)
            return hosted

        yield open_one


@pytest.fixture
async def hosted(open_hosted):
    return await open_hosted()


@pytest.fixture
async def held(open_hosted):
    """A server with a mailbox, whose broker answers nothing once its `released` is cleared."""
    hosted = await open_hosted(wrap=HeldBroker)
    await (await hosted.client()).mailbox_create(name="inbox")
    yield hosted
    hosted.broker.released.set()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """The files of a CA, a certificate for 127.0.0.1, and its key."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    return tmp_path


@pytest.fixture
async def encrypted(open_hosted, files):
    tls = Settings(tls_cert=files / "cert.pem", tls_key=files / "key.pem").tls()
    return await open_hosted(tls=tls)
