"""Askers who want to are told, once, when no answer has come in time."""

import asyncio

import pytest

from mq9 import Forbidden, InvalidRequest, LimitReached, Promise
from mq9.engine.commands import Limits

from .reading import START, ids

SOON = START + 60
LATER = START + 600


@pytest.fixture
async def asker(client):
    """The mailbox that answers come to."""
    return await client.mailbox_create(name="asker")


@pytest.fixture
def ask(client, inbox, asker):
    """Ask something in the inbox, to be answered in a minute."""

    async def send(correlation_id="q", **options):
        options = {"sender": "planner", "reply_to": asker, "answer_by": SOON, **options}
        return await client.send(
            inbox, "?", correlation_id=correlation_id, tell_overdue=True, **options
        )

    return send


async def told(client, asker):
    """What the notices in a mailbox say."""
    found = await client.fetch(asker, max_wait_ms=0)
    return [message.json() for message in found if message.overdue]


def notice(msg_id=0, correlation_id="q", answer_by=SOON, **more):
    return {
        "type": "overdue",
        "mail_address": "inbox",
        "msg_id": msg_id,
        "correlation_id": correlation_id,
        "answer_by": answer_by,
        **more,
    }


async def test_a_notice_comes_once_when_no_answer_has_come(way, client, ask, asker):
    await ask()
    await way.clock.advance(59.999)
    assert await client.fetch(asker, max_wait_ms=0) == []
    await way.clock.advance(0.001)

    [message] = await client.fetch(asker, max_wait_ms=0)

    assert message.overdue
    assert message.json() == notice()
    assert message.create_time == SOON
    # It is no answer, and comes from nobody who could be answered.
    beside = (message.correlation_id, message.reply_to, message.sender, message.headers)
    assert beside == (None, None, None, {})
    await way.clock.advance(86_400)
    assert len(await client.fetch(asker, max_wait_ms=0)) == 1


async def test_who_waits_at_the_mailbox_is_woken_for_it(way, client, ask, asker):
    async def wait(group_name):
        return await client.fetch(asker, group_name=group_name, max_wait_ms=3_600_000)

    waiting = [asyncio.create_task(wait(group)) for group in (None, "g")]
    await way.clock.advance(1)
    await ask()
    await way.clock.advance(59)
    assert [ids(found) for found in await asyncio.gather(*waiting)] == [[0], [0]]
    assert way.clock.now_ms() == SOON * 1000


@pytest.mark.parametrize("error", [None, "failed"])
async def test_an_answer_in_time_ends_the_wait(way, client, ask, asker, error):
    await ask("q")
    await ask("r")
    headers = None if error is None else {"error": error}
    await client.send(asker, "!", sender="worker", correlation_id="q", headers=headers)
    await way.clock.advance(60)
    assert await told(client, asker) == [notice(1, "r")]


async def test_only_a_message_of_somebody_else_to_that_mailbox_is_an_answer(
    way, client, inbox, ask, asker
):
    await ask()
    await client.send(asker, "not yet?", sender="planner", correlation_id="q")
    await client.send(inbox, "!", sender="worker", correlation_id="q")
    await client.send(asker, "!", sender="worker", correlation_id="r")
    await client.send(asker, "!", sender="worker")
    await way.clock.advance(60)
    assert await told(client, asker) == [notice()]


async def test_anybody_answers_who_asks_without_a_name(way, client, ask, asker):
    await ask(sender=None)
    await client.send(asker, "!", correlation_id="q")
    await way.clock.advance(60)
    assert await told(client, asker) == []


async def test_a_question_in_the_mailbox_of_its_answer_does_not_answer_itself(way, client, asker):
    options = {"reply_to": asker, "correlation_id": "q", "answer_by": SOON, "tell_overdue": True}
    await client.send(asker, "?", **options)
    await client.send(asker, "?", delay=5, **{**options, "correlation_id": "r"})
    await way.clock.advance(60)
    assert [one["correlation_id"] for one in await told(client, asker)] == ["q", "r"]


async def test_a_delayed_answer_comes_when_it_is_visible(way, client, ask, asker):
    for correlation_id in "qrs":
        await ask(correlation_id)
    for correlation_id, delay in (("q", 59), ("r", 60), ("s", 61)):
        options = {"sender": "worker", "correlation_id": correlation_id, "delay": delay}
        await client.send(asker, "!", **options)
    # Nobody looks before all of that is over.
    await way.clock.advance(600)
    found = await client.fetch(asker, max_wait_ms=0)
    assert [one.correlation_id for one in found] == ["q", "r", None, "s"]
    assert await told(client, asker) == [notice(2, "s")]


async def test_a_delayed_question_counts_from_when_it_is_sent(way, client, inbox, ask, asker):
    assert await ask("q", delay=30) == -1
    assert await ask("r", delay=90) == -1
    await way.clock.advance(31)
    [given] = await client.fetch(inbox, group_name="g")
    await given.promise(LATER)
    await way.clock.advance(29)
    # As its sender knows it.
    expected = notice(correlation_id="r", delayed_id=2)
    del expected["msg_id"]
    assert await told(client, asker) == [expected]
    await way.clock.advance(LATER - SOON)
    [_, promised] = await told(client, asker)
    assert (promised["delayed_id"], promised["promise"]) == (1, {"until": LATER})


async def test_no_notice_comes_of_what_its_sender_took_back(way, client, inbox, ask, asker):
    await ask("q", key="k")
    await ask("r", key="k")
    await ask("s", delay=30)
    await client.cancel(inbox, 1, sender="planner")
    await ask("t", key="l")
    await client.send(inbox, "other", key="l", sender="somebody")
    await way.clock.advance(60)
    assert [one["correlation_id"] for one in await told(client, asker)] == ["r", "t"]


@pytest.mark.parametrize("end", ["acked", "deleted", "expired", "cancelled", "dropped"])
async def test_a_notice_comes_however_the_question_ended(way, client, inbox, ask, asker, end):
    options = {"expired": {"ttl": 10}, "cancelled": {"delay": 30}}.get(end, {})
    await ask(**options)
    if end == "acked":
        [given] = await client.fetch(inbox, group_name="g")
        await given.ack()
    elif end == "deleted":
        await client.delete(inbox, 0)
    elif end == "cancelled":
        await client.cancel(inbox, 1)  # by whoever takes messages there
    elif end == "dropped":
        await client.mailbox_drop(inbox)
    await way.clock.advance(60)
    [one] = await told(client, asker)
    assert (one["correlation_id"], one["mail_address"]) == ("q", inbox)


async def test_a_promise_moves_the_instant_and_only_to_a_later_one(way, client, inbox, ask, asker):
    for correlation_id in "qrs":
        await ask(correlation_id)
    late, early, _ = await client.fetch(inbox, group_name="g")
    await late.promise(LATER, "half of it")
    await late.promise(LATER - 100, "more of it")
    await early.promise(SOON - 30)

    await way.clock.advance(60)

    promised = {"until": SOON - 30}
    assert await told(client, asker) == [notice(1, "r", promise=promised), notice(2, "s")]
    await way.clock.advance(LATER - SOON - 0.001)
    assert len(await told(client, asker)) == 2
    await way.clock.advance(0.001)
    [*_, last] = await told(client, asker)
    assert last == notice(promise={"until": LATER - 100, "done": "more of it"})


async def test_a_promise_of_somebody_who_died_is_waited_for(way, client, inbox, ask, asker):
    await ask()
    [given] = await client.fetch(inbox, group_name="g", lease_ms=5_000)
    await given.promise(LATER, lease=5)
    await way.clock.advance(LATER - START - 1)
    assert await told(client, asker) == []
    await way.clock.advance(1)
    assert await told(client, asker) == [notice(promise={"until": LATER})]


async def test_a_promise_after_the_notice_changes_nothing(way, client, inbox, ask, asker):
    await ask()
    [given] = await client.fetch(inbox, group_name="g", lease_ms=3_600_000)
    await way.clock.advance(61)
    # Nobody has looked at the asker's mailbox: it was told all the same.
    await given.promise(LATER)
    assert len(await told(client, asker)) == 1
    await given.promise(LATER + 100)
    await given.nack()
    await way.clock.advance(3_600)
    assert len(await told(client, asker)) == 1


@pytest.mark.parametrize("end", ["nack", "move"])
@pytest.mark.parametrize("passed", [30, 120])
async def test_what_was_promised_no_longer_counts_once_it_is_given_up(
    way, client, inbox, ask, asker, end, passed
):
    await client.mailbox_create(name="elsewhere")
    await ask()
    [given] = await client.fetch(inbox, group_name="g", lease_ms=3_600_000)
    await given.promise(LATER, lease=3_600)
    waiting = asyncio.create_task(client.fetch(asker, max_wait_ms=3_600_000))
    await way.clock.advance(passed)
    assert await told(client, asker) == []

    await (given.nack() if end == "nack" else given.move("elsewhere"))

    await way.clock.advance(max(0, 60 - passed))
    assert [message.json() for message in await waiting] == [notice()]
    assert way.clock.now_ms() == (START + max(60, passed)) * 1000


async def test_a_question_that_was_moved_is_promised_and_answered_where_it_is(
    way, client, inbox, ask, asker
):
    await client.mailbox_create(name="elsewhere")
    for correlation_id in "qr":
        await ask(correlation_id)
    for one in await client.fetch(inbox, group_name="g"):
        await one.move("elsewhere")
    first, second = await client.fetch("elsewhere", group_name="g")
    await first.promise(LATER)
    await client.send("elsewhere", "!", sender="worker", correlation_id="r", id="lost")
    await second.move(asker)  # the question itself is no answer to it
    [_, _, answer] = await client.fetch("elsewhere", group_name="h")
    await way.clock.advance(30)
    await answer.move(asker)

    await way.clock.advance(LATER - START - 31)
    assert await told(client, asker) == []
    await way.clock.advance(1)
    assert await told(client, asker) == [notice(promise={"until": LATER})]


async def test_it_is_told_of_what_is_sent_again_under_its_id_once(way, client, ask, asker):
    for _ in range(2):
        assert await ask(id="the same") == 0
    await way.clock.advance(60)
    assert await told(client, asker) == [notice()]
    await ask(id="the same")
    await way.clock.advance(60)
    assert len(await told(client, asker)) == 1


async def test_what_is_overdue_already_is_told_at_once(way, client, ask, asker):
    await ask(answer_by=START - 1)
    assert await told(client, asker) == [notice(answer_by=START - 1)]
    [message] = await client.fetch(asker)
    assert message.create_time == START


async def test_a_header_or_a_body_is_no_notice(way, client, inbox, asker):
    headers = {"overdue": "true", "type": "overdue"}
    await client.send(asker, notice(), headers=headers, tags=["overdue"])
    await way.ask(f"MSG.SEND.{asker}", notice(), ("mq9-overdue", "true"))
    found = await client.fetch(asker)
    assert [one.overdue for one in found] == [False, False]


async def test_a_notice_stays_one_when_it_is_moved(way, client, ask, asker):
    await client.mailbox_create(name="dead")
    await ask()
    await way.clock.advance(60)
    [message] = await client.fetch(asker, group_name="g")
    await message.move("dead")
    assert await told(client, "dead") == [notice()]


async def test_the_mailbox_of_the_answer_has_to_be_there(client, ask, asker):
    with pytest.raises(InvalidRequest, match="reply_to: nowhere does not exist"):
        await ask(reply_to="nowhere")
    await client.mailbox_create(name="state", type="latest")
    with pytest.raises(InvalidRequest, match="reply_to: state keeps the newest"):
        await ask(reply_to="state")
    assert (await client.mailbox_status("inbox")).stored == 0
    await client.mailbox_drop(asker)


@pytest.mark.parametrize("missing", ["reply_to", "correlation_id", "answer_by"])
async def test_it_needs_all_that_it_is_made_of(client, inbox, asker, missing):
    options = {"reply_to": asker, "correlation_id": "q", "answer_by": SOON}
    del options[missing]
    with pytest.raises(InvalidRequest, match=f"{missing}: needed with tell_overdue"):
        await client.send(inbox, "?", tell_overdue=True, **options)


async def test_notices_go_with_their_mailbox(way, client, ask, asker):
    await ask()
    await client.mailbox_drop(asker)
    await client.mailbox_create(name=asker)
    await way.clock.advance(60)
    assert await client.fetch(asker, max_wait_ms=0) == []


async def test_a_full_mailbox_is_told_and_awaits_no_more_than_it_could_hold(open_way):
    way = open_way(limits=Limits(max_messages=2))
    client = await way.client()
    for name in ("one", "two", "asker"):
        await client.mailbox_create(name=name)
    options = {"reply_to": "asker", "answer_by": SOON, "tell_overdue": True}
    await client.send("one", "?", correlation_id="q", **options)
    await client.send("two", "?", correlation_id="r", **options)
    with pytest.raises(LimitReached, match="max_messages: 2 answers that are awaited in asker"):
        await client.send("two", "?", correlation_id="s", **options)
    await client.send("asker", "a")
    await client.send("asker", "b")

    await way.clock.advance(60)

    assert [one["correlation_id"] for one in await told(client, "asker")] == ["q", "r"]
    await client.mailbox_drop("two")
    await client.mailbox_create(name="two")
    await client.send("two", "?", correlation_id="s", **options)


async def test_one_who_promises_in_another_group_counts_as_well(way, client, inbox, ask, asker):
    await ask()
    [one] = await client.fetch(inbox, group_name="g")
    [two] = await client.fetch(inbox, group_name="h")
    await one.promise(LATER)
    await two.promise(LATER + 100)
    await two.nack()
    [two] = await client.fetch(inbox, group_name="h")
    await client.extend(inbox, "h", [0], promise=Promise(until=SOON + 1))
    await way.clock.advance(LATER - START - 1)
    assert await told(client, asker) == []
    await way.clock.advance(1)
    assert await told(client, asker) == [notice(promise={"until": LATER})]


class TestRights:
    """Where agents are told apart, nobody writes to a mailbox by way of a notice."""

    @pytest.fixture
    def way(self, open_way):
        return open_way(agents={"ada": None, "bob": ["bob", "cook"], "cook": None})

    async def test_the_asker_has_to_be_allowed_to_send_and_to_take_there(self, way):
        ada, bob, cook = [await way.client(agent=name) for name in ("ada", "bob", "cook")]
        await cook.mailbox_create(name="cook")
        await cook.mailbox_create(name="cook.private", send_policy="creator")
        await cook.mailbox_grant("cook.private", ["ada"])
        await cook.mailbox_create(name="public")
        await cook.mailbox_grant("public", ["bob", "ada"])
        await ada.mailbox_create(name="ada")
        await bob.mailbox_create(name="bob")
        options = {"correlation_id": "q", "answer_by": SOON, "tell_overdue": True}
        for client, reply_to in (
            (ada, "cook"),  # where anybody may send, and she does not take
            (ada, "cook.private"),  # where she takes, and may not send
            (bob, "cook"),
            (cook, "ada"),
        ):
            with pytest.raises(Forbidden, match=f"reply_to: .* in {reply_to}, you need the rights"):
                await client.send("cook", "?", reply_to=reply_to, **options)
        assert await cook.fetch("cook", max_wait_ms=0) == []

        told = [(ada, "ada"), (bob, "bob"), (cook, "cook.private"), (ada, "public")]
        for client, box in told:
            await client.send("cook", "?", reply_to=box, **options)
        await way.clock.advance(60)
        for client, box in told:
            [message] = await client.fetch(box, max_wait_ms=0)
            assert message.overdue
