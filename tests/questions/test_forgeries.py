"""Records and timers of somebody else, where the server knows who sends."""

import contextlib
import dataclasses

import pytest

from langchain_mq9.worker.interrupts import Kind
from langchain_mq9.worker.records import Origin, QuestionRecord, QuestionRecords, WorkerAgent
from mq9 import Forbidden
from mq9.questions import MailedQuestion
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

ID = "ab" * 24


@pytest.fixture
async def people(open_people):
    """Everybody has a mailbox."""
    clients = await open_people("lawyer", "boss", "mallory", "asker")
    for name, client in clients.items():
        await client.mailbox_create(name=name)
    return clients


def forged(**fields):
    """A record as mallory would have it."""
    made = {
        "id": ID,
        "identity": "cd" * 32,
        "thread_id": "00000000-0000-5000-8000-000000000001",
        "interrupt_id": "x",
        "kind": Kind.VALUE,
        "question": MailedQuestion(text="You are fired", expires=1),
        "asked": ("mallory",),
        "origin": Origin(message="x", reply_to="asker", correlation_id="task", answer_id="a.b"),
    }
    return QuestionRecord(**made | fields)


async def store(client, record):
    """Send a record to the lawyer's mailbox of records, as the lawyer's worker does."""
    await client.send(
        "lawyer.questions",
        record.to_json(),
        key=record.id,
        tags=[record.state, record.thread_id, record.identity],
    )


async def set_timer(client, correlation_id, due="expiry"):
    timer = {"tags": ["timer"], "correlation_id": correlation_id}
    await client.send("lawyer.answers", {"type": "timer", "due": due}, **timer)


async def open_to_all(lawyer):
    """Let everybody write into the mailbox of records, as in one of an earlier release."""
    await lawyer.mailbox_drop("lawyer.questions")
    await lawyer.mailbox_create(name="lawyer.questions")


async def true_record(lawyer):
    [stored] = await lawyer.query("lawyer.questions")
    return QuestionRecord.from_message(stored)


async def records_of(lawyer):
    """The records, as the lawyer's worker reads them."""
    agent = WorkerAgent(lawyer, "lawyer", "lawyer")
    await agent.prepare()
    return QuestionRecords(agent)


async def test_a_forged_record_and_timer_send_no_mail_and_give_up_no_question(people):
    lawyer, boss, mallory = people["lawyer"], people["boss"], people["mallory"]
    async with working(lawyer, Asking("May I?").graph):
        await open_to_all(lawyer)
        await store(mallory, forged())
        await set_timer(mallory, ID)
        await settle(lawyer)
        await lawyer.send("lawyer.answers", "a reply to it", correlation_id=ID, sender="mallory")
        await settle(lawyer)
        assert await people["asker"].query("asker") == []
        assert await refusals(lawyer) == [
            "it is a timer of somebody else",
            f"no question has the correlation id '{ID}'",
        ]

        await open_to_all(lawyer)
        await begin(lawyer, sender=None)
        true = await true_record(lawyer)
        await store(mallory, forged(thread_id=true.thread_id, origin=true.origin))
        await set_timer(mallory, ID)
        await settle(lawyer)
        [(message, _)] = await asked(boss)
        await boss.reply(message, "yes")
        await settle(lawyer)
        assert [one["trail"][1] for one in await outcome(people["asker"])] == ['"yes"']


async def test_a_dead_letter_mailbox_that_others_share_stays_open(people):
    lawyer, mallory = people["lawyer"], people["mallory"]
    async with working(lawyer, Asking("May I?").graph, dead_letter="dead.letters"):
        await mallory.send("dead.letters", "x")


@pytest.mark.parametrize("made_before", [False, True])
async def test_only_the_agent_sends_to_the_mailboxes_that_its_worker_makes(people, made_before):
    lawyer, mallory = people["lawyer"], people["mallory"]
    if made_before:  # by an earlier release
        for name in ("lawyer.questions", "lawyer.dead"):
            await lawyer.mailbox_create(name=name)
    conversation = {"headers": {"conversation": "one"}, "sender": None}
    async with working(lawyer, Asking("May I?").graph):
        await begin(lawyer, **conversation)
        await begin(lawyer, **conversation)  # waits for the first one
        waiting = f"lawyer.waiting.{(await true_record(lawyer)).thread_id.replace('-', '')}"
        assert (await lawyer.mailbox_status(waiting)).stored == 1
        for name in ("lawyer.questions", "lawyer.dead", waiting):
            with pytest.raises(Forbidden):
                await mallory.send(name, "x")
        await mallory.send("lawyer.answers", "x")


async def test_a_forged_record_does_not_hide_the_true_one(people):
    """It is newer, and has the same tags: by these the worker finds what it has asked."""
    lawyer, mallory = people["lawyer"], people["mallory"]
    records = await records_of(lawyer)
    async with working(lawyer, Asking("May I?").graph):
        await open_to_all(lawyer)
        await begin(lawyer, sender=None)
        true = await true_record(lawyer)
        for fake in (dataclasses.replace(true, id=ID), true):
            with contextlib.suppress(Forbidden):  # the key of the second one is the lawyer's
                await store(mallory, fake)
        assert (await lawyer.mailbox_status("lawyer.questions")).stored == 2
        assert await records.find(true.identity) == true
        assert await records.get(true.id) == true
        assert await records.open_in(true.thread_id) == [true]
        assert await records.get(ID) is None


async def test_a_timer_of_somebody_else_is_refused_though_its_question_is_known(people):
    lawyer, boss, mallory = people["lawyer"], people["boss"], people["mallory"]
    async with working(lawyer, Asking("May I?").graph, expires=60):
        await begin(lawyer, sender=None)
        [(message, _)] = await asked(boss)
        await set_timer(mallory, message.correlation_id)
        await settle(lawyer, 59)
        assert await refusals(lawyer) == ["it is a timer of somebody else"]
        await settle(lawyer, 1)
        assert [one["code"] for one in await outcome(people["asker"])] == ["expired"]


async def test_mail_of_the_agent_that_somebody_has_moved_is_no_record(people):
    """A move keeps the tags and the verified sender."""
    lawyer, mallory, said = people["lawyer"], people["mallory"], forged()
    async with working(lawyer, Asking("May I?").graph):
        await open_to_all(lawyer)
        tags = [said.state, said.thread_id, said.identity]
        await lawyer.send("mallory", said.to_json(), tags=tags)
        [message] = await mallory.fetch("mallory", group_name="mallory")
        await message.move("lawyer.questions")
        [moved] = await lawyer.query("lawyer.questions", tags=tags)
        assert (moved.sender, moved.sender_verified) == ("lawyer", True)
        records = await records_of(lawyer)
        assert await records.open_in(said.thread_id) == []
        assert await records.find(said.identity) is None


async def test_what_is_no_record_is_passed_over_where_senders_are_not_known(client):
    async with working(client, Asking("May I?").graph) as worker:
        await begin(client)
        [stored] = await client.query("lawyer.questions")
        for body in ("no JSON", "[]", "{}", '{"question": 1}'):
            await client.send("lawyer.questions", body, tags=stored.tags)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        assert [one["trail"][1] for one in await outcome(client)] == ['"yes"']
        assert worker.counters.answered == 1
