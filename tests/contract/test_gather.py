"""Asking several questions at once and gathering their answers."""

import asyncio
import secrets

import pytest
from waiting import until

from mq9 import (
    Forbidden,
    InvalidAddress,
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    NoReply,
    PayloadTooLarge,
    RequestFailed,
)
from mq9.client import gathering
from mq9.client.error_answers import ErrorAnswer, Failure, send_error_answer
from mq9.engine import send
from mq9.engine.commands import Limits

from .parsing import only_read

NAMES = ["ada", "bob", "eve"]
KEPT_S = 30 * 86_400
ASKED_S = 7 * 86_400


@pytest.fixture
async def agents(client):
    """The mailboxes of three agents."""
    for name in NAMES:
        await client.mailbox_create(name=name)


@pytest.fixture
def work():
    """What a program keeps with its work."""
    return secrets.token_hex(16)


def questions(body="q"):
    return [(name, body) for name in NAMES]


def texts(gathered):
    return [None if one is None else one.text for one in gathered]


async def questions_of(client, name):
    return await client.fetch(name, group_name=name, max_wait_ms=0, redeliver_own=False)


async def answer(client, *names):
    for name in names:
        for question in await questions_of(client, name):
            await client.reply(question, f"{name} on {question.text}", sender=name)


async def begin(way, call, waiting=1):
    """Start a call and return its task, once it is done or so many calls wait for answers."""
    task = asyncio.create_task(call)
    await until(lambda: task.done() or way.broker.waiting >= waiting)
    return task


async def until_done(way, task):
    """Let time pass until a call is done."""
    while not task.done():
        await way.clock.advance(1)


async def answered(way, client, call, *names):
    """Make a call whose questions some answer at once; what it comes to."""
    gathering = await begin(way, call)
    await answer(client, *names)
    await way.clock.advance(0)
    return await gathering


async def be_killed(way, call):
    """Make a call as a program does that is killed while it waits."""
    task = await begin(way, call)
    assert not task.done()
    task.cancel()
    await until(lambda: task.done() and way.broker.waiting == 0)
    assert task.cancelled()


pytestmark = pytest.mark.usefixtures("agents")


async def test_answers_come_in_the_order_of_the_questions(way, client):
    headers = {"traceparent": "t"}
    gathering = await begin(
        way,
        client.gather(
            [("ada", "1"), ("bob", {"n": 2}), ("ada", b"3")],
            sender="boss",
            priority="urgent",
            path=["user", "boss"],
            headers=headers,
        ),
    )
    [second] = await questions_of(client, "bob")
    first, third = await questions_of(client, "ada")
    assert second.json() == {"n": 2}
    assert (second.sender, second.priority, second.path) == ("boss", "urgent", ("user", "boss"))
    assert second.headers["traceparent"] == "t"

    for question in (third, second, first):
        assert not gathering.done()
        await client.reply(question, f"re {question.text}")
    await way.clock.advance(0)

    gathered = await gathering
    assert texts(gathered) == ["re 1", 're {"n":2}', "re 3"]
    assert (gathered.missing, gathered.refused, gathered.answers) == ([], {}, list(gathered))
    assert [one.correlation_id for one in gathered] == list(gathered.correlation_ids)


async def test_nothing_is_asked_of_nobody(client, work):
    assert await client.gather([]) == []
    assert await client.gather([], id=work) == []


async def test_the_same_question_twice_is_answered_twice(way, client):
    gathering = await begin(way, client.gather([("ada", "toss"), ("ada", "toss")]))
    for number, question in enumerate(await questions_of(client, "ada")):
        await client.reply(question, str(number))
    await way.clock.advance(0)

    assert sorted(texts(await gathering)) == ["0", "1"]


async def test_too_few_answers_in_time_are_shown_in_the_error(way, client):
    gathering = await begin(way, client.gather(questions(), timeout=90))
    await answer(client, "bob")
    await way.clock.advance(89.999)
    assert not gathering.done()
    await until_done(way, gathering)

    with pytest.raises(NoReply, match="1 of 3 answers came within 90 s, 3 are needed") as raised:
        await gathering
    assert texts(raised.value.gathered) == [None, "bob on q", None]
    assert raised.value.gathered.missing == [0, 2]


async def test_with_a_minimum_the_rest_may_be_missing(way, client):
    gathering = await begin(way, client.gather(questions(), timeout=10, minimum=2))
    await answer(client, "eve", "ada")
    await way.clock.advance(9.999)
    assert not gathering.done()  # another may still come
    await until_done(way, gathering)

    gathered = await gathering
    assert texts(gathered) == ["ada on q", None, "eve on q"]
    assert (gathered.missing, len(gathered.answers)) == ([1], 2)


async def test_all_answers_end_the_wait_whatever_the_minimum(way, client):
    gathered = await answered(way, client, client.gather(questions(), minimum=0), *NAMES)

    assert gathered.missing == []


async def test_what_is_no_first_answer_is_passed_over(way, client, work):
    gathering = await begin(way, client.gather(questions(), id=work))
    for name in NAMES:
        [question] = await questions_of(client, name)
        await client.send(question.reply_to, "half done", headers={"progress": "50"})
        await client.send(question.reply_to, "spam", correlation_id="another", priority="critical")
        await client.reply(question, name)
        await client.reply(question, "a second thought", id=f"{name} again")
    await way.clock.advance(0)

    assert texts(await gathering) == NAMES
    assert texts(await client.gather(questions(), id=work)) == NAMES


@pytest.mark.parametrize("end", ["answered", "unanswered", "cancelled", "nobody there"])
async def test_without_an_id_nothing_stays(way, client, end):
    asked = [*questions(), ("nobody", "q")] if end == "nobody there" else questions()
    gathering = client.gather(asked, timeout=10)
    asking = await (way.begin(gathering) if end == "nobody there" else begin(way, gathering))
    if end == "answered":
        await answer(client, *NAMES)
    elif end == "cancelled":
        asking.cancel()
    await until_done(way, asking)
    await asyncio.gather(asking, return_exceptions=True)
    assert len(way.state()["mailboxes"]) == len(NAMES)

    await way.clock.advance(10 + 60)
    for name in NAMES:
        assert await client.query(name) == []


async def test_who_cannot_be_asked_is_missing_and_it_says_why(way, client):
    asking = client.gather([("nobody", "q"), *questions()], minimum=3)

    gathered = await answered(way, client, asking, *NAMES)

    assert texts(gathered) == [None, "ada on q", "bob on q", "eve on q"]
    assert gathered.missing == [0]
    assert isinstance(gathered.refused[0], MailboxNotFound)
    assert "nobody" in str(gathered.refused[0])


@pytest.mark.parametrize("minimum", [None, 4])
async def test_who_is_not_there_yet_is_waited_for_where_too_few_can_be_asked(way, client, minimum):
    gathering = await way.begin(client.gather([*questions(), ("late", "q")], minimum=minimum))
    await way.clock.advance(5)
    await client.mailbox_create(name="late")
    while not await client.query("late"):
        await way.clock.advance(1)
    await answer(client, *NAMES, "late")
    await way.clock.advance(0)

    assert len((await gathering).answers) == 4


@pytest.mark.parametrize("minimum", [None, 4])
async def test_it_fails_when_too_few_can_be_asked_after_ten_seconds(way, client, minimum):
    gathering = await way.begin(client.gather([*questions(), ("nobody", "q")], minimum=minimum))
    await until_done(way, gathering)

    with pytest.raises(MailboxNotFound, match="nobody does not exist, after "):
        await gathering


async def test_it_fails_at_once_where_those_that_are_missing_do_not_matter(open_way):
    way = open_way(Limits(max_payload=100))
    client = await way.client()

    with pytest.raises((MailboxNotFound, PayloadTooLarge)):
        await client.gather([("nobody", "q"), ("nobody", "x" * 101)], minimum=2)


async def test_a_full_mailbox_and_a_body_too_large_refuse_one_question(open_way):
    way = open_way(Limits(max_messages=1, max_payload=100))
    client = await way.client()
    for name in NAMES:
        await client.mailbox_create(name=name, renew=True)
    await client.send("ada", "waits")
    asking = client.gather([("ada", "q"), ("bob", "x" * 101), ("eve", "q")], minimum=1)

    gathered = await answered(way, client, asking, "eve")

    assert texts(gathered) == [None, None, "eve on q"]
    assert isinstance(gathered.refused[0], MailboxFull)
    assert isinstance(gathered.refused[1], PayloadTooLarge)


async def test_a_call_with_the_same_id_asks_nobody_twice_and_gets_what_came_before(
    way, client, work
):
    await be_killed(way, client.gather(questions(), id=work, sender="boss"))
    await answer(client, "ada")
    await be_killed(way, (await way.client()).gather(questions(), id=work, sender="boss"))
    await answer(client, "eve")

    again = await begin(way, (await way.client()).gather(questions(), id=work, sender="boss"))
    assert not again.done()
    await answer(client, "bob")
    await way.clock.advance(0)

    assert texts(await again) == ["ada on q", "bob on q", "eve on q"]
    for name in NAMES:
        assert len(await client.query(name)) == 1
    assert texts(await client.gather(questions(), id=work, sender="boss")) == texts(await again)


async def test_late_answers_are_kept_for_the_next_call(way, client, work):
    first = await begin(way, client.gather(questions(), id=work, timeout=1, minimum=0))
    await until_done(way, first)
    assert (await first).missing == [0, 1, 2]
    await answer(client, *NAMES)
    await way.clock.advance(KEPT_S - 2)

    assert (await client.gather(questions(), id=work)).missing == []
    await way.clock.advance(KEPT_S - 1)  # each call keeps them for as long again
    assert (await client.gather(questions(), id=work)).missing == []


async def test_a_question_can_be_read_for_a_week_and_is_then_asked_anew(way, client, work):
    await be_killed(way, client.gather([("ada", "q")], id=work))
    await way.clock.advance(ASKED_S - 0.001)
    await be_killed(way, client.gather([("ada", "q")], id=work))
    assert len(await client.query("ada")) == 1
    await way.clock.advance(0.001)
    assert await client.query("ada") == []

    await be_killed(way, client.gather([("ada", "q")], id=work))
    assert len(await client.query("ada")) == 1


async def test_only_what_is_new_is_asked_when_the_questions_change(way, client, work):
    await be_killed(way, client.gather(questions(), id=work))
    await answer(client, *NAMES)

    changed = [("eve", "q"), ("bob", "another"), ("ada", "q")]
    gathered = await answered(way, client, client.gather(changed, id=work), *NAMES)

    assert texts(gathered) == ["eve on q", "bob on another", "ada on q"]
    assert [len(await client.query(name)) for name in NAMES] == [1, 2, 1]


async def test_two_calls_with_one_id_at_once_both_get_every_answer(way, client, work):
    both = [
        await begin(
            way, (await way.client()).gather(questions(), id=work, sender="boss"), waiting=number
        )
        for number in (1, 2)
    ]
    await answer(client, *NAMES)
    await way.clock.advance(0)

    first, second = [await one for one in both]
    assert first == second
    assert [len(await client.query(name)) for name in NAMES] == [1, 1, 1]


async def test_ids_are_apart(way, client):
    mine, yours = secrets.token_hex(16), secrets.token_hex(16)
    await be_killed(way, client.gather([("ada", "q")], id=mine))
    await be_killed(way, client.gather([("ada", "q")], id=yours))

    first, second = await questions_of(client, "ada")
    assert first.reply_to != second.reply_to
    assert first.correlation_id != second.correlation_id
    for question in (first, second):
        told = f"{question.reply_to} {question.correlation_id} {question.headers}"
        assert mine not in told
        assert yours not in told


async def test_answers_may_go_to_a_mailbox_of_ones_own_among_other_mail(way, client, work):
    await client.mailbox_create(name="boss")
    await client.send("boss", "news")
    await be_killed(way, client.gather(questions(), id=work, reply_to="boss"))
    await answer(client, "bob")
    await client.send("boss", "more news", priority="critical")

    again = client.gather(questions(), id=work, reply_to="boss")
    gathered = await answered(way, client, again, "ada", "eve")

    assert texts(gathered) == ["ada on q", "bob on q", "eve on q"]
    mail = await client.fetch("boss", group_name="boss")
    assert {one.text for one in mail} == {"news", "more news", *texts(gathered)}


async def test_answers_behind_more_than_one_page_of_mail_are_found(way, client, work, monkeypatch):
    monkeypatch.setattr("mq9.client.ordered_reading._PAGE", 10)
    gathering = await begin(way, client.gather(questions(), id=work, timeout=5))
    [first] = await questions_of(client, "ada")
    for number in range(25):
        await client.send(first.reply_to, str(number), priority="critical")
    await answer(client, "bob", "eve")
    for number in range(25):
        await client.send(first.reply_to, str(number))
    await client.reply(first, "ada on q")
    await until_done(way, gathering)

    assert texts(await gathering) == ["ada on q", "bob on q", "eve on q"]


async def test_a_thousand_questions(way, client, work):
    many = [(NAMES[number % 3], str(number)) for number in range(1_000)]
    asking = asyncio.create_task(client.gather(many, id=work))
    answered = 0
    while answered < len(many):
        await asyncio.sleep(0)
        for name in NAMES:
            for question in await questions_of(client, name):
                await client.reply(question, question.text)
                answered += 1
    await way.clock.advance(0)

    assert texts(await asking) == [body for _, body in many]
    assert await client.gather(many, id=work) == await asking
    with pytest.raises(InvalidRequest, match="questions: there are more than 1000"):
        await client.gather([*many, ("ada", "one too many")])


async def test_who_may_not_read_the_reply_mailbox_is_told_nothing(way, work):
    boss, spy = await way.client(agent="boss"), await way.client(agent="spy")
    await be_killed(way, boss.gather(questions(), id=work))

    with pytest.raises(Forbidden):
        await spy.gather(questions(), id=work)


@only_read
async def test_what_it_does_not_take_is_refused_before_anything_is_sent(way, client):
    before = way.state()
    for wrong, error, said in (
        ({"questions": ["ada"]}, InvalidRequest, "questions: 'ada' is not a pair"),
        ({"questions": [("ada", "q", "r")]}, InvalidRequest, "is not a pair"),
        ({"questions": [7]}, InvalidRequest, "questions: 7 is not a pair"),
        ({"questions": [("A b", "q")]}, InvalidAddress, "A b"),
        ({"questions": [("ada", 7)]}, InvalidRequest, "payload"),
        ({"timeout": 0}, InvalidRequest, "timeout"),
        ({"minimum": 4}, InvalidRequest, "minimum: 4 is not between 0 and 3"),
        ({"minimum": -1}, InvalidRequest, "minimum"),
        ({"id": "x" * 31}, InvalidRequest, "id: 31 characters may be guessed"),
        ({"id": 7}, InvalidRequest, "id"),
        ({"reply_to": "boss"}, InvalidRequest, "reply_to: it goes with an id"),
        ({"id": "x" * 32, "reply_to": "A b"}, InvalidAddress, "A b"),
        ({"path": ["a,b"]}, InvalidRequest, "path"),
    ):
        with pytest.raises(error, match=said):
            await client.gather(**{"questions": questions(), **wrong})
    assert way.state() == before


def test_as_many_ids_are_remembered_as_questions_last():
    """A repeated question is stored once only for as long as the broker remembers its id."""
    assert gathering.QUESTION_TTL_S * 1000 == send.IDS_REMEMBERED_MS == ASKED_S * 1000


async def give_up(client, *names):
    for name in names:
        for question in await questions_of(client, name):
            failed = ErrorAnswer.of(question, Failure.FAILED, "ValueError")
            assert await send_error_answer(client, question, failed, sender=name)


@pytest.mark.parametrize("minimum", [None, 2])
async def test_a_wait_ends_when_too_many_give_up(way, client, minimum):
    gathering = await begin(way, client.gather(questions(), minimum=minimum))
    await answer(client, "ada")
    await give_up(client, *(["bob"] if minimum is None else ["bob", "eve"]))
    await way.clock.advance(0)

    with pytest.raises(RequestFailed, match="bob gave the request up: ValueError") as raised:
        await gathering
    gathered = raised.value.gathered
    assert texts(gathered) == ["ada on q", None, None]
    assert list(gathered.refused) == ([1] if minimum is None else [1, 2])


async def test_an_agent_that_gives_up_is_missing_where_others_are_enough(way, client):
    gathering = await begin(way, client.gather(questions(), minimum=2))
    await give_up(client, "bob")
    await way.clock.advance(1)
    assert not gathering.done()
    await answer(client, "ada", "eve")
    await way.clock.advance(0)

    gathered = await gathering
    assert texts(gathered) == ["ada on q", None, "eve on q"]
    assert gathered.missing == [1]
    assert isinstance(gathered.refused[1], RequestFailed)


async def test_what_was_given_up_is_told_again_until_a_good_answer_came(way, client, work):
    gathering = await begin(way, client.gather(questions(), id=work))
    [question] = await client.query("bob")
    await give_up(client, "bob")
    await way.clock.advance(0)
    with pytest.raises(RequestFailed, match="bob"):
        await gathering
    with pytest.raises(RequestFailed, match="bob"):
        await client.gather(questions(), id=work)

    await answer(client, "ada", "eve")
    await client.send(question.reply_to, "late", correlation_id=question.correlation_id)
    assert texts(await client.gather(questions(), id=work)) == ["ada on q", "late", "eve on q"]
    assert len(await client.query("bob")) == 1
