"""A person watches and reads what agents say, and finds the one that can do something."""

import asyncio

import pytest
from browser import needs_browser
from serving import Serving
from waiting import until

from mq9 import Mq9Client
from tests.desk_stories.looking import press, read, sees
from tests.desk_stories.programs import DeskProgram

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

# Notes on the page itself when it is loaded anew, which a live page is not.
IS_SAME = "window.isSame = true"


async def test_mail_of_two_agents_appears_while_one_looks(client, desk, windows):
    page = await windows.open(desk.link)
    await press(page, "Conversations", "link")
    await page.evaluate(IS_SAME)
    asked = {"sender": "ada", "reply_to": "ada", "correlation_id": "contract"}
    await client.send("boss", "Is it signed?", **asked)
    await sees(page, "Is it signed?")
    [message] = await client.fetch("boss", group_name="boss")
    await client.reply(message, "Since Monday.", sender="boss")
    await message.ack()
    await sees(page, "answered")
    assert await page.evaluate("window.isSame")

    await press(page, "Is it signed?", "link")
    await sees(page, "Since Monday.")
    await page.evaluate(IS_SAME)
    await client.send("boss", "Thank you.", **asked)
    await sees(page, "Thank you.")
    assert await page.evaluate("window.isSame")

    # Nothing moves while somebody writes, or while the page is hidden.
    await press(page, "Conversations", "link")
    await page.get_by_label("Agent").fill("a")
    await client.send("boss", "And now?", **{**asked, "correlation_id": "more"})
    await sees(page, "And now?")
    assert await page.get_by_label("Agent").input_value() == "a"


async def test_one_conversation_of_300_messages_is_read(client, desk, windows):
    last = None
    for number in range(300):
        to, sender = ("boss", "ada") if number % 2 == 0 else ("ada", "boss")
        await client.send(
            to,
            f"Line {number}" + ("\nand more" * 30 if number == 150 else ""),
            sender=sender,
            reply_to=sender,
            correlation_id="novel",
        )
        last = number
    assert last == 299
    page = await windows.open(desk.link)
    await press(page, "Conversations", "link")
    assert await page.locator("#conversations .card, tbody tr").count() <= 2
    await page.locator("#conversations a[href*='conversations/one']").first.click()
    await sees(page, "300 messages.")
    assert await page.locator(".message").count() == 300
    texts = await page.locator(".message pre").all_inner_texts()
    lines = [one.splitlines()[0] if one else "" for one in texts]
    assert [one for one in lines if one] == [f"Line {n}" for n in range(300) if n != 150]
    summary = page.locator(".message details summary")
    await summary.click()
    await page.get_by_text("and more").nth(1).wait_for()
    async with page.expect_download() as begun:
        await page.get_by_role("link", name="Save as a file").click()
    saved = await (await begun.value).path()
    assert saved.read_text("utf-8").count("<li ") == 300


async def test_an_agent_is_found_by_what_it_can_do(client, desk, windows):
    skills = {
        "carla": "Reviews Python code for bugs and style",
        "dora": "Cooks Italian dinners",
        "emil": "Books flights and hotels",
    }
    for name, about in skills.items():
        await client.mailbox_create(name=name)
        await client.agent_register({"name": name, "mailbox": name, "description": about})
    page = await windows.open(desk.link)
    await press(page, "Agents", "link")
    await sees(page, *skills.values())
    await page.get_by_label("Who can").fill("find mistakes in a program")
    await press(page, "Find")
    await sees(page, "Ranked by ")
    first = await page.locator("#agents .card h2").first.inner_text()
    assert first.startswith("carla"), await read(page)
    await press(page, "Write to it", "link")
    await page.get_by_label("Message").fill("Please review this.")
    await press(page, "Send")
    await sees(page, "Sent to carla, as message 0.")
    [message] = await client.query("carla")
    assert (message.text, message.sender, message.reply_to) == (
        "Please review this.",
        "boss",
        "boss",
    )


async def test_a_broker_restarts_under_the_page(tmp_path, windows):
    async with Serving(tmp_path, "--data", str(tmp_path / "mq9.db")) as server:
        async with Mq9Client(server.url) as client:
            for name in ("boss", "ada"):
                await client.mailbox_create(name=name)
            await client.send("boss", "Before.", sender="ada", correlation_id="one")
        with DeskProgram(tmp_path, server.url) as desk:
            page = await windows.open(desk.link)
            await press(page, "Conversations", "link")
            await sees(page, "Before.")
            await page.evaluate(IS_SAME)
            server.kill()
            await asyncio.to_thread(server.start)
            async with Mq9Client(server.url) as client:
                await client.send("boss", "After.", sender="ada", correlation_id="two")
            await sees(page, "After.")  # by itself
            assert await page.evaluate("window.isSame")
            await press(page, "Desk", "link")
            await page.get_by_role("heading", name="Desk").wait_for()

            async def is_quiet():
                return "cannot look for changes" in desk.told

            await until(is_quiet)
