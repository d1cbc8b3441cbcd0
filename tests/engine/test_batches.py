"""A whole batch stands for the leases and deliveries of its messages, and changes no answer."""

import random
from contextlib import closing
from dataclasses import replace

import pytest
from calls import call, carry_out

from mq9.engine import commands, groups, machine, mailboxes
from mq9.engine.commands import Entry, Limits
from mq9.engine.state import digest, position
from mq9.errors import MailboxFull, Unavailable
from mq9.models import Extended, Priority
from mq9.protocol import requests
from mq9.storage import store

from .engine_on_file import EngineOnFile
from .random_calls import RandomCalls

LENGTH = 300  # calls of a story


@pytest.fixture
def broker(tmp_path):
    with EngineOnFile(tmp_path / "mq9.db") as engine:
        yield engine


def send_some(broker, *priorities):
    for priority in priorities:
        broker.send(payload=b"x" * 300, priority=priority)


def count(connection, table, where="true"):
    select = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608  # our own tables
    return connection.execute(select).fetchone()[0]


def split_all(connection):
    groups.split_batches(connection, "true", ())


def apply(connection, command, now):
    """Return the value of a call, and the error that refused it."""
    connection.execute("BEGIN")
    entry = Entry(position(connection).applied + 1, now, command)
    outcome = machine.apply(connection, entry)
    connection.execute("COMMIT")
    assert not isinstance(outcome.error, Unavailable), "a mistake of the engine's"
    return outcome.value, type(outcome.error), str(outcome.error)


def looks(connection, now):
    """Return the results of reads of a mailbox and of the totals."""
    now = max(now, position(connection).now_ms)
    found = [machine.read(connection, call(commands.CountAll), now)]
    apply(connection, call(commands.Advance), now)
    mailbox = mailboxes.look(connection, "box", now)
    if mailbox is None:
        return found
    queries = [
        *(call(requests.Status, group_name=group) for group in ("g", "h")),
        *(call(commands.WhyEmpty, group_name=group) for group in ("g", "h")),
        *(
            call(requests.Status, msg_id=msg_id)
            for msg_id in range(max(0, mailbox.next_msg_id - 12), mailbox.next_msg_id)
        ),
    ]
    return found + [machine.read(connection, query, now) for query in queries]


def split_digest(connection):
    """Return the digest of the state after all batches are split."""
    connection.execute("BEGIN")
    split_all(connection)
    digested = digest(connection)
    connection.execute("ROLLBACK")
    return digested


def ack_of_all(command, fetched, batch):
    """Return the ACK of all messages of a FETCH."""
    fields = {"group_name": command.request.group_name, "batch": batch}
    return replace(command, request=requests.Ack(msg_id=fetched.messages[-1].msg_id, **fields))


@pytest.mark.parametrize("seed", range(10))
def test_batches_that_are_split_at_once_make_no_difference(seed):
    """Later calls have equal answers, and the split states are equal."""
    dice = random.Random(seed)
    story = RandomCalls(dice)
    following = None
    confirmed = 0
    with closing(store.open_memory()) as unsplit, closing(store.open_memory()) as split:
        for _ in range(LENGTH):
            now, command = story.instant(), following or story.call()
            is_sweep = isinstance(command.request, commands.Sweep)
            if is_sweep:  # with a lower limit it might remove different parts
                command = call(commands.Sweep)
            nothing = [machine.answer(one, command, now) for one in (unsplit, split)]
            assert nothing[0] in {None, nothing[1]}
            outcome, expected = (apply(one, command, now) for one in (unsplit, split))
            assert is_sweep or outcome == expected, command  # a sweep returns the number of rows
            split_all(split)
            assert split_digest(unsplit) == digest(split), command
            assert looks(unsplit, now) == looks(split, now), command
            confirmed += count(unsplit, "replies", "acked_by IS NOT NULL")
            value, following = outcome[0], None
            story.learn(command, value)
            if isinstance(command.request, requests.Fetch) and value and dice.random() < 0.5:
                batch = dice.choice([value.batch, None])
                following = ack_of_all(command, value, batch) if value.messages else None
    assert confirmed


def whole_batches(broker):
    """How many replies are whole batches."""
    return broker.count("replies", "ids IS NOT NULL")


def rows(broker):
    return broker.count("leases") + broker.count("deliveries")


HUNDRED = [Priority.CRITICAL] * 10 + [Priority.URGENT] * 20 + [Priority.NORMAL] * 70


def test_a_fetch_of_a_hundred_and_its_ack_write_little(broker):
    send_some(broker, *HUNDRED * 3)
    broker.ack(broker.fetch().messages[-1].msg_id)
    fetched = []
    assert broker.written(lambda: fetched.append(broker.fetch())) < 64 * 1024
    last = fetched[0].messages[-1].msg_id
    assert broker.written(lambda: broker.ack(last, batch=fetched[0].batch)) < 48 * 1024
    assert (whole_batches(broker), rows(broker)) == (2, 0)


@pytest.mark.parametrize("with_token", [True, False])
@pytest.mark.parametrize("individual", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_an_ack_of_all_can_be_repeated_and_leaves_the_batch_whole(
    broker, count, individual, with_token
):
    send_some(broker, *[Priority.NORMAL] * 5)
    fetched = broker.fetch(num_msgs=count)
    broker.fetch("two")
    options = {"individual": individual and count == 1}
    if with_token:
        options["batch"] = fetched.batch
    for _ in range(2):
        assert broker.ack(count - 1, **options) == tuple(range(count))
    assert broker.ack(count - 1, individual=True) == (count - 1,)
    assert broker.ack(0, individual=True) == ((0,) if count == 1 else ())  # no ACK named it before
    assert (whole_batches(broker), rows(broker)) == (2, 0)


@pytest.mark.parametrize(
    "apart",
    [
        lambda broker, batch: broker.ack(1, batch=batch),
        lambda broker, batch: broker.ack(2, batch=batch, individual=True),
        lambda broker, _: broker.apply(call(requests.Nack, group_name="g", msg_id=1)),
        lambda broker, _: broker.apply(
            call(requests.Extend, group_name="g", consumer="one", msg_ids=(1,), lease_ms=1_000)
        ),
        lambda broker, _: broker.fetch(num_msgs=1),
        lambda broker, batch: broker.apply(call(commands.Undo, batch=batch)),
    ],
    ids=["partial ack", "ack of one", "nack", "extend", "fetch again", "undo"],
)
def test_what_treats_a_message_apart_splits_its_batch_and_no_other(broker, apart):
    send_some(broker, *[Priority.NORMAL] * 6)
    batch = broker.fetch(num_msgs=3).batch
    broker.fetch("two", num_msgs=3)
    assert (whole_batches(broker), rows(broker)) == (2, 0)
    apart(broker, batch)
    assert broker.count("replies", "ids IS NOT NULL AND consumer='two'") == 1
    assert broker.count("replies", "ids IS NOT NULL AND consumer='one'") == 0


def test_leases_of_all_in_a_batch_are_renewed_together(broker):
    send_some(broker, *[Priority.NORMAL] * 3)
    broker.fetch(lease_ms=1_000)
    extend = call(requests.Extend, group_name="g", consumer="one", msg_ids=(7, 2, 1, 0))
    assert broker.apply(extend) == Extended((2, 1, 0), (7,))
    broker.now += 1_000
    assert broker.fetch("two").messages == ()
    assert (whole_batches(broker), rows(broker)) == (1, 0)
    assert broker.ack(2) == (0, 1, 2)
    assert broker.apply(extend) == Extended((), (7, 2, 1, 0))


def test_leases_in_batches_are_renewed_of_what_the_consumer_holds_and_is_there(broker):
    send_some(broker, *[Priority.NORMAL] * 6)
    for consumer, lease_ms in [("one", 1_000), ("one", 60_000), ("two", 60_000)]:
        options = {"num_msgs": 2, "redeliver_own": False}
        assert len(broker.fetch(consumer, lease_ms=lease_ms, **options).messages) == 2
    broker.now += 1_000
    broker.apply(call(requests.Delete, msg_id=3))
    options = {"consumer": "one", "msg_ids": (5, 4, 3, 2, 1, 0), "lease_ms": 120_000}
    extend = call(requests.Extend, group_name="g", **options)
    assert broker.apply(extend) == Extended((2,), (5, 4, 3, 1, 0))
    broker.now += 59_000
    assert [one.msg_id for one in broker.fetch("three").messages] == [0, 1, 4, 5]


def test_what_is_removed_from_a_batch_leaves_it_whole_and_is_not_confirmed(broker):
    send_some(broker, *[Priority.NORMAL] * 4)
    batch = broker.fetch().batch
    broker.apply(call(requests.Delete, msg_id=1))
    assert whole_batches(broker) == 1
    assert broker.ack(3, batch=batch) == (0, 2, 3)
    assert broker.ack(1, batch=batch) == ()


def test_what_is_leased_in_whole_batches_is_not_evicted_and_they_stay_whole(broker):
    limits = Limits(max_messages=6)
    send_some(broker, Priority.NORMAL, Priority.NORMAL, Priority.URGENT, *[Priority.NORMAL] * 3)
    broker.fetch(num_msgs=3)  # 2, 0 and 1
    broker.fetch("two", num_msgs=1)
    last = broker.fetch("three").messages[-1].msg_id
    broker.ack(last, "three")
    send = call(requests.Send, payload=b"x")
    for _ in range(2):
        carry_out(broker.connection, send, broker.now, limits)
    with pytest.raises(MailboxFull):
        carry_out(broker.connection, send, broker.now, limits)
    query = call(requests.Query, limit=10)
    found = machine.read(broker.connection, query, broker.now).messages
    assert [message.msg_id for message in found] == [0, 1, 2, 3, 6, 7]
    assert (whole_batches(broker), rows(broker)) == (3, 0)


def test_a_message_that_one_group_leases_is_not_evicted_when_another_has_acked_it(broker):
    limits = Limits(max_messages=3)
    send = call(requests.Send, payload=b"x")
    send_some(broker, *[Priority.NORMAL] * 3)
    other = call(requests.Fetch, group_name="h", consumer="one")
    broker.apply(other)
    broker.fetch(num_msgs=1)
    broker.fetch("two")
    broker.ack(2, "two")
    with pytest.raises(MailboxFull):
        carry_out(broker.connection, send, broker.now, limits)
    broker.apply(call(requests.Ack, group_name="h", msg_id=2, consumer="one"))
    carry_out(broker.connection, send, broker.now, limits)
    found = machine.read(broker.connection, call(requests.Query, limit=9), broker.now).messages
    assert [message.msg_id for message in found] == [0, 2, 3]


def test_the_batch_of_a_message_is_found_in_a_few_steps(broker):
    send_some(broker, *[Priority.NORMAL] * 300)
    for _ in range(300):
        broker.fetch(num_msgs=1, redeliver_own=False)
    statements = []
    broker.connection.set_trace_callback(statements.append)
    for msg_id in (299, 150, 0):
        statements.clear()
        assert broker.ack(msg_id) == (msg_id,)
        assert len(statements) < 40
    broker.connection.set_trace_callback(None)
    assert (whole_batches(broker), rows(broker)) == (300, 0)
