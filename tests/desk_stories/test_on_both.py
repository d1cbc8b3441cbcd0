"""Stories of people at the desk, in a browser: on a file, and on a server with users and roles."""

import asyncio
import json
import re
import time

import pytest
from browser import chromium, needs_browser
from playwright.async_api import expect
from waiting import until

from tests.desk_stories import world
from tests.desk_stories.stage import OnFile, OnServer

pytestmark = [pytest.mark.programs, pytest.mark.slow, pytest.mark.unmeasured, needs_browser]

LIMIT_S = 100
PATIENCE_MS = 20_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

expect.set_options(timeout=PATIENCE_MS)

LETTERS = '''
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from pathlib import Path

from langchain_mq9.testing import ScriptedModel, call


@tool
def send_email(to: str, text: str) -> str:
    """Send an e-mail."""
    with Path("sent").open("a") as sent:
        sent.write(f"{to}: {text}\\n")
    return f"sent to {to}"


def build(checkpointer):
    letter = call("send_email", to="customer", text="We will sue you.")
    return create_agent(
        ScriptedModel(letter, "The letter is sent."),
        [send_email],
        middleware=[HumanInTheLoopMiddleware({"send_email": True})],
        checkpointer=checkpointer,
    )
'''


@pytest.fixture(params=[OnFile, OnServer], ids=["file", "server"])
async def stage(request, tmp_path):
    """A stage on a file, and one on a server with users."""
    async with request.param(tmp_path) as stage:
        await world.meet(stage)
        yield stage


@pytest.fixture
async def open_tab(tmp_path):
    """Open a tab in a context of its own."""
    async with chromium(tmp_path, LIMIT_S) as browser:

        async def open_tab(**options):
            context = await browser.new_context(**options)
            context.set_default_timeout(PATIENCE_MS)
            return await context.new_page()

        yield open_tab


@pytest.fixture
async def tab(open_tab, stage):
    """A tab of the boss, who was let in."""
    tab = await open_tab()
    await stage.enter(tab)
    return tab


async def lawyers_worker(stage):
    """Start the worker of an agent that asks before it sends e-mails."""
    (stage.directory / "letters.py").write_text(LETTERS)
    human = ("--human", "boss", "--checkpoint", "threads.db")
    return await stage.run("worker", "letters:build", "--agent", "lawyer", *human)


async def write(stage, to, text, **options):
    """Write to a mailbox as ada, for an answer."""
    client = await stage.client("ada")
    return await client.send(to, text, sender="ada", reply_to="ada", correlation_id=text, **options)


async def answers(stage, name):
    """Take what came into the mailbox of somebody."""
    client = await stage.client(name)
    found = await client.fetch(name, group_name=name, max_wait_ms=0)
    for one in found:
        await one.ack()
    return [one.text for one in found]


async def test_1_an_email_is_approved_from_a_phone(stage, open_tab):
    await lawyers_worker(stage)
    phone = await open_tab(**PHONE)
    await stage.enter(phone)
    await expect(phone.get_by_text("Nobody asks you anything")).to_be_visible()
    await write(stage, "lawyer", "Answer the customer.")
    card = phone.locator("[data-item]")
    await expect(card).to_contain_text("We will sue you.")  # by itself
    await expect(phone).to_have_title(re.compile(r"^\(1\)"))
    assert await phone.evaluate("document.documentElement.scrollWidth") <= 390
    await card.get_by_role("button", name="Approve").tap()
    await expect(phone.get_by_role("status").first).to_contain_text("Answered: approve")
    sent = stage.directory / "sent"
    await until(sent.exists)
    assert sent.read_text() == "customer: We will sue you.\n"
    told = []

    async def is_told():
        told.extend(await answers(stage, "ada"))
        return bool(told)

    await until(is_told)
    assert "The letter is sent." in told[0]
    await phone.goto(f"{stage.desk}/decisions")
    await expect(phone.locator("tr[data-item]")).to_contain_text("approve")


async def test_2_it_is_found_why_a_message_is_stuck_and_it_is_freed(stage, tab):
    held = await world.stuck(stage)
    # The page waits ten minutes before it calls a lease long, so one looks for the message.
    await tab.get_by_label("Search").fill(f"parcels/{held}")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("main")).to_contain_text("courier/2")
    await tab.get_by_role("link", name="Give back").click()
    await tab.get_by_role("button", name="Give back").click()
    await expect(tab.locator(".notice")).to_contain_text("given back")
    courier = await stage.client("courier")
    [again] = await courier.fetch("parcels", group_name="parcels", max_wait_ms=2_000)
    assert again.text == "Parcel 7 to berth 3"
    await tab.get_by_role("link", name="Stuck").click()
    await expect(tab.locator("main")).to_contain_text("Timeout: the bank did not answer in 10 s")


async def test_3_two_hosts_are_watched_at_work(stage, tab):
    await world.agents(stage)
    await tab.get_by_role("link", name="Conversations", exact=True).click()
    await expect(tab.locator("main")).to_contain_text("What agents write to each other")
    await world.long_talk(stage, 1)
    await tab.get_by_role("link", name="Line 0").click()  # it came by itself
    await expect(tab.locator("[data-item]")).to_have_count(1)
    await world.long_talk(stage, 4)
    await expect(tab.locator("[data-item]")).to_have_count(5)
    # Messages of one millisecond in two mailboxes may be in any order.
    await expect(tab.locator("[data-item]", has_text="Line 3")).to_have_count(1)
    mark = "verified" if stage.has_users else "claimed"
    await expect(tab.locator("[data-item]").last).to_contain_text(mark)
    await tab.get_by_role("link", name="Agents", exact=True).click()
    await expect(tab.get_by_role("img", name="Who writes to whom")).to_be_visible()


async def test_4_a_run_is_stopped(stage, tab):
    await world.agents(stage)
    courier = await stage.client("courier")
    await write(stage, "courier", "Count all ships.")
    [held] = await courier.fetch(
        "courier", group_name="courier", consumer="courier/1", lease_ms=3_600_000, max_wait_ms=0
    )
    await asyncio.sleep(1.1)  # a run of a second is shown
    await tab.get_by_role("link", name="Agents", exact=True).click()
    card = tab.locator("[data-item]", has_text="Carries parcels")
    await expect(card).to_contain_text("Count all ships.")
    await card.get_by_role("link", name="Stop this run").click()
    await tab.get_by_role("button", name="Stop the run").click()
    await expect(tab.locator(".notice")).to_be_visible()
    status = await courier.mailbox_status("courier", group_name="courier")
    assert not status.group.leased or status.group.pending.total == 0
    told = await answers(stage, "ada")
    assert told, "whoever asked is told"
    assert held.text == "Count all ships."


async def test_5_an_agent_is_found(stage, tab):
    await world.agents(stage)
    await tab.get_by_role("link", name="Agents", exact=True).click()
    await tab.get_by_label("Who can").fill("ships in the harbour")
    await tab.get_by_role("button", name="Find").click()
    await expect(tab.locator("[data-item]").first).to_contain_text("courier")
    await tab.locator("[data-item]").first.get_by_role("link", name="Write to it").click()
    await tab.get_by_label("Message").fill("When does the ship leave?")
    await tab.get_by_role("button", name="Send").click()
    await expect(tab.locator(".notice")).to_be_visible()
    assert await answers(stage, "courier") == ["When does the ship leave?"]


async def test_6_the_cause_of_dead_letters_is_seen_and_40_are_redriven(stage, tab):
    await world.dead_letters(stage, 41)
    await tab.get_by_role("link", name="Stuck").click()
    await tab.get_by_role("link", name="dead 41").click()
    await expect(tab.locator("[data-item]").first).to_contain_text(world.REASON)
    await tab.get_by_role("link", name="Choose all of this page").click()
    await tab.locator("[data-item] input[type=checkbox]").last.uncheck()
    await tab.get_by_role("button", name="Redrive", exact=True).click()
    await expect(tab.locator("main")).to_contain_text("each of these 40 messages")
    await tab.get_by_role("button", name="Redrive").click()
    await expect(tab.locator(".notice")).to_contain_text("40 messages redriven.")
    courier = await stage.client("courier")
    back = await courier.fetch("orders", group_name="orders", max_wait_ms=0)
    assert len({one.text for one in back}) == 40
    assert (await courier.mailbox_status("orders.dead")).stored == 1


async def test_7_a_conversation_of_300_messages_is_read_and_saved(stage, tab):
    await world.long_talk(stage, 300)
    await tab.get_by_role("link", name="Conversations", exact=True).click()
    await tab.get_by_role("link", name="Line 0").click()
    await expect(tab.locator("[data-item]")).to_have_count(300)
    shown = await tab.locator("[data-item] pre.body").all_inner_texts()
    numbers = [int(re.search(r"\d+", one)[0]) for one in shown]
    for who in (0, 1):  # of one second, the lines of the two may be in any order
        assert [one for one in numbers if one % 2 == who] == [*range(who, 300, 2)]
    async with tab.expect_download() as started:
        await tab.get_by_role("link", name="Save as a file").click()
    saved = await (await started.value).path()
    text = saved.read_text("utf-8")
    assert all(f"Line {number}:" in text for number in range(300))
    assert "<script" not in text


async def test_9_100_questions_are_answered_by_keyboard(stage, tab, scale):
    count = 20 if scale == 1 else 100
    await world.questions(stage, count)
    await tab.goto(stage.desk)
    await expect(tab.locator("[data-item]").first).to_be_visible()
    begun = time.perf_counter()
    await tab.keyboard.press("j")
    for left in reversed(range(count)):
        await expect(tab.locator("[data-item]:focus")).to_be_visible()
        await tab.keyboard.press("a")
        title = re.compile(rf"^\({left}\)" if left else "^Desk")
        await expect(tab).to_have_title(title)
    print(f"{count} questions by keyboard: {time.perf_counter() - begun:.1f} s")  # noqa: T201
    decided = [json.loads(one) for one in await answers(stage, "lawyer")]
    assert decided == [{"decisions": [{"type": "approve"}]}] * count
