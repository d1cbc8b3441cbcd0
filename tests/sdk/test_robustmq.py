"""The client and its consumer on a broker like RobustMQ, whose groups are one offset."""

import asyncio
import base64
import queue
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from waiting import until

from mq9 import (
    AgentNotFound,
    BadReply,
    InvalidRequest,
    Mailbox,
    MailboxExists,
    MailboxNotFound,
    Mq9Client,
    Unreachable,
)
from mq9.client.by_offset import MOST_FETCHED, OffsetProgress
from mq9.client.consumer import consumer
from mq9.models import FetchResult, Message, Priority
from mq9.operations import discovery
from mq9.protocol import replies
from mq9.protocol.robustmq import is_plain_text, last_known
from tests.contract.reading import send_all
from tests.nats_server import NatsServer
from tests.sdk.robustmq import RobustMq

pytestmark = pytest.mark.programs

PRIORITIES = ["critical", "urgent", "normal"]


@pytest.fixture
async def robustmq(tmp_path):
    with NatsServer(tmp_path) as server:
        async with RobustMq(server.url) as broker:
            broker.url = server.url
            yield broker


@pytest.fixture
async def ours(robustmq):
    async with Mq9Client(robustmq.url, reconnect_delay=0.01) as client:
        await client.mailbox_create(name="inbox")
        yield client


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(consumer, "_IDLE_PAUSE_S", 0.01)


async def until_fetched_again(broker, times=5):
    """Return when it has been asked so often for what it has answered before."""

    def fetches():
        return sum(subject.startswith("$mq9.AI.MSG.FETCH") for subject in broker.requests)

    enough = fetches() + times
    await until(lambda: fetches() >= enough)


async def until_confirmed(broker, msg_id):
    await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == msg_id)


async def send_mixed(client, chance, *texts):
    """Send texts with priorities that chance decides."""
    for text in texts:
        await client.send("inbox", text, priority=chance.choice(PRIORITIES))


def watch_acks(broker, sent, *workers):
    """Return what acks confirm though no worker has handled it, filled as they come."""
    passed_over = []
    broker.on_ack = lambda _address, msg_id: passed_over.extend(
        text for text in sent[: msg_id + 1] if not any(one.handled[text] for one in workers)
    )
    return passed_over


class Worker:
    """A handler that fails on what it is told to, and knows what it has handled."""

    def __init__(self, fails=lambda _text, _attempt: False):
        self.attempts = Counter()
        self.handled = Counter()
        self.order = []
        self.counts = []
        self._fails = fails

    async def __call__(self, message):
        self.attempts[message.text] += 1
        self.counts.append(message.delivery_count)
        await asyncio.sleep(0)
        if self._fails(message.text, self.attempts[message.text]):
            raise ValueError("not this time")
        self.handled[message.text] += 1
        self.order.append(message.text)


async def ignore(_message, _error):
    """A failure that the test expects."""


def consume(client, worker, **options):
    defaults = {
        "group_name": "g",
        "deliver": "earliest",
        "max_wait_ms": 50,
        "error_handler": ignore,
        "retry_delay": 0.01,
        "max_retry_delay": 0.02,
    }
    return client.consume("inbox", worker, **{**defaults, **options})


# The verbs


async def test_messages_are_plain_text_even_if_they_look_encoded(ours):
    texts = ["hello", "aGVsbG8=", "grüße 你好 🙂", "", '{"a": 1}']
    for number, text in enumerate(texts):
        assert await ours.send("inbox", text, key=f"k{number}") == number
    assert [one.text for one in await ours.query("inbox")] == texts
    fetched = await ours.fetch("inbox", group_name="g", deliver="earliest")
    assert [one.text for one in fetched] == texts
    assert fetched.batch is None
    assert [one.text for one in await ours.fetch("inbox", deliver="earliest")] == texts
    assert [one.text for one in await ours.query("inbox", key="k1")] == ["aGVsbG8="]
    assert [one.msg_id for one in await ours.query("inbox", limit=2)] == [3, 4]


async def test_the_next_fetch_begins_after_the_last_ack(ours):
    await send_all(ours, "inbox", *map(str, range(5)))
    fetched = await ours.fetch("inbox", group_name="g", deliver="earliest", num_msgs=3)
    assert await ours.ack("inbox", "g", fetched[-1].msg_id) == []  # it does not say which
    assert [one.text for one in await ours.fetch("inbox", group_name="g")] == ["3", "4"]


async def test_its_sentences_become_our_errors(ours):
    with pytest.raises(MailboxExists):
        await ours.mailbox_create(name="inbox")
    with pytest.raises(MailboxNotFound):
        await ours.send("nowhere", "x")
    await ours.send("inbox", "x")
    await ours.delete("inbox", 0)
    assert await ours.query("inbox") == []


async def test_agents_are_found_by_the_mailbox_in_their_registration_and_leave_by_name(ours):
    card = {"name": "Oracle", "mailbox": "inbox", "skills": [{"id": "x"}]}
    await ours.agent_register(card)
    await ours.agent_register({"name": "bare", "payload": "answers questions"})
    oracle, bare = await ours.agent_discover()
    assert oracle == card
    assert (oracle.match.name, oracle.match.mailbox) == ("Oracle", "inbox")
    assert bare["mailbox"] == "bare"
    assert [one["name"] for one in await ours.agent_discover(text="questions")] == ["bare"]
    for who in ("name", "mailbox"):
        await ours.agent_report({who: "bare", "report_info": "running"})
    await ours.agent_unregister("bare")
    assert await ours.agent_discover() == [card]
    with pytest.raises(AgentNotFound):
        await ours.agent_unregister(name="bare")


A = {"name": "A", "mailbox": "a"}
OBJECT = '{"mailbox": "b"}'


@pytest.mark.parametrize(
    ("item", "matches", "registered", "mailbox"),
    [
        *(
            ({**A, **more}, [], {**A, **more}, "a")
            for more in ({"payload": "p"}, {"agent_info": "not JSON"}, {"agent_info": "[1]"})
        ),
        ({**A, "agent_info": None}, [], {**A, "agent_info": None}, "a"),
        ({"name": "A", "agent_info": {"mailbox": "b"}}, [], {"mailbox": "b"}, "b"),
        # What our broker keeps is left alone.
        ({"name": "A", "agent_info": OBJECT}, [A], {**A, "agent_info": OBJECT}, "a"),
    ],
)
def test_an_agent_in_any_other_form_is_taken_as_it_stands(item, matches, registered, mailbox):
    reply = {"agents": [item]} | ({"matches": matches} if matches else {})
    [agent] = replies.agents_of(replies.decode_discover(reply))
    assert (dict(agent), agent.match.mailbox) == (registered, mailbox)


async def test_a_type_that_it_does_not_know_is_told(ours):
    with pytest.raises(BadReply, match=r"type: .* know 'latest'; it made state, which keeps all"):
        await ours.mailbox_create(name="state", type="latest")
    assert await ours.mailbox_create(name="usual", type="standard") == "usual"


async def test_a_verb_that_is_not_there_is_told(robustmq):
    async with Mq9Client(robustmq.url, reconnect_attempts=0) as client:
        await client.mailbox_create(name="inbox")
        for asking in (client.mailbox_status("inbox"), client.nack("inbox", "g", 0)):
            with pytest.raises(Unreachable, match="nobody listens"):
                await asking


async def test_no_option_of_ours_makes_a_request_that_is_refused(ours):
    await ours.mailbox_create(name="all", ttl=60, desc="d", public=True)
    await ours.send(
        "inbox", "x", key="k", ttl=9, tags=["a"], id="i", sender="s", reply_to="r", path=["p"]
    )
    options = {"num_msgs": 5, "max_wait_ms": 0, "lease_ms": 5000, "redeliver_own": False}
    fetched = await ours.fetch(
        "inbox", group_name="g", deliver="from_id", from_id=0, consumer="c", max_bytes=9, **options
    )
    assert len(fetched) == 1
    with ours.watch_unread("inbox", "g") as watch:
        await ours.ack("inbox", "g", 0, individual=True, consumer="c")
    assert watch.unread is None
    await ours.query("inbox", tags=["a"], since=0, limit=5, msg_id=0)


async def test_a_query_for_a_correlation_id_is_not_taken_for_answered(ours):
    assert await ours.query("inbox", correlation_id="q") == []
    await ours.send("inbox", "a", correlation_id="q")

    with pytest.raises(BadReply, match="correlation_id"):
        await ours.query("inbox", correlation_id="q")


@pytest.mark.parametrize(
    "options",
    [{"group_name": "g"}, {"group_name": "g", "state": "acked"}, {"before_id": 0}],
    ids="-".join,
)
async def test_a_query_by_standing_or_before_an_id_is_not_taken_for_answered(ours, options):
    assert await ours.query("inbox", **options) == []
    await ours.send("inbox", "a")

    with pytest.raises(BadReply, match=next(iter(options))):
        await ours.query("inbox", **options)


async def test_a_read_names_its_start_and_begins_with_what_is_stored(robustmq, ours):
    await ours.send("inbox", "a")
    await ours.send("inbox", "b")

    assert [one.text for one in await ours.fetch("inbox", group_name="g")] == ["a", "b"]
    assert [one.text for one in await ours.fetch("inbox")] == ["a", "b"]
    assert [one.text for one in await ours.fetch("inbox", deliver="latest")] == ["b"]
    assert robustmq.delivers == ["earliest", "earliest", "latest"]


async def test_new_is_refused_since_it_does_not_know_it(ours):
    with pytest.raises(InvalidRequest, match="unknown variant `new`, expected one of `latest`"):
        await ours.fetch("inbox", deliver="new", max_wait_ms=0)
    with pytest.raises(InvalidRequest, match="unknown variant `new`"):
        await consume(ours, Worker(), deliver="new")


# The consumer


async def test_the_start_is_named_until_the_first_ack_confirms_a_position(robustmq, ours):
    for number in range(3):
        await ours.send("inbox", f"old {number}")
    worker = Worker(lambda text, attempt: attempt < 3)
    async with await consume(ours, worker, deliver="latest"):
        await until(lambda: robustmq.acks == [2])
        await ours.send("inbox", "new")
        await until(lambda: worker.handled["new"])

    assert set(worker.attempts) == {"old 2", "new"}
    assert set(robustmq.delivers) == {"latest"}


@pytest.mark.quick
async def test_everything_is_handled_once_and_acked(robustmq, ours):
    worker = Worker()
    sent = [f"{number}" for number in range(35)]
    await send_all(ours, "inbox", *sent)
    async with await consume(ours, worker) as running:
        await until_confirmed(robustmq, 34)
        await ours.send("inbox", "news")
        await until_confirmed(robustmq, 35)
        assert (running.processed_count, running.failed_count) == (36, 0)
    assert worker.order == [*sent, "news"]
    assert set(worker.counts) == {1}


async def test_neither_leases_nor_nacks_are_asked_for(robustmq, ours, caplog):
    gate = asyncio.Event()

    async def slow(_message):
        await gate.wait()
        raise ValueError

    await ours.send("inbox", "x")
    async with await consume(ours, slow, lease_ms=1_000) as running:
        await until(lambda: running.counters.in_flight == 1)
        await asyncio.sleep(0.5)  # longer than a third of the lease
        gate.set()
        await until(lambda: running.failed_count > 2)
    assert not caplog.records  # nobody would answer such a request, and that would be told


@pytest.mark.parametrize(("seed", "consumers"), [*((seed, 1) for seed in range(8)), (1, 2)])
async def test_nothing_is_lost_though_handlers_fail_and_priorities_mix(
    robustmq, ours, seed, consumers
):
    chance = random.Random(seed)
    workers = [
        Worker(lambda _text, attempt: attempt < 6 and chance.random() < 0.4)
        for _ in range(consumers)
    ]
    before = chance.randrange(60)
    sent = [f"{number}" for number in range(before + 60)]
    passed_over = watch_acks(robustmq, sent, *workers)
    options = {"num_msgs": chance.choice([1, 3, 10]), "concurrency": chance.choice([1, 4])}
    await send_mixed(ours, chance, *sent[:before])
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(await consume(ours, worker, **options))
        await send_mixed(ours, chance, *sent[before:])
        await until_confirmed(robustmq, len(sent) - 1)
    assert passed_over == []
    if consumers == 1:
        assert workers[0].handled == Counter(sent)  # each once


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_though_the_worker_dies_again_and_again(robustmq, ours, seed):
    chance = random.Random(seed)
    worker = Worker(lambda _text, attempt: attempt < 4 and chance.random() < 0.3)
    sent = [f"{number}" for number in range(80)]
    await send_mixed(ours, chance, *sent)
    passed_over = watch_acks(robustmq, sent, worker)

    async def die(enough):
        """Work until so many were handled, and break off whatever else runs on this event loop."""
        own = await Mq9Client.connect(robustmq.url, reconnect_delay=0.01)
        await consume(own, worker, num_msgs=7)
        await until(lambda: worker.handled.total() >= enough or len(worker.handled) == len(sent))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await own.close()

    for _ in range(12):
        enough = worker.handled.total() + chance.randrange(1, 12)
        await asyncio.to_thread(asyncio.run, die(enough))
    async with await consume(ours, worker):
        await until_confirmed(robustmq, 79)
    assert passed_over == []
    assert set(worker.handled) == set(sent)


async def test_a_critical_message_confirms_no_older_normal_one(robustmq, ours):
    gate = asyncio.Event()
    texts = []

    async def handler(message):
        texts.append(message.text)
        if message.priority == "normal":
            await gate.wait()

    await send_all(ours, "inbox", "first", "second")
    await ours.send("inbox", "pressing", priority="critical")
    async with await consume(ours, handler):
        await until(lambda: len(texts) == 2)
        assert texts == ["pressing", "first"]
        assert robustmq.acks == []
        gate.set()
        await until_confirmed(robustmq, 2)


async def test_pressing_mail_that_fills_a_reply_is_looked_behind(robustmq, ours):
    old = [f"old {number}" for number in range(3)]
    await send_all(ours, "inbox", *old)
    await send_all(ours, "inbox", *map(str, range(40)), priority="urgent")
    worker = Worker()
    async with await consume(ours, worker, num_msgs=5):
        await until_confirmed(robustmq, 42)
    assert worker.handled.total() == 43
    assert worker.order[-3:] == old


async def test_what_fails_holds_back_the_acks_and_not_the_others(robustmq, ours):
    well = asyncio.Event()
    worker = Worker(lambda text, _attempt: text == "bad" and not well.is_set())
    await send_all(ours, "inbox", "good", "bad", *map(str, range(50)))
    async with await consume(ours, worker) as running:
        await until(lambda: worker.handled.total() == 51 and running.failed_count > 3)
        assert robustmq.mailboxes["inbox"].offsets.get("g") == 0
        # The next attempt may be under way, and is counted when it has failed.
        assert worker.attempts["bad"] - running.failed_count in {0, 1}
        well.set()
        await until_confirmed(robustmq, 51)
    assert set(worker.handled.values()) == {1}


async def test_what_keeps_failing_is_moved_away_by_a_count_of_ones_own(robustmq, ours):
    """Where it cannot be moved it stays, and is not run again."""
    worker = Worker(lambda text, _attempt: text == "bad")
    await send_all(ours, "inbox", "bad", "good")
    async with await consume(ours, worker, dead_letter="dead", max_deliveries=3) as running:
        await until(lambda: worker.handled["good"] and worker.attempts["bad"] == 3)
        await until_fetched_again(robustmq)
        assert worker.attempts["bad"] == 3
        assert robustmq.acks == []
        await ours.mailbox_create(name="dead")
        await until_confirmed(robustmq, 1)
        assert running.is_running
    assert worker.attempts == {"bad": 3, "good": 1}
    assert sorted(worker.counts) == [1, 1, 2, 3]
    assert [one.text for one in await ours.query("dead")] == ["bad"]


async def test_a_mailbox_made_anew_has_new_messages_under_old_ids(robustmq, ours):
    worker = Worker(lambda text, _attempt: text == "bad")
    await send_all(ours, "inbox", "bad", "old")
    async with await consume(ours, worker):
        await until(lambda: worker.handled["old"])
        del robustmq.mailboxes["inbox"]
        await ours.mailbox_create(name="inbox")
        await send_all(ours, "inbox", "new 0", "new 1")
        await until_confirmed(robustmq, 1)
    assert worker.handled == Counter(["old", "new 0", "new 1"])


async def test_without_auto_ack_the_handler_decides(robustmq, ours):
    worker = Worker()
    await send_all(ours, "inbox", *"012")
    async with await consume(ours, worker, auto_ack=False):
        await until(lambda: worker.handled.total() == 3)
        await until_fetched_again(robustmq)
    assert robustmq.acks == []
    assert set(worker.handled.values()) == {1}


async def test_a_lost_ack_is_made_up_for(robustmq, ours):
    worker = Worker()
    await ours.send("inbox", "x")

    def refuse(_address, _msg_id):
        robustmq.on_ack = lambda *_: None
        del robustmq.mailboxes["inbox"]

    robustmq.on_ack = refuse
    kept = robustmq.mailboxes["inbox"]
    async with await consume(ours, worker):
        await until(lambda: robustmq.acks == [0])
        kept.offsets["g"] = -1
        robustmq.mailboxes["inbox"] = kept
        await until(lambda: kept.offsets.get("g") == 0)
    assert worker.handled == {"x": 1}


async def test_it_stops_in_the_middle_of_a_reply(robustmq, ours):
    started, gate = asyncio.Event(), asyncio.Event()
    handled = []

    async def handler(message):
        if message.text == "3":
            started.set()
            await gate.wait()
        handled.append(message.text)

    await send_all(ours, "inbox", *"0123456789")
    running = await consume(ours, handler)
    await started.wait()
    running.request_stop()
    gate.set()
    await running.wait()
    assert handled == [*"0123"]
    assert robustmq.mailboxes["inbox"].offsets.get("g") == 3
    again = Worker()
    async with await consume(ours, again):
        await until_confirmed(robustmq, 9)
    assert again.order == [*"456789"]


# The rule itself


def reply(*messages):
    letters = {"c": Priority.CRITICAL, "u": Priority.URGENT, "n": Priority.NORMAL}
    return FetchResult(
        Message(msg_id=int(one[1:]), payload=b"", create_time=0, priority=letters[one[0]])
        for one in messages
    )


@pytest.mark.parametrize(
    ("messages", "num_msgs", "known"),
    [
        ([], 5, None),
        (["n3", "n4"], 3, 4),
        (["c9", "n3"], 3, 9),  # all there is
        (["n3", "n4"], 2, 4),  # what is left out comes after them
        (["c9", "n3"], 2, 3),  # normal ones between 3 and 9 may be left out
        (["c9"], 1, None),  # normal ones before 9 may be
        (["c5", "u2"], 2, None),
        (["n4", "n3"], 2, None),  # not in the order that this relies on
        (["n3", "c9"], 2, None),
    ],
)
def test_what_a_reply_shows(messages, num_msgs, known):
    assert last_known(reply(*messages), num_msgs) == known


def test_more_is_fetched_while_a_full_reply_cannot_be_acked():
    progress = OffsetProgress(4)
    fetched = reply(*(f"c{number}" for number in range(4)))
    for asked in (4, 8, 16):
        for message in progress.due(fetched, 0):
            progress.done(message)
        assert progress.confirmed(fetched, asked) is None
        assert progress.num_msgs == asked * 2
        fetched = reply(*(f"c{number}" for number in range(asked * 2)))
    progress.num_msgs = MOST_FETCHED
    fetched = reply(*(f"c{number}" for number in range(MOST_FETCHED)))
    assert progress.confirmed(fetched, MOST_FETCHED) is None
    assert progress.num_msgs == MOST_FETCHED
    for message in progress.due(fetched, 0):
        progress.done(message)
    assert progress.confirmed(fetched, MOST_FETCHED + 1) == MOST_FETCHED - 1
    assert progress.num_msgs == 4


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("mq9.client.by_offset._MOST_REMEMBERED", 10)
    progress = OffsetProgress(5)
    for first in range(0, 100, 5):
        fetched = reply(*(f"n{first + number}" for number in range(5)))
        for message in progress.due(fetched, 0):
            progress.done(message)
        progress.confirmed(fetched, 5)
        assert len(progress) <= 10
    progress.confirmed(reply("n200"), 5)
    assert len(progress) == 1


def test_a_message_without_encoding_and_header_is_base64():
    item = {"msg_id": 0, "payload": base64.b64encode(b"\xff").decode()}
    [message] = replies.messages_of(replies.decode_fetch({"messages": [item]}), "inbox")
    assert message.payload == b"\xff"
    assert not is_plain_text(item)


# The six operations


def use_six_operations(url):
    """Use a Mailbox; what comes in which order, to everybody and to a group."""
    with Mailbox(url, reconnect_delay=0.01) as mb:
        made = [mb.create(public=True, name="tasks")["mail_id"] for _ in range(2)]
        assert made == ["tasks", "tasks"]
        with pytest.raises(MailboxExists):
            mb.create(name="tasks")
        for priority in ("low", "normal", "high"):
            mb.send("tasks", priority, priority)
        received = [queue.Queue(), queue.Queue()]
        mb.receive("tasks", lambda message: received[0].put(message.text))
        mb.receive("tasks", lambda message: received[1].put(message.text), resume="workers")
        texts = [[one.get(timeout=30) for _ in range(3)] for one in received]
        mb.send("tasks", "later")
        texts += [[one.get(timeout=30)] for one in received]
        assert [message.text for message in mb.fetch("tasks", num=2)] == ["high", "low"]
        mb.delete("tasks", 0)
        return texts


async def test_six_operations_are_there(robustmq):
    in_order = ["high", "low", "normal"]  # low is not kept

    texts = await asyncio.to_thread(use_six_operations, robustmq.url)

    assert texts == [in_order, in_order, ["later"], ["later"]]


async def test_an_agent_is_found_by_its_name_without_the_verb_for_it(robustmq):
    async with Mq9Client(robustmq.url, reconnect_attempts=0) as client:
        await client.agent_register({"name": "oracle", "mailbox": "delphi"})
        with pytest.raises(Unreachable):
            await client.agent_lookup(["oracle"])

        assert await discovery.named(client, "oracle") == "delphi"
        assert await discovery.named(client, "orac") is None
