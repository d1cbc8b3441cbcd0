"""Hours of traffic on a moved clock: what is over goes, and the file does not grow for ever."""

import random
import sqlite3

import pytest
from direct import client_of

from mq9.broker.embedded import EmbeddedBroker
from mq9.testing import ManualClock

pytestmark = pytest.mark.unmeasured

HOUR = 3_600
BODY = bytes(2_000)
HOURS = 12  # in the soak five days; what lasts for a week is beyond both


@pytest.fixture
async def clock():
    return ManualClock()


@pytest.fixture
async def broker(tmp_path, clock):
    broker = EmbeddedBroker.on_file(tmp_path / "mq9.db", clock)
    yield broker
    await broker.close()


@pytest.fixture
async def client(broker):
    async with client_of(broker) as client:
        yield client


def rows(path):
    """Count what each table of the file holds."""
    connection = sqlite3.connect(path)
    try:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            if not name.startswith(("agents_text", "sqlite_"))
        ]
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608  # our tables
            for name in names
        }
    finally:
        connection.close()


def size(path):
    """The bytes on disk, with what lies beside the file."""
    return sum(one.stat().st_size for one in path.parent.iterdir())


async def minute(client, clock, pick):
    """A conversation: a task, its result to a mailbox of its own, a status; all acked."""
    reply_to = await client.mailbox_create(prefix="reply", ttl=HOUR)
    await client.send("tasks", BODY, ttl=HOUR, reply_to=reply_to)
    await client.send("later", BODY, delay=pick.randrange(HOUR), ttl=2 * HOUR)
    await client.send("status", BODY, key=f"k{pick.randrange(20)}")
    await client.send(reply_to, BODY)
    for box in ("tasks", "later", "status"):
        fetched = await client.fetch(box, group_name="g", deliver="earliest", max_wait_ms=0)
        if fetched:
            await client.ack(box, "g", fetched[-1].msg_id)
    await clock.advance(60)


@pytest.mark.soak
async def test_after_many_hours_there_is_no_more_than_after_some(
    tmp_path, broker, client, clock, scale
):
    path, pick = tmp_path / "mq9.db", random.Random(1)
    for box in ("tasks", "later", "status"):
        await client.mailbox_create(name=box)
    seen = []
    for _ in range(HOURS * scale):
        for _ in range(60):
            await minute(client, clock, pick)
        await broker.sweep()
        seen.append((rows(path), size(path)))

    early, late = seen[5], seen[-1]
    # An id is remembered for a week and so is what became of a message; all else levels off.
    for table in early[0].keys() - {"sent_ids", "tombstones"}:
        assert late[0][table] <= early[0][table] * 1.3 + 50, (table, early, late)
    an_hour = 60  # conversations
    assert late[0]["messages"] <= 5 * an_hour
    assert late[0]["mailboxes"] <= 3 + an_hour + 1
    assert late[0]["erased"] == 0
    remembered = (
        (len(seen) - 6) * an_hour * 4 * 2 * 100
    )  # rows of about a hundred bytes, and their index
    assert late[1] <= early[1] * 1.3 + remembered

    await clock.advance(8 * 24 * HOUR)  # and nobody comes
    await broker.sweep()

    after = rows(path)
    assert (after["sent_ids"], after["tombstones"], after["delayed"], after["deliveries"]) == (
        0,
        0,
        0,
        0,
    )
    assert after["mailboxes"] == 3
    assert after["messages"] <= 20  # one for each key of the status
    assert (await broker.totals()).messages == after["messages"]


async def test_the_file_shrinks_when_much_of_it_is_free(tmp_path, broker, client, clock):
    path = tmp_path / "mq9.db"
    await client.mailbox_create(name="big", ttl=HOUR)
    await client.mailbox_create(name="small")
    for _ in range(3_000):
        await client.send("big", bytes(10_000))
    await client.send("small", "stays")
    full = size(path)
    assert full > 30_000_000

    await clock.advance(HOUR)
    await broker.sweep()

    spare = 1_024 * 4_096  # pages that are kept to write into
    log = 16 * 1024 * 1024
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert path.stat().st_size < spare + 1_000_000
    assert size(path) < spare + log + 1_000_000
    assert [message.text for message in await client.query("small")] == ["stays"]
