"""The official SDKs' `consume` without a group, over gateways, which know no connections."""

import base64
import json

import pytest

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

SUBJECT = "$mq9.AI.MSG.FETCH.inbox"
FETCH = {
    "deliver": "latest",
    "force_deliver": False,
    "config": {"num_msgs": 10, "max_wait_ms": 0},
}


def bodies(reply):
    return [base64.b64decode(one["payload"]).decode() for one in json.loads(reply)["messages"]]


async def read(connection):
    return bodies((await connection.request(SUBJECT, json.dumps(FETCH).encode(), timeout=30)).data)


async def test_a_gateway_tells_connections_apart_by_the_inbox_of_their_replies(members):
    await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "a")
    for _ in range(2):
        connection = await members.asker()
        assert [await read(connection) for _ in range(2)] == [["a"], []]
    await client.send("inbox", "b")
    assert await read(connection) == ["b"]


async def test_where_each_request_has_an_inbox_of_its_own_nothing_is_remembered(members):
    await members.start("one")
    await (await members.inbox()).send("inbox", "a")
    connection = await members.asker()
    for number in range(2):
        replies = await connection.subscribe(f"_INBOX.{number}")
        await connection.publish(SUBJECT, json.dumps(FETCH).encode(), f"_INBOX.{number}")
        assert bodies((await replies.next_msg(30)).data) == ["a"]


async def test_each_of_two_gateways_gives_a_message_once_at_the_most(gateways, members):
    connection = await members.asker()
    for body in ("a", "b"):
        await gateways.send("inbox", body)
        seen = [await read(connection) for _ in range(20)]
        assert 1 <= seen.count([body]) <= 2, seen
        assert len(seen) - seen.count([]) == seen.count([body])
