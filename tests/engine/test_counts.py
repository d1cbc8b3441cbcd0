"""Stored messages are counted by blocks of msg_ids, and not one by one."""

import random

import pytest
from calls import Engine, call

from mq9.engine import commands, mailboxes, messages
from mq9.models import Deliver, Priority
from mq9.protocol import requests

BLOCK = 512
MANY = 3 * BLOCK + 100


class Counting(Engine):
    """An engine with a mailbox that counts the steps of SQLite's machine."""

    def __init__(self):
        super().__init__()
        self.apply(call(requests.CreateMailbox))

    def steps(self, query):
        """Return the number of steps of a query."""
        taken = 0

        def step():
            nonlocal taken
            taken += 1
            return 0

        self.connection.set_progress_handler(step, 1)
        self.read(query)
        self.connection.set_progress_handler(None, 0)
        return taken


@pytest.fixture
def engine():
    with Counting() as engine:
        yield engine


@pytest.fixture(params=range(3))
def dice(request):
    """The source of random choices."""
    return random.Random(request.param)


def test_all_that_is_stored_is_counted_from_wherever(engine, dice):
    for priority in dice.choices(list(Priority), k=40):
        options = dice.choice([{}, {}, {"ttl": 5}, {"delay": 3}, {"key": "k"}])
        engine.send(dice.randint(1, MANY // 20), priority=priority, **options)
    engine.now += 5_000
    engine.apply(call(commands.Advance))
    stored = engine.connection.execute("SELECT msg_id FROM messages").fetchall()
    removed = dice.sample([msg_id for (msg_id,) in stored], len(stored) // 3)
    removed += [one for (one,) in stored if one // BLOCK == 1 and one not in removed]
    engine.apply(*(call(requests.Delete, msg_id=one) for one in removed))

    mailbox = mailboxes.look(engine.connection, "box", engine.now)
    edges = [edge + beside for edge in range(0, MANY, BLOCK) for beside in (-1, 0, 1)]
    for first in [*edges[1:], *dice.choices(range(MANY), k=50), 10 * MANY]:
        for lane in range(len(Priority)):
            expected = engine.connection.execute(
                "SELECT count(*) FROM messages WHERE priority=? AND msg_id>=?", (lane, first)
            ).fetchone()
            assert (messages.count_stored(engine.connection, mailbox, lane, first),) == expected
    # A block without stored messages has no row.
    assert 1 not in {block for _, _, block, _ in rows(engine, "message_counts")}


def test_a_copy_of_a_moved_message_completes_a_block(engine):
    engine.apply(call(requests.CreateMailbox, "dead"))
    engine.apply(*(call(requests.Send, "dead", payload=b"x") for _ in range(BLOCK - 1)))
    engine.send(1)
    [message] = engine.fetch(num_msgs=1).messages
    named = {"group_name": "g", "consumer": "one", "msg_id": message.msg_id}
    engine.apply(call(requests.Move, to="dead", **named))
    dead = mailboxes.look(engine.connection, "dead", engine.now)
    assert messages.count_by_lane(engine.connection, dead, [0, 0, 0]) == [0, 0, BLOCK]


def rows(engine, table):
    return engine.connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # our own tables


def test_nothing_is_left_of_a_mailbox_that_was_dropped(engine):
    engine.send(MANY)
    assert rows(engine, "message_counts")
    engine.apply(call(requests.DropMailbox))
    while engine.apply(commands.Call(commands.Sweep())):
        pass
    assert rows(engine, "message_counts") == []


def test_a_group_is_described_across_blocks(engine):
    engine.send(MANY)
    engine.send(10, priority=Priority.URGENT)
    messages = engine.fetch(num_msgs=700, deliver=Deliver.FROM_ID, from_id=100).messages
    engine.ack(messages[599].msg_id)
    engine.apply(call(requests.Delete, msg_id=50))  # before the start of the group
    engine.apply(call(requests.Delete, msg_id=MANY - 1))  # not delivered to it yet
    engine.apply(call(requests.Delete, msg_id=messages[100].msg_id))  # acked

    group = engine.read(call(requests.Status, group_name="g")).group
    assert (group.pending.critical, group.pending.urgent) == (0, 0)
    assert group.pending.normal == MANY - 100 - 690 - 1
    assert [(one.consumer, one.count) for one in group.leased] == [("one", 100)]
    assert group.acked == 599
    assert engine.read(call(commands.CountUnread, group_name="g")) == group.pending
    waiting = engine.read(call(commands.WhyEmpty, group_name="g"))
    assert (waiting.acked, waiting.skipped) == (599, 99)
    totals = engine.read(call(commands.CountAll))
    assert (totals.backlog, totals.leases) == (group.pending, 100)
    [standing] = engine.read(call(requests.Status, msg_id=MANY - 2)).message.groups
    assert standing.ahead == group.pending.normal - 1


@pytest.mark.parametrize(
    "query",
    [
        call(requests.Status, group_name="g", msg_id=1),
        call(requests.Status, group_name="another"),
        call(commands.CountUnread, group_name="g"),
        call(commands.WhyEmpty, group_name="g"),
        call(commands.CountAll),
        call(requests.ListPublic),
    ],
    ids=lambda query: type(query.request).__name__,
)
def test_what_is_looked_at_does_not_grow_with_the_messages(query):
    taken = []
    for blocks in (1, 20):  # of the same part of another one
        with Counting() as engine:
            engine.send(900)
            engine.ack(engine.fetch(num_msgs=600).messages[-1].msg_id)
            engine.send(blocks * BLOCK)
            engine.send(blocks * BLOCK, delay=60)
            taken.append(engine.steps(query))
    assert taken[1] - taken[0] < 19 * 10  # a few for each block, which has 512 messages
