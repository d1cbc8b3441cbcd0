"""What the server takes, and what becomes of those who want more."""

import asyncio

import orjson
import pytest
from raw import RawClient, publish
from waiting import until

from mq9.server.connection import ClientConnection
from mq9.server.limits import ServerLimits

pytestmark = pytest.mark.unmeasured

FETCH = {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 60_000}}


@pytest.mark.parametrize(
    ("sent", "told", "reason"),
    [
        (b"HELLO\r\n", "Unknown Protocol Operation", "protocol"),
        (b"PUB a 99999999\r\n", "Maximum Payload Violation", "max_payload"),
    ],
)
async def test_who_does_not_speak_the_protocol_is_told_so_and_cut_off(hosted, sent, told, reason):
    client = await hosted.raw()
    client.send(b"SUB a 1\r\n" + publish("a", b"before") + sent)

    assert await client.ended() == [("MSG", "a", b"", b"before"), ("-ERR", f"'{told}'")]
    await until(lambda: hosted.events.count(reason) == 1)


async def test_clients_beyond_the_limit_are_told_so(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_connections=2))
    one, _ = await hosted.raw(), await hosted.raw()
    third = await RawClient.open(hosted.server.address)

    assert await third.ended() == [("-ERR", "'maximum connections exceeded'")]
    await third.close()
    await one.close()
    await until(lambda: hosted.server.connections == 1)
    assert (await hosted.raw()).info["server_name"] == "mq9"


async def test_subscriptions_of_all_clients_together_are_limited(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_total_subscriptions=3))
    one, two = await hosted.raw(), await hosted.raw()
    one.send(b"SUB a 1\r\nSUB b 2\r\nPING\r\n")
    assert await one.frame() == ("PONG",)
    two.send(b"SUB a 1\r\nSUB b 2\r\n")

    assert await two.frame() == ("-ERR", "'maximum subscriptions exceeded'")
    one.send(b"UNSUB 1\r\nPING\r\n")
    assert await one.frame() == ("PONG",)
    two.send(b"SUB b 2\r\nPING\r\n")
    assert await two.frame() == ("PONG",)


async def test_subscriptions_with_wildcards_are_limited_for_each_client(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_wildcards=2))
    client = await hosted.raw()
    client.send(b"SUB a.* 1\r\nSUB > 2\r\nSUB b 3\r\nSUB *.c 4\r\n")

    assert await client.frame() == ("-ERR", "'maximum subscriptions exceeded'")
    client.send(b"UNSUB 2\r\nSUB *.c 4\r\nSUB d.> 5\r\nPING\r\n")
    assert await client.frame() == ("-ERR", "'maximum subscriptions exceeded'")
    assert await client.frame() == ("PONG",)


async def test_fetches_that_wait_are_limited_for_each_connection(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_waiting=3))
    await (await hosted.client()).mailbox_create(name="inbox")
    client = await hosted.raw()
    client.send(b"SUB in.* 1\r\n")
    for number in range(5):
        client.send(publish("$mq9.AI.MSG.FETCH.inbox", orjson.dumps(FETCH), reply=f"in.{number}"))

    refusals = [await client.frame() for _ in range(2)]
    assert [frame[1] for frame in refusals] == ["in.3", "in.4"]
    assert all(orjson.loads(frame[3])["code"] == "limit_reached" for frame in refusals)
    assert b"max_waiting: 3" in refusals[0][3]


async def test_a_client_that_asks_and_never_reads_is_cut_off_too(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_pending=256 * 1024))
    client = await hosted.client()
    await client.mailbox_create(name="inbox")
    await client.send("inbox", bytes(1024 * 1024))
    deaf = await hosted.raw()
    deaf.send(b"SUB in 1\r\n")

    async def ask():
        while True:
            await deaf.send_all(publish("$mq9.AI.MSG.QUERY.inbox", b"", reply="in"))

    asking = asyncio.create_task(ask())
    await until(lambda: "slow_consumer" in hosted.events)
    asking.cancel()
    await asyncio.wait([asking])

    assert len(await client.query("inbox")) == 1


@pytest.mark.soak
async def test_a_flood_of_requests_is_taken_as_fast_as_it_is_worked_off(open_hosted, scale):
    hosted = await open_hosted(limits=ServerLimits(max_busy=8))
    await (await hosted.client()).mailbox_create(name="inbox")
    flood = [b"x"] * 2_000 * scale
    assert await most_in_work(hosted, "$mq9.AI.MSG.SEND.inbox", flood) <= 8


async def most_in_work(hosted, request, bodies):
    """Flood with requests; how many of them were in work at once."""
    flooder = await hosted.raw()
    flooder.send(b"SUB in 1\r\n")
    flood = b"".join(publish(request, body, reply="in") for body in bodies)
    sending = asyncio.create_task(flooder.send_all(flood))
    most = 0
    for _ in bodies:
        await flooder.frame()
        most = max(most, hosted.server.hub.in_work)
    await sending
    return most


@pytest.mark.parametrize(
    ("verb", "body", "max_busy_bytes", "most"),
    [
        ("MSG.SEND.inbox", bytes(1_500), 2_000, 2),  # it is large
        ("MSG.QUERY.inbox", b"", 200_000, 4),  # their replies may be
        ("MSG.FETCH.inbox", b'{"config":{"max_wait_ms":0}}', 200_000, 4),
        ("AGENT.DISCOVER", b"", 200_000, 4),
    ],
)
async def test_large_requests_and_reads_are_taken_a_few_at_a_time(
    open_hosted, verb, body, max_busy_bytes, most
):
    hosted = await open_hosted(limits=ServerLimits(max_busy_bytes=max_busy_bytes))
    await (await hosted.client()).mailbox_create(name="inbox")
    assert await most_in_work(hosted, f"$mq9.AI.{verb}", [body] * 500) <= most


async def test_fetches_that_wait_or_are_given_up_hold_up_nothing(open_hosted):
    hosted = await open_hosted(limits=ServerLimits(max_busy_bytes=1))
    await (await hosted.client()).mailbox_create(name="inbox")
    asker = await hosted.raw()
    wait = b'{"group_name":"g","config":{"max_wait_ms":60000}}'
    fetch = publish("$mq9.AI.MSG.FETCH.inbox", wait, reply="in")
    for _ in range(100):
        asker.send(b"SUB in 1\r\n" + fetch + b"UNSUB 1\r\n")
    asker.send(b"SUB in 1\r\n" + fetch * 10)
    assert orjson.loads(await asker.ask("$mq9.AI.MSG.SEND.inbox", b"x"))["error"] == ""


@pytest.mark.soak
async def test_tiny_frames_are_taken_a_few_at_a_time(hosted, monkeypatch, scale):
    frames = 15_000 * scale
    taken = []
    take = ClientConnection.buffer_updated

    def count(link, nbytes):
        taken.append(nbytes)
        take(link, nbytes)

    monkeypatch.setattr(ClientConnection, "buffer_updated", count)
    flooder = await hosted.raw()
    await flooder.send_all(b"PING\r\n" * frames)
    for _ in range(frames):
        assert await flooder.frame() == ("PONG",)
    assert max(taken) <= 16 * 1024


@pytest.mark.soak
async def test_a_flood_from_one_client_does_not_starve_another(hosted, scale):
    requests = 60_000 * scale
    patient = await hosted.client()
    await patient.mailbox_create(name="inbox")
    flooder = await hosted.raw()
    flooder.send(b"SUB in 1\r\n")
    flood = publish("$mq9.AI.MSG.SEND.inbox", b"x", reply="in") * requests
    sending = asyncio.create_task(flooder.send_all(flood))
    answered = 0

    async def count():
        nonlocal answered
        for _ in range(requests):
            await flooder.frame()
            answered += 1

    counting = asyncio.create_task(count())
    await until(lambda: answered > 100)
    before = answered
    for _ in range(10):
        await patient.mailbox_status("inbox")
    between = answered - before
    await sending
    await counting

    assert between < requests * 2 / 3  # ten requests did not wait for the flood to end


async def test_a_thousand_connections_idle_while_two_hundred_work(hosted):
    client = await hosted.client()
    await client.mailbox_create(name="inbox")
    idle = [await hosted.raw() for _ in range(1_000)]
    busy = [await hosted.raw() for _ in range(200)]

    async def work(one, number):
        for turn in range(5):
            body = f"{number}.{turn}".encode()
            reply = orjson.loads(await one.ask("$mq9.AI.MSG.SEND.inbox", body))
            assert reply["error"] == ""

    await asyncio.gather(*(work(one, number) for number, one in enumerate(busy)))

    assert (await client.mailbox_status("inbox")).stored == 1_000
    assert hosted.server.connections == 1_201
    for one in idle:
        one.send(b"PING\r\n")
    assert {await one.frame() for one in idle} == {("PONG",)}
