"""A person finds out why mail is stuck, and gets it going again."""

import asyncio
import contextlib

import pytest
from browser import needs_browser
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict
from waiting import until

from langchain_mq9 import MailboxWorker
from mq9 import ErrorAnswer
from tests.desk_stories.looking import loads_until, press, read, sees

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]


@contextlib.asynccontextmanager
async def working(client, handler, **options):
    """Handle the orders while inside, as a worker with dead letters does."""
    consumer = await client.consume(
        "orders", handler, group_name="orders", dead_letter="orders.dead", **options
    )
    try:
        yield
    finally:
        await consumer.stop()


@pytest.fixture
async def orders(client):
    for name in ("orders", "orders.dead"):
        await client.mailbox_create(name=name)
    return client


async def stored(client, address):
    return (await client.mailbox_status(address)).stored


async def test_the_cause_of_dead_letters_is_seen_and_40_are_redriven(orders, desk, windows):
    async def fails(message):
        raise LookupError(f"no price for {message.text}")

    for number in range(40):
        await orders.send("orders", f"order {number}", sender="ada", reply_to="ada")
    async with working(orders, fails, max_deliveries=1, error_answers=False):
        await until(lambda: all_dead(orders))
    page = await windows.open(desk.link)
    await press(page, "Stuck", "link")
    await press(page, "dead 40", "link")
    await sees(page, "LookupError: no price for order 7")
    await page.get_by_text("Its story").first.click()
    await sees(page, "It is a copy of message")
    await press(page, "Choose all of this page", "link")
    await press(page, "Redrive")
    await sees(page, "Move each of these 40 messages back to where it came from?")
    assert await stored(orders, "orders.dead") == 40  # asking changes nothing
    await press(page, "Redrive")
    await sees(page, "40 messages redriven.", "Nothing is stuck here.")
    assert await stored(orders, "orders.dead") == 0

    done = []

    async def works(message):
        done.append(message.text)

    async with working(orders, works):
        await until(lambda: len(done) == 40)
    assert sorted(done) == sorted(f"order {number}" for number in range(40))


async def all_dead(client):
    return await stored(client, "orders.dead") == 40


async def test_a_message_that_somebody_holds_too_long_is_freed(orders, desk, windows):
    asked = {"sender": "ada", "reply_to": "ada", "correlation_id": "tea"}
    now = orders.clock.now_ms() / 1000
    await orders.send("orders", "tea", **asked, answer_by=now + 1)
    [held] = await orders.fetch(
        "orders", group_name="orders", consumer="worker/7", lease_ms=3_600_000
    )
    assert held.text == "tea"
    page = await windows.open(desk.link)
    await press(page, "Stuck", "link")
    await loads_until(page, "held by worker/7")
    told = await read(page)
    assert "overdue" in told
    assert "Message 0 of orders" in told
    await page.get_by_text("Its story").first.click()
    await sees(page, "group orders")
    await page.get_by_label("choose").check()
    await press(page, "Give back")
    await sees(page, "Take this message from its consumer, for the next one?")
    await press(page, "Give back")
    await sees(page, "Message 0 of orders")
    [again] = await orders.fetch("orders", group_name="orders", consumer="worker/8")
    assert (again.text, again.msg_id) == ("tea", held.msg_id)


class Case(TypedDict, total=False):
    topic: str


class Endless:
    """A graph that works on and on, and notes that it was cancelled."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    def compile(self):
        async def work(_case: Case) -> Case:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return {}

        graph = StateGraph(Case).add_node(work).add_edge(START, "work")
        return graph.compile(checkpointer=InMemorySaver())


async def test_a_run_is_stopped_and_its_asker_is_told(client, desk, windows):
    endless = Endless()
    worker = MailboxWorker(
        endless.compile(),
        agent="lawyer",
        capabilities="Reads contracts",
        client=client,
        lease_ms=3_000,
    )
    async with worker:
        asked = {"sender": "ada", "reply_to": "ada", "correlation_id": "the lease"}
        await client.send("lawyer", {"topic": "the lease"}, **asked)
        await endless.begun.wait()
        page = await windows.open(desk.link)
        await press(page, "Agents", "link")
        await loads_until(page, "message 0 of lawyer")
        await press(page, "Stop this run", "link")
        await sees(page, "Stop the run of this message, and tell the sender?")
        assert not endless.cancelled.is_set()  # asking changes nothing
        await press(page, "Stop the run")
        await sees(page, "The run of lawyer is stopped.")
        async with asyncio.timeout(30):
            await endless.cancelled.wait()
        [told] = await client.query("ada")
        failed = ErrorAnswer.read(told)
        assert (failed.code, failed.reason) == ("failed", "stopped by boss")
        await page.goto(f"{desk.at}/conversations/one?id=/lawyer/0")
        await sees(page, "Error answer, failed: stopped by boss")
