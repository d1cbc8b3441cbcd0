"""Answers that nobody asked for, that come second, or too late, are kept and change nothing."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from mq9 import MailboxNotFound
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working


async def forge(client, correlation_id, *, sender="mallory", lawyer=None):
    await client.send("lawyer.answers", "yes", correlation_id=correlation_id, sender=sender)
    await settle(lawyer or client)


async def test_no_mailbox_is_made_that_would_be_closed_to_whoever_is_asked(broker, client):
    async with (
        broker.client(agent="lawyer") as lawyer,
        working(lawyer, Asking("May I?").graph, human="carl"),
    ):
        with pytest.raises(MailboxNotFound):
            await client.mailbox_status("carl")


async def test_a_forged_answer_is_refused_and_kept(client):
    asking = Asking("May I?")
    async with working(client, asking.graph) as worker:
        await begin(client)
        await forge(client, "00" * 24)
        await forge(client, None)
        assert await refusals(client) == [
            f"no question has the correlation id '{'00' * 24}'",
            "it has no correlation id, and so answers nothing",
        ]
        [kept, _] = await client.query("lawyer.dead")
        assert (kept.text, kept.sender, kept.moved.mailbox) == ("yes", "mallory", "lawyer.answers")
        assert worker.counters.refused == 2
        assert asking.ran == ["read", "ask"]


@pytest.mark.parametrize("second", ["no", "yes"])
async def test_a_second_answer_is_refused_and_kept(client, second, first_question):
    asking = Asking("May I?")
    async with first_question(asking.graph) as message:
        await answer(client, message, "yes")
        await answer(client, message, second)
        assert await refusals(client) == ["the question has been answered by 'boss'"]
        assert len(await outcome(client)) == 1
    assert asking.ran.count("write") == 1


async def test_a_second_answer_while_the_first_is_at_work_is_refused(client, first_question):
    """The run that the first one let go on fails for now."""
    fails = True

    async def fail(_answers):
        if fails:
            raise ConnectionError("the archive is down")

    asking = Asking("May I?", act=fail)
    async with first_question(asking.graph) as message:
        await answer(client, message, "yes")
        await answer(client, message, "no")
        assert await refusals(client) == ["the question has been answered by 'boss'"]
        fails = False
        await settle(client, 60)
        assert await outcome(client) == [{"topic": "tea", "trail": ["read", '"yes"', "write"]}]


async def test_an_answer_is_used_once_though_its_run_failed_before_the_next_question(
    client, first_question
):
    """It is in the checkpoint by then: given again, it would answer the second question."""
    failures = [ConnectionError("the archive is down")]

    async def fail(_answers):
        if failures:
            raise failures.pop()

    asking = Asking("May I send it?", "May I delete it?", act=fail)
    async with first_question(asking.graph) as message:
        await answer(client, message, "yes")
        await settle(client, 60)
        assert await outcome(client) == []
        [_, (second, question)] = await asked(client)
        assert question.text == "May I delete it?"
        await answer(client, second, "no")
        assert await outcome(client) == [
            {"topic": "tea", "trail": ["read", '"yes"', '"no"', "write"]}
        ]


async def test_an_answer_to_a_run_that_is_over_is_refused(client, first_question):
    """Somebody else has resumed the thread meanwhile."""
    asking = Asking("May I?")
    async with first_question(asking.graph) as message:
        [thread] = {
            one.config["configurable"]["thread_id"] for one in asking.graph.checkpointer.list(None)
        }
        config = {"configurable": {"thread_id": thread}}
        await asking.graph.ainvoke({"topic": "other"}, config)
        await answer(client, message, "yes")
        [reason] = await refusals(client)
        assert reason.startswith("the run that asked is over")
        assert [one["reason"] for one in await outcome(client)] == [reason]


@pytest.fixture
async def people(open_people):
    return await open_people("lawyer", "Boss", "mallory", None)


async def test_where_senders_are_verified_only_who_was_asked_may_answer(people):
    """Even somebody who has learned the correlation id may not."""
    lawyer, boss, mallory, operator = (people[one] for one in ("lawyer", "Boss", "mallory", None))
    await boss.mailbox_create(name="boss")
    await lawyer.mailbox_create(name="asker")
    async with working(lawyer, Asking("May I?").graph, human="Boss"):
        await begin(lawyer)
        [(message, _)] = await asked(boss)
        assert message.sender_verified
        await forge(mallory, message.correlation_id, lawyer=lawyer)
        await forge(operator, message.correlation_id, sender="Boss", lawyer=lawyer)
        assert await refusals(lawyer) == [
            "'mallory' was not asked",
            "the broker does not know its sender",
        ]
        await boss.send(message.reply_to, "yes", correlation_id=message.correlation_id)
        await settle(lawyer)
        assert [one["trail"][1] for one in await outcome(lawyer)] == ['"yes"']


async def test_an_agent_may_answer_for_the_mailbox_that_it_is_registered_with(people):
    lawyer, boss, mallory = (people[one] for one in ("lawyer", "Boss", "mallory"))
    await boss.mailbox_create(name="approvals")
    await boss.agent_register({"name": "Boss", "mailbox": "approvals"})
    async with working(lawyer, Asking("May I?").graph, human="approvals") as worker:
        await begin(lawyer, reply_to=None)
        [(message, _)] = await asked(boss, "approvals")
        await forge(mallory, message.correlation_id, lawyer=lawyer)
        assert (worker.counters.refused, worker.counters.answered) == (1, 0)
        await boss.reply(message, "yes")
        await settle(lawyer)
        assert (worker.counters.refused, worker.counters.answered) == (1, 1)


async def test_of_two_answers_at_once_to_two_workers_one_is_accepted(broker, client):
    saver = InMemorySaver()
    asking = Asking("May I?", saver=saver)
    async with (
        broker.client() as other,
        working(client, asking.graph) as one,
        working(other, asking.graph) as another,
    ):
        for number in range(5):
            await begin(client, correlation_id=str(number))
            [*_, (message, _)] = await asked(client)
            await client.reply(message, "yes", sender="boss")
            await client.reply(message, "no", sender="chief")
            await settle(client)
            assert len(await outcome(client)) == len(await refusals(client)) == number + 1
        done = [worker.counters for worker in (one, another)]
        assert sum(worker.answered for worker in done) == 5
        assert asking.ran.count("asked") == asking.ran.count("write") == 5
