"""Async calls on the caller's own event loop, where the broker is in this process."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import until

from langchain_mq9 import Mq9Toolkit
from mq9.operations.leases import Deliveries, LeaseKeeper
from mq9.testing import FakeBroker

from .examples import VALID
from .tool_calls import TOOLS, aanswer, ado, asend, bodies, fetch, ids

pytestmark = pytest.mark.unmeasured

LEASE_S = 60
NOW = {"wait_seconds": 0}
BACKGROUND = "mq9-tools"


@pytest.fixture
def threads(broker, monkeypatch):
    """For each request that the broker was given, the name of the thread that made it."""
    seen = []
    carry_out = broker.carry_out

    async def note(request):
        seen.append(threading.current_thread().name)
        return await carry_out(request)

    monkeypatch.setattr(broker, "carry_out", note)
    return seen


async def test_once_connected_a_call_stays_on_its_own_loop(inbox, threads):
    await asend(inbox, "x")
    await ado(inbox, "agent_discover")

    assert set(threads) == {threading.current_thread().name}


@pytest.mark.parametrize("name", TOOLS)
async def test_what_deals_with_leases_stays_in_the_background(name, inbox, monkeypatch):
    """There leases are renewed, and what was fetched is remembered, on one loop only."""
    used = []

    def watch(owner, method):
        unwatched = getattr(owner, method)

        def call(self, *args, **kwargs):
            used.append(threading.current_thread().name)
            return unwatched(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, call)

    await asend(inbox, "x")
    await ado(inbox, "fetch_messages", **NOW)
    for method in ("remember", "let_go", "find", "held", "find_elsewhere"):
        watch(Deliveries, method)
    for method in ("fetched", "extended", "let_go"):
        watch(LeaseKeeper, method)

    await ado(inbox, name, **VALID[name])

    assert set(used) <= {BACKGROUND}


def test_loops_that_end_without_a_word_leave_nothing_behind(inbox, threads):
    loops = [asyncio.new_event_loop() for _ in range(3)]
    for number, loop in enumerate(loops):
        assert loop.run_until_complete(asend(inbox, "x"))["msg_id"] == number
        loop.close()
    inbox.close()

    assert BACKGROUND not in threads


def test_leases_are_renewed_while_no_loop_of_the_callers_runs(broker, inbox):
    asyncio.run(asend(inbox, "x"))
    asyncio.run(ado(inbox, "fetch_messages", **NOW))
    asyncio.run(asend(inbox, "an answer"))

    asyncio.run(broker.clock.advance(10 * LEASE_S))

    assert asyncio.run(ado(inbox, "ack_messages", msg_id=0))["acked"] == [0]
    assert "no_longer_yours" not in asyncio.run(ado(inbox, "agent_discover"))


async def test_what_was_fetched_is_answered_from_the_callers_loop(broker, inbox, worker):
    """The answer goes on with the path of what was fetched."""
    question = {"mail_address": "planner", "content": "do it", "correlation_id": "q"}
    await ado(worker, "send_message", **question)
    await ado(inbox, "fetch_messages", **NOW)
    await ado(inbox, "send_message", to="worker", content="done", correlation_id="q")

    async with broker.client() as client:
        [answer] = await client.query("worker")
    assert answer.path == ("worker", "planner")


def test_many_loops_send_while_many_fetch_and_acknowledge(inbox):
    together = threading.Barrier(8)

    async def talk(number):
        for turn in range(10):
            await asend(inbox, f"{number}.{turn}", correlation_id=f"{number}.{turn}")
            await ado(inbox, "create_mailbox", name=f"extra.n{number}.n{turn}")
            taken = await ado(inbox, "fetch_messages", limit=1, **NOW)
            for msg_id in ids(taken):
                await ado(inbox, "ack_messages", msg_id=msg_id, mail_address="planner")

    def one(number):
        together.wait()
        asyncio.run(talk(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))

    left = bodies(fetch(inbox, limit=100))
    assert len(left) == len(set(left)) < 80


@pytest.fixture
async def slow():
    """A toolkit at a broker that has begun a call of its, and does not answer; and the call."""
    with (
        FakeBroker(autojump=False) as broker,
        Mq9Toolkit(broker.url, agent="planner", request_timeout=3_600) as toolkit,
    ):
        await ado(toolkit, "agent_discover")
        broker.slow_down(45, "AGENT.DISCOVER")
        going_on = asyncio.create_task(aanswer(toolkit, "agent_discover"))
        await until(lambda: broker.clock.pending_timers)
        yield toolkit, going_on


@pytest.mark.parametrize("close", ["close", "aclose"])
async def test_a_call_that_is_going_on_is_told_of_the_close(slow, close):
    toolkit, going_on = slow

    if close == "close":
        toolkit.close()
    else:
        await toolkit.aclose()

    assert "the toolkit is closed" in (await going_on).content


async def test_a_cancelled_call_is_over_at_once(slow):
    toolkit, going_on = slow
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on

    assert (await asend(toolkit, "x"))["msg_id"] == 0


async def test_a_closed_toolkit_refuses_calls_on_its_callers_loop(inbox):
    other = inbox.for_agent("other")
    await ado(other, "agent_discover")
    other.close()
    assert "the toolkit is closed" in (await aanswer(other, "agent_discover")).content

    await ado(inbox, "agent_discover")
    inbox.close()
    assert "the toolkit is closed" in (await aanswer(inbox, "agent_discover")).content
