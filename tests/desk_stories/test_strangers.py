"""Text of strangers stays text in a browser: 200 payloads in every field that they fill."""

import asyncio
import itertools
from urllib.parse import urlencode, urlsplit

import pytest
from browser import needs_browser
from serving import Serving

from mq9 import InvalidRequest, Mq9Client
from mq9.models import CONVERSATION
from mq9.operations.message_views import visible
from mq9.questions import TAG, Action, MailedQuestion
from tests.desk_stories.looking import sees
from tests.desk_stories.payloads import payloads

pytestmark = [pytest.mark.programs, pytest.mark.slow, pytest.mark.unmeasured, needs_browser]

_TABS = 3
_EACH = 50  # of the pages that show one thing, unless the test is scaled

# What on a page is not the desk's: an element or an attribute that it has nowhere.
FOREIGN = """() => {
  const found = [];
  const never = "iframe,object,embed,img,video,audio,base,style,template,portal,frameset," +
    "noscript,math,marquee,dialog,animate,use,foreignObject,meta[http-equiv],[style],[srcdoc],[popover]";
  for (const one of document.querySelectorAll(never)) found.push(one.outerHTML);
  for (const one of document.querySelectorAll("*")) {
    for (const { name, value } of one.attributes) {
      const isLink = ["href", "src", "action", "formaction", "xlink:href", "data"].includes(name);
      const isOurs = !isLink || new URL(value, location.href).origin === location.origin;
      if (name.startsWith("on") || !isOurs) found.push(one.outerHTML);
    }
  }
  if (document.querySelectorAll("script").length !== 1) found.push("a script");
  return found;
}"""


async def send(client, number, text):
    """Let a stranger fill in every field that takes a text."""
    for options in fields(text):
        try:
            await client.send(f"box.{number}", text, **options)
            break
        except InvalidRequest:  # some fields take no control characters
            continue
    else:
        raise AssertionError(text)
    schema = {"type": "object", "properties": {text: {"type": "string", "description": text}}}
    action = Action(name=text, args={text: text, "to": {text: [text]}}, text=text, schema=schema)
    question = MailedQuestion(text=text, value={text: text}, actions=(action,), problem=text)
    own = {**options, "key": f"{number}", "reply_to": "lost"}
    await client.send("boss", question.to_json(), **{**own, "tags": [TAG]})
    name = f"agent {plain(text)}"[:128]
    card = {"description": text, "skills": [{"name": text, "description": text}]}
    await client.agent_register({"name": name, "mailbox": f"box.{number}", **card})
    await client.agent_report({"mailbox": f"box.{number}", "status": text, text: text})


def plain(text):
    """The text without control characters, which names may not have."""
    return visible(text).replace("\t", "<U+0009>")


def fields(text):
    """The options of a message with a text in them: as it is, then so that headers take it."""
    for one in (text, plain(text), plain(text).encode("ascii", "replace").decode()):
        tag = one.replace(",", ";")[:64].strip()
        yield {
            "sender": one,
            "key": one,
            "correlation_id": one,
            "tags": [tag],
            "path": [tag],
            "headers": {CONVERSATION: one, "x-note": one},
        }


async def fill(client, texts):
    for name in ("boss", "lost", "inbox", "inbox.dead"):
        await client.mailbox_create(name=name)
    for number, text in enumerate(texts):
        await client.mailbox_create(name=f"box.{number}", desc=text, public=True)
        await send(client, number, text)
        error = {"type": "error", "code": text, "reason": text, "reference": text}
        await client.send("lost", error, sender=plain(text), headers={"error": "1"})
        await client.send("inbox", text, sender=plain(text))
    for number, text in enumerate(texts):
        [held] = await client.fetch("inbox", group_name="work", consumer=plain(text), num_msgs=1)
        if number % 2:
            await client.move(held, to="inbox.dead", reason=text)
        else:
            await held.nack(delay=3_600, reason=text)


def urls(texts, each):
    """The paths of all screens; of those that show one thing, those of every so many."""
    for first in range(0, len(texts), 50):
        yield f"?from={first}"
    yield from ("", "/decisions", "/mailboxes", "/stuck", "/conversations", "/agents")
    for page in range(1, len(texts) // 50 + 1):
        yield f"/agents?page={page}"
    for kind, box in (("retrying", "inbox"), ("dead", "inbox.dead"), ("unread", "")):
        yield "/stuck?" + urlencode({"kind": kind, "mailbox": box})
    for box, before in itertools.product(("inbox", "inbox.dead", "lost"), (50, 100, 150, 200)):
        yield "/mailboxes/one?" + urlencode({"mailbox": box, "before": before})
    for first in range(0, len(texts), 25):
        yield f"/mailboxes?after=box.{first}"
        yield f"/mailboxes/one?mailbox=box.{first}"
    ways = (
        lambda number, _: f"/questions/{number}",
        lambda number, _: f"/mailboxes/message?mailbox=box.{number}&id=0",
        lambda number, _: f"/mailboxes/message?mailbox=boss&id={number}",
        lambda number, _: f"/conversations/one?id=/box.{number}/0",
        lambda number, _: f"/conversations/one?id=/lost/{number}",
        lambda number, _: f"/conversations/write?answers=box.{number}/0",
        lambda number, _: f"/conversations/write?forwards=boss/{number}",
        lambda number, _: f"/mailboxes/message?mailbox=inbox&id={number}",
        lambda number, _: f"/mailboxes/message?mailbox=inbox.dead&id={number // 2}",
        lambda _, text: "/search?" + urlencode({"q": text}),
        lambda _, text: "/agents?" + urlencode({"q": text}),
        lambda _, text: "/conversations?" + urlencode({"text": text, "agent": text}),
        lambda _, text: "/conversations/one?" + urlencode({"id": text}),
        lambda _, text: "/conversations/write?" + urlencode({"to": text}),
        lambda _, text: "/mailboxes/one?" + urlencode({"mailbox": "inbox", "group": text}),
        lambda _, text: "/mailboxes/one?" + urlencode({"mailbox": text}),
        lambda _, text: (
            "/stuck/settle?" + urlencode({"what": "drop", "item": f"inbox/1/{text}", "back": text})
        ),
        lambda _, text: (
            "/stuck/settle?"
            + urlencode({"what": "redrive", "mailbox": "inbox.dead", "match": text, "back": "//x"})
        ),
        lambda _, text: "/stuck?" + urlencode({"kind": text, "mailbox": text}),
    )
    for shift, way in enumerate(ways):
        for number in range(shift % each, len(texts), each):
            yield way(number, texts[number])


@pytest.fixture
async def server(tmp_path):
    options = ("--memory", "--desk", "--desk-as", "boss")
    async with Serving(tmp_path, *options, admin=True) as server:
        yield server


async def test_none_of_200_payloads_runs_in_any_field(server, windows, scale, tmp_path):
    texts = payloads()
    assert len(set(texts)) == 200
    async with Mq9Client(server.url) as client:
        await fill(client, texts)
    ran = []
    # Without the policy that would keep scripts from running, so that only what is escaped is safe.
    page = await windows.open(bypass_csp=True)
    await page.context.expose_binding("pwned", lambda _source, number: ran.append(number))
    await page.goto(server.desk)
    desk, *_ = server.desk.split("/enter")
    origin = desk.removesuffix("/desk")
    waiting = list(urls(texts, _EACH if scale == 1 else 1))
    shown = len(waiting)
    asked = []

    async def look(tab):
        while waiting:
            path = waiting.pop()
            await tab.goto(f"{desk}{path}")
            assert await tab.evaluate(FOREIGN) == [], path
            assert tab.url.startswith(f"{desk}"), path
            if path.startswith("?from="):
                asked.extend(await tab.locator(".ask").all_inner_texts())

    tabs = [page, *[await page.context.new_page() for _ in range(_TABS - 1)]]
    await asyncio.gather(*map(look, tabs))
    assert ran == []
    assert {urlsplit(one)[:2] for one in windows.asked} == {urlsplit(origin)[:2]}
    assert sorted(asked) == sorted(map(visible, texts))

    # What is decided is listed with who asked and what.
    await page.goto(desk)
    for _ in range(4):
        await page.get_by_label("Tick all").check()
        await (
            page.get_by_role("group", name="With the ticked ones")
            .get_by_role("button", name="Approve")
            .click()
        )
        await sees(page, "50 of 50 done.")
    await page.goto(f"{desk}/decisions")
    assert await page.evaluate(FOREIGN) == []
    assert ran == []

    # And with the policy, as people look: it has nothing to report, and neither has a saved file.
    policed = await windows.open()
    await policed.context.add_cookies(await page.context.cookies())
    for path in ("", "/decisions", "/conversations", "/agents", "/stuck", "/mailboxes"):
        await policed.goto(f"{desk}{path}")
        assert await policed.evaluate(FOREIGN) == [], path
    for number in range(0, len(texts), _EACH):
        saved = await policed.request.get(f"{desk}/conversations/saved?id=/box.{number}/0")
        assert saved.status == 200
        (tmp_path / "saved.html").write_bytes(await saved.body())
        await page.goto((tmp_path / "saved.html").as_uri())
        assert await page.locator("script, img, iframe, svg, a[href^=javascript]").count() == 0
    assert ran == []
    print(f"{len(texts)} payloads, {shown} pages")  # noqa: T201 - a figure to report
