"""The writer of a broker on a file: commits together, fails alone, leases nothing to the dead."""

import asyncio
import contextlib
import random
import sqlite3
import threading
import time

import orjson
import pytest
from calls import call
from direct import client_of
from waiting import until

from mq9 import (
    BrokerFailed,
    LimitReached,
    MailboxFull,
    MailboxNotFound,
    NotConnected,
    OutcomeUnknown,
    PayloadTooLarge,
    Unavailable,
)
from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SteadyClock, SystemClock
from mq9.engine.commands import Limits
from mq9.protocol.requests import Ack, CreateMailbox, Fetch, Move, Nack, Query, Send, Status
from mq9.storage import store
from mq9.storage import writer as writers
from mq9.storage.backend import Derived, InlineBackend
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability
from mq9.testing import ManualClock

BEGUN = call(Send, "inbox", payload=b"begun")
FETCH = call(Fetch, "inbox", group_name="g", consumer="c")


class Follower:
    """What is derived from the engine's state: asked after each command, on the writer's thread."""

    def __init__(self):
        self._begun, self._may_go_on = threading.Event(), threading.Event()
        self._may_go_on.set()
        self.on_follow = lambda: None

    def open(self, connection):
        """Keep the writer's connection, and let it not wait for locks as long as it would."""
        self.writer = connection
        connection.execute("PRAGMA busy_timeout=50")

    def follow(self, _connection):
        self._begun.set()
        self._may_go_on.wait(60)
        self.on_follow()

    @contextlib.asynccontextmanager
    async def writer_stopped(self, backend, command=BEGUN):
        """Inside, the writer has carried out a command and cannot commit it; the command's task."""
        self._begun.clear()
        self._may_go_on.clear()
        task = asyncio.create_task(backend.run(command))
        try:
            await until(self._begun.is_set)
            yield task
        finally:
            self._may_go_on.set()
            await asyncio.wait([task])


def make(path, follower=None, *, clock=None, limits=Limits(), on_news=lambda _: None, **options):
    derived = None if follower is None else Derived(follower.open, follower.follow)
    clock = clock or SteadyClock(ManualClock())
    # With a follower, which may stop it, the writer is the thread alone.
    durability = Durability.NORMAL if follower is None else Durability.FULL
    return FileBackend(path, clock, limits, durability, on_news, derived, **options)


@pytest.fixture
def follower():
    return Follower()


@pytest.fixture
async def backend(path, follower):
    backend = make(path, follower)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    yield backend
    await backend.close()


@pytest.fixture
def other(path):
    """Another program's connection to the file, which may lock it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


async def send(backend, *payloads):
    return [await backend.run(call(Send, "inbox", payload=payload)) for payload in payloads]


async def texts(backend):
    return [one.payload.decode() for one in (await backend.read(call(Query, "inbox"))).messages]


async def leased(backend):
    """How many messages the group holds, once all that was asked for is done."""
    await send(backend, b"")
    await send(backend, b"")  # what the first made the writer take back is taken back
    status = await backend.read(call(Status, "inbox", group_name="g"))
    return sum(one.count for one in status.group.leased)


async def queued(backend, commands):
    """Begin commands; their tasks, each of which has queued its own on its first turn."""
    tasks = [asyncio.create_task(backend.run(command)) for command in commands]
    await asyncio.sleep(0)
    return tasks


async def test_what_has_queued_up_is_committed_together_and_in_order(path, other, follower):
    backend = make(path, follower, timer=lambda: 0)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    seen = []
    async with follower.writer_stopped(backend):
        follower.on_follow = lambda: seen.extend(other.execute("SELECT count(*) FROM messages"))
        tasks = await queued(backend, [call(Send, "inbox", payload=b"%d" % n) for n in range(50)])
    assert await asyncio.gather(*tasks) == list(range(1, 51))
    assert seen == [(0,), (1,)]  # one commit has the first, and another one all the others
    assert await texts(backend) == ["begun", *map(str, range(50))]
    await backend.close()


async def test_a_command_that_was_kept_waiting_does_not_put_its_asker_back(backend, follower):
    others = [BEGUN] * 400
    async with follower.writer_stopped(backend):
        tasks = [asyncio.create_task(backend.run(one, "another")) for one in others]
        mine = asyncio.create_task(backend.run(BEGUN))
        await asyncio.sleep(0)  # each queues its command on its first turn
        since = time.perf_counter()
        await until(lambda: time.perf_counter() - since > 0.1)
    assert await mine < 200
    await asyncio.gather(*tasks)


async def test_a_refused_command_changes_nothing_of_its_neighbours(backend, caplog, follower):
    commands = [
        call(Send, "inbox", payload=b"before"),
        call(Send, "nowhere", payload=b""),
        call(Send, "inbox", payload=b"x" * (Limits().max_payload + 1)),
        call(CreateMailbox, "broken", token=None),  # no engine takes this
        call(Send, "\ud800"),  # nor this
        call(Send, "inbox", payload=b"after"),
    ]
    async with follower.writer_stopped(backend):
        tasks = await queued(backend, commands)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [
        int,
        MailboxNotFound,
        PayloadTooLarge,
        BrokerFailed,
        BrokerFailed,
        int,
    ]
    assert await texts(backend) == ["begun", "before", "after"]
    assert "CreateMailbox failed unexpectedly" in caplog.text


async def test_what_a_refused_command_had_already_done_is_undone(path, follower):
    backend = make(path, follower, limits=Limits(max_bytes=100))
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    commands = [
        call(Send, "inbox", payload=b"older", key="k"),
        call(Send, "inbox", payload=b"x" * 101, key="k"),  # would first replace the older
        call(Send, "inbox", payload=b"after"),
    ]
    async with follower.writer_stopped(backend):
        tasks = await queued(backend, commands)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, MailboxFull) for one in outcomes] == [False, True, False]
    assert outcomes[2] == outcomes[0] + 1
    assert await texts(backend) == ["begun", "older", "after"]
    await backend.close()


async def test_no_more_than_the_queue_holds_is_accepted(path, monkeypatch, follower):
    monkeypatch.setattr(writers, "_MOST_QUEUED", 10)
    backend = make(path, follower)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    async with follower.writer_stopped(backend):
        tasks = await queued(backend, [call(Send, "inbox", payload=b"") for _ in range(13)])
        await until(lambda: sum(task.done() for task in tasks) == 3)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, LimitReached)]
    assert [str(one) for one in refused] == ["the broker is busy: 10 requests are queued"] * 3
    assert [one for one in outcomes if isinstance(one, int)] == list(range(1, 11))
    await backend.close()


async def test_a_fetch_cancelled_in_the_queue_leases_nothing(backend, follower):
    await send(backend, b"task")
    async with follower.writer_stopped(backend):
        [task] = await queued(backend, [FETCH])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await leased(backend) == 0


async def test_a_fetch_cancelled_while_it_is_carried_out_leases_nothing(backend, follower):
    await send(backend, b"task")
    async with follower.writer_stopped(backend, FETCH) as task:
        task.cancel()
    assert task.cancelled()
    assert await leased(backend) == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (call(Send, "inbox", payload=b"more"), ["inbox"]),
        (call(Nack, "inbox", group_name="g", consumer="c", msg_id=0), ["inbox"]),
        (call(CreateMailbox, "other", token="second"), [None]),
        (call(Move, "inbox", group_name="g", consumer="c", msg_id=0, to="dead"), [None]),
        (call(Ack, "inbox", group_name="g", consumer="c", msg_id=0), []),
    ],
    ids=lambda one: type(one.request).__name__ if hasattr(one, "request") else "",
)
async def test_of_what_nobody_waits_for_those_are_told_whom_the_verb_wakes(
    path, follower, command, told
):
    heard = []
    backend = make(path, follower, on_news=heard.append)
    for name in ("inbox", "dead"):
        await backend.run(call(CreateMailbox, name, token=name[:1]))
    await send(backend, b"task")
    await backend.run(FETCH)
    async with follower.writer_stopped(backend, command) as task:
        task.cancel()
    assert task.cancelled()
    await backend.close()
    assert heard == told


async def test_a_fetch_cancelled_when_its_reply_is_there_but_not_yet_taken_leases_nothing(
    backend, other
):
    await send(backend, b"task")
    [task] = await queued(backend, [FETCH])
    # While this loop is held up, another gets an answer, and so this one has got its own before.
    another = threading.Thread(target=asyncio.run, args=(send(backend, b"more"),))
    another.start()
    another.join()
    assert other.execute("SELECT 1 FROM replies").fetchone()
    asyncio.get_running_loop().call_soon(task.cancel)  # behind the reply, before the task goes on
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await leased(backend) == 0


async def test_a_cancelled_fetch_leaves_what_its_consumer_held_before(backend, follower):
    await send(backend, b"task")
    held = await backend.run(FETCH)
    async with follower.writer_stopped(backend):
        [task] = await queued(backend, [FETCH])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    ack = call(Ack, "inbox", group_name="g", msg_id=0, consumer="c", batch=held.batch)
    assert await backend.run(ack) == (0,)


async def test_a_fetch_of_a_loop_that_was_closed_leases_nothing(backend, caplog, follower):
    await send(backend, b"task")

    def ask_and_go():
        loop = asyncio.new_event_loop()
        task = loop.create_task(backend.run(FETCH))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return task

    async with follower.writer_stopped(backend):
        task = await asyncio.to_thread(ask_and_go)
    assert await leased(backend) == 0
    task.get_coro().close()


async def test_whenever_a_fetch_is_cancelled_it_either_returned_or_leased_nothing(way):
    """Through client and service, with the reply's extras, at every turn and in between."""
    dice = random.Random(1)
    client = await way.client(request_timeout=60)
    await client.mailbox_create(name="inbox")
    await client.fetch("inbox", group_name="g", max_wait_ms=0)
    held = returned = 0

    async def fetch():
        with client.watch_unread("inbox", "g"):
            return await client.fetch(
                "inbox", group_name="g", num_msgs=1, max_wait_ms=1_000, redeliver_own=False
            )

    for number in range(150):
        task = asyncio.create_task(fetch())
        for _ in range(dice.randint(0, 5)):
            await asyncio.sleep(0)
        sending = asyncio.create_task(client.send("inbox", "task"))
        if number % 2:
            for _ in range(number // 2 % 40):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(dice.random() * 0.006)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            returned += len(await task)
        await sending
        # Twice: what was to be taken back after the first has been before the second.
        await client.mailbox_create(name="inbox", renew=True)
        await client.mailbox_create(name="inbox", renew=True)
        group = (await client.mailbox_status("inbox", group_name="g")).group
        held = sum(one.count for one in group.leased)
        assert held == returned
    assert 0 < returned < 150


async def test_closing_finishes_what_was_accepted(path, follower):
    backend = make(path, follower)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    async with follower.writer_stopped(backend):
        tasks = await queued(backend, [call(Send, "inbox", payload=b"%d" % n) for n in range(20)])
        closing = [asyncio.create_task(backend.close()) for _ in range(2)]
        await asyncio.sleep(0)  # each queues its command on its first turn
    assert await asyncio.gather(*tasks) == list(range(1, 21))
    await asyncio.gather(*closing)
    await backend.close()
    with pytest.raises(NotConnected):
        await send(backend, b"too late")
    with pytest.raises(NotConnected):
        await texts(backend)
    again = make(path)
    assert len(await texts(again)) == 21
    await again.close()


async def test_closing_that_is_cancelled_still_lets_go(path, follower):
    backend = make(path, follower)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    async with follower.writer_stopped(backend):
        closing = asyncio.create_task(backend.close())
        await asyncio.sleep(0)  # each queues its command on its first turn
        closing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert list(path.parent.iterdir()) == [path]  # SQLite has it open no more


async def test_a_request_that_meets_the_closing_is_answered_or_refused(path):
    """From other threads, with loops of their own."""
    sent = []

    async def hammer(backend):
        with contextlib.suppress(NotConnected):
            await backend.run(call(CreateMailbox, "inbox", token="first", renew=True))
            while True:
                sent.extend(await send(backend, b""))

    for count in range(20):
        backend = make(path)
        before = len(sent)
        threads = [
            threading.Thread(target=asyncio.run, args=(asyncio.wait_for(hammer(backend), 30),))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        await until(lambda enough=before + count: len(sent) >= enough)
        await backend.close()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    again = make(path)
    assert (await again.read(call(Status, "inbox"))).stored == len(sent)
    await again.close()


async def test_a_full_disk_is_told_and_over_when_there_is_room_again(backend, path, follower):
    await send(backend, b"kept")
    (pages,) = follower.writer.execute("PRAGMA page_count").fetchone()
    follower.writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(BrokerFailed, match=r"full; nothing of this request was stored"):
        await send(backend, b"x" * 100_000)
    assert await texts(backend) == ["kept"]
    follower.writer.execute("PRAGMA max_page_count=100000")
    assert await send(backend, b"y" * 100_000) == [1]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


async def test_a_disk_that_takes_no_more_of_the_log_is_told_and_harms_nothing(backend, path):
    resource = pytest.importorskip("resource")
    await send(backend, b"kept")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + 10_000, limits[1]))
    try:
        with pytest.raises(BrokerFailed, match="nothing of this request was stored"):
            await send(backend, b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await texts(backend) == ["kept"]
    assert await send(backend, b"more") == [1]
    assert await texts(backend) == ["kept", "more"]


async def test_a_mistake_is_told_to_who_asked_and_the_writer_goes_on(backend, follower, caplog):
    def fail():
        raise RuntimeError("a mistake")

    follower.on_follow = fail
    with pytest.raises(BrokerFailed, match="the broker failed; nothing of this request was stored"):
        await send(backend, b"lost")
    assert "RuntimeError: a mistake" in caplog.text

    follower.on_follow = lambda: None
    assert await send(backend, b"kept") == [0]
    assert await texts(backend) == ["kept"]


async def test_an_inline_broker_tells_of_a_full_disk_too(path):
    connection = store.open_file(path)
    backend = InlineBackend(connection, SteadyClock(ManualClock()), Limits())
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(BrokerFailed, match="nothing of this request was stored"):
        await send(backend, b"x" * 100_000)
    connection.execute("PRAGMA max_page_count=100000")
    assert await send(backend, b"x" * 100_000) == [0]
    await backend.close()


async def test_a_file_that_another_process_keeps_locked_is_told(backend, other):
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked; nothing of this request was stored"):
        await send(backend, b"")
    assert await texts(backend) == []  # reading is not stopped
    other.execute("ROLLBACK")
    assert await send(backend, b"") == [0]


async def test_a_storage_that_refused_a_write_counts_as_failing_for_ten_seconds(
    path, other, follower
):
    clock = ManualClock()
    broker = EmbeddedBroker(
        lambda steady, on_news: make(path, follower, clock=steady, on_news=on_news), clock
    )

    async def create(name):
        body = f'{{"name":"{name}"}}'.encode()
        reply = await broker.handle(
            PublishedRequest("$mq9.AI.MAILBOX.CREATE", body, (), BrokerSession("s"))
        )
        return orjson.loads(reply).get("code", "ok")

    other.execute("BEGIN IMMEDIATE")
    assert await create("one") == "unavailable"
    with pytest.raises(Unavailable, match="refused"):
        await broker.check()
    await clock.advance(9.999)
    with pytest.raises(Unavailable, match="refused"):
        await broker.check()
    await clock.advance(0.001)
    await broker.check()
    assert await create("one") == "unavailable"
    other.execute("ROLLBACK")
    assert await create("one") == "ok"
    await broker.check()
    assert (await broker.totals()).mailboxes == 1
    await broker.close()


async def test_a_broker_whose_storage_fails_can_be_closed(path, other, follower):
    backend = make(path, follower)
    other.execute("BEGIN IMMEDIATE")
    await backend.close()
    other.execute("ROLLBACK")
    other.close()
    assert list(path.parent.iterdir()) == [path]  # which the last to close it leaves so


async def test_only_what_others_write_is_news_and_only_while_somebody_waits(path):
    news = threading.Event()
    backend, neighbour = make(path, on_news=lambda _: news.set()), make(path)
    await backend.run(call(CreateMailbox, "inbox", token="first"))
    backend.watch(True)
    # Between two commits the writer looks for news.
    await send(backend, b"our own", b"and another")
    assert not news.is_set()
    await send(neighbour, b"theirs")
    assert await asyncio.to_thread(news.wait, 10)
    backend.watch(False)
    await send(backend, b"the writer", b"has noticed that nobody waits")
    news.clear()
    await send(neighbour, b"unseen")
    await send(backend, b"the writer", b"has been there since")
    assert not news.is_set()
    backend.watch(True)
    assert await asyncio.to_thread(news.wait, 10)
    await backend.close()
    await neighbour.close()


async def test_a_waiter_is_told_when_the_broker_closes(way):
    client = await way.client()
    await client.mailbox_create(name="inbox")
    waiting = await way.begin(client.fetch("inbox", group_name="g", max_wait_ms=60_000))
    await way.broker.close()
    with pytest.raises(NotConnected):
        await waiting


async def test_a_reader_does_not_wait_for_the_writer(backend, follower):
    await send(backend, b"stored")
    async with follower.writer_stopped(backend):
        assert await texts(backend) == ["stored"]


async def test_a_client_that_gives_up_waiting_for_the_writer_has_leased_nothing(path, other):
    broker = EmbeddedBroker.on_file(path, SystemClock())
    async with client_of(broker, closes=True) as client:
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "task")
        hasty = client_of(broker, request_timeout=0.05, reconnect_attempts=0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutcomeUnknown, match=r"no reply to .* within 0.05 s"):
            await hasty.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=0)
        other.execute("ROLLBACK")
        [message] = await client.fetch("inbox", group_name="g", deliver="earliest")
        assert message.delivery_count == 1
