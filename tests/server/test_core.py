"""What any NATS client finds in any NATS server."""

import nats.errors
import pytest
from raw import connect, publish
from waiting import until


async def test_a_client_is_greeted_and_may_ask_whether_anybody_is_there(hosted):
    client = await hosted.stranger()

    assert client.info["headers"] is True
    assert client.info["proto"] == 1
    assert client.info["auth_required"] is False
    assert client.info["max_payload"] == 1024 * 1024
    assert client.info["client_ip"] == "127.0.0.1"
    client.send(b"PING\r\n")
    assert await client.frame() == ("PONG",)


async def test_a_verbose_client_is_told_of_every_success(hosted):
    client = await hosted.stranger()
    client.send(connect(verbose=True))
    client.send(b"SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\n")

    frames = [await client.frame() for _ in range(5)]
    assert frames == [("+OK",), ("+OK",), ("+OK",), ("MSG", "a", b"", b"x"), ("+OK",)]


async def test_a_message_reaches_every_subscriber_and_a_queue_group_once(hosted):
    one, two = await hosted.nats(), await hosted.nats()
    got = []

    async def note(name, client, subject, queue=""):
        async def add(message):
            got.append((name, message.subject, message.data))

        await client.subscribe(subject, queue=queue, cb=add)
        await client.flush()

    await note("literal", one, "orders.new")
    await note("star", two, "orders.*")
    await note("rest", two, "orders.>")
    await note("other", two, "orders")
    for _ in range(3):
        await note("queue", one, "orders.new", "workers")

    await two.publish("orders.new", b"x")
    await two.publish("orders.new.big", b"y")
    for client in (two, one, two, one):
        await client.flush()

    assert sorted(got) == [
        ("literal", "orders.new", b"x"),
        ("queue", "orders.new", b"x"),
        ("rest", "orders.new", b"x"),
        ("rest", "orders.new.big", b"y"),
        ("star", "orders.new", b"x"),
    ]


async def test_a_queue_group_shares_its_work_among_its_members(hosted):
    client = await hosted.nats()
    counts = [0, 0, 0]

    async def member(index):
        async def add(_message):
            counts[index] += 1

        await client.subscribe("work", queue="q", cb=add)

    for index in range(3):
        await member(index)
    for _ in range(300):
        await client.publish("work", b"")
    await client.flush()
    await client.flush()

    assert sum(counts) == 300
    assert min(counts) > 0


async def test_clients_ask_each_other_with_headers(hosted):
    server, client = await hosted.nats(), await hosted.nats()

    async def answer(message):
        await message.respond(message.data.upper() + message.headers["Name"].encode())

    await server.subscribe("service", cb=answer)
    await server.flush()

    reply = await client.request("service", b"hello ", headers={"Name": "ada"})
    assert reply.data == b"HELLO ada"


async def test_a_client_without_headers_is_sent_none(hosted):
    listener, sender = await hosted.raw(headers=False, no_responders=False), await hosted.raw()
    listener.send(b"SUB a 1\r\nPING\r\n")
    assert await listener.frame() == ("PONG",)
    sender.send(publish("a", b"x", headers=[("A", "b")]))

    assert await listener.frame() == ("MSG", "a", b"", b"x")


async def test_headers_arrive_as_they_were_sent(hosted):
    client = await hosted.raw()
    client.send(b"SUB a 1\r\n")
    client.send(publish("a", b"x", headers=[("A", "1"), ("a", "2"), ("A", " 3 ")]))

    name, subject, block, payload = await client.frame()
    assert (name, subject, payload) == ("HMSG", "a", b"x")
    assert block == b"NATS/1.0\r\nA: 1\r\na: 2\r\nA:  3 \r\n\r\n"


async def test_a_subscription_ends_after_as_many_messages_as_it_said(hosted):
    client = await hosted.raw()
    client.send(b"SUB a 1\r\nUNSUB 1 2\r\n" + publish("a", b"1") * 3 + b"PING\r\n")

    frames = [await client.frame() for _ in range(3)]
    assert [frame[0] for frame in frames] == ["MSG", "MSG", "PONG"]


async def test_a_limit_that_is_reached_already_ends_a_subscription_at_once(hosted):
    client = await hosted.raw()
    client.send(b"SUB a 1\r\n" + publish("a", b"1") * 2 + b"UNSUB 1 1\r\n")
    client.send(publish("a", b"2") + b"UNSUB 7\r\nPING\r\n")

    frames = [await client.frame() for _ in range(3)]
    assert [frame[-1] for frame in frames] == [b"1", b"1", "PONG"]


async def test_a_request_that_nobody_serves_is_answered_at_once(hosted):
    client = await hosted.nats()

    with pytest.raises(nats.errors.NoRespondersError):
        await client.request("nobody.here", b"", timeout=30)


async def test_a_client_that_did_not_ask_is_not_told_of_missing_responders(hosted):
    client = await hosted.raw(no_responders=False)
    client.send(b"SUB in 1\r\n" + publish("nobody", b"", reply="in") + b"PING\r\n")

    assert await client.frame() == ("PONG",)


async def test_a_client_may_wish_not_to_hear_itself(hosted):
    client, other = await hosted.raw(echo=False), await hosted.raw()
    for one in (client, other):
        one.send(b"SUB a 1\r\nPING\r\n")
        assert await one.frame() == ("PONG",)
    client.send(publish("a", b"x") + b"PING\r\n")

    assert await client.frame() == ("PONG",)
    assert await other.frame() == ("MSG", "a", b"", b"x")


async def test_a_repeated_subscription_id_changes_nothing(hosted):
    client = await hosted.raw()
    client.send(b"SUB a 1\r\nSUB b 1\r\n" + publish("b", b"b") + publish("a", b"a"))

    assert await client.frame() == ("MSG", "a", b"", b"a")


async def test_what_left_is_no_longer_sent_anything(hosted):
    listener, sender = await hosted.raw(), await hosted.raw()
    listener.send(b"SUB a 1\r\nPING\r\n")
    assert await listener.frame() == ("PONG",)
    await listener.close()
    await until(lambda: hosted.server.connections == 1)

    sender.send(b"SUB in 1\r\n" + publish("a", b"x", reply="in"))
    name, _, block, _ = await sender.frame()
    assert (name, block) == ("HMSG", b"NATS/1.0 503\r\nNats-Subject: a\r\n\r\n")


async def test_the_server_asks_whether_a_client_is_there_and_lets_a_silent_one_go(hosted):
    client, dead = await hosted.raw(), await hosted.raw()
    client.answers_pings = dead.answers_pings = False
    for _ in range(2):
        await hosted.timers.advance(30)
        assert await client.frame() == ("PING",)
        client.send(b"PONG\r\nPING\r\n")
        assert await client.frame() == ("PONG",)
    await hosted.timers.advance(30)

    assert await client.frame() == ("PING",)
    assert await dead.ended() == [("PING",), ("PING",), ("-ERR", "'Stale Connection'")]
    assert "stale" in hosted.events


async def test_ipv6_is_shown_as_a_url(open_hosted):
    hosted = await open_hosted()
    await hosted.server.close()
    try:
        await hosted.server.start("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert hosted.server.url.startswith("nats://[::1]:")
