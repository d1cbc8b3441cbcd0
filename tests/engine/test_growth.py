"""What one client can make a broker remember is bounded, and the others get their work done."""

import pytest

from mq9.engine import commands, machine, store
from mq9.engine.commands import Limits
from mq9.errors import LimitReached

START_MS = 1_700_000_000_000
LONG = "\U0001f600" * 256  # as long as a name may be, and four bytes a character


class Broker:
    """An engine whose size is measured."""

    def __init__(self, limits):
        self.connection = store.open_memory()
        self.limits = limits
        self.now = START_MS

    def apply(self, command):
        self.connection.execute("BEGIN")
        try:
            result = machine.apply(self.connection, command, self.now, self.limits)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    def refused(self, commands, error):
        """Carry out commands; how many were refused."""
        count = 0
        for command in commands:
            try:
                self.apply(command)
            except error:
                count += 1
        return count

    def bytes(self):
        """The size of everything that is in use."""
        pragma = ("page_count", "freelist_count", "page_size")
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragma
        )
        return (pages - free) * size


@pytest.fixture
def broker():
    """A broker of narrow limits with a mailbox."""
    broker = Broker(Limits(max_ids=3_000))
    broker.apply(commands.CreateMailbox(address="box", life="aa"))
    yield broker
    broker.connection.close()


def send(number, **options):
    options = {"payload": b"x", "id": f"{number}{LONG}"[:256], "sender": LONG, **options}
    return commands.Send(address="box", **options)


def test_ever_new_ids_with_a_key_cost_little_each_and_then_nothing(broker):
    before = broker.bytes()
    assert broker.refused((send(n, key="k") for n in range(3_000)), LimitReached) == 0
    full = broker.bytes()
    assert full - before < 3_000 * 300

    assert broker.refused((send(n, key="k") for n in range(3_000, 8_000)), LimitReached) == 5_000
    assert broker.bytes() - full < 100_000
    assert broker.apply(send(7, key="k")) == 7  # what was answered is answered again
    assert broker.apply(send(0, id=None)) == 3_000
    broker.now += 7 * 86_400_000
    assert broker.apply(send(7, key="k")) == 3_001


def test_ever_new_ids_that_expire_cost_little_each_and_then_nothing(broker):
    before = broker.bytes()
    for number in range(8_000):
        broker.refused([send(number, ttl_s=1)], LimitReached)
        broker.now += 1_000
    assert broker.bytes() - before < 3_000 * 300


def test_what_became_of_messages_is_remembered_of_so_many(broker, monkeypatch):
    monkeypatch.setattr("mq9.engine.mailboxes._MOST_FATES", 1_000)
    for number in range(1_500):
        broker.apply(send(number, id=None, key="k"))
    full = broker.bytes()
    for number in range(5_000):
        broker.apply(send(number, id=None, key="k"))
    assert broker.bytes() - full < 20_000
    life = machine.read(
        broker.connection, commands.Status(address="box", msg_id=6_000), broker.now
    ).message
    assert (life.state, life.replaced_by) == ("replaced", 6_001)
