"""Wherever a worker is killed, each question is asked once, and each message is answered once."""

import contextlib

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9 import MailboxWorker
from mq9 import Mq9Error
from mq9.testing import FakeBroker
from tests.questions.graphs import Asking, answer, asked, begin, outcome, refusals, settle, working

pytestmark = pytest.mark.unmeasured

VERBS = ["MSG.SEND", "MSG.QUERY", "MSG.ACK", "MSG.MOVE", "MAILBOX.DROP"]
CONVERSATION = {"conversation": "one"}
TASKS = ["tea", "milk"]


class Play:
    """A worker that is killed, its heir, somebody who waits for two answers, and the boss."""

    def __init__(self, broker, stack):
        self._broker = broker
        self._stack = stack
        self.asking = Asking("May I?", saver=InMemorySaver())
        self.questions = set()

    async def go(self, kill):
        """Play it to its end, and tell whether the worker was killed."""
        client = await self._stack.enter_async_context(self._broker.client())
        for name in ("asker", "boss"):
            await client.mailbox_create(name=name)
        doomed = await self._work(kill)
        for topic in TASKS:
            await client.send(
                "lawyer",
                {"topic": topic},
                reply_to="asker",
                correlation_id=topic,
                sender="ada",
                headers=CONVERSATION,
            )
        workers = [doomed]
        for _ in range(60):  # of 20 s
            if not doomed.is_connected and len(workers) == 1:
                workers.append(await self._work())
            await self._decide(client)
            if await self._is_done(client):
                await self._check(client)
                return len(workers) > 1
            await client.clock.advance(20)
        return pytest.fail(f"it has not ended: {await outcome(client)}")

    async def _work(self, kill=None):
        """Start a worker, which may not outlive that, and return its client."""
        client = await self._stack.enter_async_context(self._broker.client())
        if kill is not None:
            kill(client)
        worker = MailboxWorker(self.asking.graph, agent="lawyer", client=client, human="boss")
        with contextlib.suppress(Mq9Error):
            await worker.start()
        self._stack.push_async_callback(worker.stop)
        return client

    async def _decide(self, client):
        """Answer what the boss is asked, as mq9 reply does."""
        for message, _ in await asked(client):
            self.questions.add(message.correlation_id)
            await client.reply(message, "yes", sender="boss", id=message.correlation_id)
            await client.delete("boss", message.msg_id)

    async def _is_done(self, client):
        if len(await outcome(client)) < len(TASKS):
            return False
        for address in ("lawyer", "lawyer.answers"):
            status = await client.mailbox_status(address, group_name="lawyer")
            if status.group.leased or status.group.pending.total:
                return False
        return True

    async def _check(self, client):
        replies = [(one.correlation_id, one.json()) for one in await client.query("asker")]
        trail = ["read", '"yes"', "write"]
        assert replies == [
            ("tea", {"topic": "tea", "trail": trail}),
            ("milk", {"topic": "milk", "trail": trail * 2}),
        ]
        assert len(self.questions) == len(TASKS)
        assert self.asking.ran.count("read") == self.asking.ran.count("write") == len(TASKS)
        assert await refusals(client) == []


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
async def test_wherever_a_worker_is_killed_everything_is_asked_and_answered_once(verb, when, scale):
    step = 1 if scale > 1 else 2
    for count in range(1, 200, step):
        async with contextlib.AsyncExitStack() as stack:
            broker = stack.enter_context(FakeBroker())

            def kill(client, broker=broker, count=count):
                getattr(broker, f"kill_{when}")(client, verb, count=count)

            if not await Play(broker, stack).go(kill):
                break
    else:
        pytest.fail("it was killed each time")
    assert count > 1


@pytest.mark.parametrize("verb", ["MSG.SEND", "MSG.ACK"])
async def test_a_question_is_asked_once_though_its_worker_was_away_for_longer_than_ids_are_known(
    broker, client, verb
):
    """An idempotency id is known for a week."""
    asking = Asking("May I?")
    for count in (1, 2) if verb == "MSG.SEND" else (1,):
        async with broker.client() as doomed, working(doomed, asking.graph):
            broker.kill_after(doomed, verb, count=count)
            await client.send("lawyer", {"topic": "tea"}, reply_to="asker")
            while doomed.is_connected:
                await client.clock.advance(1)
        await client.clock.advance(8 * 86_400)
        async with broker.client() as heir, working(heir, asking.graph):
            await settle(client)
            [(message, _)] = await asked(client)
            await answer(client, message, "yes")
            await client.delete("boss", message.msg_id)
        assert len(await outcome(client)) == 1
        await client.delete("asker", (await client.query("asker"))[0].msg_id)


async def test_a_run_that_ended_is_answered_though_another_message_ran_before_that(client):
    """What makes the answer fails for now, and so the next message of the conversation is first."""
    asking = Asking("May I?")
    conversation = {"headers": {"conversation": "one"}}
    failures = [ConnectionError("the archive is down")]

    def write(values):
        if failures:
            raise failures.pop()
        return values

    async with working(client, asking.graph, output=write, retry_delay=30):
        await begin(client, **conversation)
        [(message, _)] = await asked(client)
        await answer(client, message, "yes")
        await begin(client, {"topic": "milk"}, **conversation)
        [_, (second, _)] = await asked(client)
        assert await outcome(client) == []
        await settle(client, 30)
        assert await outcome(client) == [{"topic": "tea", "trail": ["read", '"yes"', "write"]}]
        await answer(client, second, "for milk")
        assert [one["topic"] for one in await outcome(client)] == ["tea", "milk"]
    assert await refusals(client) == []
    assert asking.ran.count("read") == 2
