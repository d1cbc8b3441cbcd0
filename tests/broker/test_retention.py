"""The sweep: each kind of row goes when it has reached its age, and not before."""

import sqlite3
from contextlib import closing

import pytest
from calls import Engine, call

from mq9 import AgentNotFound, IdConflict, MailboxNotFound, MessageNotFound
from mq9.engine.commands import Sweep
from mq9.protocol.requests import (
    Ack,
    CreateMailbox,
    Delete,
    DropMailbox,
    Fetch,
    Nack,
    Register,
    Report,
    Send,
    Status,
)
from mq9.testing import FakeBroker

SECOND = 1_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


class SweptEngine(Engine):
    """An engine that is swept, at instants relative to the beginning."""

    def __init__(self):
        super().__init__()
        self.began = self.now

    def __call__(self, command):
        return self.apply(command)

    def go_to(self, now):
        self.now = self.began + now

    def sweep_at(self, now, **options):
        self.go_to(now)
        return self(call(Sweep, **options))


@pytest.fixture
def engine():
    with SweptEngine() as engine:
        yield engine


def make_mailbox(engine, address="inbox", **options):
    engine(call(CreateMailbox, address, token=f"life{engine.now}{address}", **options))


def fetch(engine, **options):
    return engine(call(Fetch, "inbox", group_name="g", consumer="c", **options))


def test_an_expired_mailbox_goes_with_everything_in_it(engine):
    make_mailbox(engine, ttl=100)
    make_mailbox(engine, "other")
    for number in range(3):
        engine(call(Send, "inbox", payload=b"x", id=f"{number}"))
    engine(call(Send, "inbox", payload=b"later", delay=1_000))
    engine(call(Delete, "inbox", msg_id=2))
    engine(call(Register, "inbox", name="agent", token="made", payload=b"{}"))
    for _ in range(2):  # what is fetched again has rows of its own
        fetch(engine)

    assert engine.sweep_at(100 * SECOND - 1) == 0
    assert engine.count("mailboxes") == 2
    assert engine.sweep_at(100 * SECOND) == 18
    assert engine.count("mailboxes") == 1
    of_a_mailbox = "messages delayed sent_ids tombstones leases replies deliveries groups agents"
    for table in of_a_mailbox.split():
        assert engine.count(table) == 0, table


def test_an_idempotency_id_is_remembered_for_a_week(engine):
    make_mailbox(engine)
    engine(call(Send, "inbox", payload=b"x", id="one"))
    assert engine.sweep_at(7 * DAY - 1) == 0
    with pytest.raises(IdConflict):
        engine(call(Send, "inbox", payload=b"y", id="one"))
    assert engine(call(Send, "inbox", payload=b"x", id="one")) == 0
    assert engine.sweep_at(7 * DAY) == 1
    assert engine(call(Send, "inbox", payload=b"y", id="one")) == 1


def test_what_became_of_a_message_is_remembered_for_a_week(engine):
    make_mailbox(engine)
    engine(call(Send, "inbox", payload=b"x"))
    engine.go_to(HOUR)
    engine(call(Delete, "inbox", msg_id=0))
    assert engine.sweep_at(HOUR + 7 * DAY - 1) == 0
    assert engine.read(call(Status, "inbox", msg_id=0)).message.state == "deleted"
    assert engine.sweep_at(HOUR + 7 * DAY) == 1
    assert engine.read(call(Status, "inbox", msg_id=0)).message.state == "unknown"


@pytest.mark.parametrize("used_again", [1, HOUR - 1, HOUR, 5 * DAY])
def test_a_group_is_remembered_for_thirty_days_after_its_last_use(engine, used_again):
    make_mailbox(engine)
    engine(call(Send, "inbox", payload=b"x"))
    batch = fetch(engine).batch
    engine(call(Ack, "inbox", group_name="g", msg_id=0, consumer="c", batch=batch))
    engine.go_to(used_again)
    assert not fetch(engine).messages

    engine.sweep_at(used_again + 30 * DAY - 1)
    assert engine.count("groups") == 1
    engine.sweep_at(used_again + 30 * DAY + HOUR)  # a use is noted once an hour
    assert engine.count("groups") == engine.count("leases") == 0
    assert engine.count("replies") == engine.count("deliveries") == 0
    assert len(fetch(engine).messages) == 1  # and it starts again as a new group


def test_a_finished_reply_is_remembered_for_an_hour(engine):
    make_mailbox(engine)
    engine(call(Send, "inbox", payload=b"x"))
    batch = fetch(engine, request_id="r").batch
    ack = call(Ack, "inbox", group_name="g", msg_id=0, consumer="c", batch=batch)
    assert engine(ack) == (0,)
    assert engine.sweep_at(HOUR - 1) == 0
    assert engine(ack) == (0,)
    assert engine.sweep_at(HOUR) == 1
    assert engine.count("replies") == engine.count("deliveries") == 0
    assert engine(ack) == ()  # still a success
    assert engine(call(Ack, "inbox", group_name="g", msg_id=0, consumer="c")) == ()


def test_a_reply_is_remembered_as_long_as_something_of_it_is_not_acked(engine):
    make_mailbox(engine)
    for _ in range(3):
        engine(call(Send, "inbox", payload=b"x"))
    batch = fetch(engine, lease_ms=1_000).batch
    engine(call(Ack, "inbox", group_name="g", msg_id=0, consumer="c", batch=batch))
    for now in (HOUR, 5 * DAY, 29 * DAY):
        assert engine.sweep_at(now) == 0
    ack = call(Ack, "inbox", group_name="g", msg_id=2, consumer="c", batch=batch)
    assert engine(ack) == (1, 2)
    assert engine.sweep_at(29 * DAY + 1) == 1


def test_a_message_given_back_for_a_day_keeps_its_reply(engine):
    make_mailbox(engine)
    engine(call(Send, "inbox", payload=b"x"))
    batch = fetch(engine).batch
    day = call(Nack, "inbox", group_name="g", msg_id=0, consumer="c", batch=batch, delay_ms=DAY)
    engine(day)
    assert engine.sweep_at(DAY - 1) == 0
    assert not fetch(engine).messages
    engine.go_to(DAY)
    assert [message.delivery_count for message in fetch(engine).messages] == [2]


def test_an_agent_goes_when_it_has_not_reported_in_time(engine):
    engine(call(Register, "inbox", name="agent", token="made", payload=b"{}", ttl=100))
    assert engine.sweep_at(100 * SECOND - 1) == 0
    engine(call(Report, "", name="agent"))
    assert engine.sweep_at(200 * SECOND - 2) == 0
    assert engine.sweep_at(200 * SECOND - 1) == 1
    assert engine.count("agents") == 0
    with pytest.raises(AgentNotFound):
        engine(call(Report, "", name="agent"))


def test_an_agent_goes_with_its_mailbox(engine):
    engine(call(Register, "inbox", name="agent", token="made", payload=b"{}"))
    assert engine.sweep_at(365 * DAY) == 0
    engine(call(DropMailbox, "inbox"))
    assert engine.count("agents") == 0
    make_mailbox(engine)
    assert engine.sweep_at(366 * DAY) == 0


def test_one_sweep_removes_no_more_than_it_may_and_the_next_goes_on(engine):
    make_mailbox(engine)
    for number in range(5):
        make_mailbox(engine, f"short{number}", ttl=1)
        engine(call(Send, "inbox", payload=b"x", id=f"{number}"))
        engine(call(Delete, "inbox", msg_id=number))
    assert [engine.sweep_at(8 * DAY, most=2) for _ in range(4)] == [6, 6, 3, 0]
    assert engine.count("mailboxes") == 1


def test_what_has_not_reached_its_age_is_left_alone(engine):
    make_mailbox(engine, ttl=0)
    engine(call(Send, "inbox", payload=b"x", delay=0, ttl=None))
    engine(call(Send, "inbox", payload=b"later", delay=3_650 * 86_400))
    assert engine.sweep_at(3_649 * DAY) == 0
    assert (engine.count("messages"), engine.count("delayed")) == (1, 1)


def mailboxes_on_file(broker):
    """How many the file holds, those included that are over and not yet removed."""
    with closing(sqlite3.connect(broker.path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM mailboxes").fetchone()
        return count


async def test_a_broker_in_use_sweeps_by_itself():
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox", ttl=30)
            await client.mailbox_create(name="other")
            await broker.clock.advance(59)
            await client.send("other", "too early for a sweep")
            assert mailboxes_on_file(broker) == 2
            await broker.clock.advance(1)
            await client.send("other", "now")
            assert mailboxes_on_file(broker) == 1
            with pytest.raises(MailboxNotFound):
                await client.query("inbox")


async def test_a_broker_sweeps_until_nothing_is_left_to_remove():
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            for _ in range(Sweep().most + 200):
                await client.mailbox_create(ttl=1)
            await broker.clock.advance(60)
            for _ in range(2):
                await client.send("inbox", "whatever")
            assert mailboxes_on_file(broker) == 1


async def test_a_forgotten_group_can_still_be_spoken_of():
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            await client.send("inbox", "x")
            [message] = await client.fetch("inbox", group_name="g", deliver="earliest")
            await broker.clock.advance(31 * 86_400)
            assert await client.ack("inbox", "g", 0, batch=message.batch) == []
            with pytest.raises(MessageNotFound):
                await client.ack("inbox", "g", 0, batch=None, consumer="another")
