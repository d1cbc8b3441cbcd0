"""Every screen, with content and without, light and dark, wide and narrow, looked at by axe."""

import json

import pytest
from axe_playwright_python.async_playwright import Axe
from browser import needs_browser

from mq9.questions import TAG, Action, MailedQuestion

pytestmark = [pytest.mark.programs, pytest.mark.slow, pytest.mark.unmeasured, needs_browser]

LOOKS = (("light", 1280), ("dark", 390), ("dark", 1280), ("light", 390))
EMPTY = ("", "/decisions", "/conversations", "/agents", "/stuck", "/mailboxes", "/search")
FULL = (
    *EMPTY,
    "?later=1",
    "/questions/0",
    "/conversations/one?id=/boss/0",
    "/conversations/write?answers=boss/0",
    "/conversations/write?forwards=boss/0",
    "/conversations/write",
    "/stuck?kind=dead",
    "/stuck/settle?what=error&item=orders/1/orders",
    "/stuck/settle?what=redrive&mailbox=orders.dead",
    "/mailboxes/one?mailbox=orders",
    "/mailboxes/message?mailbox=orders.dead&id=0",
    "/mailboxes/message?mailbox=nowhere&id=0",
    "/search?q=order",
)


async def findings(page):
    """What axe finds serious or critical on a page: the rule, and where."""
    found = (await Axe().run(page)).response["violations"]
    return [
        (one["id"], one["impact"], [node["html"][:160] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]


async def all_findings(page, desk, paths, looks=LOOKS):
    """What it finds on pages, light and dark, wide and narrow."""
    told = {}
    for path in paths:
        await page.goto(f"{desk.at}{path}")
        for scheme, width in looks:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": 900})
            is_wider = "document.documentElement.scrollWidth > innerWidth"
            found = await findings(page)
            found += [("wider than the window",)] * await page.evaluate(is_wider)
            if found:
                told[path, scheme, width] = found
    return told


async def fill(client):
    """Put something on every screen."""
    for name in ("orders", "orders.dead", "lawyer"):
        await client.mailbox_create(name=name, desc=f"Mail of {name}")
    await client.agent_register(
        {"name": "lawyer", "mailbox": "lawyer", "description": "Reads contracts"}
    )
    letter = Action(name="send_email", args={"to": "customer", "text": "We sue.\nSoon.", "n": 2})
    for number, actions in enumerate([(letter,), (), (letter, letter)]):
        question = MailedQuestion(text=f"May I send {number}?", value={"a": 1}, actions=actions)
        own = {"sender": "lawyer", "reply_to": "lawyer", "correlation_id": f"{number}"}
        own["priority"] = ["critical", "urgent", "normal"][number]
        await client.send("boss", question.to_json(), **own, tags=[TAG])
    for number in range(4):
        own = {"sender": "ada", "reply_to": "ada", "correlation_id": f"order {number}"}
        await client.send("orders", f"order {number}", **own)
    fetched = await client.fetch("orders", group_name="orders", consumer="w/1", lease_ms=900_000)
    dead, _held, failed, answered = fetched
    await client.move(dead, to="orders.dead", reason="LookupError: no price")
    await failed.nack(delay=3_600, reason="the shop is closed")
    await client.reply(answered, {"type": "done", "price": 3}, sender="orders")
    await answered.ack()


async def test_axe_finds_nothing_serious_on_empty_screens(client, desk, windows, scale):
    page = await windows.open(desk.link)
    told = await all_findings(page, desk, EMPTY, LOOKS[:2] if scale == 1 else LOOKS)
    assert not told, json.dumps({str(where): one for where, one in told.items()}, indent=1)


async def test_axe_finds_nothing_serious_on_screens_with_content(client, desk, windows, scale):
    await fill(client)
    page = await windows.open(desk.link)
    later = page.locator("article", has_text="May I send 2?")
    await later.get_by_role("button", name="Not now").click()
    told = await all_findings(page, desk, FULL, LOOKS[:2] if scale == 1 else LOOKS)
    assert not told, json.dumps({str(where): one for where, one in told.items()}, indent=1)


async def test_axe_finds_nothing_serious_where_one_gets_in(desk, windows):
    page = await windows.open(desk.at)  # without the link
    told = await all_findings(page, desk, ("",))
    assert not told, told
