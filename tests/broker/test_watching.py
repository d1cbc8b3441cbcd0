"""Other processes are watched while somebody waits for mail, and nothing is missed at its begin."""

import asyncio

import pytest
from waiting import until

from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.waiters import Waiter
from mq9.client.client import Mq9Client
from mq9.clock import SystemClock
from mq9.storage import news
from mq9.storage.file_backend import FileBackend
from mq9.transport.direct import DirectTransport

URL = "sqlite:///{}/mq9.db"


@pytest.fixture
def watched(monkeypatch):
    """What the storage was told: True to watch other processes, False to stop."""
    told = []
    watch = FileBackend.watch

    def note(backend, watching):
        told.append(watching)
        watch(backend, watching)

    monkeypatch.setattr(FileBackend, "watch", note)
    return told


async def test_a_fetch_that_finds_mail_at_once_has_nobody_watched(tmp_path, watched):
    async with await Mq9Client.connect(URL.format(tmp_path)) as client:
        for name in ("full", "empty"):
            await client.mailbox_create(name=name)
        await client.send("full", "x")
        await client.fetch("full", group_name="g", deliver="earliest", max_wait_ms=60_000)
        await client.fetch("empty", group_name="g", max_wait_ms=0)
        assert watched == []
        waiting = asyncio.create_task(client.fetch("empty", group_name="g", max_wait_ms=60_000))
        await until(lambda: watched)
        await client.send("empty", "y")
        assert [one.text for one in await waiting] == ["y"]
        assert watched == [True, False]


async def test_mail_that_another_broker_stores_between_look_and_wait_is_found(
    tmp_path, monkeypatch
):
    """No look happens but the one when watching begins."""
    monkeypatch.setattr(news, "FALLBACK_S", 3_600.0)
    monkeypatch.setattr(news, "_SETTLED_S", 0.0)
    monkeypatch.setattr(news.FileEvents, "listen", lambda _self, _is_wanted: None)
    path = tmp_path / "mq9.db"
    other = EmbeddedBroker.on_file(path, SystemClock())
    session = BrokerSession("writer")
    async with (
        await Mq9Client.connect(URL.format(tmp_path)) as reader,
        Mq9Client(transport=DirectTransport(other, session, other.close)) as writer,
    ):
        await writer.mailbox_create(name="box")
        wait = Waiter.wait

        async def send_and_wait(waiter, *args, **options):
            monkeypatch.setattr(Waiter, "wait", wait)
            await writer.send("box", "in between")
            await wait(waiter, *args, **options)

        monkeypatch.setattr(Waiter, "wait", send_and_wait)
        async with asyncio.timeout(30):
            found = await reader.fetch(
                "box", group_name="g", deliver="earliest", max_wait_ms=60_000
            )
        assert [one.text for one in found] == ["in between"]
