"""The screen Desk: questions, their answers, and what stays of them."""

from dataclasses import replace

import pytest

from mq9.questions import TAG, Action, AnswerOutcome, Receipt
from tests.desk.conftest import LETTER
from tests.desk.desks import forms, text_of

ANSWER = "/desk/questions/answer"
EDIT = "/desk/questions/edit"
SEVERAL = "/desk/questions/several"


async def test_an_empty_desk_says_what_would_appear(desk):
    page = text_of(await desk.get("/desk"))
    assert "Nobody asks you anything" in page
    assert "mq9 worker letters:build --agent lawyer --human boss" in page


async def test_a_question_shows_who_asks_what_and_until_when(desk, broker, ask):
    expires = round(broker.clock.now_ms() / 1000) + 7200
    await ask("Send it?", LETTER, expires=expires)
    html = await desk.get("/desk")
    page = text_of(html)
    assert "<title>(1) Desk" in html
    for one in ("lawyer claimed", "Send it?", "send_email", "customer", "We sue.", "in 2 h"):
        assert one in page


async def test_what_turns_or_hides_text_is_spelled_out(desk, ask, answers):
    hidden = "ada\u202e\u200bmoc"
    action = Action(name=hidden, args={hidden: hidden, "a": {"b": [hidden]}}, text=f"to {hidden}")
    number = await ask(f"Pay {hidden}?", action, correlation_id="1")
    shown = await desk.get("/desk")
    assert "\u202e" not in shown
    assert text_of(shown).count("ada&lt;U+202E&gt;&lt;U+200B&gt;moc") == 6
    edit = text_of(await desk.get(f"/desk/questions/{number}"))
    assert "It has characters that are not seen: ada&lt;U+202E&gt;" in edit
    await desk.send("/desk", ANSWER, msg_id=number, word="approve")
    assert "\u202e" not in await desk.get("/desk/decisions")


async def test_the_most_urgent_comes_first(desk, broker, ask):
    now = round(broker.clock.now_ms() / 1000)
    await ask("late", LETTER)
    await ask("soon", LETTER, expires=now + 60)
    await ask("urgent", LETTER, priority="urgent")
    page = text_of(await desk.get("/desk"))
    assert page.index("urgent") < page.index("soon") < page.index("late")


@pytest.mark.parametrize(
    ("word", "message", "decision"),
    [
        ("approve", None, {"type": "approve"}),
        ("reject", "Not yet.", {"type": "reject", "message": "Not yet."}),
        ("reject", "", {"type": "reject"}),
        ("respond", "Ask again.", {"type": "respond", "message": "Ask again."}),
    ],
)
async def test_an_answer_is_sent_once_and_stays_as_a_decision(
    desk, ask, answers, word, message, decision
):
    number = await ask("Send it?", LETTER)
    more = {} if message is None else {"message": message}
    page = await desk.send("/desk", ANSWER, msg_id=number, word=word, **more)
    assert "Answered:" in text_of(page)
    assert await answers() == [{"decisions": [decision]}]
    assert "Nobody asks you" in text_of(await desk.get("/desk"))
    kept = text_of(await desk.get("/desk/decisions"))
    assert "Send it?" in kept
    assert word in kept
    assert "boss" in kept


async def test_a_question_of_any_kind_is_answered_by_text(desk, ask, answers):
    number = await ask("What colour?")
    await desk.send("/desk", ANSWER, msg_id=number, message="Green <b>")
    assert await answers() == ["Green <b>"]
    assert "Green &lt;b&gt;" in await desk.get("/desk/decisions")


async def test_an_edit_shows_its_difference_before_it_is_sent(desk, ask, answers):
    number = await ask("Send it?", LETTER)
    path = f"/desk/questions/{number}"
    fields = {"arg.0.text": "Let us talk.", "arg.0.copies": "3"}
    form = next(one for one in forms(await desk.get(path)) if one.action == EDIT)
    assert form.fields["arg.0.text"] == "We sue."
    preview = await desk.post(EDIT, {**form.fields, **fields}, then=200)
    assert "removed: We sue." in text_of(preview)
    assert "added: Let us talk." in text_of(preview)
    assert await answers() == []
    confirmed = next(one for one in forms(preview) if one.fields.get("step") == "send")
    await desk.post(EDIT, confirmed.fields)
    args = {"to": "customer", "text": "Let us talk.", "copies": 3}
    [answer] = await answers()
    [decided] = answer["decisions"]
    assert decided == {"type": "edit", "edited_action": {"name": "send_email", "args": args}}


async def test_an_edit_that_is_no_json_keeps_what_was_typed(desk, ask, answers):
    number = await ask("Send it?", LETTER)
    form = next(
        one for one in forms(await desk.get(f"/desk/questions/{number}")) if one.action == EDIT
    )
    fields = {**form.fields, "arg.0.copies": "many", "arg.0.text": "Kept"}
    page = await desk.post(EDIT, fields, then=400)
    assert "copies: &#39;many&#39; is no JSON" in page
    assert ">\nKept</textarea>" in page or 'value="Kept"' in page
    assert await answers() == []


async def edited(desk, number, **fields):
    """Send the edit of a question without looking at its difference."""
    page = await desk.get(f"/desk/questions/{number}")
    form = next(one for one in forms(page) if one.action == EDIT)
    more = {f"arg.0.{name}": text for name, text in fields.items()}
    return await desk.post(EDIT, {**form.fields, **more, "step": "send"})


async def test_an_edit_may_give_what_the_schema_allows_and_the_asker_did_not(desk, ask, answers):
    more = {"cc": {"type": "string"}, "bcc": {}, "draft": {"type": "boolean"}}
    schema = {"properties": {name: {} for name in LETTER.args} | more}
    number = await ask("Send it?", replace(LETTER, schema=schema))
    page = await desk.get(f"/desk/questions/{number}")
    assert '<option value="" selected>(not given)</option><option value="true">' in page
    await edited(desk, number, cc="ada", draft="true")
    [answer] = await answers()
    args = {**LETTER.args, "cc": "ada", "draft": True}  # and no bcc, which was left empty
    assert answer["decisions"][0]["edited_action"]["args"] == args


async def test_line_ends_that_the_browser_changes_are_no_edit(desk, ask, answers):
    number = await ask("Send it?", replace(LETTER, args={"text": "a\r\nb\rc\n"}))
    await edited(desk, number, text="a\r\nb\r\nc\r\n")
    assert await answers() == [{"decisions": [{"type": "approve"}]}]


async def test_several_are_rejected_for_a_reason(desk, ask, answers):
    numbers = [await ask(f"Letter {n}", LETTER) for n in range(2)]
    await desk.send("/desk", SEVERAL, chosen=numbers, word="reject", message="Not today.")
    assert await answers() == [{"decisions": [{"type": "reject", "message": "Not today."}]}] * 2


async def test_several_are_answered_at_once(desk, ask, answers):
    numbers = [await ask(f"Letter {n}", LETTER) for n in range(3)]
    page = await desk.send("/desk", SEVERAL, chosen=numbers[:2], word="approve")
    assert "2 of 2 done." in text_of(page)
    assert len(await answers()) == 2
    assert "Letter 2" in text_of(page)
    assert "Letter 0" not in text_of(page)


async def test_of_several_those_that_cannot_be_answered_are_named(desk, ask, answers):
    first, other = await ask("Letter", LETTER), await ask("What colour?")
    page = text_of(await desk.send("/desk", SEVERAL, chosen=[first, other], word="approve"))
    assert f"1 of 2 done. Not possible: {other}: answer" in page
    assert len(await answers()) == 1


async def test_a_question_that_was_put_off_comes_back(desk, broker, ask):
    number = await ask("Send it?", LETTER)
    page = await desk.send("/desk", "/desk/questions/later", msg_id=number, seconds="3600")
    assert "1 put off" in text_of(page)
    assert "Send it?" not in text_of(page)
    assert "Send it?" in text_of(await desk.get("/desk?later=1"))
    await broker.clock.advance(3600)
    assert "Send it?" in text_of(await desk.get("/desk"))


async def test_a_question_that_was_put_off_is_shown_again_when_wanted(desk, ask):
    number = await ask("Send it?", LETTER)
    await desk.send("/desk", "/desk/questions/later", msg_id=number, seconds="3600")
    await desk.send("/desk?later=1", "/desk/questions/again", msg_id=number)
    assert "Send it?" in text_of(await desk.get("/desk"))


async def test_an_answer_that_is_not_confirmed_says_so_until_it_is(desk, client, ask):
    number = await ask("Send it?", LETTER, receipts=True)
    page = await desk.send("/desk", ANSWER, msg_id=number, word="approve")
    assert "not confirmed yet" in text_of(page)
    [answer] = await client.fetch("lawyer", group_name="lawyer", max_wait_ms=0)
    await answer.reply(Receipt(outcome=AnswerOutcome.ACCEPTED).body(answer), sender="lawyer")
    assert "Nobody asks you" in text_of(await desk.get("/desk"))
    assert "boss lawyer Send it? approve" in text_of(await desk.get("/desk/decisions"))


async def test_an_answer_that_is_refused_leaves_the_question_open(desk, client, ask):
    number = await ask("Send it?", LETTER, receipts=True)
    await desk.send("/desk", ANSWER, msg_id=number, word="approve")
    [answer] = await client.fetch("lawyer", group_name="lawyer", max_wait_ms=0)
    receipt = Receipt(outcome=AnswerOutcome.REFUSED, text="not on a Sunday")
    await answer.reply(receipt.body(answer), sender="lawyer", headers={"error": "rejected"})
    page = text_of(await desk.get("/desk"))
    assert "Your answer was refused: not on a Sunday" in page
    assert "Approve" in page


async def test_an_answer_after_the_question_expired_is_refused(desk, broker, ask, answers):
    expires = round(broker.clock.now_ms() / 1000) + 60
    number = await ask("Send it?", LETTER, expires=expires)
    form = next(one for one in forms(await desk.get("/desk")) if one.action == ANSWER)
    await broker.clock.advance(61)
    page = await desk.post(ANSWER, {**form.fields, "msg_id": number})
    assert "has expired" in text_of(page)
    assert await answers() == []


async def test_a_question_that_is_gone_says_so(desk, client, ask, answers):
    number = await ask("Send it?", LETTER)
    form = next(one for one in forms(await desk.get("/desk")) if one.action == ANSWER)
    await client.delete("boss", int(number))
    assert "message not found" in text_of(await desk.post(ANSWER, form.fields))
    assert await answers() == []


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"[]",
        b'{"type":"question","text":"t","expires":99999999999999999}',
        b'{"type":"question","text":"t","value":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"type":"question","text":"t","actions":[{"name":"a","args":{"x":1},"schema":{"properties":[1]}}]}',
        b'{"type":"question","text":"t","actions":[{"name":"a","args":{"x":1},"schema":{"properties":{"x":[1],"y":7}}}]}',
    ],
)
async def test_a_stranger_cannot_break_the_page(desk, client, ask, body):
    await ask("Send it?", LETTER)
    number = await client.send("boss", body, tags=[TAG], sender="stranger", reply_to="lawyer")
    assert "Send it?" in text_of(await desk.get("/desk"))
    await desk.get(f"/desk/questions/{number}")


@pytest.mark.parametrize("body", ["x", "[]", "{}", '{"msg_id":"a","until":1}', '{"msg_id":0}'])
async def test_a_note_of_a_stranger_hides_nothing(desk, client, ask, body):
    await ask("Send it?", LETTER)
    await client.mailbox_create(name="boss.desk")
    await client.send("boss.desk", body, key="later.0")
    assert "Send it?" in text_of(await desk.get("/desk"))


@pytest.mark.parametrize("number", ["-1", "x", "1e3", "9" * 30, "%00", "\uff11"])
async def test_a_number_that_is_none_is_refused(desk, number):
    await desk.get(f"/desk/questions/{number}", 400)


async def test_many_questions_come_in_pages(desk, ask):
    for n in range(55):
        await ask(f"Letter {n:02}", LETTER)
    html = await desk.get("/desk")
    page = text_of(html)
    assert "Letter 49" in page
    assert "Letter 50" not in page
    assert "Letter 54" in text_of(await desk.get("/desk?from=50"))
