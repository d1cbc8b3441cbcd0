"""What any NATS client finds in any NATS server."""

import pytest


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
