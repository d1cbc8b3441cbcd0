"""The log on a NATS server: what it keeps, gives, and refuses."""

import asyncio
import json
import os
import secrets
import signal

import nats
import pytest
from nats.js import api
from nats_server import NatsCluster
from waiting import until

from mq9.clock import SystemClock
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import Purged
from mq9.errors import InvalidRequest, Unavailable

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with NatsCluster(tmp_path_factory.mktemp("nats"), 1) as servers:
        yield servers


@pytest.fixture
async def connection(server):
    client = await nats.connect(server.urls)
    yield client
    await client.close()


@pytest.fixture
async def log(connection):
    made = JetStreamLog(connection, SystemClock(), f"L{secrets.token_hex(8)}")
    await made.create(3, "test")
    return made


@pytest.mark.timeout(60)
async def test_a_server_that_the_others_do_not_reach_is_not_believed(tmp_path):
    """It goes on to tell of the log, as a leader and later as one that knows none."""
    with NatsCluster(tmp_path, 3) as servers:
        client = await nats.connect(servers.urls)
        made = JetStreamLog(client, SystemClock())
        await made.create(3, "test")
        assert made.replicas == 3
        told = await client.request(f"$JS.API.STREAM.INFO.{made.name}", b"", timeout=5)
        leader = servers.servers[int(json.loads(told.data)["cluster"]["leader"].removeprefix("n"))]
        await client.close()
        client = await nats.connect(leader.url, allow_reconnect=False)  # it would go to another one
        alone = JetStreamLog(client, SystemClock())
        assert await alone.open()
        assert await alone.append(b"x", "id") == (await alone.last()).sequence == 1
        for server in servers.servers:
            if server is not leader:
                os.kill(server.pid, signal.SIGSTOP)

        async def is_not_believed():
            try:
                await alone.last()
            except Unavailable as error:
                return "may not be the leader" in str(error)
            return False

        await until(is_not_believed)
        told = await client.request(f"$JS.API.STREAM.INFO.{made.name}", b"", timeout=5)
        assert json.loads(told.data)["state"]["last_seq"] == 1
        await client.close()


async def test_records_are_numbered_from_one(connection, log):
    assert log.replicas == 1  # one server stores it alone
    config = (await connection.jetstream().stream_info(log.name)).config
    assert config.discard == api.DiscardPolicy.NEW.value  # nothing is dropped to make room
    assert config.deny_delete
    assert [await log.append(b"%d" % number, f"id.{number}") for number in range(3)] == [1, 2, 3]
    assert [one.data for one in await log.read(1)] == [b"0", b"1", b"2"]
    assert [one.sequence for one in await log.read(2)] == [2, 3]
    assert await log.read(4) == []
    assert (await log.last()).sequence == 3


async def test_a_record_is_appended_once_however_often_it_is_tried(log):
    tries = [log.append(b"x", "the same") for _ in range(20)]

    assert set(await asyncio.gather(*tries)) == {1}
    assert (await log.last()).sequence == 1


async def test_what_is_heard_and_what_is_read_is_the_same_and_its_time_that_of_the_log(log):
    """Also the milliseconds, which follow from different texts: else states would differ."""
    heard = []
    await log.follow(heard.append)
    before = SystemClock().now_ms()
    await asyncio.gather(*(log.append(b"%d" % number, f"id.{number}") for number in range(300)))
    await until(lambda: len(heard) == 300)

    assert heard == await log.read(1)
    assert before - 1_000 < heard[0].now_ms < before + 60_000


async def test_who_follows_is_told_where_that_begins_and_only_once(log):
    heard = []
    assert await log.follow(heard.append) == 0
    await log.append(b"x", "one")
    await until(lambda: heard)
    assert await log.follow(heard.append) == 1
    await log.append(b"x", "two")
    await until(lambda: len(heard) > 1)

    assert [one.sequence for one in heard] == [1, 2]


async def test_more_than_one_answer_holds_is_read_in_parts(log):
    for number in range(600):
        await log.append(b"x" * 100, f"id.{number}")

    first = await log.read(1)
    rest = await log.read(len(first) + 1)
    assert [one.sequence for one in first + rest] == list(range(1, 601))


async def test_what_was_purged_is_not_taken_for_what_comes_after(connection, log):
    for number in range(3):
        await log.append(b"x", f"id.{number}")
    await connection.jetstream().purge_stream(log.name, seq=3)

    assert await log.first() == 3
    with pytest.raises(Purged):
        await log.read(2)
    assert [one.sequence for one in await log.read(3)] == [3]


async def test_a_stream_of_somebody_else_is_refused(connection):
    name = f"L{secrets.token_hex(8)}"
    await connection.jetstream().add_stream(name=name, subjects=[f"{name}.*"])

    with pytest.raises(InvalidRequest, match=f"the stream {name} there is not a log of mq9"):
        await JetStreamLog(connection, SystemClock(), name).open()
