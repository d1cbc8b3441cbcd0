"""The desk when the network, a tab, a worker or the broker is not as one would wish."""

import asyncio
import json
import re

import pytest
from browser import needs_browser
from playwright.async_api import expect
from waiting import until

from tests.desk_stories import world
from tests.desk_stories.stage import OnFile, OnServer
from tests.desk_stories.test_kills import TASKS
from tests.desk_stories.test_stories import answers

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]


@pytest.fixture
async def desk(tmp_path):
    async with OnFile(tmp_path) as stage:
        await world.meet(stage)
        yield stage


@pytest.fixture
async def tab(open_tab, desk):
    tab = await open_tab()
    await desk.enter(tab)
    return tab


async def test_10a_a_page_goes_on_when_its_broker_is_back(tmp_path, open_tab):
    async with OnServer(tmp_path) as broker:
        await world.meet(broker)
        async with OnFile(tmp_path, broker.broker_url("boss")) as stage:
            tab = await open_tab()
            await stage.enter(tab)
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(broker.start)
            await world.ask(broker, "Are you back?", world.LETTER)
            await expect(tab.locator("[data-item]")).to_contain_text("Are you back?")
            await tab.get_by_role("button", name="Approve").first.click()
            await expect(tab.locator(".notice")).to_contain_text("Answered: approve")


async def test_10b_a_page_of_a_server_goes_on_after_a_login(tmp_path, open_tab):
    async with OnServer(tmp_path) as stage:
        await world.meet(stage)
        tab = await open_tab()
        await stage.enter(tab)
        await asyncio.to_thread(stage.kill)
        await asyncio.to_thread(stage.start)
        await world.ask(stage, "Are you back?", world.LETTER)
        await tab.wait_for_url(f"{stage.desk}/login")  # by itself; sessions end with the server
        await stage.enter(tab)
        await expect(tab.locator("[data-item]")).to_contain_text("Are you back?")


async def test_two_tabs_decide_once(desk, tab):
    await world.ask(desk, "Send it?", world.LETTER)
    await tab.goto(desk.desk)
    other = await tab.context.new_page()
    await other.goto(desk.desk)
    await asyncio.gather(
        tab.get_by_role("button", name="Approve").first.click(),
        other.locator("[data-item] summary", has_text="Reject").click(),
    )
    await expect(tab.locator(".notice")).to_contain_text("Answered: approve")
    await other.get_by_role("button", name="Reject").first.click()
    await expect(other.locator(".notice.problem")).to_be_visible()
    assert [json.loads(one) for one in await answers(desk, "lawyer")] == [
        {"decisions": [{"type": "approve"}]}
    ]


async def test_back_and_forward_show_what_is_true_now(desk, tab):
    await world.ask(desk, "Send it?", world.LETTER)
    await tab.goto(desk.desk)
    await tab.get_by_role("button", name="Approve").first.click()
    await expect(tab.locator(".notice")).to_contain_text("Answered")
    await tab.get_by_role("link", name="Decisions").click()
    await expect(tab.locator("tr[data-item]")).to_have_count(1)
    await tab.go_back()
    await expect(tab.get_by_text("Nobody asks you anything")).to_be_visible()
    await tab.go_forward()
    await expect(tab.locator("tr[data-item]")).to_have_count(1)
    assert len(await answers(desk, "lawyer")) == 1


async def test_a_slow_network_sends_an_impatient_click_once(desk, tab):
    await world.ask(desk, "Send it?", world.LETTER)
    await tab.goto(desk.desk)
    cdp = await tab.context.new_cdp_session(tab)
    slow = {
        "offline": False,
        "latency": 700,
        "downloadThroughput": 20_000,
        "uploadThroughput": 20_000,
    }
    await cdp.send("Network.emulateNetworkConditions", slow)
    await tab.get_by_role("button", name="Approve").first.dblclick(no_wait_after=True)
    await expect(tab.locator(".notice")).to_contain_text("Answered: approve")
    assert len(await answers(desk, "lawyer")) == 1


async def test_what_is_being_written_is_not_lost_when_mail_comes(desk, tab):
    await world.ask(desk, "Send it?", world.LETTER)
    await tab.goto(desk.desk)
    await tab.keyboard.press("j")
    await tab.keyboard.press("r")
    await tab.keyboard.type("Not before ")
    await world.ask(desk, "And this?", world.LETTER)
    await asyncio.sleep(2.5)  # the page is told within a second, and lets it be
    await tab.keyboard.type("May.")
    await expect(tab.locator("textarea:focus")).to_have_value("Not before May.")


async def test_a_worker_that_is_killed_while_one_answers_gets_the_answer_later(desk, tab):
    (desk.directory / "tasks.py").write_text(TASKS)
    options = ("--human", "boss", "--checkpoint", "threads.db")
    worker = await desk.run("worker", "tasks:build", "--agent", "lawyer", *options)
    ada = await desk.client("ada")
    await ada.send("lawyer", {"task": 7}, sender="ada", reply_to="ada", correlation_id="7")
    await expect(tab.locator("[data-item]")).to_contain_text("May I do task 7?")
    worker.kill()
    await tab.get_by_label("Answer").fill("yes")
    await tab.get_by_role("button", name="Send the answer").click()
    await expect(tab.locator("main")).to_contain_text("not confirmed yet")
    await asyncio.to_thread(worker.start)
    journal = desk.directory / "journal"
    await until(journal.exists)
    await expect(tab.get_by_text("Nobody asks you anything")).to_be_visible()
    assert journal.read_text() == "7 yes\n"


async def test_by_keyboard_alone_one_finds_edits_and_leaves(desk, tab):
    await world.ask(desk, "Send it?", world.LETTER)
    await tab.goto(desk.desk)
    await tab.keyboard.press("Tab")
    await expect(tab.locator(":focus")).to_have_text("Skip to the page")
    await tab.keyboard.press("?")
    await expect(tab.locator("#keys")).to_have_attribute("open", "")
    await tab.keyboard.press("j")
    await tab.keyboard.press("e")
    await expect(tab.locator("h1")).to_have_text("Question 0")
    await tab.get_by_label("subject").focus()
    await tab.keyboard.press("Control+a")
    await tab.keyboard.type("Your tea")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("ins")).to_contain_text("Your tea")
    await tab.keyboard.press("s")
    await expect(tab.locator(".notice")).to_contain_text("Answered")
    [told] = [json.loads(one) for one in await answers(desk, "lawyer")]
    assert told["decisions"][0]["edited_action"]["args"]["subject"] == "Your tea"
    assert told["decisions"][0]["edited_action"]["args"]["text"] == world.LETTER.args["text"]


async def test_without_javascript_one_approves_finds_and_redrives(desk, open_tab):
    tab = await open_tab(java_script_enabled=False)
    await desk.enter(tab)
    await world.ask(desk, "Send it?", world.LETTER)
    await world.agents(desk)
    await world.dead_letters(desk)
    await tab.goto(desk.desk)
    await tab.get_by_role("button", name="Approve").first.click()
    await expect(tab.locator(".notice")).to_contain_text("Answered: approve")
    await tab.get_by_role("link", name="Agents", exact=True).click()
    await tab.get_by_label("Who can").fill("ships in the harbour")
    await tab.get_by_role("button", name="Find").click()
    await expect(tab.locator("[data-item]").first).to_contain_text("courier")
    await tab.get_by_role("link", name="Stuck").click()
    await tab.get_by_role("link", name="dead 41").click()
    await tab.get_by_label("Mailbox").last.fill("orders.dead")
    await tab.get_by_label("Text in their reason").fill("shop.example")
    await tab.get_by_role("button", name="Redrive all that match").click()
    await tab.get_by_role("button", name="Redrive").click()
    await expect(tab.locator(".notice")).to_contain_text(re.compile("41 messages redriven"))
