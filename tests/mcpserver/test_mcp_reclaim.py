"""Two sessions of one agent share its work; what a silent one holds can be taken over."""

from contextlib import asynccontextmanager

from over_http import OLDER, connected, served

from mcp_server import Settings

KEPT = {"lease_ms": 30_000, "keep_ms": 3_600_000}


@asynccontextmanager
async def two_sessions(broker):
    """Two sessions of one agent, in one server."""
    async with (
        served(broker, settings=Settings(**KEPT)) as url,
        connected(url, OLDER) as one,
        connected(url, OLDER) as two,
    ):
        for content in ("a", "b"):
            await one.do("send_message", to="desk", content=content)
        yield one, two


def ids(said):
    return [one["msg_id"] for one in said["messages"]]


async def test_each_session_is_told_what_the_other_holds(broker):
    async with two_sessions(broker) as (one, two):
        assert ids(await one.do("fetch_messages", limit=1)) == [0]

        said = await two.do("fetch_messages", wait_seconds=0)

        assert ids(said) == [1]
        assert said["held_elsewhere"] == (
            "another session of yours holds 0, while it works; free 30 s after it ends"
        )
        me = await two.do("whoami")
        [own] = me["mailboxes"]
        assert (own["held_by_you"], own["held_elsewhere"]) == (1, "1, the first for 30 s more")


async def test_a_session_that_works_keeps_what_it_holds(broker):
    async with two_sessions(broker) as (one, two):
        await one.do("fetch_messages", limit=1)
        await broker.clock.advance(29)

        assert ids(await two.do("fetch_messages", wait_seconds=0, reclaim=True)) == [1]


async def test_what_a_silent_session_holds_is_taken_over(broker):
    async with two_sessions(broker) as (one, two):
        await one.do("fetch_messages", limit=1)
        await broker.clock.advance(40)
        told = await two.do("fetch_messages", wait_seconds=0)
        assert ids(told) == [1]
        assert told["held_elsewhere"] == (
            "another session of yours holds 0; it has been silent: call again with reclaim to take "
            "over 0"
        )

        taken = await two.do("fetch_messages", wait_seconds=0, reclaim=True)

        assert ids(taken) == [0]
        assert taken["messages"][0]["delivery_count"] == 2
        assert (await two.do("ack_messages", msg_id=0))["acked"] == [0]
        assert "held_elsewhere" not in await two.do("fetch_messages", wait_seconds=0)
        late = await one.do("ack_messages", msg_id=0)
        assert late["lost"] == {"0": "confirmed already"}
