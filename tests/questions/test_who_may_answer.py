"""Several people are asked; where senders are known, those who may take the question may answer."""

import pytest

from mq9 import Forbidden
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

NOTE = "question_closed"


async def kinds(client, mailbox):
    return [one.json()["type"] for one in await client.query(mailbox)]


@pytest.fixture
async def people(open_people):
    """Carl made the mailbox `chief`, and granted it to Dora."""
    clients = await open_people("lawyer", "Boss", "carl", "dora", "mallory")
    await clients["carl"].mailbox_create(name="chief")
    await clients["carl"].mailbox_grant("chief", ["dora"], viewers=["mallory"])
    await clients["Boss"].mailbox_create(name="boss")
    await clients["lawyer"].mailbox_create(name="asker")
    return clients


@pytest.mark.parametrize("who", ["carl", "dora"])
async def test_those_who_may_take_from_the_asked_mailbox_may_answer(people, who):
    lawyer, person = people["lawyer"], people[who]
    async with working(lawyer, Asking("May I?").graph, human="chief"):
        await begin(lawyer, sender=None)
        [(message, _)] = await asked(person, "chief")
        await message.reply("yes")
        await settle(lawyer)
        assert [one["trail"][1] for one in await outcome(lawyer)] == ['"yes"']
        assert await refusals(lawyer) == []


async def test_nobody_else_may_answer_though_they_may_look_at_the_question(people):
    lawyer, mallory = people["lawyer"], people["mallory"]
    async with working(lawyer, Asking("May I?").graph, human="chief"):
        await begin(lawyer, sender=None)
        [(message, _)] = await asked(mallory, "chief")
        with pytest.raises(Forbidden):
            await message.reply("yes")
        await mallory.send(
            "lawyer.answers", "yes", correlation_id=message.correlation_id, reply_to=None
        )
        await settle(lawyer)
        assert await refusals(lawyer) == ["'mallory' was not asked"]
        assert await outcome(lawyer) == []
        await people["dora"].reply(message, "yes")
        await settle(lawyer)
        assert len(await outcome(lawyer)) == 1


@pytest.mark.parametrize("first", ["boss", "chief"])
async def test_several_people_are_asked_and_the_first_answer_counts(client, first):
    second = "chief" if first == "boss" else "boss"
    async with working(client, Asking("May I?").graph, human=["boss", "Chief", "boss"]) as worker:
        await begin(client)
        [(one, _)] = await asked(client, first)
        [(other, _)] = await asked(client, second)
        await answer(client, one, "yes", sender=first)
        assert await outcome(client) == [{"topic": "tea", "trail": ["read", '"yes"', "write"]}]
        assert await kinds(client, first) == ["question"]
        [note] = await client.query(second)
        assert note.json()["text"] == f"{first} has answered it"
        await answer(client, other, "no", sender=second)
        assert await refusals(client) == [f"the question has been answered by '{first}'"]
        assert (worker.counters.asked, worker.counters.answered) == (1, 1)


async def test_an_answer_that_does_not_fit_is_told_where_it_was_given(client, first_question):
    value = {"action_request": {"action": "run", "args": {}}, "config": {"allow_accept": True}}
    async with first_question(Asking(value).graph, human=["boss", "chief"]) as first:
        [(second, _)] = await asked(client, "chief")
        await client.reply(second, "maybe")
        await settle(client)
        [(again, question)] = await asked(client, "chief")
        assert "'maybe' is not possible here" in question.problem
        assert [one.msg_id for one, _ in await asked(client)] == [first.msg_id]
        await client.reply(again, "approve")
        await settle(client)
        assert len(await outcome(client)) == 1


async def test_of_several_people_those_without_a_mailbox_are_left_out(client, caplog):
    async with working(client, Asking("May I?").graph, human=["boss", "chief"]):
        await client.mailbox_drop("chief")
        await begin(client)
        [(message, _)] = await asked(client)
        assert "a question does not reach everybody: mailbox not found: chief" in caplog.text
        await answer(client, message, "yes")
        assert len(await outcome(client)) == 1


@pytest.mark.parametrize("sender", [None, "boss", "somebody"])
@pytest.mark.parametrize("people", [("boss",), ("boss", "chief")])
async def test_nobody_is_sent_a_note_about_what_they_answered_themselves(client, sender, people):
    """Even where neither the sender nor the mailbox that it answers for is said."""
    async with working(client, Asking("May I?").graph, human=people, expires=3_600):
        await begin(client)
        for name in people:
            [(message, _)] = await asked(client, name)
        await client.send(
            message.reply_to,
            "yes",
            correlation_id=message.correlation_id,
            sender="chief" if sender == "boss" and name == "chief" else sender,
        )
        await settle(client)
        assert await kinds(client, name) == ["question"]
        for one in people[:-1]:
            [note] = await client.query(one)
            assert note.json()["type"] == NOTE
            if sender != "somebody":  # an anonymous answer is not called none at all
                assert note.json()["text"] == f"{name} has answered it"
