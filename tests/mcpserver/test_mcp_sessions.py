"""Sessions over HTTP: how many there may be, and when an idle one ends."""

import asyncio
from contextlib import asynccontextmanager

from hosting import HELLO
from over_http import CURRENT, OLDER, Names, Wire, by_hand, served, waits
from waiting import until

from mcp_server.http.sessions import SessionLimits


def wire(url, token=None, **headers):
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return Wire(url, OLDER, **headers)


async def initialize(url, token=None):
    """Ask for a session; the response."""
    return await wire(url, token).ask("initialize", **HELLO)


async def end(client):
    async with by_hand() as http:
        return await http.delete(client.url, headers=client.headers)


async def status(client):
    return (await client.call("whoami")).status_code


@asynccontextmanager
async def listening(client):
    """Have the stream of a session open, while inside."""
    async with by_hand() as http, http.stream("GET", client.url, headers=client.headers) as told:
        assert told.status_code == 200
        yield


async def test_a_session_that_is_idle_for_a_minute_ends(still_broker):
    async with served(still_broker) as url:
        used, unused, listener = [await wire(url).begin() for _ in range(3)]
        async with listening(listener):
            await still_broker.clock.advance(59.999)
            assert await status(used) == 200
            await still_broker.clock.advance(0.001)
            assert await status(unused) == 404
            await still_broker.clock.advance(59.998)
            assert await status(used) == 200
            await still_broker.clock.advance(60)
            assert await status(used) == 404
            assert await status(listener) == 200
            await still_broker.clock.advance(60)  # which are no idle ones, though a call has ended
            assert await status(listener) == 200
        assert await status(await wire(url).begin()) == 200


async def test_a_call_that_waits_keeps_its_session(still_broker):
    async with served(still_broker, sessions=SessionLimits(idle_s=10)) as url:
        client = await wire(url).begin()
        waiting = asyncio.create_task(client.call("fetch_messages", wait_seconds=45))
        await waits(still_broker)
        await still_broker.clock.advance(40)
        async with still_broker.client() as sender:
            await sender.send("desk", "x")
        await still_broker.clock.advance(1)  # for which it collects
        assert '"msg_id":0' in (await waiting).text
        await still_broker.clock.advance(9)
        assert await status(client) == 200
        await still_broker.clock.advance(10)
        assert await status(client) == 404


async def test_an_agent_has_so_many_sessions_and_no_more(still_broker):
    limits = SessionLimits(max_sessions=4, max_per_agent=3)
    async with served(still_broker, verifier=Names(), sessions=limits) as url:
        begun = await asyncio.gather(*(initialize(url, "ada") for _ in range(10)))
        refused = [one for one in begun if one.status_code != 200]
        assert len(refused) == 7
        for one in refused:
            assert (one.status_code, one.headers["Retry-After"]) == (429, "60")
            assert one.json()["error"]["message"].startswith("this agent has 3 sessions, which is")
        mine = [
            wire(url, "ada", Mcp_Session_Id=one.headers["Mcp-Session-Id"])
            for one in begun
            if one.status_code == 200
        ]

        bob = await wire(url, "bob").begin()
        full = await initialize(url, "cy")
        assert (full.status_code, full.headers["Retry-After"]) == (503, "60")
        assert "there are 4 sessions, which is the limit" in full.json()["error"]["message"]
        assert [await status(one) for one in (*mine, bob)] == [200] * 4

        assert (await end(mine[0])).status_code == 200
        assert (await initialize(url, "cy")).status_code == 200
        assert (await initialize(url, "ada")).status_code == 503
        assert [await status(one) for one in (*mine, bob)] == [404, 200, 200, 200]


async def test_what_belonged_to_an_idle_session_ends_with_it(still_broker):
    async with served(still_broker) as url:
        client = await wire(url).begin()
        await client.call("whoami")  # which makes the mailbox
        await client.ask("resources/subscribe", uri="mq9://mailbox/desk")
        await waits(still_broker)
        await still_broker.clock.advance(60)
        await waits(still_broker, 0)


async def test_sessions_that_were_idle_make_room(still_broker):
    async with served(still_broker, sessions=SessionLimits(max_per_agent=1)) as url:
        client = await wire(url).begin()
        async with listening(client):
            assert (await initialize(url)).status_code == 429
            await still_broker.clock.advance(60)
            assert (await initialize(url)).status_code == 429
        await until(lambda: still_broker.clock.pending_timers)
        await still_broker.clock.advance(60)
        assert await status(client) == 404
        assert (await initialize(url)).status_code == 200


async def test_only_its_owner_keeps_a_session(still_broker):
    async with served(still_broker, verifier=Names()) as url:
        ada = await wire(url, "ada").begin()
        others = [
            wire(url, token, Mcp_Session_Id=ada.headers["Mcp-Session-Id"])
            for token in ("bob", "ada/another client")
        ]
        await still_broker.clock.advance(59)
        assert [await status(one) for one in others] == [404, 404]
        assert [(await end(one)).status_code for one in others] == [404, 404]
        await still_broker.clock.advance(0.999)
        assert await status(ada) == 200
        await still_broker.clock.advance(60)
        assert await status(ada) == 404


async def test_what_opens_no_session_takes_no_place(still_broker):
    async with (
        served(still_broker, sessions=SessionLimits(max_per_agent=1)) as url,
        by_hand() as http,
    ):
        for _ in range(3):
            assert (await wire(url).ask()).status_code == 400
            told = await http.post(url, headers=wire(url).headers, content=b"{")
            assert told.status_code == 400
        assert (await initialize(url)).status_code == 200


async def test_where_there_are_no_sessions_there_is_no_limit(still_broker):
    limits = SessionLimits(max_sessions=1, max_per_agent=1)
    for era, stateless in ((CURRENT, False), (OLDER, True)):
        async with served(still_broker, stateless=stateless, sessions=limits) as url:
            clients = [Wire(url, era) for _ in range(5)]
            waiting = [
                asyncio.create_task(one.call("fetch_messages", wait_seconds=45)) for one in clients
            ]
            await waits(still_broker, 5)
            await still_broker.clock.advance(45)
            assert [one.status_code for one in await asyncio.gather(*waiting)] == [200] * 5
