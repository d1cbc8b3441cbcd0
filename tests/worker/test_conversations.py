"""Which messages share a thread, and that one thread runs one message at a time."""

import asyncio
import itertools

import pytest

from langchain_mq9.worker.turns import mailbox_of_turn
from mq9.models import Message, MessageHeaders
from mq9.operations.conversations import message_key, message_of_key, thread_id
from tests.worker.graphs import Steps, ask, echo, fail_once, held, wait_once, working

NUMBERS = itertools.count()


def message(**fields):
    headers = MessageHeaders(fields.pop("headers", {}))
    named = {"mail_address": "lawyer", "payload": b"x", "create_time": 0, **fields}
    return Message(msg_id=next(NUMBERS), headers=headers, **named)


def named(conversation, **fields):
    return message(headers={"conversation": conversation}, **fields)


def same(one, other):
    return thread_id("lawyer", one) == thread_id("lawyer", other)


def test_a_conversation_is_that_of_a_sender_and_a_name_or_a_reply_mailbox():
    one = named("x", sender="ada")
    assert same(one, named("x", sender="ada", reply_to="elsewhere"))
    assert same(message(sender="ada", reply_to="r"), message(sender="ada", reply_to="r"))
    assert same(message(reply_to="r"), message(reply_to="r"))
    assert thread_id("lawyer", one) != thread_id("clerk", one)
    assert message_of_key(message_key(one)) == ("lawyer", one.msg_id)
    assert message_of_key("of somebody else") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (named("x", sender="ada"), named("y", sender="ada")),
        (named("x", sender="ada"), named("x", sender="bob")),
        (named("x", sender="ada", sender_verified=True), named("x", sender="ada")),
        (named("x", sender="ada"), message(sender="ada", reply_to="x")),
        (message(sender="ada", reply_to="r"), message(sender="bob", reply_to="r")),
        (message(sender="ada", reply_to="r"), message(sender="ada", reply_to="s")),
        (message(sender="ada"), message(sender="ada")),
        (named("x"), named("x")),  # who has no name meets nobody by that of a conversation
        (named("x", reply_to="r"), named("x", reply_to="s")),
    ],
)
def test_others_do_not_meet_in_it(one, other):
    assert not same(one, other)


async def test_a_conversation_goes_on_where_it_was(client):
    async with working(client, echo()):
        for number, sender in enumerate(["ada", "ada", "bob"]):
            answer = await client.request(
                "lawyer", f"{number}", sender=sender, headers={"conversation": "1"}
            )
            assert answer.text == ["1: 0", "3: 1", "1: 2"][number]


class Crowd:
    """Counts how many are inside at once, for each thread and together."""

    def __init__(self):
        self.inside = {}
        self.most_of_a_thread = 0
        self.most = 0
        self.free = asyncio.Event()

    async def __call__(self, state, config):
        thread = config["configurable"]["thread_id"]
        self.inside[thread] = self.inside.get(thread, 0) + 1
        self.most_of_a_thread = max(self.most_of_a_thread, *self.inside.values())
        self.most = max(self.most, sum(self.inside.values()))
        await self.free.wait()
        self.inside[thread] -= 1


@pytest.fixture
def crowd():
    return Crowd()


async def send(client, conversation):
    await client.send(
        "lawyer", {"topic": "tea"}, sender="ada", headers={"conversation": conversation}
    )


async def test_two_workers_run_a_thread_one_after_the_other(broker, client, crowd):
    graph = Steps("read", read=crowd).compile()
    async with broker.client() as other, working(client, graph), working(other, graph):
        for conversation in "xxxxyy":
            await send(client, conversation)
        await broker.clock.advance(30)
        assert (crowd.most_of_a_thread, crowd.most) == (1, 2)
        crowd.free.set()
        await broker.clock.advance(1)
        assert crowd.most_of_a_thread == 1
        assert await held(client) == 0
        status = await client.mailbox_status("lawyer", group_name="lawyer")
        assert status.group.acked == 6


async def test_a_busy_conversation_holds_up_no_other(broker, client, crowd):
    graph = Steps("read", read=crowd).compile()
    async with working(client, graph, concurrency=2):
        for conversation in "xxxxyz":
            await send(client, conversation)
        await broker.clock.advance(1)
        assert (crowd.most_of_a_thread, crowd.most) == (1, 2)
        crowd.free.set()
        await broker.clock.advance(1)
        assert (crowd.most_of_a_thread, crowd.most) == (1, 2)
        status = await client.mailbox_status("lawyer", group_name="lawyer")
        assert status.group.acked == 6


async def test_a_run_that_lost_its_turn_ends_before_another_has_it(broker, client, crowd):
    graph = Steps("read", read=crowd).compile()
    async with working(client, graph, lease_ms=30_000) as worker:
        await send(client, "x")
        await broker.clock.advance(0)
        assert crowd.most == 1
        [sent] = await client.query("lawyer")
        turn = mailbox_of_turn("lawyer", thread_id("lawyer", sent))
        status = await client.mailbox_status(turn, group_name="turn")
        assert [one.count for one in status.group.leased] == [1]
        await client.mailbox_drop(turn)
        await broker.clock.advance(9)
        assert worker.counters.mail.retried == 0  # it has not renewed it yet
        await broker.clock.advance(2)
        assert worker.counters.mail.retried == 1
        crowd.free.set()
        await broker.clock.advance(60)
        assert (worker.counters.mail.processed, worker.counters.continued) == (1, 1)


async def test_waiting_for_a_turn_takes_no_time_of_the_run(broker, client, crowd):
    graph = Steps("read", read=crowd).compile()
    async with working(client, graph, handler_timeout=100) as worker:
        await send(client, "x")
        await broker.clock.advance(60)
        await send(client, "x")
        await broker.clock.advance(39)
        assert worker.counters.mail.failed == 0
        await broker.clock.advance(2)
        assert worker.counters.mail.failed == 1
        await broker.clock.advance(97)
        assert worker.counters.mail.failed == 1
        crowd.free.set()
        await broker.clock.advance(60)
        assert (worker.counters.mail.failed, worker.counters.mail.processed) == (1, 2)


@pytest.fixture
async def cut_off(broker, client):
    """A graph whose run for a first message was cut off in its second step, by a kill."""
    steps = Steps("read", "think", "write", think=wait_once())
    graph = steps.compile()
    doomed = broker.client()
    async with working(doomed, graph):
        await ask(client, "first")
        await broker.clock.advance(0)
        assert steps.ran == ["read", "think"]
        broker.kill(doomed)
    return steps, graph


async def answers_after_a_minute(client, graph):
    async with working(client, graph):
        await ask(client, "second")
        await client.clock.advance(90)
    return {one.correlation_id: one.json()["trail"] for one in await client.query("asker")}


async def test_what_was_cut_off_is_ended_before_the_conversation_goes_on(client, cut_off):
    steps, graph = cut_off
    answers = await answers_after_a_minute(client, graph)
    assert steps.ran == ["read", "think", "think", "write", "read", "think", "write"]
    assert answers == {
        "first": ["read", "think", "write"],
        "second": ["read", "think", "write", "read", "think", "write"],
    }


async def test_what_was_cut_off_and_comes_no_more_is_left(client, cut_off):
    _, graph = cut_off
    await client.delete("lawyer", 0)
    answers = await answers_after_a_minute(client, graph)
    assert answers == {"second": ["read", "read", "think", "write"]}


async def test_a_message_that_failed_does_not_hold_up_its_conversation(broker, client):
    graph = Steps("read", "write", write=fail_once(ValueError("busy"))).compile()
    async with working(client, graph, retry_delay=60) as worker:
        for name in ("first", "second"):
            await ask(client, name)
        await broker.clock.advance(30)
        assert [one.correlation_id for one in await client.query("asker")] == ["second"]
        await broker.clock.advance(60)
        assert [one.correlation_id for one in await client.query("asker")] == ["second", "first"]
        assert worker.counters.started == 2


async def test_it_takes_no_more_than_it_has_slots_for(broker, client, crowd):
    async with working(client, Steps("read", read=crowd).compile(), concurrency=3) as worker:
        for number in range(30):
            await send(client, f"{number}")
        await broker.clock.advance(1)
        assert (crowd.most, worker.counters.mail.received) == (3, 3)
        crowd.free.set()
        await broker.clock.advance(1)
        assert (crowd.most, worker.counters.mail.processed) == (3, 30)


async def test_a_conversation_goes_on_in_the_order_of_its_messages(broker, client, crowd):
    seen = []

    async def read(message):
        seen.append(message.msg_id)
        return {"topic": "tea"}

    options = {"concurrency": 3, "input": read}
    async with working(client, Steps("read", read=crowd).compile(), **options):
        for _ in range(20):
            await send(client, "x")
        await broker.clock.advance(0)
        crowd.free.set()
        await broker.clock.advance(1)
    assert seen == [*range(20)]
