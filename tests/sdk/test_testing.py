"""What other projects test with: the fake broker and its faults, the manual clock, the fixture."""

import asyncio
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langgraph.prebuilt import create_react_agent

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel, call
from mq9 import (
    Forbidden,
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    Mq9Client,
    NoReply,
    NotConnected,
    Unavailable,
)
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import sleep
from mq9.testing import FakeBroker, Limits, ManualClock, idle
from mq9.transport.direct import DirectTransport

pytest_plugins = ["pytester"]


def test_the_fixture_works_in_any_project_with_and_without_async(pytester):
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from mq9 import Mq9Client

        async def talk(broker):
            async with Mq9Client(broker.url) as client:
                await client.mailbox_create(name="inbox")
                return await client.send("inbox", "x")

        def test_sync(mq9_broker):
            assert asyncio.run(talk(mq9_broker)) == 0

        def test_sync_again_is_another_broker(mq9_broker):
            assert asyncio.run(talk(mq9_broker)) == 0

        @pytest.mark.asyncio
        async def test_async(mq9_broker):
            assert await talk(mq9_broker) == 0
        """
    )
    options = ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    pytester.runpytest_subprocess(*options, "-W", "error").assert_outcomes(passed=3)


async def test_a_fake_broker_is_reached_by_its_url_while_it_is_open():
    async with (
        FakeBroker() as broker,
        Mq9Client(broker.url) as client,
        broker.client() as other,
        FakeBroker() as unrelated,
        unrelated.client() as stranger,
    ):
        await client.mailbox_create(name="inbox")
        assert await other.send("inbox", "x") == 0
        assert client.clock is broker.clock
        with pytest.raises(MailboxNotFound):
            await stranger.send("inbox", "x")
    async with Mq9Client(broker.url) as client:  # by now it is any other name
        with pytest.raises(MailboxNotFound):
            await client.send("inbox", "x")


async def test_the_file_is_temporary_unless_one_is_named(tmp_path):
    path = tmp_path / "mq9.db"
    for number in range(2):
        with FakeBroker(path=path) as broker:
            async with broker.client() as client:
                await client.mailbox_create(name="inbox", renew=True)
                assert await client.send("inbox", "x") == number
    assert path.is_file()
    broker = FakeBroker()
    for _ in range(2):
        with broker:
            temporary = broker.path
            assert temporary.is_file()
            async with broker.client() as client:
                await client.mailbox_create(name="inbox")  # a new file each time
        assert not temporary.parent.exists()


async def test_a_fake_broker_that_is_not_open_says_so_at_once():
    broker = FakeBroker(autojump=False)
    not_open = r"not open; use `with FakeBroker\(\) as broker`"
    with pytest.raises(NotConnected, match=not_open):
        await broker.client().mailbox_list()
    with broker:
        client = broker.client()
        url_client = await Mq9Client.connect(broker.url)
    for closed in (client, url_client):
        with pytest.raises(NotConnected, match=not_open):
            await closed.mailbox_list()


async def test_who_waits_when_a_fake_broker_closes_is_told_at_once():
    with FakeBroker(autojump=False) as broker:
        client = broker.client()
        await client.mailbox_create(name="inbox")
        waiting = asyncio.create_task(client.fetch("inbox", max_wait_ms=30_000))
        await broker.clock.advance(1)
    with pytest.raises(NotConnected, match="not open"):
        await waiting


async def test_limits_and_the_first_instant_are_as_asked_for():
    with FakeBroker(limits=Limits(max_messages=1), start=1_000.5) as broker:
        assert broker.clock.now_ms() == 1_000_500
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            await client.send("inbox", "1")
            assert (await client.query("inbox"))[0].create_time == 1_000
            with pytest.raises(MailboxFull):
                await client.send("inbox", "2")


async def everything_random(seed):
    with FakeBroker(seed=seed) as broker:
        async with broker.client() as client:
            address = await client.mailbox_create(prefix="p")
            await client.send(address, "x")
            fetched = await client.fetch(address, group_name="g", deliver="earliest")
            return address, client.consumer, fetched.batch, client.new_id()


async def test_the_same_seed_gives_the_same_ids():
    assert await everything_random(7) == await everything_random(7)
    assert await everything_random(7) != await everything_random(8)


async def test_an_agent_counts_as_authenticated(broker):
    async with broker.client(agent="alice") as alice, broker.client() as anyone:
        await alice.mailbox_create(name="inbox")
        await alice.send("inbox", "x", sender="bob")
        [message] = await alice.query("inbox")
        assert (message.sender, message.sender_verified) == ("alice", True)
        await anyone.send("inbox", "y", sender="alice")
        assert not (await alice.query("inbox"))[1].sender_verified


async def test_agents_may_be_configured(broker):
    agents = ["alice", "bob"]
    async with (
        broker.client(agent="alice", agents=agents) as alice,
        broker.client(agent="bob", agents=agents) as bob,
        broker.client() as before,
    ):
        await before.mailbox_create(name="open")
        with pytest.raises(Forbidden, match="alice belongs to another agent"):
            await bob.mailbox_create(name="alice")
        with pytest.raises(Forbidden, match="open has no creator and is closed to agents"):
            await alice.query("open")
    with pytest.raises(InvalidRequest, match="both have the mailbox alice"):
        broker.client(agents=["alice", "Alice"])


async def test_ids_do_not_come_again_on_the_file_of_a_broker_that_was_killed(tmp_path):
    path, copy = tmp_path / "mail.db", tmp_path / "copy.db"
    with FakeBroker(path=path):
        pass
    async with FakeBroker(path=path) as broker, broker.client() as client:
        first = await client.mailbox_create()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    async with FakeBroker(path=copy) as broker, broker.client() as client:
        assert await client.mailbox_create() != first
        assert (await client.mailbox_status(first)).ttl == 0


async def test_after_a_restart_what_was_acknowledged_is_there_and_who_waited_waits(broker, client):
    await client.send("inbox", "kept")
    fetched = await client.fetch("inbox", group_name="g", deliver="earliest")
    waiting = asyncio.create_task(
        client.fetch("inbox", group_name="h", deliver="new", max_wait_ms=30_000)
    )
    await broker.clock.advance(1)
    await broker.restart()
    await broker.clock.advance(1)
    assert [message.text for message in await client.query("inbox")] == ["kept"]
    assert await client.ack("inbox", "g", 0, batch=fetched.batch) == [0]
    assert not waiting.done()
    await client.send("inbox", "news")
    assert [message.text for message in await waiting] == ["news"]


async def test_who_does_not_repeat_is_told_of_a_restart(broker):
    async with broker.client(reconnect_attempts=0) as client:
        await client.mailbox_create(name="inbox")
        waiting = asyncio.create_task(client.fetch("inbox", max_wait_ms=30_000))
        await broker.clock.advance(1)
        await broker.restart()
        with pytest.raises(Unavailable, match="restarted; the outcome is unknown"):
            await waiting


async def test_a_reply_that_is_lost_was_carried_out(broker):
    async with broker.client(reconnect_attempts=0) as client:
        broker.lose_next_reply("MAILBOX.CREATE")
        with pytest.raises(Unavailable, match=r"reply to MAILBOX.CREATE was lost"):
            await client.mailbox_create(name="inbox")
        broker.lose_next_reply()  # of a SEND
        assert (await client.mailbox_status("inbox")).stored == 0
        with pytest.raises(Unavailable):
            await client.send("inbox", "x")
        assert (await client.mailbox_status("inbox")).stored == 1


def test_only_a_verb_of_the_protocol_can_be_lost(broker):
    for verb in ("MSG.SENDS", "SEND", None):
        with pytest.raises(
            ValueError, match=rf"{verb!r} is not one of MAILBOX\.CREATE, .*MSG\.SEND,"
        ):
            broker.lose_next_reply(verb)


async def test_a_client_of_a_fake_broker_repeats_without_a_delay_unless_one_is_given():
    with FakeBroker(autojump=False) as broker:
        client = broker.client()
        await client.mailbox_create(name="inbox")
        for _ in range(5):
            broker.lose_next_reply()
        assert await client.send("inbox", "x") == 0
        assert broker.clock.now_ms() == 1_800_000_000_000
        patient = broker.client(reconnect_delay=3)
        for _ in range(2):
            broker.lose_next_reply()
        sending = asyncio.create_task(patient.send("inbox", "y"))
        await broker.clock.advance(2.999)
        assert not sending.done()
        await broker.clock.advance(0.001)
        assert await sending == 1


async def test_after_a_crash_a_repeated_fetch_gets_the_same_batch(broker, client):
    broker.crash_after_next_fetch()
    assert await client.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=0) == []
    await client.send("inbox", "x")  # an empty FETCH was none to crash after
    async with broker.client(reconnect_attempts=0) as reader:
        assert len(await reader.fetch("inbox", deliver="earliest")) == 1  # leases nothing
    [message] = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    assert (message.text, message.delivery_count) == ("x", 1)
    await client.ack("inbox", "g", 0)


async def test_after_a_crash_the_lease_of_who_does_not_ask_again_stands(broker, client):
    await client.send("inbox", "x")
    broker.crash_after_next_fetch()
    async with broker.client(reconnect_attempts=0) as victim:
        with pytest.raises(Unavailable, match="crashed"):
            await victim.fetch("inbox", group_name="g", deliver="earliest", lease_ms=5_000)
    assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []
    waiting = asyncio.create_task(client.fetch("inbox", group_name="g", max_wait_ms=10_000))
    await broker.clock.advance(4.999)
    assert not waiting.done()
    await broker.clock.advance(0.001)
    assert [message.delivery_count for message in await waiting] == [2]


async def test_a_delivery_may_be_duplicated_even_after_its_ack(broker, client):
    await client.send("inbox", "x")
    broker.duplicate_next_delivery()
    first = await client.fetch("inbox", group_name="g", deliver="earliest")
    await client.ack("inbox", "g", 0)
    again = await client.fetch("inbox", group_name="g", max_wait_ms=0)
    assert list(again) == list(first)
    assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []


async def test_timers_run_at_their_instants_and_in_order():
    clock = ManualClock(100)
    seen = []

    async def wait(seconds, name):
        await sleep(clock, seconds)
        seen.append((name, clock.now_ms()))
        if name == "first":
            await sleep(clock, 1.5)
            seen.append(("after first", clock.now_ms()))

    tasks = [
        asyncio.create_task(wait(*one))
        for one in ((3, "third"), (1, "first"), (2, "second"), (2, "second too"), (9, "late"))
    ]
    await asyncio.sleep(0)
    await clock.advance(5)
    assert seen == [
        ("first", 101_000),
        ("second", 102_000),
        ("second too", 102_000),
        ("after first", 102_500),
        ("third", 103_000),
    ]
    assert clock.now_ms() == 105_000
    await clock.advance(4)
    assert seen[-1] == ("late", 109_000)
    await asyncio.gather(*tasks)


async def test_a_timer_runs_unless_it_was_cancelled_and_one_of_the_past_at_once():
    clock = ManualClock()
    seen = []
    clock.call_later(0, lambda: seen.append("now"))
    clock.call_later(-1_000, lambda: seen.append("past"))
    assert seen == []
    await asyncio.sleep(0)
    assert seen == ["now", "past"]
    seen.clear()
    timers = [clock.call_later(ms, lambda ms=ms: seen.append(ms)) for ms in (1, 2, 0)]
    timers[0].cancel()
    timers[2].cancel()
    clock.call_later(3, lambda: timers.pop().cancel())
    timers.append(clock.call_later(3, lambda: seen.append("cancelled by another")))
    await clock.advance(1)
    assert seen == [2]
    timers[1].cancel()  # harmless when it already has


async def test_the_clock_cannot_be_advanced_backwards_but_set_back():
    clock = ManualClock(100)
    with pytest.raises(ValueError, match="-1 is negative; use set_back"):
        await clock.advance(-1)
    for wrong in ("5", None):
        for move in (clock.advance, clock.set_back, ManualClock):
            with pytest.raises(TypeError, match=f"{wrong!r} is not a number of seconds"):
                await move(wrong)
    for wrong in (float("nan"), float("inf")):
        for move in (clock.advance, clock.set_back, ManualClock):
            with pytest.raises(ValueError, match=f"{wrong!r} is not a finite number of seconds"):
                await move(wrong)


async def test_who_waits_is_woken_in_time_when_the_clock_is_set_back():
    clock = ManualClock(100)
    seen = []
    clock.call_later(1_000, lambda: seen.append((clock.now_ms(), clock.monotonic_ms())))
    clock.set_back(10)
    assert (clock.now_ms(), clock.monotonic_ms()) == (90_000, 0)
    await clock.advance(0.999)
    assert seen == []
    await clock.advance(0.001)
    assert seen == [(91_000, 1_000)]


async def test_a_deadline_comes_a_tenth_later_when_the_clock_was_set_back(broker, client):
    await client.mailbox_create(name="short", ttl=9)
    broker.clock.set_back(100)
    await broker.clock.advance(9.999)
    assert (await client.mailbox_status("short")).stored == 0
    await broker.clock.advance(0.001)
    with pytest.raises(MailboxNotFound):
        await client.mailbox_status("short")


async def test_work_that_never_waits_is_told_of(monkeypatch):
    monkeypatch.setattr(idle, "_MOST_TURNS", 1_000)
    clock = ManualClock()

    async def spin():
        while True:
            clock.now_ms()
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    with pytest.raises(RuntimeError, match="never waits, so the clock cannot move"):
        await clock.advance(1)
    task.cancel()


async def test_what_waits_in_other_threads_runs_at_its_instant_too():
    clock = ManualClock(100)
    seen = []
    asleep = threading.Semaphore(0)

    def live(seconds):
        async def run():
            timer = asyncio.create_task(sleep(clock, seconds))
            await asyncio.sleep(0)
            asleep.release()
            await timer
            seen.append((seconds, clock.now_ms()))
            await sleep(clock, 0.25)
            seen.append((seconds + 0.25, clock.now_ms()))

        asyncio.run(run())

    threads = [threading.Thread(target=live, args=(seconds,)) for seconds in (3, 1, 2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert await asyncio.to_thread(asleep.acquire, timeout=30)
    await clock.advance(10)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert seen == [(at, 100_000 + at * 1_000) for at in (1, 1.25, 2, 2.25, 3, 3.25)]


@pytest.mark.parametrize("autojump", [False, True])
async def test_an_event_loop_that_has_ended_holds_nothing_up(autojump):
    clock = ManualClock(autojump=autojump)

    def leave_a_sleeper():
        loop = asyncio.new_event_loop()
        task = loop.create_task(sleep(clock, 1))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return task

    abandoned = await asyncio.to_thread(leave_a_sleeper)
    await (sleep(clock, 2) if autojump else clock.advance(2))
    assert clock.monotonic_ms() == 2_000
    abandoned.get_coro().close()


async def test_a_broker_on_a_file_can_live_by_a_manual_clock(tmp_path):
    clock = ManualClock()
    broker = EmbeddedBroker.on_file(tmp_path / "mq9.db", clock)
    async with Mq9Client(
        transport=DirectTransport(broker, BrokerSession("c"), broker.close)
    ) as client:
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "x", delay=30)
        waiting = asyncio.create_task(
            client.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=60_000)
        )
        await clock.advance(29.999)
        assert not waiting.done()
        await clock.advance(30)
        [message] = await waiting
        assert message.create_time * 1_000 == 1_800_000_030_000


async def test_a_client_may_live_by_a_clock_of_its_own(broker):
    clock = ManualClock()
    async with Mq9Client(
        broker.url, clock=clock, reconnect_attempts=2, reconnect_delay=5
    ) as client:
        assert client.clock is clock
        await client.mailbox_create(name="inbox")
        for _ in range(2):
            broker.lose_next_reply()
        sending = asyncio.create_task(client.send("inbox", "x"))
        await broker.clock.advance(100)
        assert not sending.done()
        await clock.advance(5)
        assert await sending == 0


async def test_a_client_of_a_fake_broker_can_be_closed_and_the_others_go_on(broker, client):
    async with broker.client() as other:
        await other.send("inbox", "x")
    with pytest.raises(NotConnected):
        await other.send("inbox", "y")
    await client.send("inbox", "z")


def passed_ms(broker):
    return broker.clock.now_ms() - 1_800_000_000_000


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_tool_that_waits_for_mail_returns_by_itself(broker, fetch, in_loop):
    async def block():
        broker.clock.now_ms()
        await asyncio.sleep(0.01)  # a timer that this loop has waited for, and does no more
        return fetch.invoke({})

    assert "no mail waits" in (asyncio.run(block()) if in_loop else fetch.invoke({}))
    assert passed_ms(broker) == 1_000


@pytest.fixture
def fetch(broker):
    """The tool with which an agent fetches its mail."""
    with Mq9Toolkit(broker.url, agent="planner", tools=["fetch_messages"]) as toolkit:
        [fetch] = toolkit.get_tools()
        yield fetch


def test_an_agent_that_looks_into_its_empty_inbox_goes_on(mq9_broker):
    with Mq9Toolkit(mq9_broker.url, agent="planner") as toolkit:
        model = ScriptedModel(call("fetch_messages"), "Nothing.")
        agent = create_react_agent(model, toolkit.get_tools())
        result = agent.invoke({"messages": [("user", "Any mail?")]})
    assert result["messages"][-1].content == "Nothing."


async def test_what_nobody_sends_or_answers_ends_by_itself(broker, client):
    assert await client.fetch("inbox") == []
    assert passed_ms(broker) == 500
    with pytest.raises(NoReply):
        await client.request("inbox", "?", timeout=1)
    assert passed_ms(broker) == 1_500


async def test_a_fetch_stays_when_the_clock_never_jumps(still_broker):
    client = still_broker.client()
    await client.mailbox_create(name="inbox")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.fetch("inbox"), 0.2)
    assert passed_ms(still_broker) == 0


async def test_a_clock_that_is_advanced_promptly_does_not_jump():
    clock = ManualClock(100, autojump=True)
    seen = []

    async def wait(seconds):
        await sleep(clock, seconds)
        seen.append((seconds, clock.now_ms()))

    tasks = [asyncio.create_task(wait(seconds)) for seconds in (30, 60, 150)]
    await asyncio.sleep(0)
    await clock.advance(10)
    assert (seen, clock.now_ms()) == ([], 110_000)
    await clock.advance(90)
    assert seen == [(30, 130_000), (60, 160_000)]
    assert clock.now_ms() == 200_000
    await asyncio.gather(*tasks)
    assert seen[2:] == [(150, 250_000)]


async def test_a_clock_does_not_run_ahead_of_a_timer_of_asyncio():
    clock = ManualClock(100, autojump=True)
    late, soon = (asyncio.create_task(sleep(clock, seconds)) for seconds in (60, 0.05))
    await asyncio.sleep(0.1)
    assert (soon.done(), late.done(), clock.now_ms()) == (True, False, 100_050)
    late.cancel()


async def test_a_timeout_of_asyncio_holds_no_clock():
    clock = ManualClock(100, autojump=True)
    await asyncio.wait_for(sleep(clock, 3_600), 60)
    assert clock.monotonic_ms() == 3_600_000


async def in_real_time(seconds):
    """Wait without a timer of asyncio, which would hold the clock."""
    loop, waited = asyncio.get_running_loop(), asyncio.Event()
    threading.Timer(seconds, loop.call_soon_threadsafe, [waited.set]).start()
    await waited.wait()


async def test_a_clock_does_not_jump_for_what_is_done_in_the_background():
    clock = ManualClock(100, autojump=True)
    seen = []

    async def tick():
        while True:
            await sleep(clock, 10, background=True)
            seen.append(clock.monotonic_ms())

    ticking = asyncio.create_task(tick())
    await in_real_time(0.05)
    assert (seen, clock.monotonic_ms()) == ([], 0)
    await sleep(clock, 35)
    assert seen == [10_000, 20_000, 30_000]
    await clock.advance(10)
    assert seen == [10_000, 20_000, 30_000, 40_000]
    ticking.cancel()


async def test_a_clock_does_not_jump_while_another_event_loop_is_at_work():
    clock = ManualClock(100, autojump=True)
    begun, jumped = threading.Event(), []

    def work():
        async def run():
            clock.now_ms()
            begun.set()
            time.sleep(0.2)  # noqa: ASYNC251  # holds up this loop
            jumped.append(clock.monotonic_ms())

        asyncio.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()  # holds up this one
    await sleep(clock, 60)
    assert jumped == [0]
    thread.join()


async def test_a_clock_does_not_jump_while_a_handler_is_at_work_on_a_thread(broker, client):
    passed, done = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(message):
        time.sleep(0.2)
        passed.append(passed_ms(broker))
        loop.call_soon_threadsafe(done.set)

    async with await client.consume("inbox", handle, group_name="g"):
        await client.send("inbox", "x")
        await done.wait()
    assert passed == [0]


async def test_a_clock_waits_for_what_a_loop_has_given_to_an_executor():
    clock = ManualClock(100)
    seen = []

    async def work(seconds):
        await sleep(clock, seconds)
        await asyncio.to_thread(time.sleep, 0.1)
        seen.append((seconds, clock.now_ms()))

    tasks = [asyncio.create_task(work(seconds)) for seconds in (1, 2)]
    await clock.advance(60)
    assert seen == [(1, 101_000), (2, 102_000)]
    await asyncio.gather(*tasks)


async def test_no_clock_jumps_for_an_idle_consumer(broker, client):
    done = asyncio.Event()

    async def handle(_message):
        done.set()

    async with await client.consume("inbox", handle, group_name="g"):
        await in_real_time(0.2)
        assert passed_ms(broker) == 0
        await client.send("inbox", "x", delay=60)
        await done.wait()
        assert passed_ms(broker) == 60_000


async def test_a_clock_does_not_wait_long_for_an_executor(monkeypatch):
    monkeypatch.setattr(idle, "_SHORT_WORK_S", 0.05)
    clock = ManualClock(100)
    stop = threading.Event()
    waiting = asyncio.create_task(asyncio.to_thread(stop.wait))
    await clock.advance(60)
    assert not waiting.done()
    stop.set()
    await waiting


async def test_a_handler_on_a_thread_may_wait_for_mail(broker, client, fetch):
    results, done = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(message):
        results.append(fetch.invoke({"wait_seconds": 2}))
        loop.call_soon_threadsafe(done.set)

    async with await client.consume("inbox", handle, group_name="g"):
        await client.send("inbox", "x")
        await done.wait()
    assert "no mail waits" in results[0]
    assert passed_ms(broker) == 2_000


def test_a_test_without_a_loop_may_leave_the_waiting_to_a_thread(broker, fetch):
    fetch.invoke({"wait_seconds": 0})
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fetch.invoke, {"wait_seconds": 40})
        assert "no mail waits" in fetching.result()
    assert passed_ms(broker) == 40_000


async def test_a_clock_jumps_to_one_instant_at_a_time():
    clock = ManualClock(100, autojump=True)
    seen = []

    async def wait(seconds):
        await sleep(clock, seconds)
        seen.append((seconds, clock.now_ms()))

    await asyncio.gather(*(wait(seconds) for seconds in (3, 1, 2, 2)))
    assert seen == [(1, 101_000), (2, 102_000), (2, 102_000), (3, 103_000)]


async def test_what_was_cancelled_is_not_jumped_to():
    clock = ManualClock(100, autojump=True)
    sleeping = asyncio.create_task(sleep(clock, 60))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.sleep(0.1)
    assert clock.now_ms() == 100_000


def test_loops_in_several_threads_jump_together_and_end():
    clock = ManualClock(100, autojump=True)
    seen = []

    everybody = threading.Barrier(3)

    async def run(seconds):
        clock.now_ms()
        everybody.wait(10)
        await sleep(clock, seconds)
        seen.append((seconds, clock.now_ms()))

    threads = [
        threading.Thread(target=asyncio.run, args=(run(seconds),), daemon=True)
        for seconds in (30, 10, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(seen) == [(10, 110_000), (20, 120_000), (30, 130_000)]
