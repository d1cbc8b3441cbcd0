"""The official SDKs' `consume` without a group: one FETCH with `latest`, again and again.

Each gateway of a cluster remembers by itself; `tests/cluster/test_reading_on.py` is about them.
"""

import base64

import pytest

from .reading import send_all

pytestmark = pytest.mark.unmeasured

CONFIG = {"num_msgs": 10, "max_wait_ms": 0}
FETCH = {"deliver": "latest", "force_deliver": False, "config": CONFIG}


@pytest.fixture(autouse=True)
def _is_one_broker(way):
    if "one broker" not in way.capabilities:
        pytest.skip("requests go to several brokers")


async def read(way, address, fetch=FETCH, **who):
    """Fetch; the bodies, which are base64 from the first FETCH of that shape on."""
    reply = await way.ask(f"MSG.FETCH.{address}", fetch, **who)
    assert reply["error"] == "", reply
    assert "batch" not in reply
    return [text(message) for message in reply["messages"]]


def text(message):
    payload = message["payload"]
    return base64.b64decode(payload).decode() if "encoding" in message else payload


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"group_name": ""},
        {"group_name": None},
        {"group_name": "", "from_time": 0, "from_id": 0},
    ],
)
async def test_the_newest_comes_first_and_then_only_what_is_newer(way, client, inbox, more):
    await send_all(client, inbox, "a", "b")
    fetch = {**FETCH, **more}

    assert await read(way, inbox, fetch) == ["b"]
    assert await read(way, inbox, fetch) == []
    await send_all(client, inbox, "c", "d")
    await client.send(inbox, "urgent", priority="urgent")
    assert await read(way, inbox, fetch) == ["urgent", "c", "d"]
    assert await read(way, inbox, fetch) == []


async def test_it_begins_where_the_first_fetch_met_an_empty_mailbox(way, client, inbox):
    assert await read(way, inbox) == []
    await send_all(client, inbox, "a", "b")

    assert await read(way, inbox) == ["a", "b"]


async def test_what_one_reply_cannot_hold_comes_in_the_next(way, client, inbox):
    assert await read(way, inbox) == []
    await send_all(client, inbox, *"abcde")
    two = {**FETCH, "config": {**CONFIG, "num_msgs": 2}}

    pages = [await read(way, inbox, two) for _ in range(4)]

    assert pages == [["a", "b"], ["c", "d"], ["e"], []]


async def test_force_deliver_begins_again(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await read(way, inbox)
    again = {**FETCH, "force_deliver": True}

    assert await read(way, inbox, again) == ["b"]
    assert await read(way, inbox) == []
    assert await read(way, inbox, again) == ["b"]


async def test_it_waits_for_what_is_newer(way, client, inbox):
    await send_all(client, inbox, "a")
    await read(way, inbox)
    waits = {**FETCH, "config": {**CONFIG, "max_wait_ms": 60_000}}
    waiting = await way.begin(read(way, inbox, waits))
    assert not waiting.done()

    await client.send(inbox, "b")

    assert await waiting == ["b"]
    assert await read(way, inbox) == []


async def test_each_connection_and_each_mailbox_has_a_place_of_its_own(way, client, inbox):
    other = await client.mailbox_create(name="other")
    await send_all(client, inbox, "a")
    await send_all(client, other, "x")

    for connection in ("session.7", "session.8"):
        for address, body in ((inbox, "a"), (other, "x")):
            assert await read(way, address, consumer=connection) == [body]
            assert await read(way, address, consumer=connection) == []


async def test_a_mailbox_that_was_made_again_is_begun_again(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    await read(way, inbox)
    await client.mailbox_drop(inbox)
    reply = await way.ask(f"MSG.FETCH.{inbox}", FETCH)
    assert reply["code"] == "mailbox_not_found"

    await client.mailbox_create(name=inbox)
    await send_all(client, inbox, "c", "d")

    assert await read(way, inbox) == ["d"]
    assert await read(way, inbox) == []


async def test_nothing_of_it_is_stored(way, client, inbox):
    await send_all(client, inbox, "a")
    before = way.state()

    await read(way, inbox)
    await read(way, inbox)

    assert way.state() == before


async def test_a_fetch_of_another_shape_is_given_the_same_again(way, client, inbox):
    await send_all(client, inbox, "a")
    await read(way, inbox)
    for fetch in (
        {"deliver": "latest"},
        {"deliver": "latest", "config": CONFIG},
        {"deliver": "latest", "force_deliver": None, "config": CONFIG},
        {**FETCH, "config": {"num_msgs": 10}},
        {**FETCH, "config": {**CONFIG, "max_bytes": 1_000}},
        {**FETCH, "config": {**CONFIG, "max_wait_ms": None}},
        {**FETCH, "priority": "normal"},
        {**FETCH, "deliver": "earliest"},
    ):
        for _ in range(2):
            assert await read(way, inbox, fetch) == ["a"], fetch


async def test_a_fetch_that_says_how_bodies_are_to_be_written_is_none_of_an_sdk(way, client, inbox):
    await send_all(client, inbox, "a")
    for _ in range(2):
        reply = await way.ask(f"MSG.FETCH.{inbox}", FETCH, ("mq9-encoding", "text"))
        assert [message["payload"] for message in reply["messages"]] == ["a"]


async def test_our_client_reads_the_newest_each_time(client, inbox):
    await send_all(client, inbox, "a", "b")
    for _ in range(3):
        [message] = await client.fetch(inbox, deliver="latest", num_msgs=10, max_wait_ms=0)
        assert message.payload == b"b"
