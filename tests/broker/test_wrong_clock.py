"""One process with a wrong clock on a file: it does not end the TTLs of the others."""

import logging
from contextlib import asynccontextmanager

import pytest
from direct import client_of

from mq9 import MailboxNotFound
from mq9.broker.embedded import EmbeddedBroker
from mq9.storage import store
from mq9.testing import ManualClock

START = 1_800_000_000
DAY = 86_400
YEARS = 30 * 365 * DAY


@asynccontextmanager
async def opened(path, at, name="c"):
    """A client of a broker on the file, on a clock of its own."""
    broker = EmbeddedBroker.on_file(path, ManualClock(at))
    async with client_of(broker, name, closes=True) as client:
        client.broker = broker
        yield client


async def store_mail(client):
    await client.mailbox_create(name="inbox", ttl=DAY)
    await client.send("inbox", "an hour", ttl=3_600)
    await client.send("inbox", "for good")


async def texts(client):
    return [one.text for one in await client.query("inbox")]


async def test_a_clock_that_is_years_ahead_ends_nothing_and_is_told(path, caplog):
    async with opened(path, START) as right:
        await store_mail(right)
        async with opened(path, START + YEARS, "wrong") as wrong:
            assert await texts(wrong) == ["an hour", "for good"]
            await wrong.send("inbox", "of the wrong one", ttl=60)
            await wrong.broker.sweep()
            await wrong.fetch("inbox", group_name="g", max_wait_ms=0)
            assert wrong.broker.clock_offset_ms == -YEARS * 1000
            await right.clock.advance(10)
            assert await texts(right) == ["an hour", "for good", "of the wrong one"]
            created = {one.create_time for one in await right.query("inbox")}
            assert created == {START}
            assert right.broker.clock_offset_ms == 0
            await right.send("inbox", "later")
            await wrong.clock.advance(60)
            await wrong.broker.sweep()
            assert "of the wrong one" not in await texts(wrong)
            assert "an hour" in await texts(wrong)
    [said] = {one.getMessage() for one in caplog.records if one.levelno == logging.ERROR}
    assert str(path) in said
    assert "10,950 days after the last change" in said


async def test_a_month_during_which_the_file_was_closed_has_passed(path):
    async with opened(path, START) as client:
        await store_mail(client)
    async with opened(path, START + 30 * DAY) as client:
        with pytest.raises(MailboxNotFound):
            await texts(client)


async def test_programs_that_have_the_file_open_follow_when_its_time_is_set_back(path, caplog):
    async with opened(path, START + YEARS) as wrong:  # a new file has no time yet
        await store_mail(wrong)
    async with opened(path, START) as one, opened(path, START, "d") as other:
        assert await texts(one) == await texts(other) == ["an hour", "for good"]
        assert one.broker.clock_offset_ms == YEARS * 1000
        ahead = "10,950 days ahead of this machine's"
        assert ahead in caplog.text
        assert store.file_time(path, START * 1000).state is store.TimeState.AHEAD
        store.set_file_time(path, START * 1000)
        assert await texts(one) == ["an hour", "for good"]
        assert one.broker.clock_offset_ms == 0
        await other.send("inbox", "now")
        assert other.broker.clock_offset_ms == 0
        assert store.file_time(path, START * 1000) == (START * 1000, START * 1000)
        await one.clock.advance(3_600)
        assert await texts(one) == ["for good", "now"]


async def test_an_operator_confirms_that_years_have_passed(path):
    async with opened(path, START) as client:
        await store_mail(client)
    async with opened(path, START + YEARS) as client:
        assert await texts(client) == ["an hour", "for good"]
        assert store.file_time(path, (START + YEARS) * 1000).state is store.TimeState.HELD
        store.set_file_time(path, (START + YEARS) * 1000)
        with pytest.raises(MailboxNotFound):
            await texts(client)
        assert client.broker.clock_offset_ms == 0
