"""Another's mail: not in lists, not by direct URL, and nothing can be done about it."""

import pytest

from tests.desk.screens import desk_of

AGENTS = {"agents": ["ada", "bob", "carl"]}
SECRET = "the password is swordfish"


@pytest.fixture
async def bob(broker):
    """Bob, who was written to by Carl."""
    async with (
        broker.client(agent="bob", **AGENTS) as bob,
        broker.client(agent="carl", **AGENTS) as carl,
    ):
        for client, name in ((bob, "bob"), (carl, "carl"), (bob, "bob.dead")):
            await client.mailbox_create(name=name)
        for number in range(3):
            await carl.send("bob", f"{SECRET} {number}", reply_to="carl", correlation_id="q-1")
        first, _ = await bob.fetch("bob", group_name="bob", num_msgs=2, lease_ms=86_400_000)
        await bob.move(first, to="bob.dead", reason=SECRET)
        await broker.clock.advance(3_600)
        yield bob


@pytest.fixture
async def ada(broker):
    async with broker.client(agent="ada", **AGENTS) as client:
        await client.mailbox_create(name="ada")
        async with desk_of(client, "ada") as desk:
            yield desk


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("conversations", {}, 200),
        ("conversations", {"mailbox": "bob"}, 200),
        ("conversations", {"agent": "carl"}, 200),
        ("conversations", {"text": "swordfish"}, 200),
        ("conversations/one", {"id": "q-1"}, 200),
        ("conversations/one", {"id": "/bob/1"}, 200),
        ("conversations/saved", {"id": "q-1"}, 404),
        ("conversations/write", {"answers": "bob/1"}, 403),
        ("conversations/write", {"forwards": "bob/1"}, 403),
        ("agents", {}, 200),
        ("stuck", {}, 200),
        ("stuck", {"kind": "dead", "mailbox": "bob.dead"}, 200),
        ("stuck/settle", {"what": "redrive", "mailbox": "bob.dead", "match": "sword"}, 403),
        ("mailboxes", {}, 200),
        ("mailboxes", {"text": "bob"}, 200),
        ("mailboxes/one", {"mailbox": "bob"}, 403),
        ("mailboxes/message", {"mailbox": "bob", "id": "1"}, 403),
        ("mailboxes/body", {"mailbox": "bob", "id": "1"}, 403),
        ("search", {"q": "swordfish"}, 200),
    ],
)
async def test_the_mail_of_others_is_not_shown(bob, ada, path, query, status):
    page = await ada.get(path, **query)
    assert page.status == status
    assert "the password" not in page.text
    assert "/desk/mailboxes/message?mailbox=bob" not in page.text


@pytest.mark.parametrize("what", ["give_back", "stop", "error", "drop"])
async def test_nothing_can_be_done_about_the_mail_of_others(bob, ada, what):
    form = {"what": what, "reason": "x"}
    done = await ada.post("stuck/settle", **form, item=["bob/1/bob", "bob/2/bob", "bob.dead/0/bob"])
    assert done.told.count("belongs to another agent") == 3
    status = await bob.mailbox_status("bob", group_name="bob", msg_id=1)
    assert (status.stored, status.message.groups[0].state) == (3, "leased")
    assert len(await bob.query("bob.dead")) == 1


async def test_dead_letters_of_others_are_not_redriven(bob, ada):
    for form in ({"item": "bob.dead/0"}, {"mailbox": "bob.dead", "match": ""}):
        done = await ada.post("stuck/settle", what="redrive", **form)
        assert done.is_problem
    assert len(await bob.query("bob.dead")) == 1


async def test_what_others_were_sent_cannot_be_passed_on(bob, ada):
    for form in ({"kind": "forwards", "to": "ada"}, {"kind": "answers", "body": "x"}):
        done = await ada.post("conversations/send", item="bob/1", id="1", **form)
        assert done.is_problem
        assert "the password" not in done.page.text


async def test_a_person_sends_as_who_the_broker_knows(bob, ada):
    await ada.post("conversations/send", kind="new", to="bob", body="Hello", id="1")
    [sent] = [one for one in await bob.query("bob") if one.text == "Hello"]
    assert (sent.sender, sent.sender_verified, sent.reply_to) == ("ada", True, "ada")
    page = await ada.ok("conversations", agent="ada")
    assert "Hello" in page.seen  # what one has sent, one sees
