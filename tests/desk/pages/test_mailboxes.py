"""Mailboxes, their messages, one message with its story, and the search."""

import re

import pytest

from mq9.testing import FakeBroker, Limits
from tests.desk.screens import desk_of


async def test_with_nothing_there_it_says_what_would_appear_and_how(client, desk):
    assert "mq9 create worker" in (await desk.ok("mailboxes")).seen
    await client.mailbox_create(name="inbox")
    assert "mq9 send inbox 'Hello'" in (await desk.ok("mailboxes/one", mailbox="inbox")).seen
    assert "worker/12" in (await desk.ok("search")).seen
    assert "Nothing was found." in (await desk.ok("search", q="soup")).seen


async def test_mailboxes_are_listed_with_what_waits_in_them(broker, client, desk):
    await client.mailbox_create(name="inbox", desc="For all")
    await client.mailbox_create(name="other")
    await client.send("inbox", "x")
    await client.send("inbox", "x", delay=60)
    await broker.clock.advance(30)
    page = await desk.ok("mailboxes")
    assert "inbox 1 and 1 delayed 1 0 30 s ago For all" in page.seen
    assert "other" not in (await desk.ok("mailboxes", text="FOR ALL")).seen
    assert "No mailbox fits." in (await desk.ok("mailboxes", text="y")).seen
    for number in range(60):
        await client.mailbox_create(name=f"box.{number:02}")
    page = await desk.ok("mailboxes")
    [more] = [one for one in page.links if "after=" in one]
    assert "inbox" in (await desk.ok(more)).seen


async def test_messages_are_shown_newest_first_in_pages(client, desk):
    await client.mailbox_create(name="inbox")
    for number in range(120):
        await client.send("inbox", f"body {number:03}", tags=["even"] if number % 2 == 0 else None)
    seen = []
    path = "mailboxes/one?mailbox=inbox"
    while path:
        page = await desk.ok(path)
        assert len(page.text) < 60_000
        seen += re.findall(r"body (\d{3})", page.seen)
        older = [one for one in page.links if "before=" in one]
        path = older[0] if older else None
    assert seen == [f"{number:03}" for number in reversed(range(120))]
    page = await desk.ok("mailboxes/one", mailbox="inbox", tag="even")
    assert "body 118" in page.seen
    assert "body 119" not in page.seen


async def test_filters_are_in_the_url(client, desk):
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "keyed", key="k")
    await client.send("inbox", "asked", correlation_id="q-1")
    [keyed, _] = await client.fetch("inbox", group_name="readers", consumer="r")
    await client.ack(keyed)
    for query, seen, unseen in [
        ({"key": "k"}, "keyed", "asked"),
        ({"correlation": "q-1"}, "asked", "keyed"),
        ({"group": "readers", "state": "acked"}, "keyed", "asked"),
        ({"group": "readers", "state": "leased"}, "asked", "keyed"),
        ({"since": 4_000_000_000}, "No message fits.", "keyed"),
    ]:
        page = await desk.ok("mailboxes/one", mailbox="inbox", **query)
        assert seen in page.seen, query
        assert unseen not in page.seen, query


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("mailboxes/one", {}, 400),
        ("mailboxes/one", {"mailbox": "Not One"}, 400),
        ("mailboxes/one", {"mailbox": "nowhere"}, 404),
        ("mailboxes/one", {"mailbox": "inbox", "state": "lost"}, 400),
        ("mailboxes/one", {"mailbox": "inbox", "before": "-1"}, 400),
        ("mailboxes/one", {"mailbox": "inbox", "since": "monday"}, 400),
        ("mailboxes/one", {"mailbox": "inbox", "tag": "a,b"}, 400),
        ("mailboxes", {"after": "Not One"}, 400),
        ("mailboxes/message", {"mailbox": "inbox"}, 400),
        ("mailboxes/message", {"mailbox": "inbox", "id": "x"}, 400),
        ("mailboxes/message", {"mailbox": "inbox", "id": "9" * 30}, 400),
        ("mailboxes/message", {"mailbox": "inbox", "id": "5"}, 404),
        ("mailboxes/message", {"mailbox": "nowhere", "id": "0"}, 404),
        ("mailboxes/body", {"mailbox": "inbox", "id": "5"}, 404),
        ("mailboxes/body", {"mailbox": "inbox"}, 404),
        ("conversations/write", {"answers": "inbox/5"}, 404),
        ("conversations/write", {"forwards": "inbox"}, 400),
    ],
)
async def test_wrong_parameters_are_answered_with_a_sentence(client, desk, path, query, status):
    await client.mailbox_create(name="inbox")
    page = await desk.get(path, **query)
    assert page.status == status
    assert "Traceback" not in page.text
    assert page.seen


async def test_a_message_is_shown_with_all_its_fields_and_its_story(client, desk):
    await client.mailbox_create(name="inbox")
    fields = {
        "key": "k-1",
        "tags": ["red", "blue"],
        "sender": "ada",
        "reply_to": "ada.in",
        "correlation_id": "q-1",
        "path": ["eve", "ada"],
        "headers": {"traceparent": "00-ab"},
        "from_mailbox": None,
        "priority": "urgent",
    }
    await client.send("inbox", {"a": [1]}, **fields)
    page = await desk.ok("mailboxes/message", mailbox="inbox", id=0)
    for seen in (
        "k-1",
        "red, blue",
        "ada stranger",
        "ada.in",
        "q-1",
        "eve, ada",
        "00-ab",
        "urgent",
    ):
        assert seen in page.seen
    assert "Message 0 in inbox was sent with priority urgent and the key k-1 at" in page.seen
    assert "/desk/conversations/one?id=%2Finbox%2F0" in page.links
    body = await desk.ok("mailboxes/body", mailbox="inbox", id=0)
    assert body.text == '{"a":[1]}'
    assert body.headers["content-type"] == "application/octet-stream"
    assert body.headers["content-disposition"].startswith("attachment")


async def test_of_a_message_that_is_gone_the_story_is_left(client, desk):
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "x")
    await client.delete("inbox", 0)
    page = await desk.ok("mailboxes/message", mailbox="inbox", id=0)
    assert "it was deleted" in page.seen
    assert not [one for one in page.links if "stuck/settle" in one or "body" in one]


async def test_what_can_be_done_about_a_message_depends_on_how_it_stands(client, desk):
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "x", reply_to="inbox")

    async def offered():
        page = await desk.ok("mailboxes/message", mailbox="inbox", id=0)
        return {one.partition("what=")[2].partition("&")[0] for one in page.links if "what=" in one}

    assert await offered() == {"error", "drop"}
    await client.fetch("inbox", group_name="g", consumer="c")
    assert await offered() == {"stop", "give_back", "error", "drop"}


async def test_search_finds_agents_mailboxes_conversations_and_messages(client, desk):
    await client.agent_register({"name": "Soup-Cook", "description": "Makes soup"})
    await client.mailbox_create(name="soup.orders", desc="Orders")
    await client.send("soup.orders", "I want soup", sender="ada", correlation_id="q-1")
    page = await desk.ok("search", q="soup")
    assert "/desk/agents?q=Soup-Cook" in page.links
    assert "/desk/mailboxes/one?mailbox=soup.orders" in page.links
    assert "/desk/conversations/one?id=q-1" in page.links
    for named in ("soup.orders/0", "soup.orders 0", "soup.orders#0"):
        found = await desk.get("search", q=named)
        assert (found.status, found.headers["location"]) == (
            303,
            "/desk/mailboxes/message?mailbox=soup.orders&id=0",
        )


async def test_a_reader_sees_no_buttons(client):
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "x")
    async with desk_of(client, reads_only=True) as desk:
        page = await desk.ok("mailboxes/message", mailbox="inbox", id=0)
        assert page.buttons == []
        assert not [
            one for one in page.links if "stuck/settle" in one or "conversations/write" in one
        ]


async def test_the_page_of_a_full_mailbox_is_small():
    async with FakeBroker(limits=Limits(max_messages=30_000)) as broker, broker.client() as client:
        await client.mailbox_create(name="inbox")
        for number in range(300):
            await client.send("inbox", "x" * 50_000, sender=f"agent {number}")
        async with desk_of(client) as desk:
            page = await desk.ok("mailboxes/one", mailbox="inbox")
            assert len(page.text) < 60_000
            assert [one for one in page.links if "before=" in one]
