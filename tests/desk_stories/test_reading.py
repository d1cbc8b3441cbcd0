"""A person watches and reads what agents say, and finds the one that can do something."""

import asyncio

import pytest
from browser import needs_browser
from serving import Serving
from users_file import write_users

from mq9 import Mq9Client
from mq9.models import CONVERSATION
from mq9.questions import TAG, MailedQuestion
from tests.desk_stories.looking import press, read, sees
from tests.desk_stories.programs import DeskProgram

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

# Notes on the page itself when it is loaded anew, which a live page is not.
TOKEN = "an-operator"
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
    await sees(page, "2 messages")
    assert await page.evaluate("window.isSame")

    await press(page, "Is it signed?", "link")
    await sees(page, "Since Monday.")
    await page.evaluate(IS_SAME)
    await client.send("boss", "Thank you.", **asked)
    await sees(page, "Thank you.")
    assert await page.evaluate("window.isSame")

    # What has the keyboard keeps it, and what is opened stays open.
    await client.send("boss", "word\n" * 30, **asked)
    summary = page.locator(".message summary")
    await summary.click()
    link = page.get_by_role("link", name="Answer", exact=True).first
    await link.focus()
    await client.send("boss", "Goodbye.", **asked)
    await sees(page, "Goodbye.")
    assert await summary.locator("..").get_attribute("open") is not None
    assert await link.evaluate("one => one === document.activeElement")

    # Nothing moves while somebody writes, or while the page is hidden.
    await press(page, "Conversations", "link")
    await page.get_by_label("Agent").fill("a")
    await client.send("boss", "And now?", **{**asked, "correlation_id": "more"})
    await sees(page, "And now?")
    assert await page.get_by_label("Agent").input_value() == "a"


async def test_one_conversation_of_300_messages_is_read(client, desk, windows):
    for number in range(0, 300, 2):
        text = f"Line {number}" + ("\nand more" * 30 if number == 150 else "")
        asked = {"sender": "ada", "reply_to": "ada", "correlation_id": f"{number}"}
        await client.send("boss", text, **asked, headers={CONVERSATION: "novel"})
        [message] = await client.fetch("boss", group_name="boss", num_msgs=1)
        await client.reply(message, f"Line {number + 1}", sender="boss")
        await message.ack()
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


async def test_a_question_appears_on_a_server_that_knows_nobody(tmp_path, windows):
    async with Serving(tmp_path, "--memory") as server, Mq9Client(server.url) as client:
        await client.mailbox_create(name="boss")
        with DeskProgram(tmp_path, server.url) as desk:
            page = await windows.open(desk.link)
            await sees(page, "Nobody asks you anything.")
            await page.evaluate(IS_SAME)
            question = MailedQuestion(text="Shall we?").to_json()
            await client.send("boss", question, sender="ada", reply_to="boss", tags=[TAG])
            await sees(page, "Shall we?")
            await client.send("boss", {**question, "text": "Now?"}, reply_to="boss", tags=[TAG])
            await sees(page, "Now?")
            assert await page.evaluate("window.isSame")


async def test_a_broker_restarts_under_the_page(tmp_path, windows):
    users = str(write_users(tmp_path, f'[[users]]\nrole = "operator"\ntoken = "{TOKEN}"\n'))
    data = ("--data", str(tmp_path / "mq9.db"), "--users", users)
    async with Serving(tmp_path, *data) as server:
        url = server.url.replace("//", f"//{TOKEN}@")
        async with Mq9Client(url) as client:
            for name in ("boss", "ada"):
                await client.mailbox_create(name=name)
            await client.send("boss", "Before.", sender="ada", correlation_id="one")
        with DeskProgram(tmp_path, url) as desk:
            page = await windows.open(desk.link)
            await press(page, "Conversations", "link")
            await sees(page, "Before.")
            await page.evaluate(IS_SAME)
            server.kill()
            await asyncio.to_thread(server.start)
            async with Mq9Client(url) as client:
                await client.send("boss", "After.", sender="ada", correlation_id="two")
            await sees(page, "After.")  # by itself
            assert await page.evaluate("window.isSame")
            await press(page, "Desk", "link")
            await sees(page, "Nobody asks you anything.")
