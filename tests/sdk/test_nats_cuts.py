"""A connection that breaks after any number of bytes, in either direction."""

import asyncio
import ssl
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trustme
from hosted import running
from waiting import until

from mq9 import Mq9Client, OutcomeUnknown, Unreachable
from mq9.transport import nats as transport
from tests.nats_server import NatsServer, Responder

SERVERS = ["ours", "ours by TLS", "nats-server"]


class Cutting:
    """A proxy in front of a server, which cuts the first connection after so many bytes.

    Attributes:
        passed: How many bytes have gone each way, by the name of the way.
        measured: The same, when all was done in whose midst it may be cut.
    """

    def __init__(self, address, way=None, after=None):
        self._address = address
        self._way, self._after = way, after
        self._first = True
        self._open = set()
        self.passed = {"up": 0, "down": 0}
        self.measured = {}

    async def __aenter__(self):
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception):
        self._listening.close()
        await until(lambda: not self._open)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._open.add(task)
        is_cut, self._first = self._first, False
        there, back = await asyncio.open_connection(*self._address)
        pumps = [
            asyncio.create_task(self._pump("up", reader, back, is_cut)),
            asyncio.create_task(self._pump("down", there, writer, is_cut)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for one in (writer, back):
            if is_cut and self._after is not None and self._after % 2:
                one.transport.abort()
            one.close()
            with suppress(OSError):
                await one.wait_closed()
        self._open.discard(task)

    async def _pump(self, way, reader, writer, is_cut):
        """Pass bytes on until either end has gone, or there have been enough."""
        most = self._after if is_cut and way == self._way else None
        with suppress(OSError):
            while most is None or self.passed[way] < most:
                data = await reader.read(64 * 1024)
                if not data:
                    return
                data = data if most is None else data[: most - self.passed[way]]
                self.passed[way] += len(data)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def broker(kind, directory):
    """Run a server; its address, and the URL of a proxy in front of it without the port."""
    async with AsyncExitStack() as stack:
        if kind == "nats-server":
            server = stack.enter_context(NatsServer(directory / "server"))
            await stack.enter_async_context(Responder(server.url))
            yield ("127.0.0.1", server.port), "nats://127.0.0.1:{}"
            return
        options, url = {}, "nats://127.0.0.1:{}"
        if kind == "ours by TLS":
            ca = trustme.CA()
            ca.cert_pem.write_to_path(directory / "ca.pem")
            options["tls"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca.issue_cert("127.0.0.1").configure_cert(options["tls"])
            url = f"tls://127.0.0.1:{{}}?tls_ca={directory / 'ca.pem'}"
        server = await stack.enter_async_context(running(**options))
        yield server.address, url


async def session(proxy, url, box):
    """Make requests of each kind; their outcomes, errors included, those of SENDs apart."""
    outcomes, sends = [], []

    async def tell(call, told=outcomes):
        try:
            told.append(await call)
        except (OutcomeUnknown, Unreachable) as error:
            told.append(error)

    client = Mq9Client(url.format(proxy.port), reconnect_attempts=0, request_timeout=20)
    try:
        await tell(client.open())
        await client.open()  # by a new connection where the first one was cut
        await tell(client.mailbox_create(name=f"{box}.other"))
        await tell(client.send(box, "one", sender="me"), sends)
        waiting = asyncio.create_task(client.fetch(box, group_name="late", max_wait_ms=60_000))
        await tell(client.fetch(box, group_name="g", deliver="earliest"))
        waiting.cancel()
        with suppress(asyncio.CancelledError, OutcomeUnknown, Unreachable):
            await waiting
        await asyncio.gather(*(tell(client.send(box, text), sends) for text in ("two", "three")))
        await tell(client.query(box))
        proxy.measured = dict(proxy.passed)
        with suppress(OutcomeUnknown, Unreachable):  # where the cut came behind the last reply
            await client.mailbox_status(box)
        await client.mailbox_status(box)
    finally:
        await client.close()
    return outcomes, sends


def is_lost(outcome):
    return isinstance(outcome, Exception)


async def cut(kind, directory, monkeypatch, step):
    """Make the session, cut it at each so many-th byte of it, and look at what came of it."""
    monkeypatch.setattr(transport, "_SHORTEST_PAUSE_S", 0.0)
    async with AsyncExitStack() as stack:
        address, url = await stack.enter_async_context(broker(kind, directory))
        uncut = await stack.enter_async_context(Mq9Client(url.format(address[1])))
        await uncut.mailbox_create(name="whole0000")
        async with Cutting(address) as proxy:
            outcomes, sends = await session(proxy, url, "whole0000")
        assert not any(map(is_lost, outcomes + sends))
        before, lost = asyncio.all_tasks(), 0
        cuts = [(way, at) for way, size in proxy.measured.items() for at in range(0, size, step)]
        for number, (way, after) in enumerate(cuts):
            box = await uncut.mailbox_create(name=f"cut{number:06}")
            async with Cutting(address, way, after) as proxy:
                async with asyncio.timeout(20):
                    outcomes, sends = await session(proxy, url, box)
            errors = [one for one in outcomes + sends if is_lost(one)]
            assert not [one for one in errors if "within" in str(one)], (way, after, errors)
            lost += bool(errors)
            stored = (await uncut.mailbox_status(box)).stored
            known = sum(not is_lost(one) for one in sends)
            unknown = sum(isinstance(one, OutcomeUnknown) for one in sends)
            assert known <= stored <= known + unknown, (way, after, sends)
            await until(lambda: asyncio.all_tasks() <= before)
    assert lost > len(cuts) / 2


@pytest.mark.programs
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_cut_ends_what_is_under_way_and_nothing_else(kind, tmp_path, monkeypatch, scale):
    """At every byte in the long version."""
    await cut(kind, tmp_path, monkeypatch, step=47 if scale == 1 else 1)
