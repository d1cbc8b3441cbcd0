"""A whole batch stands for the leases and deliveries of all in it, and changes no answer."""

import random
from dataclasses import dataclass

import pytest
from calls import call, carry_out

from mq9.engine import batches, commands, machine
from mq9.engine.digest import digest
from mq9.engine.limits import Limits
from mq9.errors import MailboxFull, Mq9Error
from mq9.models import Deliver, MailboxType, Priority
from mq9.protocol import requests
from mq9.storage import store

from .engine_on_file import HOUR_MS, START_MS, EngineOnFile

STEPS = 250


class Broker(EngineOnFile):
    """An engine whose fetches are of one group."""

    def send(self, *priorities):
        for priority in priorities:
            self.apply(call(requests.Send, payload=b"x" * 300, priority=priority))

    def fetch(self, consumer="one", **options):
        fetch = call(requests.Fetch, group_name="g", consumer=consumer, **options)
        return self.apply(fetch)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq9.db")
    yield broker
    broker.connection.close()


def split_all(connection):
    batches.split(connection, "true", ())


@dataclass(frozen=True)
class Receipt:
    """What whoever made a FETCH knows of its reply."""

    command: object
    fetched: object

    @property
    def msg_ids(self):
        return [message.msg_id for message in self.fetched.messages]


class Story:
    """Random calls, of which many are about what was fetched.

    Args:
        seed: The same seed makes the same calls, as long as they are answered alike.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = START_MS
        self.number = 0
        self.receipts = []
        self.priorities = self.random.sample(list(Priority), self.random.randint(1, 3))
        self.type = self.random.choice([MailboxType.STANDARD] * 4 + [MailboxType.LATEST])
        few = self.random.random() < 0.5
        self.limits = Limits(
            max_messages=self.random.choice([8, 30, 1_000]), max_redelivered=3_000 if few else 10**6
        )
        weights = {
            self.send: 30,
            self.fetch: 16,
            self.ack: 16,
            self.nack: 3,
            self.extend: 3,
            self.move: 3,
            self.undo: 2,
            self.release: 1,
            self.delete: 3,
            self.note_read: 1,
            self.sweep: 1,
            self.make_again: 1,
        }
        self.choices = list(weights), list(weights.values())

    def begin(self):
        return [self.create("box"), self.create("other")]

    def create(self, address):
        self.number += 1
        create = requests.CreateMailbox
        return call(create, address, token=f"life{self.number}", renew=True, type=self.type)

    def next(self):
        """Let time pass, and return the next call."""
        passes_ms = [0] * 12 + [400] * 4 + [1_000] * 3 + [5_000, 60_000, HOUR_MS]
        self.now += self.random.choice(passes_ms)
        (chosen,) = self.random.choices(*self.choices)
        return chosen() or self.send()

    def receipt(self):
        """Return one of the last replies."""
        return self.random.choice(self.receipts[-6:]) if self.receipts else None

    def msg_id(self, receipt):
        """Return most times the last message of a reply, else any of it, or any at all."""
        kind = self.random.random()
        if kind < 0.6:
            return receipt.msg_ids[-1]
        return self.random.choice(receipt.msg_ids) if kind < 0.95 else self.random.randrange(40)

    def of_group(self, kind, receipt, **fields):
        """Return a call about what was fetched, with or without its token and consumer."""
        was = receipt.command.request
        if self.random.random() < 0.7:
            fields["batch"] = receipt.fetched.batch
        consumer = self.random.choice([was.consumer, was.consumer, was.consumer, "one", None])
        return call(kind, group_name=was.group_name, connection="one", consumer=consumer, **fields)

    def send(self):
        return call(
            requests.Send,
            payload=b"x" * self.random.randrange(20),
            priority=self.random.choice(self.priorities),
            key=self.random.choice([None] * 9 + ["k"]),
            delay=self.random.choice([0] * 9 + [1]),
            ttl=self.random.choice([None] * 9 + [5]),
        )

    def fetch(self):
        return call(
            requests.Fetch,
            group_name=self.random.choice(["g", "g", "h"]),
            consumer=self.random.choice(["one", "one", "two", "three"]),
            num_msgs=self.random.choice([1, 2, 3, 5, 100]),
            max_bytes=self.random.choice([1 << 20, 1 << 20, 600]),
            lease_ms=self.random.choice([1_000, 5_000, 60_000, 2 * HOUR_MS]),
            redeliver_own=self.random.random() < 0.5,
            request_id=self.random.choice([None, None, "r", "s"]),
            deliver=self.random.choice([Deliver.EARLIEST, Deliver.EARLIEST, Deliver.LATEST]),
            force_deliver=self.random.random() < 0.08,
        )

    def ack(self):
        receipt = self.receipt()
        individual = self.random.random() < 0.2
        return receipt and self.of_group(
            requests.Ack, receipt, msg_id=self.msg_id(receipt), individual=individual
        )

    def nack(self):
        receipt = self.receipt()
        delay_ms = self.random.choice([0, 2_000])
        return receipt and self.of_group(
            requests.Nack, receipt, msg_id=self.msg_id(receipt), delay_ms=delay_ms
        )

    def move(self):
        receipt = self.receipt()
        return receipt and self.of_group(
            requests.Move, receipt, msg_id=self.msg_id(receipt), to="other"
        )

    def extend(self):
        receipt = self.receipt()
        if receipt is None:
            return None
        some = self.random.sample(receipt.msg_ids, self.random.randint(1, len(receipt.msg_ids)))
        return call(
            requests.Extend,
            group_name=receipt.command.request.group_name,
            consumer=receipt.command.request.consumer,
            msg_ids=tuple(dict.fromkeys([*some, self.random.randrange(40)])),
            lease_ms=self.random.choice([1_000, 60_000]),
        )

    def undo(self):
        receipt = self.receipt()
        return receipt and commands.undo_of(receipt.command, receipt.fetched)

    def release(self):
        receipt = self.receipt()
        if receipt is None or receipt.command.request.request_id is None:
            return None
        was = receipt.command.request
        return call(
            requests.Release,
            group_name=was.group_name,
            consumer=was.consumer,
            request_id=was.request_id,
        )

    def delete(self):
        receipt = self.receipt()
        return receipt and call(requests.Delete, msg_id=self.msg_id(receipt))

    def note_read(self):
        cursors = tuple(self.random.randrange(20) for _ in range(3))
        return call(commands.NoteRead, group_name="h", cursors=cursors)

    def sweep(self):
        return call(commands.Sweep)

    def make_again(self):
        if self.random.random() < 0.5:
            return call(requests.DropMailbox)
        return self.create("box")

    def note(self, command, answer):
        """Remember what was fetched; a mailbox that was dropped is made again."""
        if isinstance(command.request, requests.Fetch) and getattr(answer, "messages", None):
            self.receipts.append(Receipt(command, answer))
        if isinstance(command.request, requests.DropMailbox):
            return [self.create("box")]
        return []


def answer(connection, command, now, limits):
    try:
        return carry_out(connection, command, now, limits)
    except Mq9Error as error:
        return error.code, str(error)


def looks(connection, now):
    """Return everything that a look at the state answers."""
    queries = [call(commands.CountAll)]
    for group in ("g", "h"):
        queries += [
            call(requests.Status, group_name=group),
            call(commands.WhyEmpty, group_name=group),
            call(commands.CountUnread, group_name=group),
        ]
    (end,) = connection.execute("SELECT next_msg_id FROM mailboxes WHERE address='box'").fetchone()
    queries += [call(requests.Status, msg_id=msg_id) for msg_id in range(max(0, end - 12), end)]
    carry_out(connection, call(commands.Advance), now)
    return [machine.read(connection, query, now) for query in queries]


def split_digest(connection):
    """Return what the digest of the state is when all batches are split."""
    connection.execute("BEGIN")
    split_all(connection)
    digested = digest(connection)
    connection.execute("ROLLBACK")
    return digested


@pytest.mark.parametrize("seed", range(12))
def test_batches_that_are_split_at_once_make_no_difference(seed):
    """Whatever follows is answered alike, and what all batches stand for is the same state."""
    whole, split = store.open_memory(), store.open_memory()
    story = Story(seed)
    waiting = story.begin()
    most = 0
    for _ in range(STEPS):
        command = waiting.pop(0) if waiting else story.next()
        arguments = command, story.now, story.limits
        nothing = [machine.answer(one, command, story.now) for one in (whole, split)]
        assert nothing[0] in (None, nothing[1])
        answers = [answer(one, *arguments) for one in (whole, split)]
        split_all(split)
        if not isinstance(command.request, commands.Sweep):  # which tells how many rows went
            assert answers[0] == answers[1], command
        assert split_digest(whole) == digest(split), command
        waiting += story.note(command, answers[0])
        if not waiting:
            assert looks(whole, story.now) == looks(split, story.now), command
        (count,) = whole.execute("SELECT count(*) FROM replies WHERE ids IS NOT NULL").fetchone()
        most = max(most, count)
    assert most
    whole.close()
    split.close()


def whole(broker):
    """How many replies are whole batches."""
    return broker.count("replies", "ids IS NOT NULL")


def rows(broker):
    return broker.count("leases") + broker.count("deliveries")


HUNDRED = [Priority.CRITICAL] * 10 + [Priority.URGENT] * 20 + [Priority.NORMAL] * 70


def test_a_fetch_of_a_hundred_and_its_ack_write_little(broker):
    broker.send(*HUNDRED * 3)
    broker.ack(broker.fetch().messages[-1].msg_id)
    fetched = []
    assert broker.written(lambda: fetched.append(broker.fetch())) < 64 * 1024
    last = fetched[0].messages[-1].msg_id
    assert broker.written(lambda: broker.ack(last, batch=fetched[0].batch)) < 48 * 1024
    assert (whole(broker), rows(broker)) == (2, 0)


@pytest.mark.parametrize("with_token", [True, False])
@pytest.mark.parametrize("individual", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_an_ack_of_all_can_be_repeated_and_leaves_the_batch_whole(
    broker, count, individual, with_token
):
    broker.send(*[Priority.NORMAL] * 5)
    fetched = broker.fetch(num_msgs=count)
    broker.fetch("two")
    options = {"individual": individual and count == 1}
    if with_token:
        options["batch"] = fetched.batch
    for _ in range(2):
        assert broker.ack(count - 1, **options) == tuple(range(count))
    assert broker.ack(count - 1, individual=True) == (count - 1,)
    assert (whole(broker), rows(broker)) == (2, 0)


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
    broker.send(*[Priority.NORMAL] * 6)
    batch = broker.fetch(num_msgs=3).batch
    broker.fetch("two", num_msgs=3)
    assert (whole(broker), rows(broker)) == (2, 0)
    apart(broker, batch)
    assert broker.count("replies", "ids IS NOT NULL AND consumer='two'") == 1
    assert broker.count("replies", "ids IS NOT NULL AND consumer='one'") == 0


def test_what_is_removed_from_a_batch_leaves_it_whole_and_is_not_confirmed(broker):
    broker.send(*[Priority.NORMAL] * 4)
    batch = broker.fetch().batch
    broker.apply(call(requests.Delete, msg_id=1))
    assert whole(broker) == 1
    assert broker.ack(3, batch=batch) == (0, 2, 3)
    assert broker.ack(1, batch=batch) == ()


def test_what_is_leased_in_whole_batches_is_not_evicted_and_they_stay_whole(broker):
    limits = Limits(max_messages=6)
    broker.send(Priority.NORMAL, Priority.NORMAL, Priority.URGENT, *[Priority.NORMAL] * 3)
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
    assert (whole(broker), rows(broker)) == (3, 0)


def test_a_message_that_one_group_leases_is_not_evicted_when_another_has_acked_it(broker):
    limits = Limits(max_messages=3)
    send = call(requests.Send, payload=b"x")
    broker.send(*[Priority.NORMAL] * 3)
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
    broker.send(*[Priority.NORMAL] * 300)
    for _ in range(300):
        broker.fetch(num_msgs=1, redeliver_own=False)
    statements = []
    broker.connection.set_trace_callback(statements.append)
    for msg_id in (299, 150, 0):
        statements.clear()
        assert broker.ack(msg_id) == (msg_id,)
        assert len(statements) < 40
    broker.connection.set_trace_callback(None)
    assert (whole(broker), rows(broker)) == (300, 0)
