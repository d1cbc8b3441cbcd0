"""How often a request is made whose broker fails, and after which pauses."""

import sqlite3
from contextlib import closing

import pytest

from mq9 import (
    BrokerFailed,
    Mq9Client,
    OutcomeUnknown,
    TooExpensive,
    Unavailable,
    Unreachable,
)
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.client.connection import Retries
from mq9.engine.commands import Limits
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport


def pauses(kind, *, is_repeatable=True, most=5):
    """Return the pauses after failures of one kind, and what the caller is told in the end."""
    retries = Retries(is_repeatable=is_repeatable, most=most, delay=2.0)
    found = []
    while True:
        try:
            found.append(retries.after(kind("why")))
        except Unavailable as told:
            return found, type(told)
        except Unreachable as told:
            return found, type(told)


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_what_was_not_done_is_asked_again_with_pauses_that_grow(is_repeatable):
    assert pauses(Unavailable, is_repeatable=is_repeatable) == (
        [0.25, 0.5, 1.0, 2.0, 2.0],
        Unavailable,
    )
    found, _ = pauses(Unavailable, most=1_000)
    assert len(found) == 1_000
    assert max(found) == 2.0


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_what_was_not_sent_is_sent_again_at_once_and_then_after_the_delay(is_repeatable):
    assert pauses(Unreachable, is_repeatable=is_repeatable) == (
        [0.0, 2.0, 2.0, 2.0, 2.0],
        Unreachable,
    )


def test_after_a_lost_reply_only_what_may_be_repeated_is():
    assert pauses(OutcomeUnknown) == ([0.0, 2.0, 2.0, 2.0, 2.0], OutcomeUnknown)
    assert pauses(OutcomeUnknown, is_repeatable=False) == ([], OutcomeUnknown)


@pytest.mark.parametrize("kind", [BrokerFailed, TooExpensive])
def test_what_would_fail_again_is_not_repeated(kind):
    assert pauses(kind) == ([], kind)


@pytest.mark.parametrize("kind", [BrokerFailed, Unreachable, Unavailable])
def test_once_a_reply_was_lost_the_outcome_is_unknown(kind):
    retries = Retries(is_repeatable=True, most=1, delay=0.0)
    retries.after(OutcomeUnknown("the reply was lost"))
    with pytest.raises(OutcomeUnknown, match="the reply was lost; since then the disk is full"):
        retries.after(kind("the disk is full"))


class Counted:
    """A broker on a file, and how often it is asked."""

    def __init__(self, path):
        self.database = store.open_file(path)
        self._broker = EmbeddedBroker(
            lambda steady, _: InlineBackend(self.database, steady, Limits()), ManualClock()
        )
        self.clock = self._broker.clock
        self.asked = 0

    async def carry_out(self, request):
        self.asked += 1
        return await self._broker.carry_out(request)

    def client(self):
        transport = DirectTransport(self, BrokerSession("c"), self._broker.close)
        return Mq9Client(transport=transport, reconnect_delay=0.0)


async def test_a_full_disk_is_asked_once(tmp_path):
    counted = Counted(tmp_path / "mq9.db")
    async with counted.client() as client:
        await client.mailbox_create(name="inbox")
        (pages,) = counted.database.execute("PRAGMA page_count").fetchone()
        counted.database.execute(f"PRAGMA max_page_count={pages}")
        counted.asked = 0
        with pytest.raises(BrokerFailed, match="full; nothing of this request was stored"):
            await client.send("inbox", "x" * 100_000)
        assert counted.asked == 1
        counted.database.execute("PRAGMA max_page_count=100000")
        assert await client.send("inbox", "x" * 100_000) == 0


async def test_a_file_that_is_locked_for_a_moment_is_asked_again(tmp_path):
    counted = Counted(tmp_path / "mq9.db")
    counted.database.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(tmp_path / "mq9.db", isolation_level=None)) as other:
        async with counted.client() as client:
            await client.mailbox_create(name="inbox")
            other.execute("BEGIN IMMEDIATE")
            counted.asked = 0
            with pytest.raises(Unavailable, match="locked; nothing of this request") as refusal:
                await client.mailbox_drop("inbox")  # it would not be repeated after a lost reply
            assert type(refusal.value) is Unavailable
            assert counted.asked == 6
            other.execute("ROLLBACK")
            await client.mailbox_drop("inbox")
