"""The client over NATS, against a real nats-server with a broker behind it."""

import asyncio
import gc
import logging
import os
import signal
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hosted import url_for
from waiting import until, until_fetching

from langchain_mq9 import Mq9Toolkit
from mq9 import (
    Forbidden,
    InvalidRequest,
    MailboxExists,
    MailboxNotFound,
    Mq9Client,
    NotConnected,
    OutcomeUnknown,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from mq9.protocol.requests import Fetch, ListPublic
from mq9.transport import nats_connection
from mq9.transport.nats_link import Waiting
from mq9.transport.open import open_transport
from mq9.wire.parser import Parser, Publish
from tests.contract.reading import send_all
from tests.nats_server import NatsServer, Responder
from tests.serving import Serving

pytestmark = pytest.mark.programs

PATIENT = {"reconnect_attempts": 200, "reconnect_delay": 0.02}


on_both = pytest.mark.parametrize("server", ["nats-server", "mq9 serve"], indirect=True)
# Where nobody but the client connects again when the server is away: a responder would, too.
on_ours = pytest.mark.parametrize("server", ["mq9 serve"], indirect=True)


@pytest.fixture
def server(request, tmp_path):
    """A server that is running: a nats-server, unless a test says otherwise."""
    if getattr(request, "param", "nats-server") == "mq9 serve":
        data = ("--data", str(tmp_path / "mq9.db"))
        serving = Serving(tmp_path, *data, "--max-payload", str(1024 * 1024))
    else:
        serving = NatsServer(tmp_path / "server")
    with serving as server:
        yield server


@pytest.fixture
async def responder(server):
    """The mq9 broker behind a nats-server; None where the server is one itself."""
    if isinstance(server, Serving):
        yield None
        return
    async with Responder(server.url) as responder:
        yield responder


@pytest.fixture
async def patient(server, responder):
    """A client that waits for its server, with a mailbox."""
    async with Mq9Client(server.url, **PATIENT) as client:
        await client.mailbox_create(name="inbox")
        yield client


@asynccontextmanager
async def stranger(greet, port=0):
    """A TCP server that does as `greet(reader, writer)` says; its port, by default a free one."""

    async def serve(reader, writer):
        try:
            await greet(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@asynccontextmanager
async def knocking(port):
    """A server that closes every connection: an item is added for each that came."""
    knocks = []

    async def note(_reader, _writer):
        knocks.append(None)

    async with stranger(note, port):
        yield knocks


# Asking


@pytest.mark.quick
@on_both
async def test_every_verb_goes_over_the_wire(patient):
    every_byte = bytes(range(256))
    first = await patient.send("inbox", every_byte, tags=["raw"], priority="critical")
    await patient.send("inbox", "grüße 你好", sender="me", key="k")
    fetched = await patient.fetch("inbox", group_name="g", deliver="earliest")
    assert [message.payload for message in fetched] == [every_byte, "grüße 你好".encode()]
    assert fetched[1].sender == "me"
    assert (await patient.extend("inbox", "g", [first])).extended == (first,)
    await patient.nack("inbox", "g", fetched[1].msg_id)
    assert await patient.ack("inbox", "g", first) == [first]
    assert [message.tags for message in await patient.query("inbox", tags=["raw"])] == [("raw",)]
    await patient.delete("inbox", first)
    assert (await patient.mailbox_status("inbox", group_name="g")).stored == 1
    await patient.agent_register({"name": "Oracle", "mailbox": "inbox"})
    await patient.agent_report({"name": "Oracle", "load": 1})
    assert (await patient.agent_discover())[0]["mailbox"] == "inbox"
    await patient.agent_unregister("inbox")
    assert await patient.mailbox_list() == []
    await patient.mailbox_drop("inbox")
    with pytest.raises(MailboxNotFound):
        await patient.send("inbox", "x")


@on_both
async def test_a_reply_to_what_was_given_up_is_nobody_elses(patient):
    for number in range(20):
        await patient.mailbox_create(name=f"box.{number}")
        await patient.send(f"box.{number}", f"{number}")
    asking = [asyncio.create_task(patient.query(f"box.{number}")) for number in range(20)]
    await asyncio.sleep(0)  # each is sent
    for task in asking[::2]:
        task.cancel()
    given_up = await asyncio.gather(*asking[::2], return_exceptions=True)
    assert {type(one) for one in given_up} == {asyncio.CancelledError}
    found = await asyncio.gather(patient.query("box.1"), *asking[1::2])
    assert [message.text for [message] in found] == ["1", *map(str, range(1, 20, 2))]


@on_both
async def test_more_than_may_be_unsent_waits_its_turn(server, responder, monkeypatch):
    monkeypatch.setattr(nats_connection, "MOST_UNSENT", 1024 * 1024)
    body = os.urandom(900_000)
    async with Mq9Client(server.url, request_timeout=60) as client:
        await client.mailbox_create(name="inbox")
        await asyncio.gather(*(client.send("inbox", body) for _ in range(20)))
        assert (await client.mailbox_status("inbox")).stored_bytes == 20 * len(body)


async def test_what_waits_for_room_and_is_given_up_is_never_sent(monkeypatch):
    monkeypatch.setattr(nats_connection, "MOST_UNSENT", 64 * 1024)
    parser, heard, reads = Parser(1024 * 1024), [], asyncio.Event()

    async def greet(reader, writer):
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await reads.wait()
        while data := await reader.read(64 * 1024):
            heard.extend(one for one in parser.feed(data) if isinstance(one, Publish))

    async with stranger(greet) as port, Mq9Client(f"nats://127.0.0.1:{port}") as client:
        bodies = [bytes([number]) * 900_000 for number in range(30)]
        sending = [asyncio.create_task(client.send("inbox", body)) for body in bodies]
        await asyncio.sleep(0)  # each is sent, or waits
        for task in sending[10:20]:
            task.cancel()
        await asyncio.wait(sending[10:20])
        del sending[10:20], task  # whose errors hold what they were raised in
        assert waiting_requests() == 20
        reads.set()
        await until(lambda: len(heard) == 20)
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
    assert [one.payload[0] for one in heard] == [*range(10), *range(20, 30)]


# Connecting


async def test_nobody_there_is_told_at_once_with_what_to_do(dead_port):
    client = Mq9Client(f"nats://127.0.0.1:{dead_port}", reconnect_delay=3600)
    with pytest.raises(Unreachable) as caught:
        await client.open()
    assert str(caught.value) == (
        f"no mq9 broker answers at nats://127.0.0.1:{dead_port}: connection refused; "
        "start one with `mq9 serve`"
    )
    assert isinstance(caught.value, NotConnected)
    assert not client.is_connected
    await client.close()
    for urls in ("nats://nowhere.invalid", f"nats://127.0.0.1:{dead_port},nats://localhost:1"):
        with pytest.raises(Unreachable) as caught:
            await Mq9Client.connect(urls)
        for url in urls.split(","):  # each is named
            assert url in str(caught.value)


async def test_a_client_connects_once_there_is_somebody(tmp_path):
    with NatsServer(tmp_path) as server:
        server.kill()
        client = Mq9Client(server.url)
        with pytest.raises(Unreachable):
            await client.open()
        server.start()
        async with client, Responder(server.url):
            assert await client.mailbox_create(name="inbox") == "inbox"


async def close_at_once(_reader, _writer):
    """Not a word."""


async def speak_http(reader, writer):
    await reader.readuntil(b"\r\n")


async def greet_with(reader, writer, greeting):
    writer.write(greeting)
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO\r\n",
        b"INFO {not json}\r\n",
        b"INFO []\r\n",
        b"\xff\xfe\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"x" * 100_000,
        b"INFO {}\r\n-ERR 'Maximum Connections Exceeded'\r\n",
        b"INFO {}\r\nWHAT\r\n",
        None,
    ],
)
async def test_what_is_no_nats_server_is_unreachable(greeting, monkeypatch):
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT_S", 1.0)

    async def greet(reader, writer):
        if greeting is not None:
            await greet_with(reader, writer, greeting)

    async with stranger(greet) as port:
        with pytest.raises(Unreachable, match=f"no mq9 broker answers at nats://127.0.0.1:{port}"):
            await Mq9Client.connect(f"nats://127.0.0.1:{port}")


async def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT_S", 0.1)
    async with stranger(speak_http) as port:
        with pytest.raises(Unreachable, match=r"no NATS server answered within 0\.1 s"):
            await Mq9Client.connect(f"nats://127.0.0.1:{port}")


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_a_connect_that_is_broken_off_leaves_nothing_open(how):
    came, left = asyncio.Event(), asyncio.Event()

    async def greet(reader, _writer):
        came.set()
        await reader.read()
        left.set()

    async with stranger(greet) as port:
        client = Mq9Client(f"nats://127.0.0.1:{port}")
        connecting = asyncio.create_task(client.open())
        await came.wait()
        if how == "cancelled":
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        else:
            await client.close()
            with pytest.raises(NotConnected, match="closed while it was connecting"):
                await connecting
        async with asyncio.timeout(20):
            await left.wait()
        assert not client.is_connected


async def test_connecting_many_times_at_once_makes_one_connection_though_some_give_up(
    server, responder
):
    client = Mq9Client(server.url)
    connecting = [asyncio.create_task(client.open()) for _ in range(20)]
    await asyncio.sleep(0)
    connecting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting[0]
    assert set(await asyncio.gather(*connecting[1:])) == {client}
    await client.mailbox_create(name="inbox")
    names = [connection["name"] for connection in await server.connections()]
    assert sorted(names) == [client.consumer, "responder"]
    await client.close()


@on_both
async def test_another_event_loop_is_refused(server, responder):
    client = await Mq9Client.connect(server.url)
    with pytest.raises(NotConnected, match="another event loop"):
        await asyncio.to_thread(asyncio.run, client.mailbox_list())
    assert await client.mailbox_list() == []
    await client.close()


@on_both
def test_a_loop_that_is_over_takes_its_connection_along(server):
    client = Mq9Client(server.url, reconnect_attempts=0)

    async def connect_and_lose():
        await client.open()
        server.kill()
        with pytest.raises((Unavailable, Unreachable)):  # and so no socket is left open
            await client.mailbox_list()

    asyncio.run(connect_and_lose())
    with pytest.raises(NotConnected, match="another event loop"):
        asyncio.run(client.mailbox_list())
    asyncio.run(client.close())
    assert not client.is_connected


FORK = """
import asyncio, os, sys
from mq9 import Mq9Client, NotConnected, Unreachable

url = sys.argv[1]
client = Mq9Client(url, reconnect_attempts=0)

async def in_child():
    try:
        await client.mailbox_list()
    except NotConnected as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError("the child used its parent's connection")
    await client.close()
    async with Mq9Client(url, reconnect_attempts=0) as own:
        try:
            await own.mailbox_list()
        except Unreachable as error:
            assert "nobody listens" in str(error)

async def ask():
    try:
        await client.mailbox_list()
    except Unreachable as error:
        assert "nobody listens" in str(error)

loop = asyncio.new_event_loop()
loop.run_until_complete(client.open())
child = os.fork()
if child == 0:
    asyncio.run(in_child())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
loop.run_until_complete(ask())
loop.run_until_complete(client.close())
loop.close()
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@on_both
def test_a_forked_child_leaves_its_parents_connection_alone(server):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "well")


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "nats:",
        "nats://",
        "nats:host",
        "nats:///path",
        "nats://host/path",
        "nats://host:0",
        "nats://host:65536",
        "nats://host:port",
        "nats://host:",
        "nats://ho st",
        "nats://a,,b",
        "nats://a,",
        "nats://a,tls://b",
        "nats://a,memory://b",
        "nats://@host",
        "nats://:password@host",
        "nats://host#fragment",
        "nats://host?tls_ca=ca.pem",
        "nats://host?inbox_prefix=",
        "nats://host?inbox_prefix=_INBOX.",
        "nats://host?inbox_prefix=_INBOX.*",
        "nats://host?inbox_prefix=_INBOX.>",
        "nats://host?inbox_prefix=a%20b",
        "nats://host?inbox_prefix=$JS",
        "tls://host?tls_ca=",
        "tls://host?ca=ca.pem",
        "tls://host?tls_key=key.pem",
        "nats://[::1",
    ],
)
def test_a_url_that_cannot_be_is_refused_at_the_door(url):
    with pytest.raises(InvalidRequest, match=r"^server: "):
        Mq9Client(url)


@pytest.mark.parametrize(
    "url", ["nats://localhost", "NATS://host:1", "tls://[::1]:4222", "nats://a:1, b:2 ,nats://c"]
)
def test_a_url_that_can_be_is_not(url):
    Mq9Client(url)


async def test_replies_come_to_inboxes_of_the_prefix(tmp_path):
    """Where a client may subscribe to no others."""
    config = """authorization { users: [
      { user: responder, password: x }
      { user: ada, password: x, permissions: { publish: "$mq9.AI.>", subscribe: "_INBOX.ada.>" } }
    ] }"""
    with NatsServer(tmp_path / "server", config=config) as server:
        url = url_for(server, "ada:x")
        async with Responder(server.url, user="responder", password="x"):
            async with Mq9Client(f"{url}?inbox_prefix=_INBOX.ada") as client:
                await client.mailbox_create(name="inbox")
                await client.send("inbox", "hello")
                assert [one.text for one in await client.fetch("inbox", group_name="g")] == [
                    "hello"
                ]
            async with Mq9Client(url, request_timeout=0.2) as client:
                with pytest.raises((Unavailable, Forbidden)):
                    await client.mailbox_create(name="other")


def test_a_url_of_the_environment_keeps_its_secret(monkeypatch):
    monkeypatch.setenv("MQ9_SERVER", "nats://user:hidden@127.0.0.1:1")
    assert "hidden" not in repr(Mq9Client())


@pytest.mark.parametrize(
    "url",
    [
        "nats://user:hidden@127.0.0.1:1",
        "nats://hidden@127.0.0.1:1",
        "nats://a:1,nats://user:hidden@127.0.0.1:1",
        "tls://user:hidden@127.0.0.1:1?tls_ca=no.pem",
        "nats://user:hidden/@host",
        "nats://user:hidden#@host",
        "nats://user:hid,den@host",
        "nats://user:hidden@host:port",
        "nats://user:hidden@[host",
        "nats://user:1?hidden@host",
        "https://user:hidden@host",
        "user:hidden@host",
    ],
)
async def test_no_error_and_no_repr_shows_a_password(url, caplog):
    caplog.set_level(logging.DEBUG)

    async def try_it():
        client = Mq9Client(url, request_timeout=1)
        assert "hid" not in repr(client)
        await client.open()

    with pytest.raises((InvalidRequest, Unreachable)) as caught:
        await try_it()
    assert "hid" not in str(caught.value)
    assert "den" not in str(caught.value)
    assert "hidden" not in caplog.text


# Credentials


@pytest.mark.parametrize(
    ("options", "who", "right", "wrong"),
    [
        (("--auth", "s3cret"), {"token": "s3cret"}, "s3cret", ["other", "user:s3cret"]),
        (
            ("--user", "u@ser", "--pass", "p:w/d"),
            {"user": "u@ser", "password": "p:w/d"},
            "u%40ser:p%3Aw%2Fd",
            ["u%40ser:other", "x:p"],
        ),
    ],
)
async def test_credentials_are_taken_or_refused(tmp_path, caplog, options, who, right, wrong):
    caplog.set_level(logging.DEBUG)
    with NatsServer(tmp_path, *options) as server:
        async with Responder(server.url, **who):
            async with Mq9Client(url_for(server, right)) as client:
                assert await client.mailbox_create(name="inbox") == "inbox"
            for credentials in wrong:
                with pytest.raises(Unauthorized, match="refused the user or token") as caught:
                    await Mq9Client.connect(url_for(server, credentials))
                assert credentials not in str(caught.value)
            with pytest.raises(Unauthorized, match="wants a user or token"):
                await Mq9Client.connect(server.url)
    assert "s3cret" not in caplog.text
    assert "p:w/d" not in caplog.text


async def test_a_credential_that_is_withdrawn_ends_in_unauthorized(tmp_path):
    with NatsServer(tmp_path, "--auth", "old") as server:
        url = url_for(server, "old")
        async with Mq9Client(url, **PATIENT) as client:
            server.kill()
            server.options = ["--auth", "new"]
            server.start()
            with pytest.raises(Unauthorized):
                await client.mailbox_list()


async def test_what_the_server_does_not_let_a_user_do_is_forbidden(tmp_path):
    config = """
    authorization { users = [
      {user: all, password: x},
      {user: few, password: x, permissions: {
        publish: ["$mq9.AI.MAILBOX.>"], subscribe: ["_INBOX.>"]}},
      {user: deaf, password: x, permissions: {publish: [">"], subscribe: ["nothing"]}},
    ] }
    """
    with NatsServer(tmp_path, config=config) as server:
        few, deaf = (url_for(server, f"{user}:x") for user in ("few", "deaf"))
        async with Responder(url_for(server, "all:x")):
            async with Mq9Client(few) as client:
                await client.mailbox_create(name="inbox")
                with pytest.raises(Forbidden, match="permissions violation"):
                    await client.send("inbox", "x")
                await client.mailbox_status("inbox")  # the connection is as good as before
            async with Mq9Client(deaf) as client:
                with pytest.raises(Forbidden):
                    await client.mailbox_list()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of certificates: of the CA, of the server, of a client, and of another CA."""
    directory = tmp_path_factory.mktemp("certificates")
    ca, other = trustme.CA(), trustme.CA()
    for name, issued in [
        ("server", ca.issue_cert("127.0.0.1", "localhost")),
        ("elsewhere", ca.issue_cert("elsewhere.example")),
        ("client", ca.issue_cert("client@example")),
    ]:
        issued.private_key_pem.write_to_path(directory / f"{name}.key")
        (directory / f"{name}.pem").write_bytes(
            b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        )
    ca.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other.pem")
    return directory


def tls_server(directory, certificates, name="server", *options):
    files = ["--tlscert", str(certificates / f"{name}.pem")]
    files += ["--tlskey", str(certificates / f"{name}.key")]
    return NatsServer(directory, "--tls", *files, *options)


def tls_url(server, **options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"tls://127.0.0.1:{server.port}" + (f"?{query}" if query else "")


async def test_tls_with_the_right_ca(tmp_path, certificates):
    with tls_server(tmp_path, certificates) as server:
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        async with Responder(server.url, tls=context):
            url = tls_url(server, tls_ca=certificates / "ca.pem")
            async with Mq9Client(url, **PATIENT) as client:
                await client.mailbox_create(name="inbox")
                body = os.urandom(500_000)
                await client.send("inbox", body)
                [message] = await client.query("inbox")
                assert message.payload == body
                server.kill()
                server.start()
                assert len(await client.query("inbox")) == 1


@pytest.mark.parametrize(
    ("name", "ca"), [("server", None), ("server", "other.pem"), ("elsewhere", "ca.pem")]
)
async def test_a_certificate_that_is_not_trusted_is_told(tmp_path, certificates, name, ca):
    with tls_server(tmp_path, certificates, name) as server:
        options = {} if ca is None else {"tls_ca": certificates / ca}
        with pytest.raises(Unreachable, match=r"certificate is not trusted .*tls_ca=FILE"):
            await Mq9Client.connect(tls_url(server, **options))
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            await Mq9Client.connect(server.url)  # nats://, but the server insists


async def test_a_server_may_want_the_clients_certificate(tmp_path, certificates):
    options = ["--tlsverify", "--tlscacert", str(certificates / "ca.pem")]
    mine = {
        "tls_ca": certificates / "ca.pem",
        "tls_cert": certificates / "client.pem",
        "tls_key": certificates / "client.key",
    }
    with tls_server(tmp_path, certificates, "server", *options) as server:
        async with Mq9Client(tls_url(server, **mine), reconnect_attempts=0) as client:
            with pytest.raises(Unreachable, match="nobody listens"):
                await client.mailbox_list()
        with pytest.raises(Unreachable, match="no mq9 broker answers at tls://"):
            await Mq9Client.connect(tls_url(server, tls_ca=mine["tls_ca"]))


async def test_tls_is_insisted_on_before_anything_is_sent():
    heard = asyncio.get_running_loop().create_future()

    async def greet(reader, writer):
        writer.write(b'INFO {"server_id":"x","auth_required":true,"max_payload":1024}\r\n')
        heard.set_result(await reader.read())

    async with stranger(greet) as port:
        with pytest.raises(Unreachable, match="does not offer TLS, so nothing was sent"):
            await Mq9Client.connect(f"tls://user:hidden@127.0.0.1:{port}")
        assert await heard == b""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tls_ca": "missing.pem"}, "tls_ca: .*missing.pem"),
        ({"tls_ca": "server.key"}, "tls_ca: .*server.key"),
        ({"tls_cert": "missing.pem"}, "tls_cert: .*missing.pem"),
        ({"tls_cert": "client.pem", "tls_key": "server.key"}, "tls_cert: .*server.key"),
        ({"tls_cert": "client.pem", "tls_key": "locked.key"}, "tls_cert: .*locked.key"),
    ],
)
async def test_a_file_of_certificates_that_cannot_be_used_is_named(certificates, options, named):
    key = serialization.load_pem_private_key((certificates / "client.key").read_bytes(), None)
    (certificates / "locked.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    query = "&".join(f"{name}={certificates / file}" for name, file in options.items())
    with pytest.raises(InvalidRequest, match=f"^server: {named}"):
        await Mq9Client.connect(f"tls://127.0.0.1:1?{query}")


# Connections that break


@on_both
async def test_a_client_goes_on_as_the_same_consumer_when_the_server_comes_back(
    server, patient, caplog
):
    await send_all(patient, "inbox", *map(str, range(3)))
    fetched = await patient.fetch("inbox", group_name="g", deliver="earliest", num_msgs=2)
    server.kill()
    server.start()
    again = await patient.fetch("inbox", group_name="g")
    assert [message.text for message in again] == ["0", "1", "2"]
    assert [message.delivery_count for message in again] == [2, 2, 1]  # its own leases
    assert await patient.ack("inbox", "g", fetched[1].msg_id) == [0, 1]
    # What nats-py says of it is not for everybody.
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@on_ours
async def test_what_cannot_be_sent_is_sent_once_the_server_is_back(server, patient):
    server.kill()
    async with knocking(server.port) as knocks:
        asking = asyncio.create_task(patient.mailbox_list())  # may be repeated, if it is sent
        await until(lambda: knocks)  # and so the client knows that the connection broke
        # Neither may be repeated once it was sent.
        making = asyncio.create_task(patient.mailbox_create(name="other"))
        dropping = asyncio.create_task(patient.mailbox_drop("inbox"))
        knocked = len(knocks)
        await until(lambda: len(knocks) > knocked + 1)
        assert not making.done()
    server.start()
    assert await making == "other"
    await dropping
    await asking


@pytest.mark.quick
async def test_a_send_whose_reply_is_lost_is_stored_once(server, responder, patient):
    responder.lose_next_reply("MSG.SEND")
    sending = asyncio.create_task(patient.send("inbox", "once"))
    await responder.losing.wait()
    server.kill()
    server.start()
    assert await sending == 0
    assert [message.text for message in await patient.query("inbox")] == ["once"]
    assert responder.requests.count("$mq9.AI.MSG.SEND.inbox") >= 2


async def test_what_may_not_be_repeated_ends_at_once_with_its_outcome_unknown(
    server, responder, patient
):
    responder.lose_next_reply("MAILBOX.CREATE")
    making = asyncio.create_task(patient.mailbox_create(name="other"))
    await responder.losing.wait()
    server.kill()
    with pytest.raises(Unavailable, match="connection broke; the outcome is unknown"):
        await making
    server.start()
    with pytest.raises(MailboxExists):
        await patient.mailbox_create(name="other")


async def test_a_lost_reply_and_then_no_server_is_an_unknown_outcome(server, responder):
    async with Mq9Client(server.url, reconnect_attempts=2, reconnect_delay=0) as client:
        await client.mailbox_create(name="inbox")
        responder.lose_next_reply("MSG.SEND")
        sending = asyncio.create_task(client.send("inbox", "x"))
        await responder.losing.wait()
        server.kill()
        with pytest.raises(Unavailable, match=r"outcome is unknown; since then no mq9 broker"):
            await sending
        with pytest.raises(Unreachable, match="connection refused"):
            await client.send("inbox", "y")
        assert client.is_connected  # as soon as there is a server, that is
        server.start()


async def test_requests_that_find_the_connection_broken_share_a_new_one(server, patient):
    server.kill()
    server.start()
    await asyncio.gather(*(patient.query("inbox") for _ in range(50)))
    mine = [one["cid"] for one in await server.connections() if one["name"] == patient.consumer]
    assert len(mine) == 1


@pytest.mark.quick
@on_ours
async def test_a_consumer_outlives_an_outage(server, patient):
    handled = []

    async def handler(message):
        handled.append(message.text)

    async def have(count):
        await until(lambda: len(set(handled)) >= count)

    async with Mq9Client(server.url, reconnect_attempts=1, reconnect_delay=0) as hasty:
        consumer = await hasty.consume("inbox", handler, deliver="earliest", max_wait_ms=50)
        await patient.send("inbox", "before")
        await have(1)
        server.kill()
        async with knocking(server.port) as knocks:
            await until(lambda: len(knocks) > 2)  # a fetch is repeated once: another failed
        assert consumer.is_running
        server.start()
        await patient.send("inbox", "after")
        await have(2)
        assert consumer.is_running
        await hasty.close()
        assert not consumer.is_running


def freeze(pid):
    """Stop a program of ours, and return when it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


@on_both
async def test_a_server_that_is_frozen_is_found_out_by_pings(server, responder, monkeypatch):
    monkeypatch.setattr(nats_connection, "PING_INTERVAL_S", 0.05)
    async with Mq9Client(server.url, reconnect_attempts=0, request_timeout=60) as client:
        await client.mailbox_create(name="inbox")
        freeze(server.pid)
        try:
            with pytest.raises(Unavailable, match="connection broke"):
                await client.mailbox_drop("inbox")
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_server_that_takes_nothing_holds_up_no_close(server, monkeypatch):
    monkeypatch.setattr(nats_connection, "MOST_UNSENT", 1024 * 1024)
    body = bytes(1_000_000)
    async with Mq9Client(server.url, reconnect_attempts=0, request_timeout=0.5) as client:
        freeze(server.pid)
        try:
            sent = await asyncio.gather(
                *(client.send("inbox", body) for _ in range(40)), return_exceptions=True
            )
            kinds = {type(error) for error in sent}
            assert kinds == {OutcomeUnknown, Unreachable}  # some left, some never did
            await client.close()
        finally:
            os.kill(server.pid, signal.SIGCONT)


# Clusters


async def test_a_dead_member_is_passed_over(server, responder, dead_port):
    async with Mq9Client(f"nats://127.0.0.1:{dead_port},127.0.0.1:{server.port}") as client:
        assert await client.mailbox_create(name="inbox") == "inbox"


async def test_when_one_member_dies_another_takes_over(tmp_path):
    async with AsyncExitStack() as stack:
        one, two = (stack.enter_context(NatsServer(tmp_path / name)) for name in "ab")
        responder = await stack.enter_async_context(Responder(one.url))
        await stack.enter_async_context(Responder(two.url, responder.broker))
        client = Mq9Client(f"{one.url},{two.url}", **PATIENT)
        await stack.enter_async_context(client)
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "x")
        await client.fetch("inbox", group_name="g", deliver="earliest")
        one.kill()
        assert await client.ack("inbox", "g", 0) == [0]
        one.start()
        two.kill()
        assert len(await client.query("inbox")) == 1


async def test_a_member_that_knows_the_user_is_enough(tmp_path):
    with (
        NatsServer(tmp_path / "a", "--auth", "one") as one,
        NatsServer(tmp_path / "b", "--auth", "two") as two,
    ):
        both = f"nats://two@127.0.0.1:{one.port},127.0.0.1:{two.port}"
        async with Mq9Client(both):
            pass
        with pytest.raises(Unauthorized):
            await Mq9Client.connect(both.replace("two", "three"))


# Requests that come to nothing


async def test_no_broker_behind_the_server_is_told(server):
    async with Mq9Client(server.url, reconnect_attempts=1, reconnect_delay=0) as client:
        with pytest.raises(Unreachable) as caught:
            await client.mailbox_list()
        assert str(caught.value) == (
            f"a NATS server answers at {server.url}, but no mq9 broker does: nobody listens to "
            "$mq9.AI.PUBLIC.LIST"
        )
    with Mq9Toolkit(server.url, reconnect_attempts=0, tools=["create_mailbox"]) as toolkit:
        [create] = toolkit.get_tools()
        call = {"type": "tool_call", "id": "1", "name": create.name, "args": {"name": "inbox"}}
        message = await create.ainvoke(call)
    assert message.status == "error"
    assert "no mq9 broker does" in message.content


async def test_a_reply_that_does_not_come_in_time_is_unavailable(server, responder):
    async with Mq9Client(server.url, reconnect_attempts=0, request_timeout=1) as client:
        responder.lose_next_reply("PUBLIC.LIST")
        with pytest.raises(Unavailable, match=r"within 1 s; the outcome is unknown"):
            await client.mailbox_list()
        assert await client.mailbox_list() == []


@on_both
async def test_each_request_waits_as_long_as_it_may(server, patient):
    link = await open_transport(server.url, "c")
    subject = "$mq9.AI.MSG.FETCH.inbox"
    patient, *others = (
        asyncio.create_task(link.request(Fetch(max_wait_ms=60_000), "inbox", None, None, seconds))
        for seconds in (60, 0.2, 0.1, 0.3)
    )
    async with asyncio.timeout(30):
        ended = await asyncio.gather(*others, return_exceptions=True)
    assert [str(one) for one in ended] == [
        f"no reply to {subject} within {seconds} s; the outcome is unknown"
        for seconds in (0.2, 0.1, 0.3)
    ]
    assert not patient.done()
    await link.close()
    with pytest.raises(Unavailable, match="before the client was closed"):
        await patient
    await link.close()  # harmless
    with pytest.raises(NotConnected):
        await link.request(ListPublic(), "", None, None, 1)


async def test_a_payload_goes_up_to_what_the_server_takes(server, responder, patient):
    most = 1024 * 1024  # unless it is told otherwise
    headers = len(f"NATS/1.0\r\nmq9-id: {'x' * 24}\r\n\r\n")
    assert await patient.send("inbox", bytes(most - headers), id="x" * 24) == 0
    with pytest.raises(PayloadTooLarge, match=f"{most + 1} with the headers.* {most} "):
        await patient.send("inbox", bytes(most - headers + 1), id="y" * 24)
    for size in (most + 1, 8 * most):
        with pytest.raises(PayloadTooLarge, match=f"{size} bytes.* {most}"):
            await patient.send("inbox", bytes(size))
    assert (await patient.mailbox_status("inbox")).stored == 1
    assert len(await server.connections()) == 2  # and the connection was not cut


def waiting_requests():
    """How many are kept in this process."""
    gc.collect()
    return sum(isinstance(one, Waiting) for one in gc.get_objects())


@pytest.mark.unmeasured
async def test_requests_that_were_cancelled_or_answered_leave_nothing_behind(
    server, responder, patient
):
    async def give_up(arrived):
        """Make 250 requests, and cancel them when so many have arrived."""
        enough = len(responder.requests) + arrived
        waiting = [
            asyncio.create_task(patient.fetch("inbox", group_name="g", max_wait_ms=60_000))
            for _ in range(250)
        ]
        await until(lambda: len(responder.requests) >= enough)
        for task in waiting:
            task.cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in done} == {asyncio.CancelledError}

    async def only_the_responder_listens():
        return sum(one["subscriptions"] for one in await server.connections()) == 1

    before = waiting_requests()
    for arrived in (1, 100, 249, 250):
        await give_up(arrived)
    await asyncio.gather(*(patient.query("inbox") for _ in range(500)))
    await until(lambda: waiting_requests() == before)
    await until(only_the_responder_listens)


@on_both
async def test_closing_ends_what_still_waits(server, patient):
    other = await Mq9Client.connect(server.url)
    waiting = [
        asyncio.create_task(other.fetch("inbox", group_name="g", max_wait_ms=60_000)),
        asyncio.create_task(other.fetch("inbox", max_wait_ms=60_000)),
    ]
    await until_fetching(patient, "inbox", "g")
    await other.close()
    for task in waiting:
        with pytest.raises(NotConnected):
            await task
    await other.close()  # harmless
    await other.open()  # once more
    assert await other.mailbox_list() == []
    await other.close()
