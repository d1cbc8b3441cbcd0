"""A server that is told to stop."""

import asyncio

import orjson
import pytest
from raw import RawClient, publish
from waiting import until

from mq9 import Unavailable, Unreachable
from mq9.server.server import Server


async def _waiting_fetch(hosted, client):
    fetch = asyncio.create_task(
        client.fetch("inbox", group_name="g", deliver="new", max_wait_ms=60_000)
    )
    await until(lambda: hosted.broker.waiting)
    return fetch


async def test_a_waiting_fetch_is_answered_that_there_is_nothing(hosted):
    client = await hosted.client()
    await client.mailbox_create(name="inbox")
    fetch = await _waiting_fetch(hosted, client)

    await hosted.server.drain()

    fetched = await fetch
    assert fetched == []
    assert fetched.waiting.stored == 0


async def test_what_was_begun_is_answered_and_what_comes_then_is_refused(held):
    hosted = held
    client = await hosted.raw()
    client.send(b"SUB in.* 1\r\nPING\r\n")
    assert await client.frame() == ("PONG",)
    address = hosted.server.address

    hosted.broker.released.clear()
    client.send(publish("$mq9.AI.MSG.SEND.inbox", b"before", reply="in.before"))
    await until(lambda: hosted.server.hub.in_work)
    draining = asyncio.create_task(hosted.server.drain())
    name, told = await client.frame()
    assert (name, orjson.loads(told)["ldm"]) == ("INFO", True)
    client.send(publish("$mq9.AI.MSG.SEND.inbox", b"after", reply="in.after"))
    _, subject, _, refusal = await client.frame()
    assert (subject, orjson.loads(refusal)["code"]) == ("in.after", "unavailable")
    with pytest.raises(OSError):  # noqa: PT011  # refused, or cut off
        await RawClient.open(address)
    hosted.broker.released.set()
    _, subject, _, reply = await client.frame()
    assert (subject, orjson.loads(reply)["msg_id"]) == ("in.before", 0)
    await draining

    assert await client.ended() == []
    assert hosted.events[-1] == "shutdown"
    assert hosted.server.hub.draining


async def test_draining_ends_though_something_hangs(held):
    hosted = held
    client = await hosted.raw()
    client.send(b"SUB in 1\r\n")
    hosted.broker.released.clear()
    client.send(publish("$mq9.AI.MSG.SEND.inbox", b"x", reply="in"))
    await until(lambda: hosted.server.hub.in_work)
    draining = asyncio.create_task(hosted.server.drain(seconds=0.01))
    frames = await client.ended()
    hosted.broker.released.set()
    await draining

    assert [frame[0] for frame in frames] == ["INFO"]


async def test_draining_lets_a_client_go_that_does_not_read(hosted):
    deaf, talker = await hosted.raw(), await hosted.raw()
    deaf.send(b"SUB news 1\r\nPING\r\n")
    assert await deaf.frame() == ("PONG",)
    await talker.send_all(publish("news", bytes(1024 * 1024)) * 8 + b"PING\r\n")
    assert await talker.frame() == ("PONG",)

    async with asyncio.timeout(20):
        await hosted.server.drain()
    assert hosted.server.connections == 0


async def test_a_client_goes_on_with_the_next_server_on_that_port(hosted):
    client = await hosted.client(clock=None, reconnect_delay=0.01)
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "x")
    [message] = await client.fetch("inbox", group_name="g", deliver="earliest")

    await hosted.server.drain()
    with pytest.raises((Unavailable, Unreachable)):  # it may not have heard yet
        await client.mailbox_drop("inbox")
    with pytest.raises(Unreachable, match="mq9 serve"):
        await client.mailbox_drop("inbox")
    await hosted.restart()
    assert await client.ack("inbox", "g", message.msg_id) == [0]


async def test_what_a_draining_server_did_not_do_is_done_by_the_next_one(held):
    hosted = held
    client = await hosted.client(clock=None, reconnect_delay=0.02, reconnect_attempts=200)
    await client.mailbox_create(name="dropped")
    raw = await hosted.raw()
    hosted.broker.released.clear()
    raw.send(b"SUB in 1\r\n" + publish("$mq9.AI.MSG.SEND.inbox", b"x", reply="in"))
    await until(lambda: hosted.server.hub.in_work)
    draining = asyncio.create_task(hosted.server.drain())
    await until(lambda: hosted.server.hub.draining)

    dropping = asyncio.create_task(client.mailbox_drop("dropped"))  # not to be made twice
    await asyncio.sleep(0.05)
    assert not dropping.done()
    hosted.broker.released.set()
    await draining
    await hosted.restart()
    await dropping
    assert (await hosted.broker.totals()).mailboxes == 1  # the other one


async def test_a_port_that_is_taken_is_named(hosted):
    host, port = hosted.server.address
    second = Server(hosted.broker, max_payload=1024)

    with pytest.raises(Unreachable, match=f"{port} cannot be listened on"):
        await second.start(host, port)
    await second.close()


async def test_closing_answers_nobody_and_loses_nothing_that_was_answered(hosted):
    client = await hosted.client(clock=None, reconnect_attempts=0)
    await client.mailbox_create(name="inbox")
    assert await client.send("inbox", "x") == 0
    fetch = await _waiting_fetch(hosted, client)

    await hosted.server.close()

    with pytest.raises(Unavailable, match="the connection broke"):
        await fetch
    assert not hosted.broker.waiting
    assert (await hosted.broker.totals()).messages == 1
