"""Entries of a log: their instants, their effects, and commands that need none."""

from contextlib import closing

import pytest
from calls import call

from mq9.clock import SteadyClock
from mq9.engine import machine
from mq9.engine.commands import Call, Entry, Limits, SetLimits, Sweep
from mq9.engine.machine import Applying
from mq9.engine.state import digest, position
from mq9.errors import InvalidRequest, MailboxExists, MailboxFull, MailboxNotFound
from mq9.protocol.requests import CreateMailbox, Fetch, Move, Register, Send, Status
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability
from mq9.testing import ManualClock

NOW = 1_800_000_000_000
HOUR = 3_600_000


@pytest.fixture
def connection():
    """A database with a mailbox, made by the first entry."""
    with closing(store.open_memory()) as connection:
        apply(connection, call(CreateMailbox), NOW)
        yield connection


def apply(connection, command, now, index=None):
    """Apply a command as the next entry, or as that of an index; the outcome."""
    index = index or position(connection).applied + 1
    return machine.apply(connection, Entry(index, now, command))


def test_how_far_the_state_has_come_is_kept_with_it(connection):
    assert position(connection) == (1, NOW)
    assert apply(connection, call(Send), NOW + 5, index=7).now_ms == NOW + 5
    assert position(connection) == (7, NOW + 5)


@pytest.mark.parametrize("index", [-1, 0, 1])
def test_an_entry_that_does_not_come_after_the_last_is_a_mistake(connection, index):
    before = digest(connection)
    with pytest.raises(ValueError, match=f"index: {index} does not come after 1"):
        machine.apply(connection, Entry(index, NOW, call(Send)))
    assert digest(connection) == before


def test_nothing_happens_before_what_has_happened(connection):
    apply(connection, call(CreateMailbox, "short", token="s", ttl=1), NOW)
    apply(connection, call(Send), NOW + 1_000)

    late = apply(connection, call(Send, "short"), NOW + 999)

    assert late.now_ms == NOW + 1_000
    assert isinstance(late.error, MailboxNotFound)
    assert position(connection) == (4, NOW + 1_000)


def test_a_refusal_leaves_what_was_there(connection):
    apply(connection, call(SetLimits, limits=Limits(max_bytes=100)), NOW)
    apply(connection, call(Send, payload=b"older", key="k"), NOW)
    rows = connection.execute("SELECT * FROM messages").fetchall()

    # Without the refusal it would have replaced the older one.
    refused = apply(connection, call(Send, payload=b"x" * 101, key="k", id="i"), NOW)

    assert isinstance(refused.error, MailboxFull)
    with pytest.raises(MailboxFull):
        refused.result()
    assert connection.execute("SELECT * FROM messages").fetchall() == rows
    assert connection.execute("SELECT count(*) FROM sent_ids").fetchone() == (0,)
    assert position(connection).applied == 4


def test_a_move_to_the_same_mailbox_is_refused(connection):
    apply(connection, call(Send), NOW)
    apply(connection, call(Fetch, group_name="g", consumer="c"), NOW)
    before = connection.execute("SELECT * FROM messages").fetchall()
    moved = apply(connection, call(Move, group_name="g", consumer="c", msg_id=0, to="box"), NOW)
    assert isinstance(moved.error, InvalidRequest)
    assert connection.execute("SELECT * FROM messages").fetchall() == before


@pytest.mark.parametrize(
    ("command", "error"), [(call(CreateMailbox), MailboxExists), (Call(Sweep()), None)]
)
def test_where_nobody_reads_the_log_what_changes_nothing_has_no_place(connection, command, error):
    before = digest(connection)
    applying = Applying(connection, keeps_all=False)
    outcome = applying.apply(Entry(2, NOW + 5, command))
    applying.finish()
    assert type(outcome.error) is (error or type(None))
    assert digest(connection) == before
    assert position(connection) == (1, NOW)


def test_what_the_broker_takes_is_set_by_an_entry(connection):
    narrow = Limits(max_messages=1)
    assert Applying(connection).limits == Limits()
    apply(connection, call(SetLimits, limits=narrow), NOW)
    assert Applying(connection).limits == narrow
    apply(connection, call(Send), NOW)
    assert isinstance(apply(connection, call(Send), NOW).error, MailboxFull)


def test_limits_hold_from_the_entry_that_sets_them(connection):
    applying = Applying(connection)
    outcomes = [
        applying.apply(Entry(2 + number, NOW, one))
        for number, one in enumerate(
            [call(Send), call(SetLimits, limits=Limits(max_messages=1)), call(Send)]
        )
    ]
    applying.finish()
    assert [one.error is None for one in outcomes] == [True, True, False]
    assert isinstance(outcomes[2].error, MailboxFull)


def test_each_sign_of_life_in_a_transaction_is_noted_at_its_instant(connection):
    apply(connection, call(Register, name="ada", payload=b"{}", ttl=10), NOW)
    applying = Applying(connection)
    for number in (1, 2, 3):
        applying.apply(Entry(2 + number, NOW + 1_000 * (number // 2), call(Send, agent="ada")))
    applying.finish()
    seen = connection.execute("SELECT seen_ms, expires_ms FROM agents").fetchone()
    assert seen == (NOW + 1_000, NOW + 11_000)


class TestAFileOfSeveral:
    """Brokers that share a file share its limits."""

    @pytest.fixture
    async def open_backend(self, tmp_path):
        opened = []

        def open_one(limits):
            clock = SteadyClock(ManualClock())
            backend = FileBackend(
                tmp_path / "mq9.db", clock, limits, Durability.NORMAL, lambda _: None
            )
            opened.append(backend)
            return backend

        yield open_one
        for backend in opened:
            await backend.close()

    async def test_the_limits_that_were_set_last_hold_for_all(self, open_backend):
        first = open_backend(Limits(max_messages=5))
        await first.run(call(CreateMailbox))
        await first.run(call(Send))
        open_backend(Limits(max_messages=1))
        with pytest.raises(MailboxFull, match="max_messages: 1 "):
            await first.run(call(Send))

    async def test_who_sets_none_leaves_them(self, open_backend):
        open_backend(Limits(max_messages=1))
        other = open_backend(None)
        await other.run(call(CreateMailbox))
        await other.run(call(Send))
        with pytest.raises(MailboxFull, match="max_messages: 1 "):
            await other.run(call(Send))


class TestWhatNeedsNoEntry:
    """A FETCH that finds nothing, and a sign of life that is already stored."""

    FETCH = call(Fetch, group_name="g", consumer="c")

    @pytest.fixture
    def clock(self):
        return ManualClock(NOW / 1000)

    @pytest.fixture
    async def backend(self, clock):
        self.connection = store.open_memory()
        backend = InlineBackend(self.connection, SteadyClock(clock), Limits())
        await backend.run(call(CreateMailbox))
        yield backend
        await backend.close()

    @property
    def applied(self):
        return position(self.connection).applied

    async def test_a_fetch_for_which_there_is_nothing(self, backend):
        made_the_group = await backend.run(self.FETCH)
        before = self.applied, digest(self.connection)
        assert await backend.run(self.FETCH) == made_the_group
        assert (self.applied, digest(self.connection)) == before

    async def test_a_fetch_for_which_there_is_something_has_one(self, backend):
        await backend.run(self.FETCH)
        before = self.applied
        await backend.run(call(Send))
        assert len((await backend.run(self.FETCH)).messages) == 1
        assert self.applied == before + 2

    async def test_a_lease_that_has_ended_is_something(self, backend, clock):
        await backend.run(call(Send))
        await backend.run(call(Fetch, group_name="g", consumer="one", lease_ms=2_000))
        assert (await backend.run(self.FETCH)).messages == ()
        await clock.advance(2)
        [message] = (await backend.run(self.FETCH)).messages
        assert message.delivery_count == 2

    async def test_a_group_is_noted_to_be_used_every_hour(self, backend, clock):
        await backend.run(self.FETCH)
        before = self.applied
        await clock.advance(HOUR / 1000 - 0.001)
        await backend.run(self.FETCH)
        assert self.applied == before
        await clock.advance(0.001)
        await backend.run(self.FETCH)
        assert self.applied == before + 1

    async def test_a_fetch_of_an_agent_is_a_sign_of_its_life(self, backend, clock):
        registered = call(Register, name="ada", payload=b"{}", ttl=10)
        await backend.run(registered)
        fetch = call(Fetch, agent="ada", group_name="g", consumer="c")
        await backend.run(fetch)
        before = self.applied
        await backend.run(fetch)
        assert self.applied == before
        await clock.advance(5)
        await backend.run(fetch)
        assert self.applied == before + 1


class RestlessClock(ManualClock):
    """A clock that advances by a second at each reading while ``runs`` is set."""

    runs = False

    def now_ms(self):
        if self.runs:
            self.set_back(-1)
        return super().now_ms()


async def test_a_read_is_answered_however_much_falls_due_meanwhile(tmp_path):
    clock = RestlessClock()
    backend = FileBackend(
        tmp_path / "mq9.db", SteadyClock(clock), None, Durability.NORMAL, lambda _: None
    )
    await backend.run(call(CreateMailbox))
    for ttl in range(1, 60):
        await backend.run(call(Send, ttl=ttl))
    clock.runs = True
    status = await backend.read(call(Status))
    clock.runs = False
    assert 0 < status.stored < 59
    await backend.close()


def test_pages_that_a_file_gives_back_are_in_no_outcome(tmp_path):
    with closing(store.open_file(tmp_path / "mq9.db")) as connection:
        apply(connection, call(CreateMailbox), NOW)
        for _ in range(20):
            apply(connection, call(Send, payload=b"x" * 1_000_000, ttl=1), NOW)
        assert apply(connection, Call(Sweep()), NOW + 1_000).value == 20
        assert store.give_back_pages(connection, 1_000) == 1_000
