"""A worker promises answers, says which node has ended last, and why a run is tried again."""

import asyncio

import pytest

from mq9 import Promise
from tests.worker.graphs import Steps, working

SOON = 1_800_000_600


def hold():
    """What a step does that waits, and what lets it go on."""
    go_on = asyncio.Event()

    async def act(state, config):
        await go_on.wait()

    return act, go_on


async def standing(client):
    [found] = await client.query("lawyer", msg_id=0, group_name="lawyer")
    return found.standing


@pytest.mark.parametrize("progress", [None, "mailbox"])
async def test_what_it_promises_names_the_node_that_has_ended_last(client, progress):
    wait, go_on = hold()
    graph = Steps("read", "think", "write", write=wait).compile()
    options = {"reply_to": "asker", "correlation_id": "c", "answer_by": SOON}
    async with working(client, graph, progress=progress):
        await client.send("lawyer", {"topic": "tea"}, **options)
        await client.clock.advance(6)
        promise = (await standing(client)).promise
        assert (promise.until, promise.done) == (SOON, "think")
        go_on.set()
        await client.clock.advance(1)
        assert (await standing(client)).state == "acked"
    answers = await client.query("asker", correlation_id="c")
    assert [one.json()["trail"] for one in answers] == [["read", "think", "write"]]


async def test_an_option_says_within_how_many_seconds(client):
    wait, go_on = hold()
    async with working(client, Steps("read", read=wait).compile(), promise_within=30):
        await client.send("lawyer", {"topic": "tea"}, answer_by=SOON)
        await client.clock.advance(2)
        promise = (await standing(client)).promise
        assert promise == Promise(until=1_800_000_030, by=promise.by)
        go_on.set()


async def test_why_a_run_is_tried_again_can_be_seen(client):
    async def fail(state, config):
        raise ValueError("no oven")

    async with working(client, Steps("bake", bake=fail).compile(), retry_delay=60):
        await client.send("lawyer", {"topic": "tea"})
        await client.clock.advance(1)
        told = await standing(client)
        assert told.state == "given_back"
        assert told.reason.startswith("ValueError: no oven")
