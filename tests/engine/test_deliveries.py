"""Redeliveries: they write little, and each reply keeps its meaning."""

import pytest
from calls import call

from mq9.engine import commands
from mq9.errors import InvalidRequest, MessageNotFound
from mq9.models import Standing
from mq9.protocol import requests

from .engine_on_file import HOUR_MS, EngineOnFile


class Broker(EngineOnFile):
    """An engine whose FETCH replies to one group may be lost."""

    def fetch(self, consumer="one", **options):
        """Fetch; return the command and its result."""
        options = {"num_msgs": 1_000, **options}
        command = call(requests.Fetch, group_name="g", consumer=consumer, **options)
        return command, self.apply(command)

    def vanish(self, command, fetched):
        self.apply(commands.undo_of(command, fetched))

    def counts(self):
        """Return how many groups, leases, replies and deliveries are stored."""
        tables = ("groups", "leases", "replies", "deliveries")
        return [self.count(table) for table in tables]

    def life(self, msg_id):
        return self.read(call(requests.Status, msg_id=msg_id)).message


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "mq9.db") as broker:
        yield broker


@pytest.mark.parametrize("fresh", [0, 1])
def test_fetching_a_thousand_held_messages_again_writes_little_however_often(broker, fresh):
    broker.send(900)
    for _ in range(60):
        broker.fetch()
        broker.send(fresh)
        broker.now += 20
    assert broker.written(broker.fetch) < 300 * 1024


def test_the_latest_of_many_replies_is_meant_without_a_token(broker):
    broker.send(3)
    broker.fetch()
    broker.fetch(num_msgs=2)
    assert broker.ack(2) == (0, 1, 2)  # it was in the first only

    broker.send(3)
    broker.fetch()
    _, latest = broker.fetch(num_msgs=2)
    assert broker.ack(4) == (3, 4)
    assert broker.ack(4, batch=latest.batch) == (3, 4)


def test_an_ack_is_repeated_with_the_reply_it_meant_once_the_lease_is_over(broker):
    broker.send(3)
    _, first = broker.fetch()
    _, second = broker.fetch()
    broker.fetch()
    assert broker.ack(1, batch=second.batch) == (0, 1)
    assert broker.ack(1, batch=second.batch) == (0, 1)
    assert broker.ack(1) == ()  # the third one, which no ACK named
    assert broker.ack(2) == (2,)
    assert broker.ack(2, batch=first.batch) == ()


def test_a_consumer_that_lost_what_it_had_fetched_again_means_its_own_last_reply(broker):
    broker.send(2)
    broker.fetch(lease_ms=1_000)
    broker.fetch(lease_ms=1_000, num_msgs=1)
    broker.now += 1_000
    _, others = broker.fetch("two", num_msgs=1)
    assert [one.delivery_count for one in others.messages] == [3]
    assert broker.ack(0) == ()  # now held by another consumer
    with pytest.raises(MessageNotFound):
        broker.ack(1, "two")
    assert broker.ack(0, "two") == (0,)
    assert broker.ack(1) == (1,)


def test_a_fetch_again_that_reaches_nobody_leaves_everything_with_its_consumer(broker):
    broker.send(3)
    command, first = broker.fetch(request_id="first")
    broker.vanish(*broker.fetch())
    assert broker.apply(command).batch == first.batch  # it is the latest again
    assert [one.delivery_count for one in broker.apply(command).messages] == [1, 1, 1]
    assert broker.fetch("two")[1].messages == ()
    assert broker.ack(1) == (0, 1)
    assert broker.ack(2, batch=first.batch) == (2,)


def test_fetches_that_reach_nobody_one_after_the_other_are_all_undone(broker):
    broker.send(3)
    broker.fetch()
    _, held = broker.fetch(num_msgs=2)
    lost = [broker.fetch(), broker.fetch()]
    for command, fetched in lost:
        broker.vanish(command, fetched)
    assert broker.life(0).groups[0].deliveries == 3  # the one before the last is known too late
    assert broker.ack(1) == broker.ack(1, batch=held.batch) == (0, 1)
    with pytest.raises(InvalidRequest):
        broker.ack(2, batch=lost[1][1].batch)


def test_fetches_again_that_reach_nobody_are_undone_after_the_lease_is_over(broker):
    broker.send(1)
    broker.fetch()
    _, reached = broker.fetch()
    lost = [broker.fetch(), broker.fetch()]
    broker.apply(call(requests.Delete, msg_id=0))
    for command, fetched in reversed(lost):
        broker.vanish(command, fetched)
    move = call(requests.Move, group_name="g", msg_id=0, consumer="one", to="dead")
    assert broker.apply(move).msg_id is None  # it is no longer stored
    assert broker.ack(0) == broker.ack(0, batch=reached.batch)
    assert broker.life(0).groups[0].deliveries == 2


def test_a_first_fetch_that_reached_nobody_and_was_followed_by_another_takes_nothing(broker):
    broker.send(2)
    lost = broker.fetch()
    broker.fetch()
    broker.vanish(*lost)
    assert broker.fetch("two")[1].messages == ()
    assert broker.ack(1) == (0, 1)
    assert broker.ack(1) == (0, 1)


def test_what_a_fetch_again_gives_back_by_nack_is_named_to_be_confirmed(broker):
    broker.send(2)
    _, first = broker.fetch()
    broker.fetch()
    nack = call(requests.Nack, group_name="g", msg_id=0, consumer="one", delay_ms=1_000)
    broker.apply(nack)
    assert broker.ack(1, batch=first.batch) == (1,)
    broker.now += 1_000
    _, again = broker.fetch()
    assert broker.ack(0, batch=again.batch) == (0,)


def test_the_first_reply_is_remembered_as_long_as_a_later_one_is_found_by_it(broker):
    broker.send(2)
    broker.fetch(lease_ms=2 * HOUR_MS)
    broker.now += HOUR_MS
    broker.fetch(lease_ms=2 * HOUR_MS)
    assert broker.ack(1) == (0, 1)
    broker.apply(call(commands.Sweep))
    assert broker.ack(1) == (0, 1)
    broker.now += HOUR_MS
    for _ in range(2):
        broker.apply(call(commands.Sweep))
    assert broker.counts() == [1, 0, 0, 0]


def test_while_the_last_reply_is_forgotten_before_the_first_one_neither_is_meant(broker):
    broker.send(1)
    broker.fetch()
    broker.fetch()
    assert broker.ack(0) == (0,)
    broker.now += HOUR_MS
    broker.apply(call(commands.Sweep))
    assert broker.count("replies") == 1
    for _ in range(2):
        assert broker.ack(0) == ()
        move = call(requests.Move, group_name="g", msg_id=0, consumer="one", to="other")
        assert broker.apply(move).msg_id is None
        broker.apply(call(commands.Sweep))
    assert broker.count("replies") == 0


def test_a_message_that_is_gone_was_given_as_often_as_it_was_fetched(broker):
    broker.send(3)
    _, first = broker.fetch()
    for _ in range(4):
        broker.fetch()
    broker.ack(0, batch=first.batch)
    broker.fetch(num_msgs=1)
    broker.ack(1)
    for msg_id in range(3):
        broker.apply(call(requests.Delete, msg_id=msg_id))
    assert [broker.life(msg_id).groups for msg_id in range(3)] == [
        (Standing(group_name="g", state="acked", deliveries=5),),
        (Standing(group_name="g", state="acked", deliveries=6),),
        (Standing(group_name="g", state="delivered", deliveries=5),),
    ]


def test_nothing_is_left_of_a_mailbox_or_a_group_with_what_was_fetched_again(broker):
    broker.send(2)
    broker.fetch()
    broker.fetch()
    broker.now += 31 * 86_400_000
    broker.apply(call(commands.Sweep))
    assert broker.counts() == [0, 0, 0, 0]
    broker.fetch()
    broker.apply(call(requests.DropMailbox))
    assert broker.counts() == [0, 0, 0, 0]
