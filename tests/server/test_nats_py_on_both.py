"""What nats-py can do on a nats-server it can do on ours, with the same result.

What it sends for headers, statuses and payloads is compared in `exchanges.txt`.
"""

import asyncio

import nats
import nats.errors
import nats.js.errors
import pytest
from hosted import running
from nats import micro
from nats_server import NatsServer

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def urls(real):
    """The URL of a nats-server, and of ours."""
    async with running() as server:
        yield [real.url, server.url]


class Connections:
    """Connections of nats-py to one server, and what went wrong on them."""

    def __init__(self, url):
        self._url = url
        self._open = []
        self.errors = []

    async def __call__(self, **options):
        async def note(error):
            self.errors.append(type(error).__name__)

        client = await nats.connect(self._url, error_cb=note, allow_reconnect=False, **options)
        self._open.append(client)
        return client

    async def close(self):
        for client in self._open:
            await client.close()


async def flush(*clients):
    """See that everything was sent and has come: nats-py's PING may overtake what it publishes."""
    for client in clients * 2:
        await client.flush()


async def requests(connect):
    server, client = await connect(), await connect()

    async def answer(message):
        await message.respond(message.data.upper())

    await server.subscribe("service.*", cb=answer)
    await flush(server)
    replies = [await client.request("service.a", b"hello", timeout=10) for _ in range(3)]
    replies.append(await client.request("service.b", b"old", timeout=10, old_style=True))
    many = await asyncio.gather(
        *(client.request("service.c", b"%d" % number, timeout=10) for number in range(50))
    )
    return [reply.data for reply in replies], [reply.data for reply in many]


async def limited_subscriptions(connect):
    client = await connect()
    five = await client.subscribe("a")
    await five.unsubscribe(limit=5)
    heard = []

    async def hear(message):
        heard.append(message.data)

    three = await client.subscribe("a", cb=hear)
    for number in range(3):
        await client.publish("a", b"%d" % number)
    await flush(client)
    await asyncio.sleep(0)
    await three.unsubscribe(limit=3)
    for number in range(3, 9):
        await client.publish("a", b"%d" % number)
    await flush(client)
    got = [(await five.next_msg(timeout=10)).data for _ in range(5)]
    return got, heard


async def draining(connect):
    client, other = await connect(), await connect()
    heard = []

    async def hear(message):
        await asyncio.sleep(0)
        heard.append(message.data)

    subscription = await client.subscribe("a", cb=hear)
    await client.subscribe("b", cb=hear)
    await flush(client)
    for number in range(100):
        await other.publish("a", b"%d" % number)
    await flush(other)
    await subscription.drain()
    for number in range(100):
        await other.publish("b", b"%d" % number)
        await other.publish("a", b"late")
    await flush(other)
    await client.drain()
    return len(heard), b"late" in heard, client.is_closed


async def jetstream_that_is_not_there(connect):
    client = await connect()
    stream = client.jetstream(timeout=10)
    try:
        await stream.account_info()
    except nats.js.errors.Error as error:
        return type(error).__name__


async def services(connect):
    server, client = await connect(), await connect()
    service = await micro.add_service(server, name="math", version="1.0.0", description="adds")

    async def add(request):
        await request.respond(str(sum(map(int, request.data.split(b",")))).encode())

    async def fail(request):
        await request.respond_error("400", "no numbers")

    group = service.add_group(name="v1")
    await group.add_endpoint(name="add", handler=add)
    await group.add_endpoint(name="fail", handler=fail)
    await flush(server)
    sums = [(await client.request("v1.add", b"1,2", timeout=10)).data for _ in range(3)]
    refusal = await client.request("v1.fail", b"", timeout=10)
    pong = await client.request("$SRV.PING.math", b"", timeout=10)
    stats = service.stats()
    await service.stop()
    return sums, refusal.headers, b'"math"' in pong.data, stats.endpoints[0].num_requests


SCENARIOS = [requests, limited_subscriptions, draining, jetstream_that_is_not_there, services]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
async def test_nats_py_finds_the_same_on_both(scenario, urls):
    found = []
    for url in urls:
        connections = Connections(url)
        try:
            found.append((await scenario(connections), connections.errors))
        finally:
            await connections.close()
    theirs, ours = found
    assert ours == theirs
    assert theirs[0] is not None
