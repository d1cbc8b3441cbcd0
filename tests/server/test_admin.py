"""The HTTP port of a server, asked over real sockets."""

import asyncio
import signal
import socket
from contextlib import asynccontextmanager, closing

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from mq9 import InvalidRequest, Unreachable
from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli.serve import Serving
from mq9.http.port import listening
from mq9.server.admin import serve_admin
from mq9.server.limits import ServerLimits
from mq9.server.metrics import Metrics
from mq9.server.server import Server
from mq9.testing import ManualClock

HOST = "127.0.0.1"


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
async def observed(metrics):
    one = EmbeddedBroker.in_memory(ManualClock(), observer=metrics)
    yield one
    await one.close()


@asynccontextmanager
async def admin(broker, metrics, **options):
    """Serve, and make an HTTP client of it."""
    async with (
        serve_admin(broker, metrics, HOST, 0, **options) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client,
    ):
        yield client


async def ask(broker, verb, body=b""):
    payload = body if isinstance(body, bytes) else orjson.dumps(body)
    await broker.handle(PublishedRequest(f"$mq9.AI.{verb}", payload, (), BrokerSession("someone")))


def value(response, name, **labels):
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(name)


async def test_metrics_say_over_http_what_was_done(observed, metrics):
    async with admin(observed, metrics) as client:
        await ask(observed, "MAILBOX.CREATE", {"name": "inbox"})
        for _ in range(3):
            await ask(observed, "MSG.SEND.inbox", b"hello")
        first = await client.get("/metrics")
        await ask(observed, "MSG.SEND.inbox", b"hello")
        await ask(observed, "MSG.SEND.nowhere", b"hello")
        second = await client.get("/metrics")
    assert first.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert value(first, "mq9_operations_total", verb="MSG.SEND", code="ok") == 3
    assert value(first, "mq9_messages") == 3
    assert value(second, "mq9_operations_total", verb="MSG.SEND", code="ok") == 4
    assert value(second, "mq9_operations_total", verb="MSG.SEND", code="mailbox_not_found") == 1
    assert value(second, "mq9_operation_duration_seconds_count", verb="MSG.SEND") == 5
    assert value(second, "mq9_messages") == 4
    assert value(second, "mq9_storage_up") == 1


async def test_metrics_tell_of_the_connections_of_a_server(observed, metrics):
    limits = ServerLimits(max_connections=2)
    server = Server(observed, max_payload=1_000, limits=limits, observer=metrics)
    await server.start(HOST, 0)
    async with admin(observed, metrics) as client:
        polite, rude = [await asyncio.open_connection(*server.address) for _ in range(2)]
        refused = await asyncio.open_connection(*server.address)
        await refused[0].read()
        rude[1].write(b"NONSENSE\r\n")
        await rude[0].read()
        while value(scraped := await client.get("/metrics"), "mq9_connections") > 1:
            pass  # they are forgotten a moment after they were cut off
        await server.close()
        last = await client.get("/metrics")
    for _, writer in (polite, rude, refused):
        writer.close()
        await writer.wait_closed()
    assert value(scraped, "mq9_connections") == 1
    assert value(scraped, "mq9_connections_opened_total") == 3
    assert value(scraped, "mq9_connections_closed_total", reason="limit") == 1
    assert value(scraped, "mq9_connections_closed_total", reason="protocol") == 1
    assert value(last, "mq9_connections") == 0
    assert value(last, "mq9_connections_closed_total", reason="shutdown") == 1
    assert value(last, "mq9_connections_closed_total", reason="unknown") == 0


async def test_a_draining_server_is_alive_and_not_ready(observed, metrics):
    serving = Serving()
    serving.server = server = Server(observed, max_payload=1_000)
    async with admin(observed, metrics, problem=serving.problem) as client:
        await server.drain(0)
        live, ready = await client.get("/healthz"), await client.get("/readyz")
        scraped = await client.get("/metrics")
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "draining"})
    assert value(scraped, "mq9_storage_up") == 1


async def test_a_server_whose_storage_fails_is_not_ready_and_still_tells_its_counters(
    observed, metrics, caplog
):
    async with admin(observed, metrics) as client:
        await ask(observed, "MAILBOX.CREATE", {"name": "inbox"})
        await observed.close()
        live, ready = await client.get("/healthz"), await client.get("/readyz")
        scraped = await client.get("/metrics")
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "storage"})
    assert scraped.status_code == 200
    assert value(scraped, "mq9_storage_up") == 0
    assert value(scraped, "mq9_operations_total", verb="MAILBOX.CREATE", code="ok") == 1
    assert "mq9_mailboxes" not in scraped.text
    assert "the storage did not answer: the broker is closed" in caplog.text


class Hanging:
    """A broker that answers only while `answers` is set, and counts only while `counts` is."""

    def __init__(self, broker):
        self.broker = broker
        self.asked = self.counted = 0
        self.answers, self.counts = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.counts.set()

    async def check(self):
        self.asked += 1
        await self.answers.wait()
        await self.broker.check()

    async def totals(self):
        await self.answers.wait()
        await self.counts.wait()
        self.counted += 1
        return await self.broker.totals()


async def test_while_the_storage_hangs_nothing_piles_up_and_it_recovers(observed, metrics, caplog):
    hanging = Hanging(observed)
    async with admin(hanging, metrics, timeout_s=0.05) as client:
        hanging.answers.clear()
        ready = await asyncio.gather(*[client.get("/readyz") for _ in range(20)])
        scraped = await client.get("/metrics")
        live = await client.get("/healthz")
        hanging.answers.set()
        assert {(one.status_code, one.json()["reason"]) for one in ready} == {(503, "storage")}
        assert value(scraped, "mq9_storage_up") == 1  # slow is not down
        assert "mq9_messages" not in scraped.text
        assert live.status_code == 200
        assert hanging.asked == 1
        while (await client.get("/readyz")).status_code != 200:
            pass  # it is given little time
    assert "the storage did not answer within 0.05 s" in caplog.text


async def test_a_storage_that_hangs_for_long_is_down(observed, metrics):
    hanging = Hanging(observed)
    async with admin(hanging, metrics, timeout_s=0.01, hung_s=0.05) as client:
        hanging.answers.clear()
        while value(await client.get("/metrics"), "mq9_storage_up") == 1:
            pass
        hanging.answers.set()
        while value(await client.get("/metrics"), "mq9_storage_up") == 0:
            pass


async def test_while_counting_takes_long_metrics_answer_with_what_was_counted_last(
    observed, metrics
):
    slow = Hanging(observed)
    async with admin(slow, metrics, timeout_s=0.05) as client:
        await ask(observed, "MAILBOX.CREATE", {"name": "inbox"})
        first = await client.get("/metrics")
        slow.counts.clear()
        await ask(observed, "MSG.SEND.inbox", b"hello")
        second = await client.get("/metrics")
        assert (await client.get("/readyz")).status_code == 200
        slow.counts.set()
        while value(last := await client.get("/metrics"), "mq9_messages") == 0:
            pass
    assert value(first, "mq9_messages") == value(second, "mq9_messages") == 0
    assert value(second, "mq9_storage_up") == value(last, "mq9_storage_up") == 1
    assert value(second, "mq9_totals_age_seconds") > 0
    assert slow.counted == 2  # what takes long is not counted again at once


async def test_leaving_while_the_storage_hangs_does_not_wait_for_it(observed, metrics):
    hanging = Hanging(observed)
    hanging.answers.clear()
    async with admin(hanging, metrics, timeout_s=0.01) as client:
        assert (await client.get("/readyz")).status_code == 503


async def test_its_pages_are_only_read_and_no_other_path_exists(observed, metrics):
    async with admin(observed, metrics) as client:
        for path in ("/metrics", "/healthz", "/readyz"):
            head, get = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
            assert get.content
            assert "server" not in get.headers  # whose software it is
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
                answer = await client.request(method, path)
                assert (path, method, answer.status_code) == (path, method, 405)
        for path in ("/", "/metrics/", "/metrics/x", "/metricsx", "/docs", "/mcp", "/%2e%2e/x"):
            answer = await client.get(path)
            assert (path, answer.status_code, answer.text) == (path, 404, "Not Found")
            assert "server" not in answer.headers


async def test_other_routes_are_served_on_the_same_port_and_do_not_tell_why_they_fail(
    observed, metrics
):
    async def hello(request):
        return PlainTextResponse(f"{request.method} {request.url.path}")

    async def fail(_request):
        raise RuntimeError("secret")

    mcp = Mount("/mcp", routes=[Route("/tool", hello, methods=["POST"])])
    routes = [mcp, Route("/x", hello), Route("/fail", fail)]
    async with admin(observed, metrics, routes=routes) as client:
        assert (await client.post("/mcp/tool")).text == "POST /mcp/tool"
        assert (await client.get("/x")).text == "GET /x"
        assert (await client.get("/mcp/other")).status_code == 404
        failed = await client.get("/fail")
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")
        assert (await client.get("/healthz")).text == "ok"


async def test_where_it_cannot_listen_is_named(observed, metrics):
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
        for host, number, kind, told in (
            (HOST, port, Unreachable, f"{HOST}:{port} cannot be listened on: .*in use"),
            ("192.0.2.1", 0, Unreachable, "192.0.2.1:0 cannot be listened on: "),
            ("a" * 64, 0, Unreachable, f"{'a' * 64}:0 cannot be listened on: "),
            (HOST, -1, InvalidRequest, "admin_port: -1 is not from 0 to"),
            (HOST, 65536, InvalidRequest, "admin_port: 65536 is not from 0 to"),
        ):
            with pytest.raises(kind, match=f"^{told}"):
                async with serve_admin(observed, metrics, host, number):
                    pass


async def test_it_listens_on_a_socket_that_it_is_given_and_closes_it(observed, metrics):
    listener = socket.create_server((HOST, 0))
    address = listener.getsockname()
    async with serve_admin(observed, metrics, listener=listener) as bound:
        assert bound == address
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{HOST}:{bound[1]}/healthz")
        assert answer.text == "ok"
    assert listener.fileno() == -1


async def assert_free(address):
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    socket.create_server(address).close()


async def test_clients_that_stay_do_not_keep_it_from_stopping(observed, metrics):
    async with serve_admin(observed, metrics, HOST, 0) as address:
        silent = await asyncio.open_connection(*address)
        halfway = await asyncio.open_connection(*address)
        halfway[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
        kept = await asyncio.open_connection(*address)
        kept[1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await kept[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    for reader, writer in (silent, halfway, kept):
        await reader.read()
        writer.close()
        await writer.wait_closed()
    await assert_free(address)


async def test_a_request_that_never_ends_is_given_up_when_it_stops(observed, metrics):
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def hang(_request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with serve_admin(observed, metrics, HOST, 0, routes=[Route("/hang", hang)]) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
    await given_up.wait()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    await assert_free(address)


async def test_a_program_that_is_cancelled_twice_frees_the_port_too(observed, metrics):
    started = asyncio.get_running_loop().create_future()

    async def program():
        async with serve_admin(observed, metrics, HOST, 0) as address:
            started.set_result(address)
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    address = await started
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_free(address)


async def test_signals_are_left_to_the_program(observed, metrics):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    async with admin(observed, metrics) as client:
        await client.get("/healthz")
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


async def test_requests_are_not_logged(observed, metrics, caplog, capsys):
    caplog.set_level("DEBUG")
    async with admin(observed, metrics) as client:
        await client.get("/healthz?token=secret")
        ours = [one for one in caplog.records if not one.name.startswith("http")]
        assert not [one for one in ours if "secret" in one.getMessage()]
    assert "secret" not in "".join(capsys.readouterr())


async def test_answers_on_the_port_wait_for_no_acknowledgement():
    with await listening("port", "127.0.0.1", 0) as listener:
        served = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _reader, writer: served.set_result(writer), sock=listener
        )
        async with server:
            _, client = await asyncio.open_connection(*listener.getsockname())
            writer = await served
            sock = writer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for one in (client, writer):
                one.close()
                await one.wait_closed()
