"""The client and its consumer on a broker like RobustMQ, whose groups are one offset."""

import asyncio
import base64
import queue
import random
from collections import Counter

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
from mq9.protocol import replies, robustmq
from mq9.protocol.robustmq import last_known
from tests.nats_server import NatsServer
from tests.sdk.robustmq import RobustMq

pytestmark = pytest.mark.programs

PRIORITIES = ["critical", "urgent", "normal"]


@pytest.fixture
async def broker(tmp_path):
    with NatsServer(tmp_path) as server:
        async with RobustMq(server.url) as broker:
            broker.url = server.url
            yield broker


@pytest.fixture
async def client(broker):
    async with Mq9Client(broker.url, reconnect_delay=0.01) as client:
        await client.mailbox_create(name="inbox")
        yield client


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(consumer, "_IDLE_PAUSE_S", 0.01)


async def until_fetched_again(broker, times=5):
    """Return when it has been asked so often for what it has answered before."""
    enough = fetches(broker) + times
    await until(lambda: fetches(broker) >= enough)


def fetches(broker):
    return sum(subject.startswith("$mq9.AI.MSG.FETCH") for subject in broker.requests)


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


async def test_messages_are_plain_text_even_if_they_look_encoded(client):
    texts = ["hello", "aGVsbG8=", "grüße 你好 🙂", "", '{"a": 1}']
    for number, text in enumerate(texts):
        assert await client.send("inbox", text, key=f"k{number}") == number
    assert [one.text for one in await client.query("inbox")] == texts
    fetched = await client.fetch("inbox", group_name="g", deliver="earliest")
    assert [one.text for one in fetched] == texts
    assert fetched.batch is None
    assert [one.text for one in await client.fetch("inbox", deliver="earliest")] == texts
    assert [one.text for one in await client.query("inbox", key="k1")] == ["aGVsbG8="]
    assert [one.msg_id for one in await client.query("inbox", limit=2)] == [3, 4]


async def test_the_next_fetch_begins_after_the_last_ack(client):
    for number in range(5):
        await client.send("inbox", f"{number}")
    fetched = await client.fetch("inbox", group_name="g", deliver="earliest", num_msgs=3)
    assert await client.ack("inbox", "g", fetched[-1].msg_id) == []  # it does not say which
    assert [one.text for one in await client.fetch("inbox", group_name="g")] == ["3", "4"]


async def test_its_sentences_become_our_errors(client):
    with pytest.raises(MailboxExists):
        await client.mailbox_create(name="inbox")
    with pytest.raises(MailboxNotFound):
        await client.send("nowhere", "x")
    await client.send("inbox", "x")
    await client.delete("inbox", 0)
    assert await client.query("inbox") == []


async def test_agents_are_found_by_the_mailbox_in_their_registration(client):
    card = {"name": "Oracle", "mailbox": "inbox", "skills": [{"id": "x"}]}
    await client.agent_register(card)
    await client.agent_register({"name": "bare", "payload": "answers questions"})
    oracle, bare = await client.agent_discover()
    assert oracle == card
    assert (oracle.match.name, oracle.match.mailbox) == ("Oracle", "inbox")
    assert bare["mailbox"] == "bare"
    assert [one["name"] for one in await client.agent_discover(text="questions")] == ["bare"]


async def test_agents_report_and_leave_by_name(client):
    await client.agent_register({"name": "bare"})
    await client.agent_report({"name": "bare", "report_info": "running"})
    await client.agent_report({"mailbox": "bare", "report_info": "running"})
    await client.agent_unregister("bare")
    assert await client.agent_discover() == []
    with pytest.raises(AgentNotFound):
        await client.agent_unregister(name="bare")


@pytest.mark.parametrize(
    "item",
    [
        {"name": "A", "mailbox": "a", "payload": "p"},
        {"name": "A", "mailbox": "a", "agent_info": "not JSON"},
        {"name": "A", "mailbox": "a", "agent_info": "[1]"},
        {"name": "A", "mailbox": "a", "agent_info": None},
    ],
)
def test_an_agent_in_any_other_form_is_taken_as_it_stands(item):
    [agent] = replies.agents_of(replies.decode_discover({"agents": [item]}))
    assert dict(agent) == item
    assert (agent.match.name, agent.match.mailbox) == ("A", "a")


def test_an_agent_info_that_our_broker_keeps_is_left_alone():
    item = {"name": "A", "agent_info": '{"mailbox": "b"}'}
    match = {"name": "A", "mailbox": "a"}
    [agent] = replies.agents_of(replies.decode_discover({"agents": [item], "matches": [match]}))
    assert dict(agent) == {**item, "mailbox": "a"}
    assert agent.match.mailbox == "a"


@pytest.mark.parametrize("item", [{"agent_info": {"mailbox": "b"}, "name": "A"}])
def test_an_agent_info_may_be_an_object(item):
    registered, match = robustmq.decode_agent(item)
    assert (registered, match.mailbox) == ({"mailbox": "b"}, "b")


async def test_a_type_that_it_does_not_know_is_told(client):
    with pytest.raises(BadReply, match=r"type: .* know 'latest'; it made state, which keeps all"):
        await client.mailbox_create(name="state", type="latest")
    assert await client.mailbox_create(name="usual", type="standard") == "usual"


async def test_a_verb_that_is_not_there_is_told(broker):
    async with Mq9Client(broker.url, reconnect_attempts=0) as client:
        await client.mailbox_create(name="inbox")
        for asking in (client.mailbox_status("inbox"), client.nack("inbox", "g", 0)):
            with pytest.raises(Unreachable, match="nobody listens"):
                await asking


async def test_no_option_of_ours_makes_a_request_that_is_refused(client):
    await client.mailbox_create(name="all", ttl=60, desc="d", public=True)
    await client.send(
        "inbox", "x", key="k", ttl=9, tags=["a"], id="i", sender="s", reply_to="r", path=["p"]
    )
    options = {"num_msgs": 5, "max_wait_ms": 0, "lease_ms": 5000, "redeliver_own": False}
    fetched = await client.fetch(
        "inbox", group_name="g", deliver="from_id", from_id=0, consumer="c", max_bytes=9, **options
    )
    assert len(fetched) == 1
    with client.watch_unread("inbox", "g") as watch:
        await client.ack("inbox", "g", 0, individual=True, consumer="c")
    assert watch.unread is None
    await client.query("inbox", tags=["a"], since=0, limit=5, msg_id=0)


async def test_a_query_for_a_correlation_id_is_not_taken_for_answered(client):
    assert await client.query("inbox", correlation_id="q") == []
    await client.send("inbox", "a", correlation_id="q")

    with pytest.raises(BadReply, match="correlation_id"):
        await client.query("inbox", correlation_id="q")


@pytest.mark.parametrize(
    "options",
    [{"group_name": "g"}, {"group_name": "g", "state": "acked"}, {"before_id": 0}],
    ids="-".join,
)
async def test_a_query_by_standing_or_before_an_id_is_not_taken_for_answered(client, options):
    assert await client.query("inbox", **options) == []
    await client.send("inbox", "a")

    with pytest.raises(BadReply, match=next(iter(options))):
        await client.query("inbox", **options)


async def test_a_read_names_its_start_and_begins_with_what_is_stored(broker, client):
    await client.send("inbox", "a")
    await client.send("inbox", "b")

    assert [one.text for one in await client.fetch("inbox", group_name="g")] == ["a", "b"]
    assert [one.text for one in await client.fetch("inbox")] == ["a", "b"]
    assert [one.text for one in await client.fetch("inbox", deliver="latest")] == ["b"]
    assert broker.delivers == ["earliest", "earliest", "latest"]


async def test_new_is_refused_since_it_does_not_know_it(client):
    with pytest.raises(InvalidRequest, match="unknown variant `new`, expected one of `latest`"):
        await client.fetch("inbox", deliver="new", max_wait_ms=0)
    with pytest.raises(InvalidRequest, match="unknown variant `new`"):
        await consume(client, Worker(), deliver="new")


# The consumer


async def test_the_start_is_named_until_the_first_ack_confirms_a_position(broker, client):
    for number in range(3):
        await client.send("inbox", f"old {number}")
    worker = Worker(lambda text, attempt: attempt < 3)
    async with await consume(client, worker, deliver="latest"):
        await until(lambda: broker.acks == [2])
        await client.send("inbox", "new")
        await until(lambda: worker.handled["new"])

    assert set(worker.attempts) == {"old 2", "new"}
    assert set(broker.delivers) == {"latest"}


@pytest.mark.quick
async def test_everything_is_handled_once_and_acked(broker, client):
    worker = Worker()
    for number in range(35):
        await client.send("inbox", f"{number}")
    async with await consume(client, worker) as running:
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 34)
        await client.send("inbox", "news")
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 35)
        assert (running.processed_count, running.failed_count) == (36, 0)
    assert worker.order == [*map(str, range(35)), "news"]
    assert set(worker.counts) == {1}


async def test_neither_leases_nor_nacks_are_asked_for(broker, client, caplog):
    gate = asyncio.Event()

    async def slow(_message):
        await gate.wait()
        raise ValueError

    await client.send("inbox", "x")
    async with await consume(client, slow, lease_ms=1_000) as running:
        await until(lambda: running.counters.in_flight == 1)
        await asyncio.sleep(0.5)  # longer than a third of the lease
        gate.set()
        await until(lambda: running.failed_count > 2)
    assert not caplog.records  # nobody would answer such a request, and that would be told


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_lost_though_handlers_fail_and_priorities_mix(broker, client, seed):
    chance = random.Random(seed)
    sent, passed_over = [], []
    worker = Worker(lambda _text, attempt: attempt < 6 and chance.random() < 0.4)

    def check(_address, msg_id):
        passed_over.extend(text for text in sent[: msg_id + 1] if not worker.handled[text])

    broker.on_ack = check

    async def send(count):
        for _ in range(count):
            sent.append(f"{len(sent)}")
            await client.send("inbox", sent[-1], priority=chance.choice(PRIORITIES))

    await send(chance.randrange(60))
    options = {"num_msgs": chance.choice([1, 3, 10]), "concurrency": chance.choice([1, 4])}
    async with await consume(client, worker, **options):
        await send(60)
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == len(sent) - 1)
    assert passed_over == []
    assert worker.handled == Counter(sent)  # and each once, by one consumer


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_though_the_worker_dies_again_and_again(broker, client, seed):
    chance = random.Random(seed)
    worker = Worker(lambda _text, attempt: attempt < 4 and chance.random() < 0.3)
    sent = [f"{number}" for number in range(80)]
    for text in sent:
        await client.send("inbox", text, priority=chance.choice(PRIORITIES))
    passed_over = []
    broker.on_ack = lambda _address, msg_id: passed_over.extend(
        text for text in sent[: msg_id + 1] if not worker.handled[text]
    )

    async def die(enough):
        """Work until so many were handled, and break off whatever else runs on this event loop."""
        own = await Mq9Client.connect(broker.url, reconnect_delay=0.01)
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
    async with await consume(client, worker):
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 79)
    assert passed_over == []
    assert set(worker.handled) == set(sent)


async def test_two_consumers_of_a_group_lose_nothing(broker, client):
    chance = random.Random(1)
    workers = [Worker(lambda _text, n: n < 5 and chance.random() < 0.3) for _ in range(2)]
    sent = [f"{number}" for number in range(60)]
    for text in sent:
        await client.send("inbox", text, priority=chance.choice(PRIORITIES))
    passed_over = []
    broker.on_ack = lambda _address, msg_id: passed_over.extend(
        text for text in sent[: msg_id + 1] if not any(worker.handled[text] for worker in workers)
    )
    async with await consume(client, workers[0]), await consume(client, workers[1]):
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 59)
    assert passed_over == []


async def test_a_critical_message_confirms_no_older_normal_one(broker, client):
    gate = asyncio.Event()
    texts = []

    async def handler(message):
        texts.append(message.text)
        if message.priority == "normal":
            await gate.wait()

    for text in ("first", "second"):
        await client.send("inbox", text)
    await client.send("inbox", "pressing", priority="critical")
    async with await consume(client, handler):
        await until(lambda: len(texts) == 2)
        assert texts == ["pressing", "first"]
        assert broker.acks == []
        gate.set()
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 2)


async def test_pressing_mail_that_fills_a_reply_is_looked_behind(broker, client):
    for number in range(3):
        await client.send("inbox", f"old {number}")
    for number in range(40):
        await client.send("inbox", f"pressing {number}", priority="urgent")
    worker = Worker()
    async with await consume(client, worker, num_msgs=5):
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 42)
    assert worker.handled.total() == 43
    assert worker.order[-3:] == ["old 0", "old 1", "old 2"]


async def test_what_fails_holds_back_the_acks_and_not_the_others(broker, client):
    well = asyncio.Event()
    worker = Worker(lambda text, _attempt: text == "bad" and not well.is_set())
    await client.send("inbox", "good")
    await client.send("inbox", "bad")
    for number in range(50):
        await client.send("inbox", f"{number}")
    async with await consume(client, worker) as running:
        await until(lambda: worker.handled.total() == 51 and running.failed_count > 3)
        assert broker.mailboxes["inbox"].offsets.get("g") == 0
        # The next attempt may be under way, and is counted when it has failed.
        assert worker.attempts["bad"] - running.failed_count in {0, 1}
        well.set()
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 51)
    assert set(worker.handled.values()) == {1}


async def test_what_keeps_failing_is_moved_away_by_a_count_of_ones_own(broker, client):
    await client.mailbox_create(name="dead")
    worker = Worker(lambda text, _attempt: text == "bad")
    for text in ("bad", "good"):
        await client.send("inbox", text)
    async with await consume(client, worker, dead_letter="dead", max_deliveries=3):
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 1)
    assert worker.attempts == {"bad": 3, "good": 1}
    assert sorted(worker.counts) == [1, 1, 2, 3]
    assert [one.text for one in await client.query("dead")] == ["bad"]


async def test_what_cannot_be_moved_stays_and_is_not_run_again(broker, client):
    worker = Worker(lambda text, _attempt: text == "bad")
    for text in ("bad", "good"):
        await client.send("inbox", text)
    async with await consume(client, worker, dead_letter="dead", max_deliveries=2) as running:
        await until(lambda: worker.handled["good"])
        await until_fetched_again(broker)
        assert worker.attempts["bad"] == 2
        assert broker.acks == []
        await client.mailbox_create(name="dead")
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 1)
        assert running.is_running
    assert worker.attempts["bad"] == 2


async def test_a_mailbox_made_anew_has_new_messages_under_old_ids(broker, client):
    worker = Worker(lambda text, _attempt: text == "bad")
    for text in ("bad", "old"):
        await client.send("inbox", text)
    async with await consume(client, worker):
        await until(lambda: worker.handled["old"])
        del broker.mailboxes["inbox"]
        await client.mailbox_create(name="inbox")
        for text in ("new 0", "new 1"):
            await client.send("inbox", text)
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 1)
    assert worker.handled == Counter(["old", "new 0", "new 1"])


async def test_without_auto_ack_the_handler_decides(broker, client):
    worker = Worker()
    for number in range(3):
        await client.send("inbox", f"{number}")
    async with await consume(client, worker, auto_ack=False):
        await until(lambda: worker.handled.total() == 3)
        await until_fetched_again(broker)
    assert broker.acks == []
    assert set(worker.handled.values()) == {1}


async def test_a_lost_ack_is_made_up_for(broker, client):
    worker = Worker()
    await client.send("inbox", "x")

    def refuse(_address, _msg_id):
        broker.on_ack = lambda *_: None
        del broker.mailboxes["inbox"]

    broker.on_ack = refuse
    kept = broker.mailboxes["inbox"]
    async with await consume(client, worker):
        await until(lambda: broker.acks == [0])
        kept.offsets["g"] = -1
        broker.mailboxes["inbox"] = kept
        await until(lambda: kept.offsets.get("g") == 0)
    assert worker.handled == {"x": 1}


async def test_it_stops_in_the_middle_of_a_reply(broker, client):
    started, gate = asyncio.Event(), asyncio.Event()
    handled = []

    async def handler(message):
        if message.text == "3":
            started.set()
            await gate.wait()
        handled.append(message.text)

    for number in range(10):
        await client.send("inbox", f"{number}")
    running = await consume(client, handler)
    await started.wait()
    running.request_stop()
    gate.set()
    await running.wait()
    assert handled == ["0", "1", "2", "3"]
    assert broker.mailboxes["inbox"].offsets.get("g") == 3
    again = Worker()
    async with await consume(client, again):
        await until(lambda: broker.mailboxes["inbox"].offsets.get("g") == 9)
    assert again.order == ["4", "5", "6", "7", "8", "9"]


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
    assert not robustmq.is_plain_text(item)


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


async def test_six_operations_are_there(broker):
    in_order = ["high", "low", "normal"]  # low is not kept

    texts = await asyncio.to_thread(use_six_operations, broker.url)

    assert texts == [in_order, in_order, ["later"], ["later"]]


async def test_an_agent_is_found_by_its_name_without_the_verb_for_it(broker):
    async with Mq9Client(broker.url, reconnect_attempts=0) as client:
        await client.agent_register({"name": "oracle", "mailbox": "delphi"})
        with pytest.raises(Unreachable):
            await client.agent_lookup(["oracle"])

        assert await discovery.named(client, "oracle") == "delphi"
        assert await discovery.named(client, "orac") is None
