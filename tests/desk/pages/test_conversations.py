"""Conversations: listed, read, answered, forwarded, stopped and saved."""

import pytest

from tests.desk.screens import desk_of


async def ask(client, body="May I merge?", number=1, **options):
    """Let ada ask the worker something."""
    for name in ("ada", "worker"):
        await client.mailbox_create(name=name, renew=True)
    given = {"sender": "ada", "reply_to": "ada", "correlation_id": f"q-{number}", **options}
    return await client.send("worker", body, **given)


async def fetch(client, consumer="worker/1"):
    return await client.fetch("worker", group_name="worker", consumer=consumer, max_wait_ms=0)


async def test_with_nothing_there_it_says_what_would_appear_and_how(desk):
    page = await desk.ok("conversations")
    assert "What agents write to each other appears here" in page.seen
    assert "mq9 send worker 'Hello' --from ada" in page.seen
    assert "No conversation fits." in (await desk.ok("conversations", agent="ada")).seen


async def test_the_list_says_who_takes_part_and_how_it_stands(broker, client, desk):
    await ask(client)
    page = await desk.ok("conversations")
    assert "May I merge? ada stranger, not checked in worker waiting for worker since" in page.seen
    await client.agent_register({"name": "ada"})
    [message] = await fetch(client)
    assert "leased by worker/1 in worker" in (await desk.ok("conversations")).seen
    await client.reply(message, "Yes.", sender="worker")
    await client.ack(message)
    page = await desk.ok("conversations")
    assert "answered" in page.seen
    assert "ada claimed" in page.seen


async def test_filters_are_in_the_url(client, desk):
    await ask(client, "tea", 1)
    await ask(client, "rice", 2, sender="bob")
    for query, seen, unseen in [
        ({"agent": "bob"}, "rice", "tea"),
        ({"text": "TEA"}, "tea", "rice"),
        ({"mailbox": "ada"}, "No conversation fits.", "tea"),
        ({"state": "leased"}, "No conversation fits.", "tea"),
    ]:
        page = await desk.ok("conversations", **query)
        assert seen in page.seen, query
        assert unseen not in page.seen, query
    for query in ({"state": "lost"}, {"mailbox": "Not One"}, {"before": "x"}):
        page = await desk.get("conversations", **query)
        assert page.status == 400
        assert next(iter(query)) in page.seen or "mail_address" in page.seen


async def test_an_answer_stands_below_its_question(client, desk):
    await ask(client, {"order": 12, "items": ["tea"]})
    await ask(client, "something else", 2)
    message, _ = await fetch(client)
    await client.reply(message, "Yes.", sender="worker")
    await client.ack(message)
    page = await desk.ok("conversations/one", id="q-1")
    entries = [values for tag, values in page.tags if tag == "li"]
    assert [one["class"] for one in entries] == ["message depth-0", "message depth-1"]
    assert '"items": [ "tea" ]' in page.seen
    assert "something else" not in page.seen
    assert page.seen.index("order") < page.seen.index("Yes.")
    assert (await desk.ok("conversations/one", id="/worker/0")).seen == page.seen


async def test_error_answers_long_bodies_and_bytes_are_shown_as_what_they_are(client, desk):
    await ask(client, "word " * 1_000)
    await ask(client, b"\xff\x00", headers={"conversation": "c"})
    value = {"type": "error", "code": "failed", "reason": "KeyError", "reference": "12ab"}
    await client.send("ada", value, correlation_id="q-1", headers={"error": "failed"})
    page = await desk.ok("conversations/one", id="q-1")
    assert "Error answer, failed: KeyError reference 12ab" in page.seen
    assert [tag for tag, _ in page.tags].count("details") == 1
    assert "/wA=" in (await desk.ok("conversations/one", id="c")).seen


async def test_an_answer_keeps_the_conversation_and_is_sent_once(client, desk):
    await ask(client, headers={"conversation": "merge"})
    form = await desk.ok("conversations/write", answers="worker/0")
    assert "To ada" in form.seen
    id_ = next(values["value"] for _, values in form.tags if values.get("name") == "id")
    for _ in range(2):
        done = await desk.post(
            "conversations/send", kind="answers", item="worker/0", body="Yes.\r\nDo.", id=id_
        )
        assert done.told == "Sent to ada, as message 0."
    [sent] = await client.query("ada")
    assert (sent.text, sent.sender, sent.correlation_id) == ("Yes.\nDo.", "boss", "q-1")
    assert (sent.headers["conversation"], sent.path) == ("merge", ("boss",))


async def test_what_is_forwarded_can_be_answered_to_whoever_asked(client, desk):
    await ask(client)
    await client.mailbox_create(name="eve")
    done = await desk.post(
        "conversations/send", kind="forwards", item="worker/0", to="eve", body="Yours?", id="1"
    )
    assert done.told == "Sent to eve, as message 0."
    await desk.post(
        "conversations/send", kind="forwards", item="worker/0", to="eve", body="", id="2"
    )
    with_note, plain = await client.query("eve")
    assert with_note.text == (
        "Yours?\n\nForwarded: message 0 of worker, from ada (claimed):\n\nMay I merge?"
    )
    assert plain.text == "May I merge?"
    assert (plain.sender, plain.reply_to, plain.correlation_id) == ("boss", "ada", "q-1")


async def test_a_new_message_asks_for_an_answer_to_the_person(client, desk):
    await client.mailbox_create(name="worker")
    assert 'value="worker"' in (await desk.ok("conversations/write", to="worker")).text
    await desk.post("conversations/send", kind="new", to="worker", body="Hello", id="1")
    [sent] = await client.query("worker")
    assert (sent.text, sent.sender, sent.reply_to) == ("Hello", "boss", "boss")


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"kind": "new", "to": "worker", "body": " ", "id": "1"}, "body: it is empty"),
        ({"kind": "new", "to": "Not One", "body": "x", "id": "1"}, "invalid mail_address"),
        ({"kind": "new", "to": "nowhere", "body": "x", "id": "1"}, "mailbox not found: nowhere"),
        ({"kind": "new", "to": "worker", "body": "x"}, "id: it is missing"),
        ({"kind": "answers", "body": "x", "id": "1"}, "kind: "),
        ({"kind": "answers", "item": "worker", "body": "x", "id": "1"}, "item: "),
        ({"kind": "answers", "item": "worker/7", "body": "x", "id": "1"}, "message not found"),
        ({"kind": "answers", "item": "worker/1", "body": "x", "id": "1"}, "where to answer"),
        ({"kind": "forwards", "item": "worker/2", "to": "ada", "body": "x", "id": "1"}, "no text"),
        ({"kind": "shouts", "to": "worker", "body": "x", "id": "1"}, "kind: "),
    ],
)
async def test_what_cannot_be_sent_is_refused_in_a_sentence(client, desk, form, told):
    await ask(client)
    await client.send("worker", "nobody asks")
    await client.send("worker", b"\xff", reply_to="ada")
    before = await client.query("worker")
    done = await desk.post("conversations/send", **form)
    assert done.is_problem
    assert told in done.told
    assert await client.query("worker") == before


async def test_one_of_300_messages_is_one_page_and_one_file(client, desk):
    for number in range(150):
        await ask(client, f"question {number}", headers={"conversation": "long"})
        await client.send(
            "ada", f"answer {number}", sender="worker", headers={"conversation": "long"}
        )
    page = await desk.ok("conversations/one", id="long")
    assert page.seen.count("question ") == page.seen.count("answer ") == 150
    await ask(client, "one more", headers={"conversation": "long"})
    first = await desk.ok("conversations/one", id="long")
    [later] = [one for one in first.links if one and "after=" in one]
    second = await desk.ok(later)
    assert "one more" in second.seen
    assert "question 149" not in second.seen

    saved = await desk.ok("conversations/saved", id="long")
    assert saved.headers["content-disposition"] == 'attachment; filename="long.html"'
    assert saved.seen.count("question ") == 150
    assert "one more" in saved.seen
    tags = {tag for tag, _ in saved.tags}
    assert not tags & {"script", "link", "img", "form", "iframe"}
    assert all(one.startswith("#") for one in saved.links)
    assert (await desk.get("conversations/saved", id="none")).status == 404


async def test_a_run_that_is_worked_on_can_be_stopped(client, desk):
    await ask(client)
    await fetch(client)
    page = await desk.ok("conversations/one", id="q-1")
    [stop] = [one for one in page.links if one and "what=stop" in one]
    asked = await desk.ok(stop)
    assert "Stop the run of this message, and tell the sender?" in asked.seen
    await desk.post("stuck/settle", what="stop", item="worker/0/worker")
    [told] = await client.query("ada")
    assert told.json()["reason"] == "stopped by boss"
    page = await desk.ok("conversations/one", id="q-1")
    assert not [one for one in page.links if one and "what=stop" in one]


async def test_a_reader_sees_no_buttons(client):
    await ask(client)
    await fetch(client)
    async with desk_of(client, reads_only=True) as desk:
        page = await desk.ok("conversations/one", id="q-1")
        assert page.buttons == []
        assert not [
            one
            for one in page.links
            if one and ("conversations/write" in one or "stuck/settle" in one)
        ]
        assert (await desk.get("conversations/write", answers="worker/0")).status == 403
        refused = await desk.post("conversations/send", kind="new", to="worker", body="x", id="1")
        assert refused.told == "role: a reader changes nothing; ask an operator"
        assert refused.is_problem


async def test_a_conversation_that_cannot_be_is_a_sentence(client, desk):
    await ask(client)
    for query in ({}, {"id": "q-1", "after": "zzz"}, {"id": "x" * 2_000}):
        page = await desk.get("conversations/one", **query)
        assert page.status == 400, query
        assert page.notice
    gone = await desk.ok("conversations/one", id="nothing")
    assert "This conversation has no messages that you may see" in gone.seen
