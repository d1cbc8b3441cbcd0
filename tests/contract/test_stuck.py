"""STUCK.LIST: what needs somebody."""

import pytest

from .reading import START

HOUR = 3_600


@pytest.fixture
def way(open_way):
    return open_way(agents=["ada", "bob"])


@pytest.fixture
async def operator(way):
    return await way.client()


@pytest.fixture
async def boxes(ada, bob):
    await ada.mailbox_create(name="ada")
    await bob.mailbox_create(name="bob")
    await bob.mailbox_create(name="bob.dead")


async def ask(asker, count=1, **options):
    for number in range(count):
        given = {"reply_to": "ada", "correlation_id": f"q{number}", **options}
        await asker.send("bob", f"Why {number}?", **given)


async def take(client, mail_address="bob", **options):
    options = {"group_name": "bob", "max_wait_ms": 0, **options}
    return await client.fetch(mail_address, **options)


async def found(client, **options):
    page = await client.stuck(**options)
    return [(one.kind, one.mail_address, one.msg_id) for one in page.items]


async def test_nothing_is_stuck_that_is_dealt_with(operator, ada, bob, boxes):
    await ask(ada, 2)
    assert await found(operator) == []
    first, _ = await take(bob)
    await bob.ack(first)
    page = await operator.stuck()
    assert (page.items, page.more, page.building) == ((), None, None)
    assert page.counts == dict.fromkeys(page.counts, 0)
    assert list(page.counts) == ["leased", "retrying", "overdue", "undeliverable", "dead"]


@pytest.mark.parametrize("count", [1, 3])
async def test_one_that_is_held_for_long(way, operator, ada, bob, boxes, count):
    await ask(ada, count)
    taken = await take(bob, consumer="bob/1", lease_ms=HOUR * 1_000)
    await way.clock.advance(599)
    assert await found(operator) == []
    await bob.extend(
        "bob", "bob", [one.msg_id for one in taken], consumer="bob/1", lease_ms=HOUR * 1_000
    )
    await way.clock.advance(1)
    page = await operator.stuck()
    assert [one.msg_id for one in page.items] == list(range(count))
    one = page.items[0]
    assert (one.kind, one.group_name, one.consumer) == ("leased", "bob", "bob/1")
    assert (one.since, one.until, one.deliveries) == (START, START + 599 + HOUR, 1)
    assert (one.text, one.sender, one.verified) == ("Why 0?", "ada", True)
    assert page.counts["leased"] == count
    assert await found(operator, leased_longer_s=601) == []
    assert await found(operator, kind="retrying") == []


async def test_a_lease_that_is_of_one_message_of_a_batch(way, operator, ada, bob, boxes):
    await ask(ada, 3)
    _, second, _ = await take(bob, lease_ms=HOUR * 1_000)
    await bob.nack(second)
    assert await found(operator) == [("retrying", "bob", 1)]
    await way.clock.advance(600)
    assert await found(operator) == [
        *(("leased", "bob", 0), ("leased", "bob", 2), ("retrying", "bob", 1))
    ]


async def test_one_that_is_delivered_again(way, operator, ada, bob, boxes):
    await ask(ada, 2)
    await take(bob, lease_ms=1_000, begun=True)
    await way.clock.advance(1)
    assert await found(operator) == [("retrying", "bob", 0), ("retrying", "bob", 1)]
    await way.clock.advance(1)
    await take(bob, num_msgs=1, consumer="bob/2")
    one, other = (await operator.stuck()).items
    assert (one.msg_id, one.consumer, one.since, one.deliveries) == (0, "bob/2", START + 2, 2)
    assert (other.msg_id, other.since, other.deaths) == (1, START, 1)
    await bob.ack("bob", "bob", 0, consumer="bob/2")
    assert await found(operator) == [("retrying", "bob", 1)]


class TestUndeliverable:
    """What waits where nobody reads."""

    async def test_a_question_in_a_mailbox_that_nobody_has_read(self, way, operator, ada, boxes):
        await ada.send("bob", "only said")
        await ask(ada)
        await way.clock.advance(599)
        assert await found(operator) == []
        await way.clock.advance(1)
        [one] = (await operator.stuck()).items
        assert (one.kind, one.msg_id, one.since) == ("undeliverable", 1, START)

    async def test_anything_that_a_consumer_has_left(self, way, operator, ada, bob, boxes):
        for _ in range(3):
            await ada.send("bob", "only said")
        await bob.ack((await take(bob, num_msgs=1))[0])
        await way.clock.advance(HOUR)
        assert await found(operator) == []  # the group is known to be idle by the hour
        await way.clock.advance(600)
        assert await found(operator) == [("undeliverable", "bob", 1), ("undeliverable", "bob", 2)]
        await take(bob, num_msgs=1, lease_ms=HOUR * 1_000)
        assert await found(operator) == []

    async def test_the_agent_of_the_mailbox_lives(self, way, operator, ada, bob, boxes):
        await ask(ada)
        await bob.agent_register({"name": "bob", "mailbox": "bob"})
        await way.clock.advance(700)
        await bob.agent_report({"name": "bob", "mailbox": "bob"})
        assert await found(operator) == []
        await way.clock.advance(600)
        assert await found(operator) == [("undeliverable", "bob", 0)]

    async def test_people_read_without_a_group(self, way, operator, ada, boxes):
        await ask(ada, tags=["question"])
        await way.clock.advance(HOUR)
        assert await found(operator) == []


async def test_a_dead_letter_until_somebody_deals_with_it(way, operator, ada, bob, boxes):
    await ask(ada, 3)
    for one in await take(bob):
        await bob.move(one, to="bob.dead", reason=f"ValueError: {one.msg_id}")
    one, *others = (await operator.stuck(kind="dead")).items
    assert (one.mail_address, one.msg_id, one.since) == ("bob.dead", 0, START)
    assert (one.reason, one.deliveries) == ("ValueError: 0", 1)
    assert (one.moved.mailbox, one.moved.msg_id, len(others)) == ("bob", 0, 2)
    redriven, acked, _ = await take(bob, "bob.dead", group_name="mq9.redrive")
    await bob.move(redriven, to="bob")
    assert await found(operator, kind="dead") == [("dead", "bob.dead", 1), ("dead", "bob.dead", 2)]
    await bob.delete("bob.dead", acked.msg_id)
    assert await found(operator) == [("dead", "bob.dead", 2)]


async def test_a_message_that_was_moved_aside_is_no_dead_letter(operator, ada, bob, boxes):
    await ask(ada)
    [one] = await take(bob)
    await bob.move(one, to="bob.dead", reason="its conversation waits for the answer to a question")
    assert await found(operator) == []


async def test_pages_of_all_kinds(way, operator, ada, bob, boxes):
    await ask(ada, 8)
    taken = await take(bob, num_msgs=6, lease_ms=HOUR * 1_000)
    for one in taken[:2]:
        await bob.move(one, to="bob.dead")
    await bob.nack(taken[2])
    await way.clock.advance(600)
    everything = await found(operator)
    assert [kind for kind, _, _ in everything] == [*["leased"] * 3, "retrying", *["dead"] * 2]
    for limit in (1, 2, 4):
        pages, after = [], None
        while True:
            page = await operator.stuck(limit=limit, after=after)
            pages += [(one.kind, one.mail_address, one.msg_id) for one in page.items]
            assert page.counts["leased"] == 3
            after = page.more
            if after is None:
                break
        assert pages == everything
    assert await found(operator, mail_address="bob.dead") == everything[-2:]
    assert await found(operator, mail_address="ada") == []
    assert await found(operator, mail_address="nowhere") == []
    assert await found(operator, kind="dead", mail_address="bob.dead") == everything[-2:]


async def test_an_agent_sees_what_it_may_look_at(way, operator, ada, bob, boxes):
    await ask(ada, 2)
    first, _ = await take(bob)
    await bob.move(first, to="bob.dead")
    assert await found(ada) == []
    assert (await ada.stuck()).counts["dead"] == 0
    assert await found(bob) == await found(operator) == [("dead", "bob.dead", 0)]
    await bob.mailbox_grant("bob.dead", viewers=["ada"])
    assert await found(ada) == [("dead", "bob.dead", 0)]


class TestOverdue:
    """Questions that were to be answered by now."""

    async def test_from_the_instant_to_the_answer(self, way, operator, ada, bob, boxes):
        await ask(ada, 2, answer_by=START + 60)
        await way.clock.advance(59)
        assert await found(operator) == []
        await way.clock.advance(1)
        page = await operator.stuck()
        assert [(one.kind, one.msg_id) for one in page.items] == [("overdue", 0), ("overdue", 1)]
        one = page.items[0]
        assert (one.since, one.answer_by, one.promise) == (START + 60, START + 60, None)
        [question, _] = await take(bob)
        await bob.reply(question, "Late.")
        assert await found(operator) == [("overdue", "bob", 1)]
        assert await found(operator, mail_address="bob") == [("overdue", "bob", 1)]
        assert await found(operator, mail_address="ada") == []
        await bob.delete("bob", 1)
        assert await found(operator) == []

    async def test_an_answer_counts_although_it_was_removed(self, way, operator, ada, bob, boxes):
        if "one broker" not in way.capabilities:
            pytest.skip("each gateway has an index of its own, which may be made later")
        await ask(ada, answer_by=START + 60)
        assert await found(operator) == []
        await bob.reply((await take(bob))[0], "Soon.")
        assert await found(operator) == []
        await ada.delete("ada", 0)
        await bob.ack("bob", "bob", 0)
        await way.clock.advance(60)
        assert await found(operator) == []

    async def test_nobody_waits_where_the_mailbox_for_the_answer_is_gone(
        self, way, operator, ada, boxes
    ):
        await ask(ada, answer_by=START + 60)
        await ada.mailbox_drop("ada")
        await way.clock.advance(60)
        assert await found(operator) == []

    async def test_a_promise_moves_it(self, way, operator, ada, bob, boxes):
        await ask(ada, answer_by=START + 60)
        [question] = await take(bob, consumer="bob/1", lease_ms=HOUR * 1_000)
        await question.promise(START + 90, "read it", lease=HOUR)
        await way.clock.advance(89)
        assert await found(operator) == []
        await way.clock.advance(1)
        [one] = (await operator.stuck()).items
        assert (one.kind, one.since, one.answer_by) == ("overdue", START + 90, START + 60)
        assert (one.promise.until, one.promise.done) == (START + 90, "read it")
        [told] = (await ada.conversation("q0")).messages
        assert (told.standing.promise.done, told.standing.promise.by) == ("read it", None)

    async def test_one_that_was_answered_before_its_question_is_taken_in(
        self, way, operator, ada, bob, boxes
    ):
        await ask(ada, answer_by=START + 60)
        await bob.send("ada", "Soon.", correlation_id="q0")
        await way.clock.advance(60)
        assert await found(operator) == []

    async def test_one_that_was_moved_counts_where_it_is(self, way, operator, ada, bob, boxes):
        await ask(ada, answer_by=START + 60)
        await bob.mailbox_create(name="bob.aside")
        reason = "its conversation waits for the answer to a question"
        await bob.move((await take(bob))[0], to="bob.aside", reason=reason)
        await way.clock.advance(60)
        assert await found(operator) == [("overdue", "bob.aside", 0)]

    async def test_the_notice_belongs_to_the_conversation(self, way, operator, ada, bob, boxes):
        await ask(ada, answer_by=START + 60, tell_overdue=True)
        await way.clock.advance(60)
        [one] = (await operator.conversations()).conversations
        assert (one.id, one.count, one.state) == ("q0", 2, "waiting")


async def test_why_a_message_was_given_back(operator, ada, bob, boxes):
    await ask(ada)
    [question] = await take(bob)
    await bob.nack(question, reason="ValueError: 7")
    [one] = (await operator.stuck()).items
    assert (one.kind, one.reason) == ("retrying", "ValueError: 7")
    [conversation] = (await operator.conversations()).conversations
    assert (conversation.state, conversation.reason) == ("retrying", "ValueError: 7")
    [seen] = (await ada.conversations()).conversations
    assert (seen.state, seen.reason) == ("retrying", None)
