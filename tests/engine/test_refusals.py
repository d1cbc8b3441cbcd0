"""A refused command leaves no effects."""

import random
from contextlib import closing

import pytest
from calls import call

from mq9.engine import machine
from mq9.engine.commands import Entry, Limits, SetLimits
from mq9.engine.state import digest
from mq9.errors import BrokerFailed, IdConflict, MailboxFull, MailboxNotFound
from mq9.protocol import requests
from mq9.storage import store

from .random_calls import RandomCalls

NOW = 1_700_000_000_000
LENGTH = 600
MAY_BE_REFUSED = {
    requests.Ack,
    requests.Cancel,
    requests.CreateMailbox,
    requests.Delete,
    requests.DropMailbox,
    requests.Extend,
    requests.Fetch,
    requests.GrantMailbox,
    requests.Move,
    requests.Nack,
    requests.Notify,
    requests.Register,
    requests.Report,
    requests.Send,
    requests.Unregister,
}


@pytest.fixture
def other():
    """Another connection."""
    with closing(store.open_memory()) as connection:
        yield connection


def apply(connection, *entries):
    """Apply entries in one transaction; return their outcomes."""
    connection.execute("BEGIN")
    applying = machine.Applying(connection)
    outcomes = [applying.apply(one) for one in entries]
    applying.finish()
    connection.execute("COMMIT")
    return outcomes


def state(connection):
    """Return the digest of the state without traces that refusals may leave."""
    connection.execute("BEGIN")
    connection.execute("UPDATE state SET applied=0, now_ms=0")
    connection.execute("UPDATE mailboxes SET evict_from=0")  # a refused SEND may move it
    digested = digest(connection)
    connection.execute("ROLLBACK")
    return digested


def test_what_is_refused_leaves_nothing_behind_among_others(connection, other):
    refused = set()
    for seed in range(5):
        dice = random.Random(seed)
        calls = RandomCalls(dice)
        index = machine.Applying(connection).position.applied
        while index < LENGTH * (seed + 1):
            entries = []
            for _ in range(dice.randint(1, 8)):
                index += 1
                entries.append(Entry(index, calls.instant(), calls.call()))
            for entry, outcome in zip(entries, apply(connection, *entries), strict=True):
                calls.learn(entry.call, outcome.value)
                if outcome.error is None:
                    apply(other, Entry(entry.index, outcome.now_ms, entry.call))
                else:
                    refused.add(type(entry.call.request))
            assert state(connection) == state(other), f"seed {seed}: {entries}"
    assert refused >= MAY_BE_REFUSED


def test_sends_that_are_refused_leave_nothing_behind_among_others(connection, other):
    made = [call(requests.CreateMailbox), call(SetLimits, limits=Limits(max_messages=4, max_ids=3))]
    sent = [
        call(requests.Send, id="one", payload=b"1"),
        call(requests.Send, id="one", payload=b"2"),
        call(requests.Send, id="one", payload=b"1"),
        call(requests.Send, key="k", agent="ada"),
        call(requests.Send, key="k", id="two"),
        call(requests.Send, id="two"),
        call(requests.Send, id="three"),
        call(requests.Send, id="four"),
        call(requests.Send, payload=b"x" * 2_000_000),
        call(requests.Send, "\ud800"),  # no database accepts this
        call(requests.Send),
    ]
    entries = [Entry(index, NOW, one) for index, one in enumerate([*made, *sent], 1)]
    outcomes = apply(connection, *entries)
    errors = [type(one.error).__name__ for one in outcomes[len(made) :]]
    assert errors == [
        *("NoneType", "IdConflict", "NoneType", "NoneType", "Forbidden"),
        *("NoneType", "NoneType", "LimitReached", "PayloadTooLarge", "BrokerFailed", "Full"),
    ]
    for entry, outcome in zip(entries, outcomes, strict=True):
        if outcome.error is None:
            apply(other, entry)
    assert state(connection) == state(other)


def test_a_mailbox_expires_between_sends_of_one_transaction(connection):
    made = Entry(1, NOW, call(requests.CreateMailbox, ttl=1))
    sent = [Entry(2 + late, NOW + 999 + late, call(requests.Send)) for late in (0, 1)]
    *_, in_time, late = apply(connection, made, *sent)
    assert in_time.value == 0
    assert isinstance(late.error, MailboxNotFound)


class TestACommandWithoutASavepoint:
    """A command that needs no undo."""

    @pytest.fixture
    def sending(self, connection, monkeypatch):
        """Apply a SEND that stores a message, and raises something afterwards or before."""
        apply(connection, Entry(1, NOW, call(requests.CreateMailbox)))

        def sending(error, *, before):
            def send(*args):
                if before:
                    raise error
                machine.COMMANDS[requests.Send](args[0], *args[2:])
                raise error

            monkeypatch.setitem(machine.UNGUARDED, requests.Send, send)
            return apply(connection, Entry(2, NOW, call(requests.Send)))

        return sending

    def test_that_is_refused_before_it_changes_anything(self, sending):
        error = IdConflict("no")
        [outcome] = sending(error, before=True)
        assert outcome.error is error

    @pytest.mark.parametrize("error", [MailboxFull("no"), ValueError("a mistake")])
    def test_that_fails_after_that_fails_with_all_of_its_transaction(
        self, connection, sending, error, caplog
    ):
        with pytest.raises(BrokerFailed, match="the broker failed"):
            sending(error, before=False)
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
        assert "Send failed unexpectedly" in caplog.text
