"""A session's leases are renewed as long as it lasts, for an hour at most."""

import asyncio

import pytest
from hosting import at_rest
from over_http import OLDER, VARIANTS, connected, served

from mcp_server import Settings

LEASE_S, KEEP_S = 300, 3_600
KEPT = {"lease_ms": LEASE_S * 1000, "keep_ms": KEEP_S * 1000}


@pytest.fixture
async def other(broker):
    """Another program of the same group."""
    async with broker.client() as client:
        yield client


async def take(host, *contents):
    """Send an agent mail, and let it fetch."""
    for content in contents:
        await host.do("send_message", to="desk", content=content)
    return [one["msg_id"] for one in (await host.do("fetch_messages", wait_seconds=0))["messages"]]


async def left_for(client):
    taken = await client.fetch(
        "desk", group_name="desk", consumer="other", deliver="earliest", max_wait_ms=0
    )
    for message in taken:
        await client.nack("desk", "desk", message.msg_id, consumer="other")
    return [message.msg_id for message in taken]


async def pass_time(broker, seconds, step=LEASE_S / 4):
    """Let time pass in steps, each of them to its end."""
    while seconds > 0:
        await broker.clock.advance(min(step, seconds))
        for _ in range(50):
            await asyncio.sleep(0)
        seconds -= step


async def test_a_task_may_take_longer_than_its_lease(open_host, era, broker, other):
    desk = await open_host("desk", era=era, **KEPT)
    await take(desk, "a", "b")

    await pass_time(broker, KEEP_S - 1)
    assert await left_for(other) == []

    assert (await desk.do("ack_messages", msg_id=0))["acked"] == [0]
    await pass_time(broker, 2)
    assert await left_for(other) == [1]


async def test_without_it_the_lease_ends(open_host, era, broker, other):
    desk = await open_host("desk", era=era, lease_ms=LEASE_S * 1000)
    await take(desk, "a")

    await pass_time(broker, LEASE_S)

    assert await left_for(other) == [0]


async def test_what_was_dealt_with_is_not_held_any_more(open_host, broker, other):
    desk = await open_host("desk", **KEPT)
    await take(desk, "a", "b", "c")
    await desk.do("ack_messages", msg_id=0)
    await desk.do("ack_messages", msg_id=1, outcome="give_back")
    await desk.do("ack_messages", msg_id=2, outcome="give_back", seconds=600)

    assert await left_for(other) == [1]
    await pass_time(broker, 599)
    assert await left_for(other) == [1]
    await pass_time(broker, 1)
    assert await left_for(other) == [1, 2]
    await pass_time(broker, LEASE_S)
    await at_rest(broker)  # nothing is left to be renewed


async def test_what_an_agent_asks_for_is_not_cut_short(open_host, broker, other):
    desk = await open_host("desk", **KEPT)
    await take(desk, "a", "b")
    await desk.do("ack_messages", msg_id=0, outcome="more_time", seconds=2 * KEEP_S)
    await desk.do("ack_messages", msg_id=1, outcome="more_time", seconds=10)

    await pass_time(broker, 2 * KEEP_S - 1)
    assert await left_for(other) == [1]
    await pass_time(broker, 1)
    assert await left_for(other) == [0, 1]


async def test_a_session_that_ends_gives_back_what_it_holds(broker, other):
    from mcp import Client

    from mcp_server import Callers, make_server

    settings = Settings(**KEPT)
    callers = Callers(lambda _agent: broker.client(), settings, agent="desk")
    async with Client(make_server(callers, settings)) as client:
        for content in ("a", "b", "c"):
            await client.call_tool("mq9_send_message", {"to": "desk", "content": content})
        await client.call_tool("mq9_fetch_messages", {"wait_seconds": 0, "limit": 2})
        await client.call_tool("mq9_ack_messages", {"msg_id": 0})
        assert await left_for(other) == [2]

    assert await left_for(other) == [1, 2]
    await at_rest(broker)


async def test_a_broker_that_fails_for_a_while_ends_no_lease(open_host, broker, other):
    desk = await open_host("desk", **KEPT)
    await take(desk, "a")
    broker.lose_next_reply("MSG.EXTEND")

    await pass_time(broker, 2 * LEASE_S)

    assert await left_for(other) == []


async def test_over_http_a_lease_is_kept_until_the_session_ends(broker, other):
    async with served(broker, settings=Settings(**KEPT)) as url:
        async with connected(url, OLDER) as desk:
            await take(desk, "a")
            await pass_time(broker, 2 * LEASE_S)
            assert await left_for(other) == []
        # It is not given back: a client whose session was closed may still confirm it in another.
        assert await left_for(other) == []
        await pass_time(broker, LEASE_S)
        assert await left_for(other) == [0]


@pytest.mark.parametrize(
    "variant", [VARIANTS["current"], VARIANTS["no session"]], ids=["current", "older"]
)
async def test_without_sessions_an_agent_is_given_again_what_it_has_not_confirmed(
    broker, other, variant
):
    era, stateless = variant
    async with served(broker, settings=Settings(**KEPT), stateless=stateless) as url:
        async with connected(url, era) as desk:
            assert await take(desk, "a", "b") == [0, 1]
            await desk.do("ack_messages", msg_id=0)
            assert await left_for(other) == []

        async with connected(url, era) as desk:
            told = await desk.do("fetch_messages", wait_seconds=0)
            assert told["held"] == [{"msg_id": 1, "seconds_left": 300}]
            assert [one["msg_id"] for one in told["messages"]] == []
            told = await desk.do("fetch_messages", wait_seconds=0, include_held=True)
            assert [one["already_yours"] for one in told["messages"]] == [True]
        await pass_time(broker, LEASE_S)
        assert await left_for(other) == [1]
    # Nor does it matter which server is asked, or whether it was started since.
    await other.send("desk", "c")
    async with served(broker, stateless=stateless) as url, connected(url, era) as desk:
        assert await take(desk) == [1, 2]
    async with served(broker, stateless=stateless) as url, connected(url, era) as desk:
        assert (await desk.do("ack_messages", msg_id=2, mail_address="desk"))["acked"] == [2]
