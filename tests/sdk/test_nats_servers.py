"""How the client logs in at real nats-servers, and goes from one to another of a cluster."""

import asyncio
import itertools
import os
import signal
import ssl
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
import pytest
import trustme
from nats_keys import ACCOUNT, OF_ACCOUNT, OPERATOR, STRANGER, UNLIMITED, USER, creds
from waiting import until

from mq9 import InvalidRequest, Mq9Client, OutcomeUnknown, Unauthorized, Unreachable
from mq9.protocol.requests import ListPublic
from mq9.transport import nats as transport
from mq9.transport.servers import ServerAddress, discovered, parse
from tests.nats_server import NatsServer, Responder, loopback_port

pytestmark = pytest.mark.programs

PATIENT = {"reconnect_attempts": 200, "reconnect_delay": 0.02}


# Keys


async def test_a_user_may_have_an_nkey(tmp_path):
    config = f"authorization {{ users: [{{ nkey: {USER.public} }}] }}"
    right, wrong = tmp_path / "right.nk", tmp_path / "wrong.nk"
    right.write_text(f"{USER.seed}\n")
    wrong.write_text(STRANGER.seed)
    with NatsServer(tmp_path / "server", config=config) as server:
        async with Responder(server.url, nkeys_seed=str(right)):
            async with Mq9Client(f"{server.url}?nkey={right}") as client:
                assert await client.mailbox_create(name="inbox") == "inbox"
            with pytest.raises(Unauthorized, match="refused the NKey"):
                await Mq9Client.connect(f"{server.url}?nkey={wrong}")
            with pytest.raises(Unauthorized, match="the URL names none"):
                await Mq9Client.connect(server.url)


async def test_a_user_may_have_a_jwt(tmp_path):
    operator = OPERATOR.jwt("op", OPERATOR, type="operator")
    account = OPERATOR.jwt("account", ACCOUNT, type="account", limits=OF_ACCOUNT)
    config = f"operator: {operator}\nresolver: MEMORY\n"
    config += f'resolver_preload: {{ {ACCOUNT.public}: "{account}" }}'
    user = ACCOUNT.jwt("user", USER, type="user", **UNLIMITED)
    file = creds(tmp_path, USER, user)
    (tmp_path / "other").mkdir()
    other = creds(tmp_path / "other", STRANGER, user)  # whose key is not that of the JWT
    with NatsServer(tmp_path / "server", config=config) as server:
        async with Responder(server.url, user_credentials=str(file)):
            async with Mq9Client(f"{server.url}?creds={file}", **PATIENT) as client:
                assert await client.mailbox_create(name="inbox") == "inbox"
                server.kill()
                server.start()
                await until(lambda: _is_answered(client))
            with pytest.raises(Unauthorized, match="refused the JWT") as caught:
                await Mq9Client.connect(f"{server.url}?creds={other}")
            assert user not in str(caught.value)


async def _is_answered(client):
    try:
        return await client.mailbox_status("inbox")
    except Unreachable:  # the responder has not connected again
        return False


async def test_a_server_that_asks_for_no_key_is_told(tmp_path):
    (tmp_path / "user.nk").write_text(USER.seed)
    with NatsServer(tmp_path / "server") as server:
        url = f"{server.url}?nkey={tmp_path / 'user.nk'}"
        with pytest.raises(Unauthorized, match="takes neither NKeys nor JWTs"):
            await Mq9Client.connect(url)


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("nkey", None, "nkey: .*file cannot be used"),
        ("nkey", "SUNO", "nkey: .*file holds no seed of an NKey"),
        ("nkey", USER.public, "nkey: .*file holds no seed of an NKey"),
        ("nkey", "\xff", "nkey: .*file holds no seed of an NKey"),
        ("creds", None, "creds: .*file cannot be used"),
        ("creds", USER.seed, "creds: .*file does not hold a JWT and the seed of an NKey"),
    ],
)
async def test_a_file_of_a_key_that_cannot_be_used_is_named(tmp_path, option, text, told):
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidRequest, match=f"^server: {told}") as caught:
        await Mq9Client.connect(f"nats://127.0.0.1:1?{option}={file}")
    assert text is None or text not in str(caught.value)


async def test_without_the_package_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nkeys", None)
    (tmp_path / "user.nk").write_text(USER.seed)
    with pytest.raises(InvalidRequest, match=r"takes the package nkeys; .*'\.\[nkeys\]'"):
        await Mq9Client.connect(f"nats://127.0.0.1:1?nkey={tmp_path / 'user.nk'}")


@pytest.mark.parametrize(
    "url",
    [
        "nats://user:password@host?nkey=file",
        "nats://token@host?creds=file",
        "nats://host?creds=file&nkey=file",
        "nats://host?creds=",
        "nats://host?tls_first=true",
        "tls://host?tls_first=yes",
        "nats://host?ignore_discovered=1",
    ],
)
def test_options_that_do_not_go_together_are_refused(url):
    with pytest.raises(InvalidRequest, match=r"^server: "):
        Mq9Client(url)


# TLS


async def test_tls_may_begin_before_the_greeting(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = ca.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    files = f'cert_file: "{tmp_path / "cert.pem"}", key_file: "{tmp_path / "key.pem"}"'
    with NatsServer(tmp_path, config=f"tls {{ {files}, handshake_first: true }}") as server:
        url = f"tls://127.0.0.1:{server.port}?tls_ca={tmp_path / 'ca.pem'}"
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        responder = Responder(
            server.url.replace("nats", "tls"), tls=context, tls_handshake_first=True
        )
        async with responder, Mq9Client(f"{url}&tls_first=true") as client:
            assert await client.mailbox_create(name="inbox") == "inbox"
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            await Mq9Client.connect(f"tls://127.0.0.1:{server.port}?tls_first=true")


# Clusters


class Told:
    """What a server says of itself to whoever is connected."""

    def __init__(self, reader):
        self._reader = reader
        self._info = {}

    async def read(self):
        """Read a line; its verb."""
        verb, _, rest = (await self._reader.readuntil(b"\n")).partition(b" ")
        if verb == b"INFO":
            self._info = orjson.loads(rest)
        return verb.strip()

    async def info(self, condition):
        """Return when what it said last fits."""
        async with asyncio.timeout(30):
            while not condition(self._info):
                await self.read()


@asynccontextmanager
async def watching(server):
    """Connect to a server by hand; from now on it says when something changes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
    told = Told(reader)
    try:
        while await told.read() != b"PONG":
            pass
        yield told
    finally:
        writer.transport.abort()


@asynccontextmanager
async def two_servers(directory):
    """Run two servers that know each other, and a broker behind the second one."""
    routes = [loopback_port() for _ in range(2)]
    joined = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    async with AsyncExitStack() as stack:
        servers = []
        for number, port in enumerate(routes):
            config = f"server_name: s{number}\n{LAME_DUCK}"
            config += f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{joined}] }}\n"
            server = NatsServer(directory / f"s{number}", config=config)
            servers.append(stack.enter_context(server))
        for server in servers:
            async with watching(server) as told:
                await told.info(lambda info: len(info.get("connect_urls", [])) == len(servers))
        responder = await stack.enter_async_context(Responder(servers[1].url))
        yield servers, responder


LAME_DUCK = "lame_duck_duration: 30s\nlame_duck_grace_period: 10s\n"


@pytest.fixture
async def clustered(tmp_path):
    async with two_servers(tmp_path) as found:
        yield found


async def is_connected(server, client):
    """Whether a server has a connection of a client."""
    return client.consumer in [one.get("name") for one in await server.connections()]


@pytest.mark.quick
async def test_a_server_that_another_named_takes_over(clustered):
    [first, second], _ = clustered
    async with Mq9Client(first.url, **PATIENT) as client:
        await client.mailbox_create(name="inbox")
        first.kill()
        assert await client.send("inbox", "hello") == 0
        assert await is_connected(second, client)


async def test_no_server_is_tried_that_the_url_does_not_name_where_that_is_unwanted(clustered):
    [first, _], _ = clustered
    async with Mq9Client(f"{first.url}?ignore_discovered=true", reconnect_attempts=0) as client:
        await client.mailbox_list()
        first.kill()
        for _ in range(2):  # by the connection that is broken, and by another one
            with pytest.raises((Unreachable, OutcomeUnknown)) as caught:
                await client.mailbox_list()
        assert "connection refused" in str(caught.value)


async def test_a_server_that_shuts_down_is_left_and_loses_no_reply(clustered):
    [first, second], responder = clustered
    async with Mq9Client(first.url, reconnect_attempts=0) as client, watching(first) as told:
        await client.mailbox_create(name="inbox")
        waiting = asyncio.create_task(client.fetch("inbox", group_name="g", max_wait_ms=60_000))
        await until(lambda: "$mq9.AI.MSG.FETCH.inbox" in responder.requests)
        os.kill(first.pid, signal.SIGUSR2)
        await told.info(lambda info: info.get("ldm"))
        await client.mailbox_list()  # with whose reply the client hears it, too
        await client.mailbox_list()
        assert await is_connected(second, client)
        assert await is_connected(first, client)
        await client.send("inbox", "hello")
        [message] = await waiting  # by the server that shuts down
        assert message.text == "hello"
        await until(lambda: _is_left(first, client))


async def _is_left(server, client):
    return not await is_connected(server, client)


async def test_the_only_server_is_used_as_long_as_it_is_there(tmp_path):
    with NatsServer(tmp_path / "server", config=LAME_DUCK) as server:
        async with (
            Responder(server.url),
            Mq9Client(server.url, reconnect_attempts=0) as client,
            watching(server) as told,
        ):
            os.kill(server.pid, signal.SIGUSR2)
            await told.info(lambda info: info.get("ldm"))
            for _ in range(3):
                assert await client.mailbox_list() == []


@pytest.mark.parametrize(
    ("named", "url", "tls_name"),
    [
        ("10.0.0.2:4333", "tls://10.0.0.2:4333", "mail.example"),
        ("[fd00::2]:4222", "tls://[fd00::2]:4222", "mail.example"),
        ("other.example:4222", "tls://other.example:4222", None),
        ("nonsense/x", None, None),
        ("user:password@host:1", "tls://host:1", None),
        ("", None, None),
    ],
)
def test_a_server_that_is_named_has_the_credentials_and_the_certificate_of_the_other(
    named, url, tls_name
):
    by = ServerAddress("tls", "mail.example", 4222, token="secret")
    other = discovered(named, by)
    if url is None:
        assert other is None
    else:
        assert (other.url, other.tls_name, other.token) == (url, tls_name, "secret")


async def close_at_once(_reader, writer):
    writer.transport.abort()


async def welcome_and_close(reader, writer):
    writer.write(b"INFO {}\r\n")
    await reader.readuntil(b"PING\r\n")
    writer.write(b"PONG\r\n")
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize("serve", [close_at_once, welcome_and_close])
async def test_attempts_that_fail_are_ever_further_apart(serve, monkeypatch):
    """Else a consumer whose server is away would take a whole processor."""
    monkeypatch.setattr(transport, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setattr(transport, "_LONGEST_PAUSE_S", 0.1)
    came = []

    async def note(reader, writer):
        came.append(time.monotonic())
        await serve(reader, writer)

    listening = await asyncio.start_server(note, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        link = transport.NatsTransport(parse(url), "c")
        for _ in range(5):
            with pytest.raises((Unreachable, OutcomeUnknown)) as caught:
                await link.request(ListPublic(), "", None, None, 10)
            assert "within" not in str(caught.value)  # it is no matter of the deadline
        await link.close()
    apart = [after - before for before, after in itertools.pairwise(came)]
    assert len(apart) == 4
    assert apart[0] >= 0.05
    assert min(apart[1:]) >= 0.1
