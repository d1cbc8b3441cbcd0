"""SENDs that are stored together have the same effects as SENDs one by one."""

import random
from contextlib import closing, contextmanager

import pytest
from calls import call

from mq9.engine import machine, send
from mq9.engine.commands import Actor, Call, Entry, Limits, Outcome, PlainSend, SendBatch, SetLimits
from mq9.engine.state import digest
from mq9.models import MailboxType, Priority
from mq9.protocol import requests
from mq9.storage import store

from .random_calls import START_MS, RandomCalls

STEPS = 250
BOXES = ("box", "box", "box", "state", "ada", "nowhere")
LIMITS = Limits(max_payload=60, max_messages=60, max_bytes=4_000, max_ids=70)


@contextmanager
def transaction(db):
    db.execute("BEGIN")
    yield
    db.execute("COMMIT")


def one_by_one(applying, index, now, batches):
    """Apply SENDs as single entries; return the msg_id or the error of each, by batch."""
    answers = []
    for batch in batches:
        answers.append([])
        for one in batch.request.sends:
            outcome = applying.apply(Entry(index, now, one.call(batch)))
            index = applying.position.applied + 1
            answers[-1].append(outcome.error or outcome.value)
    return answers


def comparable(answers):
    """Return the answers to the clients in a form that can be compared."""
    return [
        [one if isinstance(one, int) else (type(one), str(one)) for one in batch]
        for batch in answers
    ]


def apart_of(one):
    """Return the SENDs of a batch as calls of their own; any other call as it is."""
    if not isinstance(one.request, SendBatch):
        return [one]
    return [send.call(one) for send in one.request.sends]


def outcomes_of(one, outcome):
    """Return the outcomes of these calls."""
    if not isinstance(one.request, SendBatch):
        return [outcome]
    return [
        Outcome(answer, None, outcome.now_ms)
        if isinstance(answer, int)
        else Outcome(None, answer, outcome.now_ms)
        for answer in outcome.value
    ]


class RandomSends:
    """A source of batches of SENDs, which sometimes repeat an id or exceed a limit."""

    def __init__(self, dice):
        self._dice = dice
        self._number = 0
        self._options = [requests.Send()] * 6 + [
            requests.Send(sender="ada", tags=("a", "b"), priority=Priority.URGENT),
            requests.Send(ttl=3, reply_to="ada", correlation_id="c"),
            requests.Send(path=("x", "y"), headers=(("Color", "grün"),), answer_by=1_800_000_000),
        ]

    def _one(self):
        dice = self._dice
        self._number += 1
        number = self._number if dice.random() < 0.97 else dice.randint(1, self._number)
        id_ = None if dice.random() < 0.3 else f"{number}"
        size = 61 if dice.random() < 0.01 else dice.randint(0, 60)
        return PlainSend(dice.choice(self._options), id_, b"%d" % (number % 7) + b"x" * (size - 1))

    def batches(self):
        dice = self._dice
        batches = []
        for _ in range(dice.choice((1, 1, 2, 4))):
            batch = SendBatch()
            sends = [self._one() for _ in range(dice.choice((1, 2, 4, 9)))]
            assert batch.add(sends) == len(sends)
            agent = dice.choice((None, None, "ada", "bob"))
            batches.append(
                Call(batch, dice.choice(BOXES), Actor(agent, barred=dice.random() < 0.02))
            )
        return batches


@pytest.mark.parametrize("keeps_all", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_outcomes_and_the_state_are_the_same(seed, keeps_all, monkeypatch):
    dice = random.Random(seed)
    story, sends = RandomCalls(dice), RandomSends(dice)
    kinds = {True: 0, False: 0}
    store_together = send.send_together

    def counting(*args):
        stored = store_together(*args)
        kinds[stored is not None] += 1
        return stored

    monkeypatch.setattr(send, "send_together", counting)
    with closing(store.open_memory()) as together, closing(store.open_memory()) as apart:
        setting = [
            call(SetLimits, limits=LIMITS),
            call(requests.CreateMailbox, token="t1"),
            call(requests.CreateMailbox, "state", type=MailboxType.LATEST, token="t2"),
        ]
        for number in range(STEPS):
            now = story.instant()
            batches = sends.batches() if number >= len(setting) and dice.random() < 0.6 else []
            other = setting[number] if number < len(setting) else story.call()
            with transaction(together), transaction(apart):
                runs = []
                for db, apply_sends in (
                    (together, machine.Applying.apply_sends),
                    (apart, one_by_one),
                ):
                    applying = machine.Applying(db, keeps_all=keeps_all)
                    index = applying.position.applied + 1
                    answers = comparable(apply_sends(applying, index, now, batches))
                    last = Entry(applying.position.applied + 1, now, other)
                    outcome = applying.apply(last)
                    applying.finish()
                    runs.append(
                        (answers, outcome.value, str(outcome.error), applying.position, digest(db))
                    )
            assert runs[0] == runs[1], (batches, other)
            story.learn(other, runs[0][1])
    assert min(kinds.values()) > 10, kinds


@pytest.mark.parametrize("seed", range(4))
def test_entries_of_a_record_come_to_the_same_together_and_one_by_one(seed):
    """Whether SENDs are calls of their own or in batches, as on the gateway that appended them."""
    dice = random.Random(seed)
    story, sends = RandomCalls(dice), RandomSends(dice)
    with (
        closing(store.open_memory()) as together,
        closing(store.open_memory()) as apart,
        closing(store.open_memory()) as own,
    ):
        index = 0
        for number in range(60):
            now = story.instant()
            calls = [call(SetLimits, limits=LIMITS), call(requests.CreateMailbox)]
            if number:
                calls = [batch for _ in range(3) for batch in sends.batches()]
                calls.append(Call(SendBatch(), "box"))  # nobody waits for its SENDs
                for _ in range(3):
                    calls.insert(dice.randint(0, len(calls)), story.call())
            batches, calls = calls, [one for batch in calls for one in apart_of(batch)]
            runs = []
            with (
                transaction(together),
                transaction(apart),
                transaction(own),
            ):
                for db in (together, apart, own):
                    applying = machine.Applying(db)
                    if db is together:
                        outcomes = applying.apply_all(index + 1, now, calls)
                    elif db is own:
                        outcomes = [
                            outcome
                            for batch, outcome in zip(
                                batches, applying.apply_all(index + 1, now, batches), strict=True
                            )
                            for outcome in outcomes_of(batch, outcome)
                        ]
                    else:
                        outcomes = [
                            applying.apply(Entry(index + 1 + place, now, one))
                            for place, one in enumerate(calls)
                        ]
                    applying.finish()
                    told_of = [(one.value, str(one.error), one.now_ms) for one in outcomes]
                    runs.append((told_of, applying.position, digest(db)))
            assert runs[0] == runs[1] == runs[2]
            index += 1_000


def test_an_index_that_was_applied_is_refused():
    batch = Call(SendBatch(), "box")
    batch.request.add([PlainSend(requests.Send(), None, b"x")])
    with closing(store.open_memory()) as db, transaction(db):
        applying = machine.Applying(db)
        applying.apply(Entry(3, START_MS, call(requests.CreateMailbox)))
        with pytest.raises(ValueError, match="index: 3"):
            applying.apply_sends(3, START_MS, [batch])
        assert applying.apply_sends(5, START_MS, [batch]) == [[0]]
        assert applying.position.applied == 5


def test_a_batch_is_bounded_in_number_and_bytes():
    small, large = (PlainSend(requests.Send(), None, b"x" * size) for size in (1, 200_000))
    full = SendBatch()
    assert full.add([small] * 100) == 64
    assert full.add([small]) == 0
    assert SendBatch().add([large, large]) == 1
    assert SendBatch().add([small, large, large]) == 2


def test_a_batch_that_is_carried_out_takes_no_more_and_leaves_out_what_nobody_wants():
    one, other = (PlainSend(requests.Send(), None, text) for text in (b"1", b"2"))
    batch = SendBatch(lambda send: send is other)
    assert batch.add([one, other]) == 2
    batch.close()
    batch.close()
    assert batch.sends == [other]
    assert batch.add([one]) == 0
