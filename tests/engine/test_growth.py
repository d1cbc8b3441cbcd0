"""The storage that one client can fill is bounded, and other clients are still served."""

import pytest
from calls import Engine, call

from mq9.engine import commands
from mq9.engine.commands import Limits
from mq9.errors import LimitReached
from mq9.protocol import requests

pytestmark = pytest.mark.unmeasured

LIMIT = 256 * 1024
LONG = "\U0001f600" * 256  # as long as a name may be, and four bytes a character


class Broker(Engine):
    """An engine whose size is measured."""

    def refused(self, commands, error):
        """Carry out commands; return how many were refused."""
        count = 0
        for command in commands:
            try:
                self.apply(command)
            except error:
                count += 1
        return count

    def bytes(self):
        """Return the size of all used pages."""
        pragma = ("page_count", "freelist_count", "page_size")
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragma
        )
        return (pages - free) * size


@pytest.fixture
def broker():
    """A broker of narrow limits with a mailbox."""
    with Broker(limits=Limits(max_ids=1_000, max_redelivered=LIMIT)) as broker:
        broker.apply(call(requests.CreateMailbox))
        yield broker


def send(number, **options):
    options = {"payload": b"x", "id": f"{number}{LONG}"[:256], "sender": LONG, **options}
    return call(requests.Send, **options)


def test_ever_new_ids_with_a_key_cost_little_each_and_then_nothing(broker):
    before = broker.bytes()
    assert broker.refused((send(n, key="k") for n in range(1_000)), LimitReached) == 0
    full = broker.bytes()
    assert full - before < 1_000 * 300

    assert broker.refused((send(n, key="k") for n in range(1_000, 4_000)), LimitReached) == 3_000
    assert broker.bytes() - full < 20_000
    assert broker.apply(send(7, key="k")) == 7  # a repetition gets the first answer
    assert broker.apply(send(0, id=None)) == 1_000
    broker.now += 7 * 86_400_000
    assert broker.apply(send(7, key="k")) == 1_001


def test_ever_new_ids_that_expire_cost_little_each_and_then_nothing(broker):
    before = broker.bytes()
    for number in range(3_000):
        broker.refused([send(number, ttl=1)], LimitReached)
        broker.now += 1_000
    assert broker.bytes() - before < 1_000 * 300


def test_what_became_of_messages_is_remembered_of_so_many(broker, monkeypatch):
    monkeypatch.setattr("mq9.engine.messages._MOST_FATES", 500)
    for number in range(600):
        broker.apply(send(number, id=None, key="k"))
    full = broker.bytes()
    for number in range(2_400):
        broker.apply(send(number, id=None, key="k"))
    assert broker.bytes() - full < 20_000
    life = broker.read(call(requests.Status, msg_id=2_900)).message
    assert (life.state, life.replaced_by) == ("replaced", 2_901)


def fetch(number, *, group="g", **options):
    options = {"num_msgs": 1_000, **options}
    options = {"consumer": LONG, "request_id": f"{number}{LONG}"[:256], **options}
    return call(requests.Fetch, group_name=group, **options)


def fill(broker, count):
    for number in range(count):
        broker.apply(send(number, id=None, sender=None))


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({}, id="all of it"),
        pytest.param({"force_deliver": True}, id="from the start"),
        pytest.param({"num_msgs": 1}, id="one at a time"),
        pytest.param({"lease_ms": 1_000, "redeliver_own": False}, id="when its lease has ended"),
    ],
)
def test_fetching_the_same_again_and_again_is_bounded_and_a_polite_group_goes_on(broker, again):
    fill(broker, 200)
    for number in range(2):  # the second one splits the whole batch of the first
        broker.now += 1_000
        broker.apply(fetch(number, **again))
    before = broker.bytes()
    refused = 0
    for number in range(2, 300):
        if "lease_ms" in again:
            broker.now += 1_000
        refused += broker.refused([fetch(number, **again)], LimitReached)
    assert refused > 150
    assert broker.bytes() - before < 1.5 * LIMIT

    for number in range(20):
        fill(broker, 50)
        fetched = broker.apply(fetch(number, group="polite", consumer="worker", num_msgs=1_000))
        ack = call(
            requests.Ack, group_name="polite", msg_id=fetched.messages[-1].msg_id, consumer="worker"
        )
        assert len(broker.apply(ack)) == len(fetched.messages) > 0


def test_a_fetch_that_is_taken_back_again_and_again_is_bounded(broker):
    fill(broker, 200)
    before = broker.bytes()
    refused = 0
    for number in range(300):
        command = fetch(number)
        try:
            fetched = broker.apply(command)
        except LimitReached:
            refused += 1
        else:
            broker.apply(commands.undo_of(command, fetched))
    assert refused > 150
    assert broker.bytes() - before < 1.5 * LIMIT


def test_what_is_forgotten_after_an_hour_makes_room_again(broker):
    fill(broker, 200)
    number = 0
    while not broker.refused([fetch(number)], LimitReached):
        number += 1
    broker.now += 3_600_000
    fetched = broker.apply(fetch(number))
    assert len(fetched.messages) == 200
    full = broker.bytes()
    for _ in range(3):
        while not broker.refused([fetch(number)], LimitReached):
            number += 1
        broker.now += 3_600_000
        broker.apply(call(commands.Sweep))
    assert broker.bytes() - full < 1.5 * LIMIT


def test_a_group_at_its_bound_still_acks_what_it_holds_and_is_handed_what_is_new(broker):
    fill(broker, 200)
    number = 0
    while not broker.refused([fetch(number)], LimitReached):
        number += 1
    ack = call(requests.Ack, group_name="g", msg_id=199, consumer=LONG)
    assert len(broker.apply(ack)) == 200
    fill(broker, 10)
    assert len(broker.apply(fetch(number)).messages) == 10
