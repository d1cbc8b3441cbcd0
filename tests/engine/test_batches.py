"""A whole batch stands for the leases and deliveries of all in it, and changes no answer."""

import random
from dataclasses import dataclass

import pytest
from calls import call, carry_out

from mq9.engine import batches, commands, machine
from mq9.engine.digest import digest
from mq9.engine.limits import Limits
from mq9.errors import Mq9Error
from mq9.models import Deliver, MailboxType, Priority
from mq9.protocol import requests
from mq9.storage import store

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
STEPS = 250


class Broker:
    """An engine on a file, with a mailbox."""

    def __init__(self, path):
        self.path = path
        self.connection = store.open_file(path)
        self.connection.execute("PRAGMA wal_autocheckpoint=0")
        self.now = START_MS
        self.apply(call(requests.CreateMailbox))

    def apply(self, command):
        return carry_out(self.connection, command, self.now)

    def send(self, *priorities):
        for priority in priorities:
            self.apply(call(requests.Send, payload=b"x" * 300, priority=priority))

    def fetch(self, consumer="one", **options):
        fetch = call(requests.Fetch, group_name="g", consumer=consumer, **options)
        return self.apply(fetch)

    def ack(self, msg_id, consumer="one", **options):
        ack = call(requests.Ack, group_name="g", msg_id=msg_id, consumer=consumer, **options)
        return self.apply(ack)

    def count(self, table, where="true"):
        count = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608  # our own tables
        return self.connection.execute(count).fetchone()[0]

    def written(self, work):
        """Do something; how many bytes that wrote."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        work()
        return self.path.with_name(self.path.name + "-wal").stat().st_size


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
        return call(
            kind, group_name=was.group_name, connection="one", consumer=consumer, **fields
        )

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
