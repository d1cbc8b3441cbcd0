"""Awaited answers, against a model that plays each instant, and after random calls."""

import itertools
import random

import orjson
import pytest
from calls import Engine, call

from mq9.engine.commands import Advance
from mq9.models import Promise
from mq9.protocol.requests import CreateMailbox, Extend, Nack
from tests.engine.random_calls import RandomCalls


@pytest.fixture(params=range(20))
def dice(request):
    """The source of random choices."""
    return random.Random(request.param)


class Model:
    """A model of questions, with their deadlines and their notices."""

    def __init__(self):
        self.open = {}  # by correlation id: the instants wanted and promised, the order of sending
        self.delayed = []  # answers: when they are visible, the correlation id
        self.told = []

    def ask(self, correlation_id, wanted, now):
        self.open[correlation_id] = [max(wanted, now), 0, len(self.open) + len(self.told)]

    def due(self, correlation_id):
        wanted, promised, _ = self.open[correlation_id]
        return max(wanted, promised)

    def settle(self, now):
        """Play all events until now; at one instant, an answer comes first."""
        while True:
            events = [(due, 0, 0, which) for due, which in self.delayed]
            events += [(self.due(one), 1, self.open[one][2], one) for one in self.open]
            happened = [event for event in events if event[0] <= now]
            if not happened:
                return
            instant, is_overdue, _, which = min(happened)
            if is_overdue:
                self.told.append((which, instant))
            else:
                self.delayed.remove((instant, which))
            self.open.pop(which, None)


def notices(engine):
    found = engine.connection.execute(
        "SELECT payload, visible_ms FROM messages WHERE overdue ORDER BY msg_id"
    )
    return [(orjson.loads(payload)["correlation_id"], at) for payload, at in found]


class Play(Engine):
    """An engine and its model, which get the same calls."""

    def __init__(self, dice):
        super().__init__()
        self.dice = dice
        self.model = Model()
        self.numbers = itertools.count()
        self.held = {}  # msg_id by correlation id
        self.now -= self.now % 1_000
        for address in ("box", "asker"):
            self.apply(call(CreateMailbox, address, token=address))

    def go_on(self, by):
        self.now += by
        self.model.settle(self.now)

    def ask(self):
        which = f"{next(self.numbers)}"
        wanted = self.now + self.dice.choice((-1_000, 1_000, 5_000, 60_000))
        options = {"correlation_id": which, "answer_by": wanted // 1_000, "tell_overdue": True}
        self.send(reply_to="asker", sender="ada", **options)
        self.model.ask(which, wanted, self.now)

    def take(self):
        for one in self.fetch(num_msgs=1, lease_ms=86_400_000).messages:
            self.held[one.envelope["correlation_id"]] = one.msg_id

    def answer(self):
        which, delay = self.dice.choice(list(self.model.open) or [None]), self.dice.choice((0, 2))
        if which is None:
            return
        options = {"sender": "bob", "correlation_id": which, "delay": delay}
        self.send(address="asker", **options)
        self.model.delayed.append((self.now + delay * 1_000, which))

    def promise(self):
        which = self.dice.choice(list(self.held) or [None])
        if which is None:
            return
        until = self.now // 1_000 + self.dice.choice((-5, 1, 10, 100))
        options = {"group_name": "g", "consumer": "one", "lease_ms": 86_400_000}
        options |= {"msg_ids": (self.held[which],), "promise": Promise(until=until)}
        self.apply(call(Extend, **options))
        if which in self.model.open:
            self.model.open[which][1] = max(self.model.open[which][1], until * 1_000)

    def give_back(self):
        which = self.dice.choice(list(self.held) or [None])
        if which is None:
            return
        msg_id = self.held.pop(which)
        self.apply(call(Nack, group_name="g", consumer="one", msg_id=msg_id))
        if which in self.model.open:
            self.model.open[which][:2] = [max(self.model.open[which][0], self.now), 0]

    def look(self):
        self.apply(call(Advance, "asker"))
        assert notices(self) == self.model.told


def test_who_is_told_when_is_what_a_model_says(dice):
    with Play(dice) as play:
        acts = [play.ask, play.ask, play.take, play.answer, play.promise, play.give_back, play.look]
        for _ in range(200):
            play.go_on(dice.choice((0, 0, 1_000, 1_000, 3_000, 20_000)))
            dice.choice(acts)()
            play.go_on(0)
        play.go_on(3_600_000)
        play.look()
        assert play.count("awaited") == 0
        assert len(play.model.told) > 5


def test_the_counters_are_right_whatever_happens(dice):
    calls = RandomCalls(dice)
    most = 0
    with Engine() as engine:
        for _ in range(1_000):
            one = calls.call()
            engine.now = calls.instant()
            try:
                value = engine.apply(one)
            except Exception:  # noqa: BLE001  # refused; other tests check the engine's own errors
                value = None
            calls.learn(one, value)
            counted = engine.connection.execute(
                "SELECT m.awaited, count(a.id), min(a.due_ms)>=m.changes_ms,"
                " min(a.due_ms>=a.answer_by_ms) FROM mailboxes m LEFT JOIN awaited a"
                " ON a.mailbox=m.id GROUP BY m.id"
            ).fetchall()
            assert all(row[0] == row[1] and 0 not in row[2:] for row in counted), (one, counted)
            most = max(most, *(row[0] for row in counted), 0)
    assert most > 0


def test_a_question_that_replaces_its_sender_s_own_is_counted_once():
    with Play(random.Random(0)) as play:
        soon = play.now // 1_000 + 60
        for which in "qr":
            options = {"correlation_id": which, "answer_by": soon, "tell_overdue": True}
            play.send(reply_to="asker", sender="ada", key="k", **options)
        assert play.count("mailboxes", "awaited=1") == 1
        play.send(address="asker", sender="bob", correlation_id="r")
        assert (play.count("mailboxes", "awaited=0"), play.count("awaited")) == (2, 0)
