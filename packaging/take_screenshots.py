"""Take the pictures of the desk that the guide shows, of a broker filled as in life.

The broker's clock is moved by hand, so that the pictures say the same each time.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, async_playwright

from mq9 import Mq9Client
from mq9.desk.app import Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES
from mq9.http.port import listening, serving
from mq9.models import Priority
from mq9.questions import TAG, Action, MailedQuestion
from mq9.testing import FakeBroker

OUT = Path(__file__).parents[1] / "docs/assets/desk"
COLOURS = 64
PATHS = {
    "desk": "/desk",
    "edit": "/desk/questions/1",
    "conversations": "/desk/conversations",
    "agents": "/desk/agents",
    "stuck": "/desk/stuck",
    "mailboxes": "/desk/mailboxes",
}
SIZES = {"wide": (1280, 800), "narrow": (390, 780)}


async def fill(broker: FakeBroker) -> None:
    """Fill a broker: agents, questions, a conversation, a stuck message, dead letters."""
    async with broker.client() as client:
        for name, does in (
            ("planner", "Plans journeys and asks the others"),
            ("fares", "Knows fares and time tables of trains"),
            ("lawyer", "Answers letters of customers; asks before it sends one"),
            ("shop", "Buys what others order, up to 500 euros without asking"),
        ):
            await client.agent_register({"name": name, "payload": does})
        for name in ("boss", "shop.dead", "planner.answers"):
            await client.mailbox_create(name=name)
        await _conversation(client, broker)
        await _stuck(client, broker)
        await _questions(client, broker)


async def _conversation(client: Mq9Client, broker: FakeBroker) -> None:
    asked = {"from": "Bern", "to": "Zagreb", "day": "Friday", "travellers": 2}
    await client.send(
        "fares", asked, sender="planner", reply_to="planner.answers", correlation_id="trip-7"
    )
    await broker.clock.advance(4)
    [message] = await client.fetch("fares", group_name="fares", consumer="fares/1", max_wait_ms=0)
    await message.reply({"train": "EC 7", "changes": 1, "euros": 218}, sender="fares")
    await message.ack()
    await broker.clock.advance(30)


async def _stuck(client: Mq9Client, broker: FakeBroker) -> None:
    for number in range(3):
        await client.send(
            "shop",
            {"order": 40 + number, "item": "seat reservation"},
            sender="planner",
            reply_to="planner.answers",
            correlation_id=f"order-{40 + number}",
        )
    found = await client.fetch(
        "shop", group_name="shop", consumer="shop/1", lease_ms=3_600_000, max_wait_ms=0
    )
    for message in found[:2]:
        await client.move(
            "shop",
            "shop",
            message.msg_id,
            to="shop.dead",
            reason="ConnectionError: the shop's website does not answer",
            consumer="shop/1",
        )
    await broker.clock.advance(1_500)


async def _questions(client: Mq9Client, broker: FakeBroker) -> None:
    letter = Action(
        name="send_email",
        args={
            "to": "customer@example.org",
            "subject": "Your complaint",
            "text": "We will sue you.",
        },
    )
    order = Action(name="buy", args={"item": "seat reservation", "euros": 700})
    now = round(broker.clock.now_ms() / 1000)
    for sender, text, action, priority, expires in (
        ("shop", "May I spend 700 euros?", order, Priority.NORMAL, now + 7_200),
        ("lawyer", "May I send this letter?", letter, Priority.URGENT, now + 900),
    ):
        question = MailedQuestion(text=text, actions=(action,), expires=expires)
        await client.send(
            "boss",
            question.to_json(),
            tags=[TAG],
            sender=sender,
            priority=priority,
            reply_to="planner.answers",
            correlation_id=f"ask-{sender}",
        )
    await broker.clock.advance(60)


async def shoot(browser: Browser, desk: Desk, at: str) -> int:
    """Take all pictures; return how many bytes they have."""
    size = 0
    for scheme in ("light", "dark"):
        for width, (wide, high) in SIZES.items():
            context = await browser.new_context(
                viewport={"width": wide, "height": high}, color_scheme=scheme
            )
            page = await context.new_page()
            await page.goto(f"{at}/desk/enter?link={desk.link.renew()}")
            for name, path in PATHS.items():
                await page.goto(at + path)
                await page.wait_for_load_state("load")
                file = OUT / f"{name}-{width}-{scheme}.png"
                picture = Image.open(io.BytesIO(await page.screenshot()))
                picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
                size += file.stat().st_size
            await context.close()
    return size


async def main() -> None:
    """Fill a broker, serve its desk, and take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Install chromium: make browser")
    OUT.mkdir(parents=True, exist_ok=True)
    async with FakeBroker(autojump=False) as broker:
        await fill(broker)
        desk = Desk(OnePerson(broker.client), broker.clock, only=Person.named("boss"))
        with await listening("port", "127.0.0.1", 0) as listener:
            at = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                desk.clients.running(),
                serving(standalone(make_routes(desk, ROUTES)), listener),
                async_playwright() as playwright,
                await playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
                ) as browser,
            ):
                size = await shoot(browser, desk, at)
    print(f"{len(PATHS) * len(SIZES) * 2} pictures, {size // 1024} KiB, in {OUT}")


if __name__ == "__main__":
    asyncio.run(main())
