"""Programs that use the fake broker of a test, with its clock."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from mq9 import InvalidRequest, Mq9Client, NotConnected, Unreachable
from mq9.clock import sleep
from mq9.testing import FakeBroker
from mq9.testing.shared import serving

SHARER = Path(__file__).with_name("sharer.py")
START_MS = 1_800_000_000_000

pytestmark = pytest.mark.programs


@contextlib.asynccontextmanager
async def sharing(broker, what):
    """Run a program that does something by the broker's URL."""
    # What coverage writes does not survive a kill.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SHARER,
        what,
        broker.serve(),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process):
    return (await process.stdout.readline()).decode().strip()


async def ended(process):
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode().split()


async def test_a_sleep_elsewhere_ends_by_itself_at_its_instant(broker):
    async with sharing(broker, "sleeps") as process:
        assert await ended(process) == [str(START_MS + 3_600_000), "3600000"]
    assert broker.clock.now_ms() == START_MS + 3_600_000


async def test_the_clock_does_not_jump_for_what_is_done_elsewhere_in_the_background(broker):
    client = broker.client()
    await client.mailbox_create(name="inbox")
    async with sharing(broker, "ticks_in_the_background") as process:
        assert await line(process) == "begun"
        await client.fetch("inbox", max_wait_ms=35_000, deliver="new", priority="critical")
        texts = [one.text for one in await client.query("inbox")]
    assert texts == [str(START_MS + tick * 10_000) for tick in (1, 2, 3)]


async def test_what_waits_elsewhere_is_stopped_at_when_the_clock_is_advanced():
    with FakeBroker(autojump=False) as broker:
        client = broker.client()
        await client.mailbox_create(name="inbox")
        async with sharing(broker, "ticks"):
            await broker.clock.advance(35)
            texts = [one.text for one in await client.query("inbox")]
            assert texts == [str(START_MS + tick * 10_000) for tick in (1, 2, 3)]
            await broker.clock.advance(25)
            assert len(await client.query("inbox")) == 6


async def test_the_clock_stands_still_while_another_process_starts_and_works(broker, client):
    async with sharing(broker, "computes") as process:
        await sleep(broker.clock, 60)
        [message] = await client.query("inbox")
        assert message.text == str(START_MS)
        await ended(process)


async def test_who_asks_a_worker_elsewhere_gets_its_answer_at_once(broker, client):
    async with sharing(broker, "works") as process:
        assert await line(process) == "working"
        answer = await client.request("inbox", "tidy up", timeout=30)
        assert (answer.text, broker.clock.now_ms()) == ("tidy up, done", START_MS)


async def test_what_a_process_held_that_was_killed_comes_again_after_the_lease(broker, client):
    async with sharing(broker, "works") as process:
        assert await line(process) == "working"
        await client.send("inbox", "hold")
        assert await line(process) == "held"
        process.kill()
        await process.wait()
        [again] = await client.fetch("inbox", group_name="workers", max_wait_ms=60_000)
        assert again.delivery_count == 2


async def test_several_processes_share_the_clock(client, broker):
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(sharing(broker, "works")) for _ in range(3)]
        for process in workers:
            assert await line(process) == "working"
        answers = await asyncio.gather(*(client.request("inbox", str(n)) for n in range(20)))
        assert sorted(one.text for one in answers) == sorted(f"{n}, done" for n in range(20))
        await broker.clock.advance(86_400)
        assert (await client.request("inbox", "late")).text == "late, done"
        assert broker.clock.now_ms() == START_MS + 86_400_000


async def test_a_main_thread_that_works_holds_the_clock(client, broker):
    async with sharing(broker, "blocks") as process:
        assert await ended(process) == ["60000"]


async def test_a_worker_elsewhere_ends_with_its_broker(broker):
    with FakeBroker() as owner:
        await owner.client().mailbox_create(name="inbox")
        async with sharing(owner, "works") as process:
            assert await line(process) == "working"
            owner.__exit__(None, None, None)
            assert await ended(process) == ["over"]


async def test_a_process_that_never_comes_is_not_waited_for_long(broker, caplog, monkeypatch):
    monkeypatch.setattr(serving, "START_S", 0.05)
    broker.serve()
    await broker.clock.advance(60)
    assert "no process has come" in caplog.text


async def test_a_url_of_a_broker_that_is_shared_is_checked():
    for wrong in ("fake://127.0.0.1:1", "fake://127.0.0.1/token", "fake://127.0.0.1:x/token"):
        with pytest.raises(InvalidRequest, match="is not fake://host:port/token"):
            Mq9Client(wrong)
    with pytest.raises(InvalidRequest, match="has its own options"):
        Mq9Client("fake://127.0.0.1:1/token", agents=["bob"])
    with pytest.raises(Unreachable, match="no test serves a broker at fake:"):
        await Mq9Client.connect("fake://127.0.0.1:1/token")
    with pytest.raises(NotConnected, match="not open"):
        FakeBroker().serve()


async def test_a_process_may_use_its_own_broker_by_the_url(broker, client):
    async with Mq9Client(broker.serve()) as here, Mq9Client(here._server) as too:  # noqa: SLF001
        await here.send("inbox", "x")
        assert [one.text for one in await too.query("inbox")] == ["x"]
        await here.mailbox_list()
