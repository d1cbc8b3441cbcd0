"""Stuck: listed by kind with their stories, redriven, given back, answered or dropped."""

import pytest

from tests.desk.screens import desk_of


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("orders", "orders.dead", "ada"):
            await client.mailbox_create(name=name)
        yield client


async def die(client, *bodies, reason="ValueError: no good"):
    """Let messages of the orders become dead letters."""
    for body in bodies:
        await client.send("orders", body, sender="ada", reply_to="ada", correlation_id=f"{body}")
    fetched = await client.fetch("orders", group_name="orders", consumer="w/1", max_wait_ms=0)
    for one in fetched:
        await client.move(one, to="orders.dead", reason=reason)


async def bodies(client, address):
    return [one.text for one in await client.query(address, limit=1_000)]


def items(page):
    return [values["value"] for _, values in page.tags if values.get("name") == "item"]


async def test_with_nothing_there_it_says_what_would_appear_and_how(desk):
    page = await desk.ok("stuck")
    assert "Nothing is stuck here." in page.seen
    assert "mq9 fetch jobs --group workers --lease 3600" in page.seen


async def test_each_kind_has_its_count_and_each_message_its_story(broker, client, desk):
    await die(client, "tea", "rice")
    await client.send("orders", "soup")
    await client.fetch("orders", group_name="orders", consumer="w/1", lease_ms=86_400_000)
    await broker.clock.advance(3_600)
    page = await desk.ok("stuck")
    assert "leased 1" in page.seen
    assert "dead 2" in page.seen
    dead = await desk.ok("stuck", kind="dead")
    assert "soup" not in dead.seen
    assert "It is a copy of message 0 in orders, moved here at" in dead.seen
    assert "after 1 delivery to group orders: ValueError: no good." in dead.seen
    held = await desk.ok("stuck", kind="leased", mailbox="orders")
    assert "leased for 60 min" in held.seen
    assert "held by w/1" in held.seen
    assert items(held) == ["orders/2/orders"]


async def test_40_dead_letters_are_redriven_in_one_go(client, desk):
    await die(client, *(f"order {number}" for number in range(40)))
    page = await desk.ok("stuck", kind="dead", tick="all")
    chosen = items(page)
    assert len(chosen) == 40
    assert all("checked" in one for _, one in page.tags if one.get("name") == "item")
    asked = await desk.ok("stuck/settle", what="redrive", item=chosen)
    assert "Move each of these 40 messages back to where it came from?" in asked.seen
    assert await bodies(client, "orders.dead")  # asking changes nothing
    done = await desk.post("stuck/settle", what="redrive", item=items(asked))
    assert done.told.startswith("40 messages redriven.")
    assert await bodies(client, "orders.dead") == []
    assert len(await client.fetch("orders", group_name="orders", max_wait_ms=0)) == 40


async def test_one_of_several_is_redriven(client, desk):
    await die(client, "tea", "rice", "soup")
    await desk.post("stuck/settle", what="redrive", item="orders.dead/1/orders")
    assert await bodies(client, "orders.dead") == ["tea", "soup"]
    again = await desk.post("stuck/settle", what="redrive", item="orders.dead/1/orders")
    assert again.told == "No message was there to redrive."


async def test_all_that_match_are_redriven(client, desk):
    await die(client, "tea", reason="KeyError: 'x'")
    await die(client, "rice", "soup")
    asked = await desk.ok("stuck/settle", what="redrive", mailbox="orders.dead", match="keyerror")
    assert "Move each of the 1 message of orders.dead back" in asked.seen
    form = {"what": "redrive", "mailbox": "orders.dead"}
    await desk.post("stuck/settle", **form, match="keyerror")
    assert await bodies(client, "orders.dead") == ["rice", "soup"]
    await desk.post("stuck/settle", **form, match="")
    assert await bodies(client, "orders.dead") == []


async def test_what_cannot_go_back_stays_and_says_why(client, desk):
    await client.send("orders.dead", "never moved")
    await die(client, "tea")
    await client.mailbox_drop("orders")
    done = await desk.post("stuck/settle", what="redrive", mailbox="orders.dead", match="")
    assert done.told.startswith(
        "0 messages redriven. Message 0 stays: its first mailbox is unknown"
    )
    assert "Message 1 stays: mailbox not found: orders" in done.told


async def test_what_is_held_is_given_back(client, desk):
    await client.send("orders", "tea")
    await client.fetch("orders", group_name="orders", consumer="w/1", max_wait_ms=0)
    done = await desk.post("stuck/settle", what="give_back", item="orders/0/orders")
    assert done.told == "Message 0 of orders is given back: the lease of w/1 has ended."
    assert len(await client.fetch("orders", group_name="orders", max_wait_ms=0)) == 1


async def test_several_are_answered_with_an_error_and_dropped(client, desk):
    await die(client, "tea", "rice")
    chosen = ["orders.dead/0/orders", "orders.dead/1/orders"]
    asked = await desk.ok("stuck/settle", what="error", item=chosen)
    assert "Answer each of these 2 messages with an error, and drop it?" in asked.seen
    done = await desk.post("stuck/settle", what="error", item=chosen, reason="sold out")
    assert done.told.startswith(
        "ada (claimed) gets the error: sold out. Message 0 of orders.dead is del"
    )
    told = await client.query("ada")
    assert [(one.correlation_id, one.json()["reason"]) for one in told] == [
        ("tea", "sold out"),
        ("rice", "sold out"),
    ]
    assert await bodies(client, "orders.dead") == []


async def test_what_is_gone_by_then_keeps_no_other_from_being_dropped(client, desk):
    await die(client, "tea", "rice")
    await client.delete("orders.dead", 0)
    done = await desk.post(
        "stuck/settle",
        what="drop",
        item=["orders.dead/0/orders", "nowhere/3", "orders.dead/1/orders"],
    )
    assert "nowhere: mailbox not found" in done.told or "mailbox not found: nowhere" in done.told
    assert await bodies(client, "orders.dead") == []


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"what": "explode", "item": "orders/0"}, "what:"),
        ({"item": "orders/0"}, "what: it is missing"),
        ({"what": "drop"}, "item: no message is chosen"),
        ({"what": "drop", "item": "orders"}, "item: 'orders' is not a mailbox"),
        ({"what": "drop", "item": "Or Ders/0"}, "invalid mail_address"),
        ({"what": "drop", "item": "orders/0x1"}, "item:"),
        ({"what": "redrive"}, "mailbox: it is missing"),
        ({"what": "drop", "item": [f"orders/{one}" for one in range(501)]}, "choose fewer"),
    ],
)
async def test_a_form_that_makes_no_sense_is_refused_in_a_sentence(desk, form, told):
    page = await desk.get("stuck/settle", **form)
    assert page.status == 400
    assert told in page.seen
    done = await desk.post("stuck/settle", **form)
    assert done.is_problem
    assert told in done.told


async def test_an_error_answer_needs_a_reason(client, desk):
    await client.send("orders", "tea", reply_to="ada")
    done = await desk.post("stuck/settle", what="error", item="orders/0")
    assert done.told == "reason: it is missing; say why, for the asker"
    assert await client.query("ada") == []


async def test_a_list_with_wrong_parameters_is_refused_in_a_sentence(desk):
    for query in ({"kind": "lost"}, {"mailbox": "Not One"}, {"after": "x"}):
        assert (await desk.get("stuck", **query)).status == 400, query


async def test_a_reader_sees_no_buttons_and_is_refused(client):
    await die(client, "tea")
    async with desk_of(client, reads_only=True) as desk:
        page = await desk.ok("stuck")
        assert items(page) == []
        assert page.buttons == ["button"]  # of the filter
        assert (await desk.ok("stuck/settle", what="drop", item="orders.dead/0")).buttons == []
        done = await desk.post("stuck/settle", what="drop", item="orders.dead/0")
        assert done.told == "role: a reader changes nothing; ask an operator"
    assert await bodies(client, "orders.dead") == ["tea"]


async def test_a_form_leads_back_to_the_desk_only(client, desk):
    await die(client, "tea")
    for back in ("https://evil.example/", "//evil.example", "/desk\\@evil.example", "javascript:x"):
        page = await desk.ok("stuck/settle", what="drop", item="orders.dead/0", back=back)
        assert "evil" not in page.text
        assert "javascript" not in page.text


async def test_what_is_overdue_says_what_was_wanted_and_promised(broker, client, desk):
    now = broker.clock.now_ms() // 1000
    options = {"sender": "ada", "reply_to": "ada", "correlation_id": "q-1"}
    await client.send("orders", "tea", answer_by=now + 60, **options)
    [message] = await client.fetch(
        "orders", group_name="orders", consumer="w/1", lease_ms=86_400_000
    )
    await message.promise(now + 90, "the water boils")
    await broker.clock.advance(120)
    page = await desk.ok("stuck", kind="overdue")
    assert "overdue 1" in page.seen
    assert "an answer was wanted 60 s ago" in page.seen
    assert "promised by w/1 for 30 s ago, done so far: the water boils" in page.seen
    message_page = await desk.ok("mailboxes/message", mailbox="orders", id=0)
    assert "Answer wanted 60 s ago" in message_page.seen
    shown = await desk.ok("conversations/one", id="q-1")
    assert "done so far: the water boils" in shown.seen


async def test_what_nobody_reads_is_undeliverable(broker, client, desk):
    await client.send("orders", "tea", sender="ada", reply_to="ada", correlation_id="q-1")
    await broker.clock.advance(3_600)
    page = await desk.ok("stuck", kind="undeliverable")
    assert items(page) == ["orders/0"]
    assert "No group has fetched from this mailbox yet" in page.seen
    done = await desk.post("stuck/settle", what="drop", item=items(page))
    assert done.told == "Message 0 of orders is deleted."


async def test_each_action_is_logged_with_who_did_it(client, desk, caplog):
    await client.send("orders", "tea")
    with caplog.at_level("INFO", logger="mq9.desk"):
        await desk.post("stuck/settle", what="drop", item="orders/0")
    [logged] = [one for one in caplog.records if one.message == "settled"]
    assert (logged.who, logged.what, logged.about) == ("boss", "drop", "message 0 of orders")
    assert logged.outcome == "Message 0 of orders is deleted."
