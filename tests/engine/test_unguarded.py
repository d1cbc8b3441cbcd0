"""A command without a savepoint has the same effects as with one."""

import random
from collections import Counter
from contextlib import closing

import pytest
from calls import Engine, call

from mq9.engine import machine
from mq9.engine.commands import Entry, Limits
from mq9.engine.state import digest
from mq9.errors import LimitReached
from mq9.protocol import requests
from mq9.storage import store

from .random_calls import RandomCalls

TRANSACTIONS = 120
MOST = 6  # entries of a transaction


def carry_out(db, entries, keeps_all):
    """Apply entries in one transaction; return outcomes, position and state."""
    db.execute("BEGIN")
    applying = machine.Applying(db, keeps_all=keeps_all)
    told = []
    for now, one in entries:
        outcome = applying.apply(Entry(applying.position.applied + 1, now, one))
        told.append((outcome.value, type(outcome.error), str(outcome.error)))
    applying.finish()
    db.execute("COMMIT")
    return told, applying.position, digest(db)


def counting(kind, carry_out, counted):
    def count(*args):
        value = carry_out(*args)
        counted[kind, value is not None] += 1
        return value

    return count


@pytest.mark.parametrize("keeps_all", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_outcomes_and_state_are_the_same_with_and_without_savepoints(seed, keeps_all, monkeypatch):
    story = RandomCalls(dice := random.Random(seed))
    counted = Counter()
    unguarded = {
        kind: counting(kind, carry_out, counted) for kind, carry_out in machine.UNGUARDED.items()
    }
    with closing(store.open_memory()) as without, closing(store.open_memory()) as guarded:
        for number in range(TRANSACTIONS):
            calls = [story.call() for _ in range(dice.randint(1, MOST))]
            if not number:
                calls = [call(requests.CreateMailbox)]
            entries = [(story.instant(), one) for one in calls]
            runs = []
            for db, table in ((without, unguarded), (guarded, {})):
                monkeypatch.setattr(machine, "UNGUARDED", table)
                runs.append(carry_out(db, entries, keeps_all))
            assert runs[0] == runs[1], entries
            for one, (value, *_) in zip(calls, runs[0][0], strict=True):
                story.learn(one, value)
    for kind in (requests.Send, requests.Fetch, requests.Ack, requests.Extend):
        assert counted[kind, True], f"{kind.__name__} was never carried out without a savepoint"


def test_a_fetch_that_a_limit_may_refuse_has_a_savepoint(monkeypatch):
    fetched = Counter()
    fetch_new = counting(requests.Fetch, machine.UNGUARDED[requests.Fetch], fetched)
    monkeypatch.setitem(machine.UNGUARDED, requests.Fetch, fetch_new)
    fetch = {"group_name": "g", "consumer": "c", "redeliver_own": False, "num_msgs": 1}
    with Engine(limits=Limits(max_redelivered=700)) as engine:
        engine.apply(call(requests.CreateMailbox))
        for _ in range(9):
            engine.apply(call(requests.Send, payload=b"x"))
            engine.apply(call(requests.Fetch, **fetch))
        assert fetched[requests.Fetch, True] == 8  # the first created the group
        engine.apply(call(requests.Fetch, force_deliver=True, **fetch))
        engine.apply(call(requests.Fetch, **fetch))
        before = digest(engine.connection)
        with pytest.raises(LimitReached):
            engine.apply(call(requests.Fetch, **fetch))
        assert digest(engine.connection) == before
        assert fetched[requests.Fetch, True] == 8
