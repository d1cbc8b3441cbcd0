"""The HTTP port under clients that keep silent, are slow, or are too many."""

import asyncio
import contextlib

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from mq9.broker.embedded import EmbeddedBroker
from mq9.http.port import HttpLimits, listening, serving
from mq9.server.admin import serve_admin
from mq9.server.metrics import Metrics
from mq9.testing import ManualClock

HOST = "127.0.0.1"
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
PATIENT = HttpLimits(head_s=60, body_s=60, write_s=60, keep_alive_s=60)


@contextlib.asynccontextmanager
async def port(limits, routes=()):
    """Serve health, metrics and more, at an address."""
    metrics = Metrics()
    broker = EmbeddedBroker.in_memory(ManualClock(), observer=metrics)
    async with serve_admin(broker, metrics, HOST, 0, limits=limits, routes=routes) as address:
        yield address
    await broker.close()


@pytest.fixture
async def connect():
    """Open connections that say something, closed with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect_one(address, said=b"", limit=2**16):
            reader, writer = await asyncio.open_connection(*address, limit=limit)
            stack.callback(writer.close)
            writer.write(said)
            return reader, writer

        yield connect_one


async def get(address, path, **headers):
    url = f"http://{address[0]}:{address[1]}{path}"
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


async def read_body(request: Request):
    return PlainTextResponse(f"{len(await request.body())}")


UPLOAD = Route("/upload", read_body, methods=["POST"])
POST = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


async def ended(reader):
    """Read until the server has ended the connection; what it said."""
    said = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while more := await reader.read(2**16):
                said += more
    return said


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"", b""),
        (b"G", b""),
        (HEAD, b""),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-", b""),
        (HEAD + b"\r\n", b"ok"),  # and asks nothing more
        (POST + b"x", b""),
        (HEAD + b"\r\n" + POST + b"x", b"ok"),
    ],
)
async def test_whoever_does_not_ask_or_not_all_of_it_is_cut_off(connect, said, heard):
    limits = HttpLimits(head_s=0.1, body_s=0.1, keep_alive_s=0.1)
    async with port(limits, [UPLOAD]) as address:
        reader, _ = await connect(address, said)
        assert (await ended(reader))[-2:] == heard


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["first", "behind another"])
async def test_whoever_asks_byte_by_byte_is_cut_off(connect, before):
    async with port(HttpLimits(head_s=0.2, keep_alive_s=60)) as address:
        reader, writer = await connect(address, before)
        if before:
            await reader.readuntil(b"ok")
        ending = asyncio.create_task(ended(reader))
        while not ending.done():
            writer.write(b"G")
            await asyncio.sleep(0.01)
        assert await ending == b""


async def test_whoever_does_not_read_the_answer_is_cut_off(connect):
    given_up = asyncio.Event()

    async def stream(_request):
        async def chunks():
            try:
                while True:
                    yield bytes(2**16)
                    await asyncio.sleep(0)
            finally:
                given_up.set()

        return StreamingResponse(chunks())

    routes = [Route("/stream", stream)]
    async with port(HttpLimits(write_s=0.1), routes) as address:
        await connect(address, b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", limit=1)
        async with asyncio.timeout(10):
            await given_up.wait()


class Work:
    """What requests ask for that are at work until the test lets them go on."""

    REQUEST = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def __init__(self):
        self.route = Route("/wait", self._wait)
        self.go_on = asyncio.Event()
        self._begun = asyncio.Semaphore(0)

    async def _wait(self, _request):
        self._begun.release()
        await self.go_on.wait()
        return PlainTextResponse("done")

    async def begun(self, requests):
        """Return once so many more are at work."""
        for _ in range(requests):
            await self._begun.acquire()


async def test_an_answer_that_takes_long_is_waited_for(connect):
    work = Work()
    brief = HttpLimits(head_s=0.05, body_s=0.05, write_s=0.05)
    async with port(brief, [work.route]) as address:
        reader, _ = await connect(address, work.REQUEST)
        await work.begun(1)
        silent, _ = await connect(address)
        assert await ended(silent) == b""  # its time is up, and so the other's would be
        work.go_on.set()
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")


async def test_a_thousand_silent_connections_keep_nobody_out(connect):
    async with port(PATIENT) as address:
        silent = [await connect(address) for _ in range(1_000)]
        assert (await get(address, "/readyz")).status_code == 200
        assert (await get(address, "/metrics")).status_code == 200
        limit = PATIENT.most_per_address + PATIENT.reserve
        assert sum(not reader.at_eof() for reader, _ in silent) <= limit


async def test_who_has_been_without_a_request_for_longest_makes_room(connect):
    limits = HttpLimits(
        most=2, most_per_address=2, reserve=0, head_s=60, body_s=60, keep_alive_s=60
    )
    async with port(limits) as address:
        asked, writer = await connect(address, HEAD + b"\r\n")
        await asked.readuntil(b"ok")
        silent, _ = await connect(address)
        for _ in range(2):  # what came before the first is there before the second
            writer.write(HEAD + b"\r\n")
            await asked.readuntil(b"ok")
        assert (await get(address, "/healthz")).text == "ok"
        assert await ended(silent) == b""
        writer.write(HEAD + b"\r\n")
        assert (await asked.readuntil(b"ok")).startswith(b"HTTP/1.1 200")


async def test_health_and_metrics_answer_while_all_others_are_told_to_come_later(connect):
    work = Work()
    limits = HttpLimits(most=3, most_per_address=3, reserve=2)
    async with port(limits, [work.route]) as address:
        waiting = [await connect(address, work.REQUEST) for _ in range(3)]
        await work.begun(3)
        refused = await get(address, "/wait")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await get(address, path)).status_code == 200
        work.go_on.set()
        for reader, _ in waiting:
            await reader.readuntil(b"done")
        assert (await get(address, "/wait")).status_code == 200


async def test_where_all_connections_are_at_work_a_further_one_is_refused(connect):
    work = Work()
    limits = HttpLimits(most=1, most_per_address=1, reserve=1)
    app = Starlette(routes=[work.route])
    with await listening("port", HOST, 0) as listener:
        async with serving(app, listener, limits=limits, always=("/wait",)):
            address = listener.getsockname()
            waiting = [await connect(address, work.REQUEST) for _ in range(2)]
            await work.begun(2)
            reader, _ = await connect(address, work.REQUEST)
            assert await ended(reader) == b""
            work.go_on.set()
            for reader, _ in waiting:
                await reader.readuntil(b"done")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:9090")),
        ("10.1.2.3", 200),
        *((host, 421) for host in ("evil.example", "evil.example:9090", "localhost.evil.example")),
    ],
)
async def test_a_host_that_a_web_page_can_make_up_is_refused(host, status):
    async with port(PATIENT) as address:
        for path in ("/metrics", "/healthz", "/readyz"):
            answer = await get(address, path, host=host)
            assert answer.status_code == status
            if status == 421:
                assert answer.text == f"{host} is not a name of this server\n"


async def test_a_name_that_was_allowed_is_answered_and_so_is_who_names_none(connect):
    metrics = Metrics()
    broker = EmbeddedBroker.in_memory(ManualClock(), observer=metrics)
    async with serve_admin(broker, metrics, HOST, 0, hosts=["Mail.example"]) as address:
        assert (await get(address, "/metrics", host="mail.example:9090")).status_code == 200
        reader, _ = await connect(address, b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await ended(reader)).endswith(b"ok")
    await broker.close()
