"""A consumer in service: slow handlers, ending in time, counters and events, its name."""

import asyncio
import logging
import subprocess
import sys
import threading

import pytest

from mq9 import ConsumerEventKind, InvalidRequest, Mq9Client, Reject, Retry
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport
from tests.contract.reading import send_all
from tests.sdk.consuming import acked, consuming, held
from tests.waiting import until


class Stubborn:
    """A coroutine handler that swallows its cancellation until it is released."""

    def __init__(self):
        self.texts = []
        self.cancelled = 0
        self.release = asyncio.Event()

    async def __call__(self, message):
        self.texts.append(message.text)
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


class Blocked:
    """A plain handler that blocks its thread until it is released."""

    def __init__(self):
        self.texts = []
        self.release = threading.Event()

    def __call__(self, message):
        self.texts.append(message.text)
        self.release.wait(60)


@pytest.fixture
def blocked():
    blocked = Blocked()
    yield blocked
    blocked.release.set()


@pytest.fixture
async def stubborn():
    stubborn = Stubborn()
    yield stubborn
    stubborn.release.set()
    await asyncio.sleep(0)


async def test_a_coroutine_that_takes_too_long_is_cancelled_and_has_failed(broker, client, dead):
    ends, errors = [], []

    async def handle(message):
        try:
            await asyncio.Event().wait()
        finally:
            ends.append((broker.clock.now_ms() - start, message.delivery_count))

    await client.send("inbox", "x")
    start = broker.clock.now_ms()
    async with consuming(
        client,
        handle,
        handler_timeout=5,
        retry_delay=2,
        max_deliveries=2,
        dead_letter=dead,
        error_handler=lambda _, error: errors.append(error),
    ) as consumer:
        await broker.clock.advance(4.999)
        assert (ends, consumer.counters.in_flight) == ([], 1)
        await broker.clock.advance(0.001)
        assert ends == [(5_000, 1)]
        await broker.clock.advance(60)
        assert ends == [(5_000, 1), (12_000, 2)]
        assert (consumer.counters.failed, consumer.counters.overdue) == (2, 0)
        assert consumer.counters.dead_lettered == 1
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    [moved] = await client.query(dead)
    assert moved.moved.reason == "TimeoutError: the handler took longer than 5 s"


async def test_a_handler_that_is_in_time_is_left_alone(broker, client, handler):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler, handler_timeout=5) as consumer:
        await broker.clock.advance(4.999)
        handler.free.set()
        await broker.clock.advance(60)
        assert (consumer.counters.processed, consumer.counters.failed) == (1, 0)


async def test_a_coroutine_that_ignores_its_cancellation_keeps_its_slot(broker, client, stubborn):
    await send_all(client, "inbox", "stubborn", "next")
    async with consuming(client, stubborn, handler_timeout=5, retry_delay=60) as consumer:
        await broker.clock.advance(30)
        assert (stubborn.texts, stubborn.cancelled) == (["stubborn"], 1)
        assert (consumer.counters.failed, consumer.counters.overdue) == (1, 1)
        status = await client.mailbox_status("inbox", group_name="g")
        assert [one.consumer for one in status.group.leased] == [None]  # it waits for its retry
        stubborn.release.set()
        await broker.clock.advance(0)
        assert stubborn.texts == ["stubborn", "next"]
        assert consumer.counters.overdue == 0


async def test_a_thread_that_takes_too_long_keeps_its_slot_and_not_its_lease(
    broker, client, blocked
):
    await send_all(client, "inbox", "blocked", "next")
    async with consuming(client, blocked, handler_timeout=5, retry_delay=600) as consumer:
        await until(lambda: blocked.texts)
        await broker.clock.advance(5)
        await until(lambda: consumer.counters.overdue == 1)
        await broker.clock.advance(120)
        assert blocked.texts == ["blocked"]
        assert (consumer.counters.failed, consumer.counters.in_flight) == (1, 0)
        [other] = await client.fetch("inbox", group_name="g", max_wait_ms=0)
        assert other.text == "next"
        await client.nack("inbox", "g", other.msg_id)
        blocked.release.set()
        await until(lambda: consumer.counters.overdue == 0)
        await broker.clock.advance(0)
        await until(lambda: blocked.texts == ["blocked", "next"])
        await until(lambda: consumer.counters.processed == 1)
    assert await acked(client) == 1  # what the overdue call returned confirmed nothing


@pytest.mark.parametrize("is_in_time", [True, False])
async def test_what_does_not_finish_in_time_is_given_back_for_others_to_handle(
    broker, client, handler, is_in_time
):
    handler.free.clear()
    await send_all(client, "inbox", *map(str, range(3)))
    async with consuming(client, handler, concurrency=2) as consumer:
        stopping = asyncio.create_task(consumer.stop(timeout=10))
        await broker.clock.advance(9.999)
        assert not stopping.done()
        assert await held(client) == 2
        if is_in_time:
            handler.free.set()
        await broker.clock.advance(0.001)
        assert stopping.done()
        assert not consumer.is_running
        done = (consumer.counters.processed, consumer.counters.interrupted)
        assert done == ((2, 0) if is_in_time else (0, 2))
    taken = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    given_back = [] if is_in_time else [("0", 2), ("1", 2)]
    assert [(one.text, one.delivery_count) for one in taken] == [*given_back, ("2", 1)]


async def test_without_give_back_the_leases_run_out(broker, client, handler):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler, lease_ms=60_000) as consumer:
        await consumer.stop(timeout=0, give_back=False)
    assert await held(client) == 1
    assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []
    await broker.clock.advance(60)
    assert len(await client.fetch("inbox", group_name="g", max_wait_ms=0)) == 1


@pytest.mark.programs
def test_a_blocked_thread_does_not_keep_the_process_from_ending():
    program = (
        "import asyncio, time, mq9\n"
        "async def main():\n"
        "    async with mq9.Mq9Client('memory://x') as client:\n"
        "        await client.mailbox_create(name='inbox')\n"
        "        begun = asyncio.Event()\n"
        "        tell = asyncio.get_running_loop().call_soon_threadsafe\n"
        "        worker = await client.consume(\n"
        "            'inbox', lambda _: [tell(begun.set), time.sleep(3600)], stop_timeout=0\n"
        "        )\n"
        "        await client.send('inbox', 'x')\n"
        "        await begun.wait()\n"
        "    print(worker.counters.interrupted, worker.counters.overdue)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, timeout=60
    )
    assert done.stdout == b"1 1\n"


async def test_a_broker_that_does_not_answer_does_not_hold_up_the_end(broker, handler):
    handler.free.clear()
    async with (
        broker.client(reconnect_attempts=1_000, reconnect_delay=60) as client,
        broker.client() as another,
    ):
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "x")
        consumer = await client.consume("inbox", handler, group_name="g", deliver="earliest")
        await broker.clock.advance(0)
        handler.free.set()
        for _ in range(100):
            broker.lose_next_reply("MSG.ACK")
        await broker.clock.advance(0)
        stopping = asyncio.create_task(consumer.stop(timeout=10))
        await broker.clock.advance(13)
        assert stopping.done()
        assert await acked(another) == 1


@pytest.mark.parametrize("end", ["stopping", "leaving", "closing"])
@pytest.mark.parametrize("kind", ["stubborn", "blocked", "blocked error handler"])
async def test_every_end_is_bounded(broker, client, stubborn, blocked, end, kind):
    """Whatever handlers do; a client that is closed stops its consumers together."""
    own = broker.client()

    def fail(_message):
        raise ValueError("no")

    handler = {"stubborn": stubborn, "blocked": blocked}.get(kind, fail)
    consumers = []
    for number in range(1 if end != "closing" else 3):
        await client.send("inbox", f"{number}")
        consumer = await own.consume(
            "inbox",
            handler,
            group_name=f"g{number}",
            deliver="earliest",
            stop_timeout=20,
            error_handler=lambda message, _: blocked(message),
        )
        consumers.append(consumer)
    await broker.clock.advance(0)
    busy = stubborn if kind == "stubborn" else blocked
    await until(lambda: len(busy.texts) == len(consumers))

    async def leave():
        async with consumers[0]:
            pass

    ending = asyncio.create_task(
        {"stopping": consumers[0].stop, "leaving": leave, "closing": own.close}[end]()
    )
    await broker.clock.advance(19.999)
    assert not ending.done()
    await broker.clock.advance(3.001)
    assert ending.done()
    await own.close()
    for number in range(len(consumers)):
        taken = await client.fetch("inbox", group_name=f"g{number}", max_wait_ms=0)
        assert taken[0].delivery_count == 2


async def test_of_several_deadlines_the_earliest_holds(broker, client, handler):
    handler.free.clear()
    await client.send("inbox", "x")
    async with consuming(client, handler) as consumer:
        stopping = [asyncio.create_task(consumer.stop(timeout=seconds)) for seconds in (1_000, 50)]
        consumer.request_stop(timeout=5)  # without waiting
        assert consumer.is_running
        stopping.append(asyncio.create_task(consumer.wait()))
        await broker.clock.advance(5)
        assert all(task.done() for task in stopping)
    assert await held(client) == 0


@pytest.mark.parametrize(("name", "value"), [("timeout", -1), ("timeout", "1"), ("give_back", 1)])
async def test_a_stop_that_cannot_be_is_refused(client, handler, name, value):
    async with consuming(client, handler) as consumer:
        with pytest.raises(InvalidRequest, match=name):
            await consumer.stop(**{name: value})
        assert consumer.is_running


def note_fetches(client):
    """Note the instant of each FETCH that a client is about to make."""
    instants = []
    fetch = client.fetch

    async def noted(*args, **options):
        instants.append(client.clock.now_ms())
        return await fetch(*args, **options)

    client.fetch = noted
    return instants


async def test_an_idle_consumer_asks_twice_a_minute(tmp_path, handler):
    clock = ManualClock()
    clock.longest_poll_ms = SystemClock().longest_poll_ms
    broker = EmbeddedBroker.on_file(tmp_path / "mq9.db", clock)
    async with Mq9Client(
        transport=DirectTransport(broker, BrokerSession("c"), broker.close)
    ) as client:
        await client.mailbox_create(name="inbox")
        instants = note_fetches(client)
        async with consuming(client, handler):
            await clock.advance(120)
    assert [one - instants[0] for one in instants] == [0, 0, 30_000, 60_000, 90_000, 120_000]


async def test_an_idle_consumer_of_a_fake_broker_wakes_once_a_day(broker, client, handler):
    instants = note_fetches(client)
    async with consuming(client, handler):
        await broker.clock.advance(86_400)
        await client.send("inbox", "x", delay=3_600)
        await broker.clock.advance(86_400)
        assert handler.texts == ["x"]
    assert [one - instants[0] for one in instants] == [0, 0, 86_400_000, 90_000_000]


async def test_an_idle_consumer_keeps_its_agent_registered(broker, client, handler):
    await client.agent_register({"name": "worker", "mailbox": "inbox"}, ttl=3_600)
    async with consuming(client, handler, agent="worker"):
        await broker.clock.advance(86_400)
        assert len(await client.agent_discover()) == 1
    await broker.clock.advance(3_600)
    assert await client.agent_discover() == []


async def test_counters_and_events_tell_everything_once(broker, client):
    await client.mailbox_create(name="dead")
    events = []

    async def handle(message):
        match message.text:
            case "slow":
                await asyncio.sleep(0)
                await asyncio.Event().wait()
            case "rejected":
                raise Reject("no")
            case "later" if message.delivery_count == 1:
                raise Retry(after=1)
            case "failing":
                raise ValueError("no")
            case "unanswered":
                return "too late"
        return None

    await send_all(client, "inbox", "fine", "rejected", "later", "failing")
    await client.send("inbox", "unanswered", reply_to="asker.who.has.left")
    async with consuming(
        client,
        handle,
        dead_letter="dead",
        max_deliveries=2,
        error_handler=lambda *_: None,
        on_event=events.append,
        concurrency=10,
        consumer="c",
    ) as consumer:
        await broker.clock.advance(5)
        await client.send("inbox", "slow")
        await broker.clock.advance(5)
        assert consumer.counters.in_flight == 1
        await consumer.stop(timeout=0)
    told = {}
    for event in events:
        told.setdefault(event.message.text, []).append(event.kind)
        assert event.consumer == "c"
        assert event.message.group_name == "g"
    assert told == {
        "fine": ["received", "processed"],
        "rejected": ["received", "rejected", "dead_lettered"],
        "later": ["received", "retried", "received", "processed"],
        "failing": ["received", "failed", "retried", "received", "failed", "dead_lettered"],
        "unanswered": ["received", "unanswered"],
        "slow": ["received", "interrupted"],
    }
    counters = consumer.counters
    kinds = [event.kind for event in events]
    for kind in ConsumerEventKind:
        name = "leases_lost" if kind is ConsumerEventKind.LEASE_LOST else kind.value
        assert getattr(counters, name) == kinds.count(kind)
    assert (counters.in_flight, counters.overdue) == (0, 0)
    [slow] = [one for one in events if one.kind is ConsumerEventKind.INTERRUPTED]
    assert slow.duration == 5
    [rejected] = [one for one in events if one.kind is ConsumerEventKind.REJECTED]
    assert isinstance(rejected.error, Reject)


async def test_an_event_handler_that_raises_is_logged_and_harms_nothing(
    broker, client, handler, caplog
):
    def fail(event):
        raise RuntimeError("no metrics")

    await send_all(client, "inbox", "1", "2")
    async with consuming(client, handler, on_event=fail) as consumer:
        before = consumer.counters
        await client.send("inbox", "3")
        await broker.clock.advance(0)
        assert (before.processed, consumer.counters.processed) == (2, 3)  # it is a snapshot
    logged = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(logged) == 6
    assert "no metrics" in caplog.text


async def test_a_consumer_works_and_leases_in_the_name_of_its_agent(broker, client):
    await client.agent_register({"name": "ada", "mailbox": "inbox"})
    await broker.clock.advance(600)
    holders = []

    async def handle(message):
        status = await client.mailbox_status("inbox", group_name="g")
        holders.extend(one.consumer for one in status.group.leased)
        return "done"

    async with consuming(client, handle, agent="ada", consumer="worker-1") as consumer:
        assert consumer.name == "ada/worker-1"
        answer = await client.request("inbox", "q")
        assert answer.sender == "ada"
        [ada] = await client.agent_discover()
        assert broker.clock.now_ms() / 1000 - ada.match.last_seen < 2
    assert holders == [consumer.name]
    assert await acked(client) == 1


async def test_an_agent_whose_worker_is_busy_for_an_hour_does_not_look_stale(
    broker, client, handler
):
    await client.agent_register({"name": "ada", "mailbox": "inbox"}, ttl=120)
    handler.free.clear()
    await client.send("inbox", "an hour's work")
    async with consuming(client, handler, agent="ada", lease_ms=60_000):
        for _ in range(60):
            await broker.clock.advance(60)
            [ada] = await client.agent_discover()
            assert broker.clock.now_ms() / 1000 - ada.match.last_seen <= 21  # a third of the lease
        handler.free.set()
        await broker.clock.advance(0)
    assert handler.counts == [1]
    assert await acked(client) == 1
