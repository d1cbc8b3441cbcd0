"""Engines with the same log reach the same state and the same outcomes.

They differ in everything that must not matter:

- the layout of their files,
- reads in between,
- the number of entries in a commit,
- SQLite's statistics,
- the order of rows without ORDER BY,
- restarts from copies of a file,
- hash seeds.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from calls import call

from mq9.discovery import search, text_search
from mq9.discovery.index import AGENT_INDEX
from mq9.engine import codec, commands, machine
from mq9.engine.commands import ANYBODY, Call, Entry
from mq9.engine.messages import Outdated
from mq9.engine.state import digest, position
from mq9.errors import AgentNotFound, MailboxNotFound, Mq9Error, Unavailable
from mq9.models import Deliver
from mq9.protocol import requests
from mq9.storage import store

from .random_calls import ADDRESSES, AGENTS, COMMANDS, GROUPS, WORDS, RandomCalls

LENGTH = 400  # entries of a log
LOGS = 50


def compared(outcome):
    """Return the parts of an outcome that are equal on all replicas."""
    assert not isinstance(outcome.error, Unavailable), "a mistake of the engine's"
    return outcome.value, type(outcome.error), str(outcome.error), outcome.now_ms


class Replica:
    """An engine on a database in memory that applies a log."""

    def __init__(self):
        self.connection = self.open()
        AGENT_INDEX.open(self.connection)

    def open(self):
        return store.open_memory()

    def apply(self, *entries):
        """Apply entries in one transaction, and return their outcomes for comparison."""
        self.connection.execute("BEGIN IMMEDIATE")
        applying = machine.Applying(self.connection)
        outcomes = [
            applying.apply(Entry(index, now_ms, codec.decode_call(data)))
            for index, now_ms, data in entries
        ]
        AGENT_INDEX.follow(self.connection)
        applying.finish()
        self.connection.execute("COMMIT")
        return [compared(one) for one in outcomes]

    def digest(self):
        """Return the digest of the state."""
        return digest(self.connection)

    def close(self):
        """Close the database."""
        self.connection.close()


class Leader(Replica):
    """A replica that checks whether an entry was needed, because its call changes something."""

    def __init__(self):
        super().__init__()
        self.unneeded = 0

    def apply(self, entry):
        asked = codec.decode_call(entry[2])
        answer = machine.answer(self.connection, asked, entry[1])
        changes = self.connection.total_changes
        outcomes = super().apply(entry)
        if answer is not None:
            assert [compared(answer)] == outcomes, asked
            assert self.connection.total_changes == changes + 1, asked  # the position
            self.unneeded += 1
        return outcomes


class OnFile(Replica):
    """A replica on a file with a given page size."""

    def __init__(self, path, page_size):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.execute("PRAGMA journal_mode=WAL")  # writes the first page
        self.path = path
        super().__init__()
        assert self.connection.execute("PRAGMA page_size").fetchone() == (page_size,)

    def open(self):
        connection = store.open_file(self.path)
        connection.execute("PRAGMA synchronous=OFF")
        return connection


class ReadInBetween(OnFile):
    """A replica with reads of all kinds between the entries, on two connections."""

    def __init__(self, path, page_size, dice):
        super().__init__(path, page_size)
        # Rows without ORDER BY come in reverse order.
        self.connection.execute("PRAGMA reverse_unordered_selects=ON")
        self._dice = dice
        self._reader = store.open_reader(path)

    def apply(self, *entries):
        outcomes = super().apply(*entries)
        connection = self._dice.choice([self.connection, self._reader, None])
        if connection is not None:
            connection.execute("BEGIN")
            self._look(connection, entries[-1][1])
            connection.execute("ROLLBACK")
        if self._dice.random() < 0.02:
            self._maintain()
        return outcomes

    def _look(self, connection, now):
        address, group = self._dice.choice(ADDRESSES), self._dice.choice(GROUPS)
        fetch = requests.Fetch(group_name=group, max_wait_ms=0)
        read = requests.Fetch(deliver=self._dice.choice([Deliver.EARLIEST, Deliver.NEW]))
        cards = search.PageRequest(1, 5, ANYBODY)
        looks = [
            lambda: machine.answer(connection, Call(fetch, address), now),
            lambda: self._discover(connection, cards, now),
            lambda: search.page_of_all(connection, cards, now),
            *(
                lambda request=request: machine.read(connection, Call(request, address), now)
                for request in (
                    requests.Status(group_name=group, msg_id=self._dice.randint(0, 9)),
                    requests.Query(limit=3, tags=self._dice.choice([(), ("x",)])),
                    requests.ListPublic(),
                    requests.QueryUnread(group_name=group, generation="token1"),
                    commands.Peek(fetch=read),
                    commands.WhyEmpty(group_name=group),
                    commands.CountUnread(group_name=group),
                    commands.CountAll(),
                    commands.AgentKeys(),
                    commands.IsRegistered(name="ada"),
                )
            ),
        ]
        with suppress(Mq9Error, Outdated):
            self._dice.choice(looks)()

    def _discover(self, connection, cards, now):
        question = self._dice.choice([*WORDS, *AGENTS])
        ranking = text_search.ranked(connection, question)
        return search.page_of_ranking(connection, ranking, cards, now)

    def _maintain(self):
        """Do what a node does for itself."""
        self.connection.execute("ANALYZE")
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.connection.execute("DROP TABLE agents_index")
        AGENT_INDEX.open(self.connection)

    def close(self):
        self._reader.close()
        super().close()


class Restarted(OnFile):
    """A replica that sometimes continues with a copy of its file, taken while that is in use."""

    def __init__(self, path, page_size, dice):
        super().__init__(path, page_size)
        self._dice = dice
        self._copies = 0

    def apply(self, *entries):
        outcomes = super().apply(*entries)
        if self._dice.random() < 0.02:
            self._copies += 1
            copy = self.path.with_name(f"copy{self._copies}.db")
            for suffix in ("", "-wal"):
                shutil.copy(f"{self.path}{suffix}", f"{copy}{suffix}")
            self.close()
            self.path = copy
            self.connection = self.open()
        return outcomes


def play(seed, length, directory):
    """Apply a random log to three engines, and compare them after every entry.

    Returns:
        The log, and the digest after every entry.
    """
    dice = random.Random(seed)
    calls = RandomCalls(dice)
    leader = Leader()
    read = ReadInBetween(directory / "read.db", 512, dice)
    restarted = Restarted(directory / "restarted.db", 16_384, dice)
    log, digests, outcomes = [], [], []
    index = 0
    try:
        for _ in range(length):
            index += dice.choice([1, 1, 1, 5])
            asked = calls.call()
            log.append((index, calls.instant(), codec.encode_call(asked)))
            assert repr(codec.decode_call(log[-1][2])) == repr(asked)
            outcomes += leader.apply(log[-1])
            calls.learn(asked, outcomes[-1][0])
            digests.append(leader.digest())
            where = f"seed {seed}, entry {len(log)}: {asked}"
            assert read.apply(log[-1]) == outcomes[-1:], where
            assert read.digest() == digests[-1], where
            if dice.random() < 0.2:
                assert restarted.apply(*log[-len(outcomes) :]) == outcomes, where
                assert restarted.digest() == digests[-1], where
                outcomes.clear()
    finally:
        for one in (leader, read, restarted):
            one.close()
    return log, digests


def test_the_random_calls_are_of_every_command():
    assert COMMANDS.keys() == machine.COMMANDS.keys()


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(LOGS))
def test_engines_on_one_log_agree_after_every_entry(tmp_path, scale, seed):
    """Play 20 000 entries altogether, and a million if MQ9_TEST_SCALE is 10."""
    for number in range(1 if scale == 1 else 5 * scale):
        directory = tmp_path / f"{number}"
        directory.mkdir()
        play(f"{seed}.{number}", LENGTH, directory)
        shutil.rmtree(directory)


@pytest.mark.quick
@pytest.mark.programs
def test_a_program_with_another_hash_seed_comes_to_the_same(tmp_path):
    """As after a restart: a log gives the same state for every order of sets."""
    log, digests = play("program", LENGTH, tmp_path)
    lines = [f"{index} {now_ms} {data.hex()}\n" for index, now_ms, data in log]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "engine.replay"],
            input="".join(lines),
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == digests


@pytest.fixture
def engine():
    """An engine for calls at given instants."""

    class Engine:
        """An engine that applies each call as the next entry."""

        def __init__(self):
            self.connection = store.open_memory()

        def at(self, now_ms, call):
            applied = position(self.connection).applied
            outcome = machine.apply(self.connection, Entry(applied + 1, now_ms, call))
            assert outcome.now_ms == position(self.connection).now_ms
            return outcome

    engine = Engine()
    yield engine
    engine.connection.close()


def test_what_has_expired_is_over_when_the_clock_goes_back(engine):
    engine.at(0, call(requests.CreateMailbox, ttl=1))
    engine.at(0, call(requests.CreateMailbox, "other"))
    engine.at(0, call(requests.Send, "other", ttl=1))
    engine.at(0, call(requests.Register, "cook", name="cook", payload=b"{}", ttl=1))
    engine.at(1_000, call(commands.Advance, "other"))
    for now in (999, 0):
        assert isinstance(engine.at(now, call(requests.Send)).error, MailboxNotFound)
        fetch = call(requests.Fetch, "other", group_name="g", consumer="one")
        assert engine.at(now, fetch).value.messages == ()
        report = call(requests.Report, "", name="cook", payload=b"{}")
        assert isinstance(engine.at(now, report).error, AgentNotFound)


def test_what_has_fallen_due_stays_so_when_the_clock_goes_back(engine):
    engine.at(0, call(requests.CreateMailbox))
    engine.at(0, call(requests.Send, delay=1))
    engine.at(1_000, call(commands.Advance))
    sent = engine.at(500, call(requests.Send))
    assert (sent.value, sent.now_ms) == (1, 1_000)
    fetched = engine.at(0, call(requests.Fetch, group_name="g", consumer="one"))
    assert [one.msg_id for one in fetched.value.messages] == [0, 1]


def test_a_lease_lasts_as_long_as_later_entries_take(engine):
    """A lease from a clock that is behind begins at the instant of the previous entry."""
    fetch = {"group_name": "g", "lease_ms": 1_000, "redeliver_own": False}
    engine.at(0, call(requests.CreateMailbox))
    engine.at(0, call(requests.Send))
    engine.at(10_000, call(commands.Advance))
    fetched = engine.at(4_000, call(requests.Fetch, consumer="one", **fetch))
    assert fetched.value.lease_until == 11.0
    for now, given in [(9_000, 0), (10_999, 0), (3_000, 0), (11_000, 1), (11_500, 0)]:
        again = engine.at(now, call(requests.Fetch, consumer="two", **fetch))
        assert len(again.value.messages) == given, now


def test_mailboxes_that_are_removed_in_parts_are_so_everywhere_alike(tmp_path):
    """More messages, groups and ids than one entry removes."""
    dice = random.Random("parts")
    replicas = [Replica(), ReadInBetween(tmp_path / "read.db", 512, dice)]
    calls = [call(requests.CreateMailbox)]
    for number in range(700):
        calls += [call(requests.Send, id=f"{number}", key=f"{number % 500}")]
        if number % 100 == 0:
            calls += [call(requests.Fetch, group_name=f"{number}", consumer="one")]
    calls += [call(requests.DropMailbox), call(requests.CreateMailbox, token="bb")]
    calls += [Call(commands.Sweep(most=100))] * 20
    log = [(index, 0, codec.encode_call(one)) for index, one in enumerate(calls, 1)]
    try:
        for at in range(0, len(log), 10):
            one, other = (replica.apply(*log[at : at + 10]) for replica in replicas)
            assert one == other
            assert replicas[0].digest() == replicas[1].digest()
        left = replicas[0].connection.execute("SELECT count(*) FROM sent_ids").fetchone()
        assert left == (0,)
    finally:
        for one in replicas:
            one.close()
