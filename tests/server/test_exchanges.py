"""The same bytes for a real nats-server and for ours: what both say, and where they differ."""

import asyncio
import os
import re
import signal
from pathlib import Path

import exchanges
import orjson
import pytest
from nats_server import NatsServer
from raw import RawClient

from mq9.clock import SystemClock
from mq9.server.limits import ServerLimits
from mq9.server.users import User, Users
from mq9.version import VERSION

pytestmark = pytest.mark.programs

EXCHANGES = exchanges.read()
DOCUMENT = Path(__file__).parents[2] / "docs/reference/nats.md"

# The servers that the exchanges name: how a nats-server is configured, and how ours is.
SERVERS = {
    "open": ("", {}),
    "users": (
        "authorization { users: [{user: ada, password: lovelace}], timeout: 1 }",
        {"guard": Users([User("lovelace", "ada")]), "limits": ServerLimits(connect_s=1)},
    ),
    "small": (
        "max_subscriptions: 2\nmax_connections: 2",
        {"limits": ServerLimits(max_subscriptions=2, max_connections=2)},
    ),
}

# Differences that no exchange shows, but a test here does.
SHOWN_OTHERWISE = {"info-fields", "second-info"}


def differences():
    """The names in the table of differences."""
    table = DOCUMENT.read_text("utf-8").partition("## Differences")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The address of a nats-server for each name."""
    servers = {
        name: NatsServer(tmp_path_factory.mktemp(name), config=config)
        for name, (config, _) in SERVERS.items()
    }
    for server in servers.values():
        server.start()
    yield {name: ("127.0.0.1", server.port) for name, server in servers.items()}
    for server in servers.values():
        server.kill()


@pytest.fixture
def start(open_hosted):
    """Start a server of ours by its name."""

    async def start_one(name):
        return (
            await open_hosted(clock=SystemClock(), timers=SystemClock(), **SERVERS[name][1])
        ).server

    return start_one


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda one: one.name)
async def test_what_a_client_says_is_answered_as_by_a_nats_server(exchange, theirs, start):
    ours = await start(exchange.server)

    assert await exchanges.replay(exchange, theirs[exchange.server]) == exchange.theirs
    assert await exchanges.replay(exchange, ours.address) == exchange.ours


def test_what_differs_is_documented_and_nothing_else_differs():
    named = {exchange.difference for exchange in EXCHANGES if exchange.difference}
    assert sorted(differences()) == sorted(named | SHOWN_OTHERWISE)
    for exchange in EXCHANGES:
        assert (exchange.theirs != exchange.ours) == (exchange.difference is not None)


async def test_both_introduce_themselves_alike(theirs, start):
    server = await start("open")
    theirs_, ours = [await RawClient.open(one) for one in (theirs["open"], server.address)]
    missing = theirs_.info.keys() - ours.info.keys()
    assert missing == {"git_commit", "api_lvl", "xkey"}
    for name in theirs_.info.keys() - missing:
        assert type(ours.info[name]) is type(theirs_.info[name]), name
    assert ours.info["max_payload"] == theirs_.info["max_payload"]
    assert ours.info["client_ip"] == theirs_.info["client_ip"] == "127.0.0.1"
    assert ours.info["version"] == VERSION
    for info in (theirs_.info, ours.info):  # nats.js connects only where it can read it
        assert re.match(r"\d+\.\d+\.\d+", info["version"])
    another = await RawClient.open(server.address)
    assert another.info["client_id"] > ours.info["client_id"] > 0
    for client in (theirs_, ours, another):
        await client.close()


async def test_a_nats_server_introduces_itself_again_where_ours_does_not(theirs, start):
    server = await start("open")
    again = []
    for address in (theirs["open"], server.address):
        client = await RawClient.open(address)
        client.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\nPING\r\n')
        frames = [await client.frame() for _ in range(2)]
        again.append("INFO" in [name for name, *_ in frames])
        await client.close()
    assert again == [True, False]


async def test_both_tell_clients_that_understand_it_that_they_are_about_to_stop(tmp_path, start):
    server = await start("open")
    with NatsServer(tmp_path) as real:
        for address in (("127.0.0.1", real.port), server.address):
            older = await RawClient.connect(address, protocol=0)
            client = await RawClient.connect(address)
            if address == server.address:
                stopping = asyncio.create_task(server.drain())
            else:
                os.kill(real.pid, signal.SIGUSR2)
            last = {}
            while "ldm" not in last:
                name, text = await client.frame()
                assert name == "INFO"
                last = orjson.loads(text)
            kept = ("server_id", "host", "port", "client_id", "max_payload")
            assert last["ldm"] is True
            assert [last[one] for one in kept] == [client.info[one] for one in kept]
            if address != server.address:
                real.kill()
            assert await older.ended() == []
            await older.close()
            await client.close()
        await stopping
