"""What becomes of a question that nobody answers: a second person is asked, and it is given up."""

import pytest

from mq9.questions import MailedQuestion
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

HOUR = 3_600
ESCALATION = {"escalate_to": "chief", "escalate_after": HOUR}


async def texts(client, mailbox):
    """What stands in a mailbox."""
    return [one.json()["type"] for one in await client.query(mailbox)]


async def test_after_a_time_a_second_person_is_asked_as_well(client):
    async with working(client, Asking("May I?").graph, **ESCALATION) as worker:
        await begin(client)
        await settle(client, HOUR - 1)
        assert await asked(client, "chief") == []
        await settle(client, 1)
        [(message, question)] = await asked(client, "chief")
        assert question == MailedQuestion(text="May I?", value="May I?")
        assert len(await asked(client)) == 1
        assert worker.counters.escalated == 1

        await answer(client, message, "yes", sender="chief")
        assert await outcome(client) == [{"topic": "tea", "trail": ["read", '"yes"', "write"]}]
        [note] = await client.query("boss")
        assert note.json() == {
            "type": "question_closed",
            "text": "chief has answered it",
            "question": "May I?",
        }
        assert await texts(client, "chief") == ["question"]


async def test_the_first_person_may_answer_all_the_same_and_the_second_is_too_late(client):
    async with working(client, Asking("May I?").graph, **ESCALATION):
        await begin(client)
        await settle(client, HOUR)
        [(second, _)] = await asked(client, "chief")
        [(first, _)] = await asked(client)
        await answer(client, first, "yes")
        assert await texts(client, "chief") == ["question_closed"]
        await answer(client, second, "no", sender="chief")
        assert await refusals(client) == ["the question has been answered by 'boss'"]
        assert len(await outcome(client)) == 1


async def test_an_answer_in_time_asks_nobody_else(client):
    async with working(client, Asking("May I?").graph, **ESCALATION) as worker:
        await begin(client)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        await settle(client, 2 * HOUR)
        assert await client.query("chief") == []
        assert worker.counters.escalated == 0
    assert await refusals(client) == []


async def test_whom_a_question_names_is_not_passed_over(client):
    await client.mailbox_create(name="notary")
    value = {"type": "question", "to": "notary", "text": "Is it valid?"}
    async with working(client, Asking(value).graph, **ESCALATION):
        await begin(client)
        await settle(client, 2 * HOUR)
    assert await client.query("chief") == []


async def test_a_worker_that_was_stopped_meanwhile_asks_the_second_person_when_it_is_back(client):
    asking = Asking("May I?")
    async with working(client, asking.graph, **ESCALATION):
        await begin(client)
    await client.clock.advance(24 * HOUR)
    async with working(client, asking.graph, **ESCALATION):
        await settle(client)
        assert len(await asked(client, "chief")) == 1


async def test_a_question_that_expires_is_given_up_and_whoever_waits_is_told(client):
    asking = Asking("May I?", "Really?")
    async with working(client, asking.graph, expires=HOUR) as worker:
        await begin(client, headers={"conversation": "one"})
        [(message, question)] = await asked(client)
        assert question.expires == client.clock.now_ms() // 1000 + HOUR
        await begin(client, headers={"conversation": "one"}, correlation_id="next")
        await settle(client, HOUR)
        [reply] = await client.query("asker")
        assert (reply.json()["code"], reply.headers["error"]) == ("expired", "expired")
        assert reply.json()["reason"] == "nobody has answered in time: May I?"
        assert reply.correlation_id == "task"
        assert worker.counters.expired == 1
        assert await texts(client, "boss") == ["question"]  # that of what waited
        [(another, _)] = await asked(client)  # of what waited: the first one has expired, too
        assert another.correlation_id != message.correlation_id

        await answer(client, message, "yes")
        assert await refusals(client) == ["it is too late: the question was given up"]
        await answer(client, another, "yes")
        [_, (last, _)] = await asked(client)
        await answer(client, last, "yes")
        [_, reply] = await client.query("asker")
        assert reply.correlation_id == "next"
        assert reply.json()["trail"][-3:] == ['"yes"', '"yes"', "write"]


@pytest.mark.parametrize("is_late", [False, True])
async def test_only_an_answer_that_was_given_in_time_counts_though_the_worker_was_away(
    client, is_late
):
    asking = Asking("May I?")
    async with working(client, asking.graph, expires=HOUR):
        await begin(client)
        [(message, _)] = await asked(client)
    await client.clock.advance(HOUR if is_late else HOUR - 1)
    await client.reply(message, "yes", sender="boss")
    await client.clock.advance(HOUR)
    async with working(client, asking.graph, expires=HOUR):
        await settle(client)
        [told] = await outcome(client)
        if not is_late:
            assert told["trail"][1] == '"yes"'
            return
        assert told["reason"] == "nobody has answered in time: May I?"
        [reason] = await refusals(client)
        assert reason.startswith("it is too late: ")


async def set_timer(client, body, correlation_id):
    timer = {"tags": ["timer"], "correlation_id": correlation_id}
    await client.send("lawyer.answers", body, **timer)
    await settle(client)


@pytest.mark.parametrize("due", ["escalation", "expiry", "never"])
async def test_a_forged_timer_changes_nothing(client, due, first_question):
    async with first_question(**ESCALATION, expires=2 * HOUR) as message:
        question = "00" * 24 if due == "never" else message.correlation_id
        await set_timer(client, {"type": "timer", "due": due}, question)
        assert len(await refusals(client)) == 1
        assert await client.query("chief") == await outcome(client) == []
        assert len(await asked(client)) == 1


@pytest.mark.parametrize("body", ["no JSON", '{"type": "timer"}', "[]"])
async def test_what_only_looks_like_a_timer_is_an_answer(client, body, first_question):
    async with first_question() as message:
        await set_timer(client, body, message.correlation_id)
        assert len(await outcome(client)) == 1


async def test_a_question_says_until_when_its_reader_is_the_one_to_answer(client):
    expires = {"expires": 3 * HOUR}
    async with working(client, Asking("May I?").graph, **ESCALATION, **expires):
        await begin(client)
        now = client.clock.now_ms() // 1000
        await settle(client, HOUR)
        [(first, _)] = await asked(client)
        [(second, _)] = await asked(client, "chief")
        wanted = [now + HOUR, now + 3 * HOUR]
        assert [one.answer_by for one in (first, second)] == pytest.approx(wanted, abs=1)


@pytest.mark.parametrize("options", [{}, {"expires": HOUR}])
async def test_a_question_that_nobody_else_answers_is_wanted_until_it_expires(client, options):
    async with working(client, Asking("May I?").graph, **options):
        await begin(client)
        [(message, question)] = await asked(client)
        assert message.answer_by == question.expires
