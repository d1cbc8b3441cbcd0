"""What gives subscriptions their mail, on a broker in memory and on a file."""

import asyncio

import orjson
import pytest
from waiting import until

from mq9 import NotConnected
from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.feed import Given
from mq9.clock import SystemClock

from .generations import FIRST, make, write

SESSION = BrokerSession("connection.1")


def feed(broker, group=None, read_by=None, session=SESSION):
    return broker.feed(session, "box", group, read_by)


async def read(a_feed, *most):
    """Return the next messages of a feed, once there are some."""
    async with a_feed.next(*most) as fetched:
        return fetched


async def pending(way, group):
    reply = await way.ask("MAILBOX.STATUS.box", {"group_name": group})
    return sum(reply["group"]["pending"].values()), reply["group"]["leased"]


async def test_a_read_that_is_cancelled_at_any_moment_leases_nothing(way):
    await make(way, FIRST)
    for number in range(3):
        await write(way, FIRST, "box", str(number).encode())
    for turns in range(10):
        reading = asyncio.create_task(read(feed(way.broker, "g")))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not reading.cancel():
            break
        with pytest.raises(asyncio.CancelledError):
            await reading
    await way.clock.advance(0)
    if reading.cancelled():
        fetched = await read(feed(way.broker, "g"))
    else:
        fetched = reading.result()

    assert [one.payload for one in fetched.messages] == [b"0", b"1", b"2"]


async def test_what_was_read_and_not_taken_is_given_to_the_next(way):
    await make(way, FIRST)
    for body in (b"a", b"b", b"c"):
        await write(way, FIRST, "box", body)
    first = feed(way.broker, "g")
    fetched = await read(first)

    waiting = await way.begin(read(feed(way.broker, "g", session=BrokerSession("connection.2"))))
    await first.taken(Given.of(fetched), [fetched.messages[1].msg_id])
    await way.clock.advance(0)

    assert [one.payload for one in (await waiting).messages] == [b"a", b"c"]
    assert (await pending(way, "g"))[0] == 0


async def test_no_more_is_read_than_was_asked_for_nor_than_a_mebibyte(way):
    await make(way, FIRST)
    for _ in range(5):
        await write(way, FIRST, "box", bytes(300_000))
    for group in (None, "g"):
        reader = feed(way.broker, group)
        assert len((await read(reader, 1)).messages) == 1
        assert [len((await read(reader)).messages) for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("group", [None, "g"])
async def test_it_ends_when_the_broker_stops_waiting_or_is_closed(way, group):
    await make(way, FIRST)
    reader = feed(way.broker, group)
    waiting = await way.begin(read(reader))

    way.broker.stop_waiting()

    assert await waiting is None
    assert await read(reader) is None


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_broker_that_was_closed_gives_nothing(tmp_path, group):
    broker = EmbeddedBroker.on_file(tmp_path / "mq9.db", SystemClock())
    reader = feed(broker, group)
    waiting = asyncio.create_task(read(reader))
    await until(lambda: broker.waiting)

    await broker.close()

    with pytest.raises(NotConnected):
        await waiting


@pytest.mark.parametrize("group", [None, "g"])
async def test_what_another_process_makes_and_sends_is_read(tmp_path, group):
    brokers = [EmbeddedBroker.on_file(tmp_path / "mq9.db", SystemClock()) for _ in range(2)]
    reading = asyncio.create_task(read(feed(brokers[0], group)))
    await until(lambda: brokers[0].waiting)

    for verb, body in (("MAILBOX.CREATE", b'{"name":"box"}'), ("MAILBOX.MSG.box", b"x")):
        reply = await brokers[1].handle(PublishedRequest(f"$mq9.AI.{verb}", body, (), SESSION))
        assert orjson.loads(reply)["error"] == ""

    assert [one.payload for one in (await reading).messages] == [b"x"]
    for broker in brokers:
        await broker.close()
