"""SENT: what a sender sent with a correlation id, and what became of it."""

import asyncio

import pytest

from mq9 import Forbidden, InvalidRequest
from mq9.models import SentAnswer

from .reading import START


async def states(client, **options):
    page = await client.sent(**options)
    return {one.correlation_id: one.state for one in page.sent}


@pytest.fixture
async def ask(ada, inbox):
    """Let Ada ask something in the mailbox."""
    await ada.mailbox_create(name="ada")

    async def send(correlation_id, **options):
        options = {"reply_to": "ada", **options}
        return await ada.send(inbox, "?", correlation_id=correlation_id, **options)

    return send


async def fetch(client, mail_address="inbox", **options):
    return await client.fetch(
        mail_address, **{"group_name": mail_address, "max_wait_ms": 0, **options}
    )


class TestStates:
    """What became of a message, told without naming groups or consumers."""

    async def test_from_the_sending_to_the_ack(self, way, ada, client, ask):
        await ask("q")
        assert await states(ada) == {"q": "waiting"}
        [taken] = await fetch(client, lease_ms=60_000)
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.until, sent.deliveries) == ("fetched", START + 60, 1)
        await client.nack(taken, delay=5)
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.until, sent.deliveries) == ("waiting", None, 1)
        await way.clock.advance(5)
        [taken] = await fetch(client)
        assert (await ada.sent()).sent[0].deliveries == 2
        await client.ack(taken)
        assert await states(ada) == {"q": "acked"}

    async def test_a_lease_that_ended(self, way, ada, client, ask):
        await ask("q")
        await fetch(client, lease_ms=1_000)
        await way.clock.advance(1)
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.until, sent.deliveries) == ("waiting", None, 1)

    async def test_each_message_of_a_batch_in_each_lane(self, ada, client, ask):
        for priority in ("normal", "critical", "urgent"):
            for number in range(2):
                await ask(f"{priority}{number}", priority=priority)
        taken = await fetch(client, num_msgs=5)
        expected = dict.fromkeys([one.correlation_id for one in taken], "fetched")
        assert await states(ada) == {**expected, "normal1": "waiting"}
        await client.ack(taken[0])
        assert await states(ada) == {**expected, "normal1": "waiting", "critical0": "acked"}

    async def test_a_dead_letter(self, ada, client, ask):
        await client.mailbox_create(name="dead")
        await ask("q")
        [taken] = await fetch(client)
        await client.move(taken, to="dead")
        [sent] = (await ada.sent()).sent  # the copy was not sent
        assert (sent.state, sent.mail_address, sent.moved_to) == ("moved", "inbox", "dead")
        [taken] = await fetch(client, "dead")
        await client.move(taken, to="inbox")
        again, sent = (await ada.sent()).sent
        assert (again.state, again.msg_id) == ("waiting", 1)
        assert (sent.state, sent.msg_id) == ("moved", 0)

    async def test_where_it_went_is_told_to_those_who_may_look(self, bob, ada, ask):
        await bob.mailbox_create(name="bob")
        await bob.mailbox_create(name="dead")
        await ada.send("bob", "?", correlation_id="q")
        [taken] = await fetch(bob, "bob")
        await bob.move(taken, to="dead")
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.moved_to) == ("moved", None)
        await bob.mailbox_grant("bob", viewers=["ada"])
        assert (await ada.sent()).sent[0].moved_to == "dead"

    async def test_the_group_of_the_mailbox_counts_else_the_one_that_is_furthest(
        self, ada, client, ask
    ):
        await ask("q")
        for group in ("auditors", "workers"):
            await fetch(client, group_name=group)
        assert await states(ada) == {"q": "fetched"}
        await client.ack("inbox", "workers", 0)
        assert await states(ada) == {"q": "acked"}
        await fetch(client, deliver="new")  # the mailbox's own, which skips it
        assert await states(ada) == {"q": "waiting"}

    async def test_a_group_that_begins_anew(self, ada, client, ask):
        await ask("q")
        await client.ack((await fetch(client))[0])
        await fetch(client, force_deliver=True)
        assert await states(ada) == {"q": "fetched"}

    async def test_what_is_no_longer_stored_is_not_listed(self, way, ada, client, ask):
        await ask("expires", ttl=5)
        await ask("deleted")
        await ask("replaced", key="k")
        await ask("replacing", key="k")
        await client.delete("inbox", 1)
        await way.clock.advance(5)
        assert await states(ada) == {"replacing": "waiting"}
        await client.mailbox_drop("inbox")
        assert await states(ada) == {}

    async def test_a_delayed_one_becomes_visible(self, way, ada, ask):
        assert await ask("q", delay=10, key="k", priority="urgent") == -1
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.due, sent.msg_id) == ("delayed", START + 10, None)
        assert (sent.key, sent.priority, sent.sent) == ("k", "urgent", START)
        assert sent.delayed_id is not None
        await way.clock.advance(10)
        [sent] = (await ada.sent()).sent
        assert (sent.state, sent.due, sent.msg_id) == ("waiting", None, 0)
        assert (sent.delayed_id, sent.sent) == (None, START)

    async def test_in_several_mailboxes_that_fell_due_at_once(self, way, ada, client, ask):
        for name in ("one", "two", "three"):
            await client.mailbox_create(name=name)
            await ada.send(name, "?", correlation_id=name, reply_to="ada", delay=5)
            await ada.send(name, "?", correlation_id=f"{name} later", delay=6)
            await client.send("ada", "!", correlation_id=name, delay=5)
        await way.clock.advance(5)
        page = await ada.sent()
        assert [one.state for one in page.sent] == ["waiting", "delayed"] * 3
        assert sum(one.answer is not None for one in page.sent) == 3


class TestAnswers:
    """The answer in the mailbox that the message names."""

    async def answer_to(self, ada):
        [sent] = [one for one in (await ada.sent()).sent if one.reply_to == "ada"]
        return sent.answer

    async def test_the_first_one_by_somebody_else(self, ada, bob, ask):
        await ask("q")
        await ada.send("ada", "a note", correlation_id="q")
        await bob.send("ada", "another matter", correlation_id="p")
        assert await self.answer_to(ada) is None
        await bob.send("ada", "first", correlation_id="q")
        await bob.send("ada", "second", correlation_id="q")
        assert await self.answer_to(ada) == SentAnswer(mail_address="ada", msg_id=2)

    async def test_an_error_answer_has_its_code_until_a_good_one_comes(self, ada, bob, ask):
        await ask("q")
        await bob.send("ada", "{}", correlation_id="q", headers={"error": "failed"})
        assert await self.answer_to(ada) == SentAnswer(mail_address="ada", msg_id=0, code="failed")
        await bob.send("ada", "after all", correlation_id="q")
        assert await self.answer_to(ada) == SentAnswer(mail_address="ada", msg_id=1)

    async def test_it_is_told_to_those_who_may_look_where_it_is(self, ada, bob, ask):
        await bob.mailbox_create(name="bob")
        await ask("q", reply_to="bob")
        await bob.send("bob", "to the desk", correlation_id="q")
        assert (await ada.sent()).sent[0].answer is None
        await bob.mailbox_grant("bob", viewers=["ada"])
        assert (await ada.sent()).sent[0].answer.msg_id == 0

    async def test_no_mailbox_is_there(self, ada, ask):
        await ask("q", reply_to="nowhere")
        [sent] = (await ada.sent()).sent
        assert (sent.reply_to, sent.answer) == ("nowhere", None)


class TestPages:
    """The newest come first, and a page says how to go on."""

    async def test_all_are_listed_once(self, way, ada, client, ask):
        await client.mailbox_create(name="other")
        for number in range(4):
            await ask(f"{number}", delay=100 if number % 2 else None)
            await ada.send("other", "?", correlation_id=f"{number} too")
            if number == 1:
                await way.clock.advance(0.001)
        everything = (await ada.sent()).sent
        assert len(everything) == 8
        assert [one.sent for one in everything] == sorted(
            (one.sent for one in everything), reverse=True
        )
        for limit in (1, 3, 8):
            paged, before = [], None
            while True:
                page = await ada.sent(limit=limit, before=before)
                paged += page.sent
                if page.more is None:
                    break
                before = page.more
            assert paged == list(everything)

    async def test_by_correlation_ids(self, ada, ask):
        for one in ("a", "b", "c", "b"):
            await ask(one)
        await ask("d", delay=5)
        page = await ada.sent(correlation_ids=["b", "d", "none", "b"])
        assert [one.correlation_id for one in page.sent] == ["b", "b", "d"]
        page = await ada.sent(correlation_ids=["b", "d"], limit=2)
        page = await ada.sent(correlation_ids=["b", "d"], before=page.more)
        assert [one.correlation_id for one in page.sent] == ["d"]

    async def test_what_has_no_correlation_id_is_not_listed(self, ada, ask, inbox):
        await ada.send(inbox, "x")
        assert (await ada.sent()).sent == ()


class TestWhose:
    """Everybody sees what they sent themselves."""

    async def test_an_agent_sees_what_it_sent_verified(self, ada, client, bob, ask, inbox):
        await ask("mine")
        await client.send(inbox, "x", correlation_id="a claim", sender="ada")
        await bob.send(inbox, "x", correlation_id="bob's", sender="ada")
        assert await states(ada) == {"mine": "waiting"}
        assert await states(ada, sender="ada") == {"mine": "waiting"}
        with pytest.raises(Forbidden, match="sender"):
            await ada.sent(sender="bob", correlation_ids=["bob's"])

    async def test_who_is_nobody_names_sender_and_ids_and_sees_claims(self, way, client, ask):
        await ask("q")
        await client.send("inbox", "x", correlation_id="q", sender="ada")
        refused = await way.ask("MSG.SENT", {"sender": "ada"})
        assert refused["code"] == "forbidden"
        assert "correlation_ids" in refused["error"]
        refused = await way.ask("MSG.SENT", {"correlation_ids": ["q"]})
        assert (refused["code"], "sender" in refused["error"]) == ("invalid_request", True)
        found = await way.ask("MSG.SENT", {"sender": "ada", "correlation_ids": ["q"]})
        assert found == {
            "error": "",
            "sent": [
                {
                    "mail_address": "inbox",
                    "msg_id": 1,
                    "sent": START,
                    "priority": "normal",
                    "correlation_id": "q",
                    "state": "waiting",
                    "deliveries": 0,
                }
            ],
        }

    async def test_an_operator_sees_all_where_agents_are_configured(self, way, ada, ask):
        await ask("q")
        way.configure(["ada", "bob"])
        found = await way.ask("MSG.SENT", {"sender": "ada"})
        assert [one["correlation_id"] for one in found["sent"]] == ["q"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("correlation_ids", []),
        ("correlation_ids", "abc"),
        ("correlation_ids", [""]),
        ("correlation_ids", [f"{number}" for number in range(101)]),
        ("before", "1.2.3"),
        ("before", f"{10**18}.1.1.1"),
        ("limit", 0),
        ("limit", 1_001),
        ("sender", "\n"),
    ],
)
async def test_bad_input_is_refused_alike(way, ada, field, value):
    with pytest.raises(InvalidRequest, match=field):
        await ada.sent(**{field: value})
    refused = await way.ask("MSG.SENT", {field: value}, agent="ada")
    assert (refused["code"], field in refused["error"]) == ("invalid_request", True)


async def test_several_who_ask_at_once(ada, ask):
    for number in range(20):
        await ask(f"{number}", delay=number % 2)
    pages = await asyncio.gather(*(ada.sent() for _ in range(5)))
    assert all(page == pages[0] for page in pages)


async def test_a_question_is_no_answer_to_its_answer(way, client):
    for name in ("asker", "expert"):
        await client.mailbox_create(name=name)
    ids = {"correlation_id": "q-1"}
    await client.send("expert", "How far?", sender="asker", reply_to="asker", **ids)
    await way.clock.advance(1)
    await client.send("asker", "42 km", sender="expert", reply_to="expert", **ids)

    [answer] = (await client.sent(sender="expert", correlation_ids=["q-1"])).sent
    [question] = (await client.sent(sender="asker", correlation_ids=["q-1"])).sent

    assert answer.answer is None
    assert question.answer is not None
