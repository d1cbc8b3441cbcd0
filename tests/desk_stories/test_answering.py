"""A person answers questions: from a phone, in two tabs, after going back, by keyboard."""

import asyncio
import time

import pytest
from browser import needs_browser
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from waiting import until

from langchain_mq9 import MailboxWorker
from langchain_mq9.testing import ScriptedModel, call
from mq9.questions import TAG, Action, MailedQuestion
from tests.desk_stories.looking import loads_until, press, read, sees

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

PHONE = 390


class Letters:
    """An agent that sends e-mails only with somebody's consent, and what it has sent."""

    def __init__(self, *texts):
        self.sent = []
        script = []
        for text in texts:
            script += [call("send_email", to="customer", text=text), f"Sent: {text}"]
        self._script = script

    def compile(self):
        @tool
        def send_email(to: str, text: str) -> str:
            """Send an e-mail."""
            self.sent.append((to, text))
            return f"sent to {to}"

        return create_agent(
            ScriptedModel(*self._script),
            [send_email],
            middleware=[HumanInTheLoopMiddleware({"send_email": True})],
            checkpointer=InMemorySaver(),
        )


async def replies(client, count):
    """Wait for so many messages to ada; their texts."""

    async def are_there():
        return len(await client.query("ada")) >= count

    await until(are_there)
    return [one.text for one in await client.query("ada")]


async def fits(page):
    """Tell whether nothing is wider than the window."""
    return await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
async def test_an_e_mail_is_approved_and_another_is_edited_on_a_phone(
    client, desk, windows, script
):
    page = await windows.open(desk.link, width=PHONE, height=844, script=script, has_touch=True)
    await sees(page, "Nobody asks you anything.", "mq9 worker letters:build")
    letters = Letters("We thank you.", "We will sue you.")

    async def comes(text):
        await client.send("lawyer", "Answer the customer.", reply_to="ada", sender="ada")
        if script:
            await sees(page, text)  # by itself
        else:
            await loads_until(page, text)

    async with MailboxWorker(letters.compile(), agent="lawyer", human="boss", client=client):
        await comes("We thank you.")
        asked = await read(page)
        assert "lawyer" in asked
        assert "waits until you answer" in asked
        assert script is False or await fits(page)
        await press(page, "Approve")
        await sees(page, "Answered: approve")
        await sees(page, "Nobody asks you anything.")
        await replies(client, 1)
        assert letters.sent == [("customer", "We thank you.")]

        await comes("We will sue you.")
        await press(page, "Edit", "link")
        await page.get_by_label("text", exact=True).fill("Let us talk.")
        await press(page, "See the change")
        await sees(page, "Your change")
        assert "We will sue you." in await page.locator("del").inner_text()
        assert "Let us talk." in await page.locator("ins").inner_text()
        assert letters.sent[1:] == []  # looking at it changes nothing
        assert script is False or await fits(page)
        await press(page, "Send")
        await sees(page, "Answered: edit")
        await replies(client, 2)
        assert letters.sent[1:] == [("customer", "Let us talk.")]

    await press(page, "Decisions", "link")
    await sees(page, "edit", "lawyer", "boss")


async def ask(client, text, *, to="boss", **options):
    """Mail a question of ada to somebody, about one action."""
    action = Action(name="send_email", args={"to": "customer", "text": text})
    question = MailedQuestion(text=text, actions=(action,)).to_json()
    own = {"sender": "ada", "reply_to": "ada", "correlation_id": text}
    return await client.send(to, question, **own | options, tags=[TAG])


async def test_two_tabs_decide_a_question_once(client, desk, windows):
    one = await windows.open(desk.link)
    two = await one.context.new_page()
    for number in range(3):
        text = f"Question {number}?"
        await ask(client, text)
        for page in (one, two):
            await page.goto(desk.at)
            await sees(page, text)
            await page.evaluate("source.close()")  # it hears nothing of the other
        if number == 0:  # one after the other
            await press(one, "Approve")
            await press(two, "Approve")
            await sees(two, "message not found: ")
            await sees(two, "Nobody asks you anything.")
        else:  # both at once, with different words
            await two.locator("details[data-key=r] summary").click()
            await asyncio.gather(press(one, "Approve"), press(two, "Reject"))
            await sees(one, "Nobody asks you anything.")
            await sees(two, "Nobody asks you anything.")
        assert len(await replies(client, number + 1)) == number + 1
        await press(one, "Decisions", "link")
        assert await one.locator("tbody tr").count() == number + 1


async def test_back_and_forward_show_what_is_open_now(client, desk, windows):
    for text in ("Send it?", "Burn it?"):
        await ask(client, text)
    page = await windows.open(desk.link)
    await sees(page, "Send it?")
    await press(page, "Edit", "link")
    await sees(page, "Edit")
    await page.go_back()
    await press(page, "Approve")
    await sees(page, "Answered: approve")
    await page.go_forward()
    await page.go_back()
    await page.go_back()
    await page.go_forward()
    await press(page, "Decisions", "link")
    await page.go_back()
    await sees(page, "Burn it?")
    assert await page.get_by_role("article").count() == 1
    await press(page, "Approve")
    await sees(page, "Nobody asks you anything.")
    assert len(await replies(client, 2)) == 2


@pytest.mark.slow
async def test_100_questions_are_answered_by_keyboard(client, desk, windows, scale):
    count = 20 if scale == 1 else 100
    for number in range(count):
        await ask(client, f"Question {number}?")
    page = await windows.open(desk.link)
    await sees(page, f"{count} open questions")
    begun = time.monotonic()
    await page.keyboard.press("j")
    for left in reversed(range(count)):
        async with page.expect_navigation():
            await page.keyboard.press("r" if left % 10 == 0 else "a")
            if left % 10 == 0:
                await page.keyboard.type("Not today.")
                await page.keyboard.press("Tab")
                await page.keyboard.press("Enter")
        await page.get_by_text(f"{left} open question").first.wait_for()
    taken = time.monotonic() - begun
    print(f"{count} questions by keyboard: {taken:.1f} s")  # noqa: T201 - asked for, never asserted
    texts = await replies(client, count)
    assert sum("reject" in text for text in texts) == count // 10
    assert sum("approve" in text for text in texts) == count - count // 10
