"""``mq9 reply`` and ``mq9 inbox`` beside a worker: a question stays until its answer counts."""

import asyncio
import contextlib

import pytest
from cli.conftest import call
from hosted import running, url_for

from mq9 import Mq9Client
from mq9.server.users import User, Users
from tests.questions.graphs import Asking, working


class Office:
    """A server that knows its users, and a worker of the lawyer that comes and goes."""

    def __init__(self, server, lawyer):
        self._server = server
        self.lawyer = lawyer
        self.asking = Asking("May I?")

    def url(self, token=""):
        return url_for(self._server, token)

    def working(self, **options):
        return working(self.lawyer, self.asking.graph, **options)

    async def mq9(self, token, *arguments):
        """Call the program as the user of a token."""
        return await call(self.url(token), *arguments)

    async def question(self, **options):
        """Let the lawyer ask."""
        async with self.working(**options):
            await self.lawyer.send("lawyer", {"topic": "tea"}, reply_to="asker")
            await self.until("lawyer.questions")

    async def until(self, mailbox, number=0):
        """Wait until a mailbox has a message with a number, and return it with those after it."""
        return await self.lawyer.fetch(
            mailbox, deliver="from_id", from_id=number, max_wait_ms=60_000
        )

    async def answers(self):
        return [one.text for one in await self.lawyer.query("lawyer.answers")]


@pytest.fixture
async def office():
    names = {"l": "lawyer", "b": "boss", "d": "dora", "o": None}
    guard = Users([User(token, agent=name) for token, name in names.items()])
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(guard=guard))
        boss = await stack.enter_async_context(Mq9Client(url_for(server, "b")))
        await boss.mailbox_create(name="boss")
        await boss.mailbox_grant("boss", ["dora"])
        lawyer = await stack.enter_async_context(Mq9Client(url_for(server, "l")))
        await lawyer.mailbox_create(name="asker")
        yield Office(server, lawyer)


@pytest.mark.parametrize("who", ["b", "d"])  # the boss, and somebody who was granted the mailbox
async def test_an_accepted_answer_is_confirmed_and_leaves_the_inbox(office, who):
    async with office.working():
        await office.lawyer.send("lawyer", {"topic": "tea"}, reply_to="asker")
        shown = await office.mq9(who, "inbox", "boss", "--wait", 60, "--json")
        [question] = shown.document["questions"]
        assert "answered" not in question
        reply = ("reply", "boss", 0, "yes", "--wait", 60)
        if who == "b":
            done = await office.mq9(who, *reply, "--json")
            assert done.document["outcome"] == "accepted"
        else:
            done = await office.mq9(who, *reply)
            assert done.out == "answered message 0 of boss, to lawyer.answers\n"
        [answer] = await office.until("asker")
        assert answer.json()["trail"] == ["read", '"yes"', "write"]
    assert (await office.mq9("b", "inbox")).out == ""
    assert (await office.mq9("b", "query", "boss")).out == ""


async def test_while_the_worker_is_down_an_answer_is_called_sent_and_the_question_stays(office):
    await office.question()
    done = await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 0)
    assert (done.code, done.err) == (
        0,
        "the question stays in the inbox until then: mq9 inbox boss\n",
    )
    assert done.out.endswith("lawyer.answers: sent, not confirmed yet\n")

    shown = await office.mq9("b", "inbox")
    assert "    May I?\n    answered by you, not confirmed: yes\n" in shown.out
    [listed] = (await office.mq9("b", "inbox", "--json")).document["questions"]
    assert listed["answered"]["outcome"] == "unconfirmed"
    assert "answered" not in (await office.mq9("d", "inbox", "boss")).out

    another = await office.mq9("b", "reply", "boss", 0, "no", "--wait", 0)
    assert (another.code, "'yes' was sent as your answer" in another.err) == (2, True)
    again = await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 0, "--json")
    assert (again.code, again.document["outcome"]) == (0, "unconfirmed")
    assert await office.answers() == ["yes"]

    async with office.working():
        await office.until("asker")
    assert (await office.mq9("b", "inbox")).out == ""
    assert (await office.mq9("b", "query", "boss")).out == ""


async def test_an_answer_that_is_refused_leaves_the_question_where_it_was(office):
    """An operator may look into every mailbox, and is not who was asked."""
    await office.question()
    async with office.working():
        done = await office.mq9("o", "reply", "boss", 0, "no", "--wait", 60)
        assert done.code == 1
        assert "was refused: the broker does not know its sender" in done.err
        assert "mq9 inbox boss" in done.err
        [question] = (await office.mq9("b", "inbox", "--json")).document["questions"]
        assert (question["msg_id"], "answered" in question) == (0, False)
        done = await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 60, "--json")
        assert done.document["outcome"] == "accepted"
        await office.until("asker")


async def test_a_refusal_that_comes_later_is_shown_and_another_answer_may_be_given(office):
    await office.question()
    await office.mq9("o", "reply", "boss", 0, "no", "--wait", 0)
    async with office.working():
        await office.until("lawyer.dead")
    refused = "the broker does not know its sender"
    shown = (await office.mq9("o", "inbox", "boss")).out
    assert f"    your answer was refused: {refused}\n" in shown
    done = await office.mq9("o", "reply", "boss", 0, "yes", "--wait", 0, "--json")
    assert done.document["outcome"] == "unconfirmed"
    assert await office.answers() == ["no", "yes"]


async def test_who_may_only_look_answers_nothing(office):
    async with Mq9Client(office.url("b")) as boss:
        await boss.mailbox_grant("boss", [], viewers=["dora"])
    await office.question()
    assert "May I?" in (await office.mq9("d", "inbox", "boss")).out
    done = await office.mq9("d", "reply", "boss", 0, "yes", "--wait", 0)
    assert (done.code, "boss" in done.err) == (1, True)
    [question] = (await office.mq9("d", "inbox", "boss", "--json")).document["questions"]
    assert "answered" not in question
    assert await office.answers() == []


async def test_who_comes_second_is_told_who_has_decided(office):
    await office.question()
    await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 0)
    late = asyncio.create_task(office.mq9("d", "reply", "boss", 0, "no", "--wait", 60))
    await office.until("lawyer.answers", 1)
    async with office.working():
        done = await late
        assert done.code == 1
        assert "no longer needs an answer: the question has been answered by 'boss'" in done.err
    assert (await office.mq9("b", "inbox")).out == ""


async def test_a_question_that_was_answered_elsewhere_says_so(office):
    async with Mq9Client(office.url("d")) as dora:
        await dora.mailbox_create(name="dora")
    await office.question(human=["boss", "dora"])
    async with office.working(human=["boss", "dora"]):
        await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 60)
        await office.until("asker")
    done = await office.mq9("d", "reply", "dora", 0, "no")
    assert done.code == 4
    assert done.err.endswith("it needs no answer any more, boss has answered it\n")


async def test_an_answer_that_the_broker_does_not_take_is_not_remembered(office):
    await office.question()
    await office.lawyer.mailbox_drop("lawyer.answers")
    done = await office.mq9("b", "reply", "boss", 0, "yes", "--wait", 0)
    assert (done.code, '"lawyer.answers" does not exist' in done.err) == (1, True)
    [question] = (await office.mq9("b", "inbox", "--json")).document["questions"]
    assert "answered" not in question


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["approve"], "approve"),
        (["edit", "--args", '{"euros": 7}'], 'edit {"euros": 7}'),
        (["reject", "--message", "Not yet."], 'reject "Not yet."'),
    ],
)
async def test_a_decision_that_is_not_confirmed_is_shown_as_it_was_given(office, words, shown):
    config = {f"allow_{one}": True for one in ("accept", "edit", "ignore")}
    action = {"action": "pay", "args": {"euros": 9}}
    office.asking = Asking({"action_request": action, "config": config})
    await office.question()
    await office.mq9("b", "reply", "boss", 0, *words, "--wait", 0)
    assert f"    answered by you, not confirmed: {shown}\n" in (await office.mq9("b", "inbox")).out
