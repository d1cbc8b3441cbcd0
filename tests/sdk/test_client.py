"""The client itself: connecting, repeating what was lost, remembering batches, asking questions."""

import asyncio
import threading
from contextlib import closing

import pytest
from waiting import until

from mq9 import (
    FetchResult,
    InvalidRequest,
    MailboxNotFound,
    Message,
    MessageNotFound,
    Mq9Client,
    NotConnected,
    Unavailable,
)
from mq9.broker.asked import BrokerSession
from mq9.client import base
from mq9.protocol.verbs import VERBS
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport
from tests.contract.reading import send_all


async def test_connect_makes_a_client_of_a_url_or_of_the_default_one(broker, monkeypatch):
    monkeypatch.setenv("MQ9_SERVER", broker.url)
    for urls in ([broker.url], []):
        client = await Mq9Client.connect(*urls, request_timeout=2)
        assert client.is_connected
        assert await client.mailbox_create(name="inbox", renew=True) == "inbox"
        await client.close()
        assert not client.is_connected


async def test_open_connects_a_client_and_may_be_repeated(broker):
    client = Mq9Client(broker.url)
    assert not client.is_connected
    assert await client.open() is client
    async with client:
        assert client.is_connected
        assert " connected" in repr(client)
        assert broker.url in repr(client)
        assert await client.mailbox_create(name="inbox") == "inbox"
    assert "not connected" in repr(client)
    await client.close()
    await client.open()  # once more
    assert await client.send("inbox", "x") == 0
    await client.close()


async def test_a_client_that_is_not_connected_says_so(broker):
    client = Mq9Client(broker.url)
    for _ in range(2):
        with pytest.raises(NotConnected, match="not connected"):
            await client.send("inbox", "x")
        with pytest.raises(NotConnected):
            _ = client.clock
        await client.open()
        await client.close()


async def test_an_argument_is_refused_before_anything_is_sent(broker):
    client = Mq9Client(broker.url)  # not even connected
    with pytest.raises(InvalidRequest, match="delay"):
        await client.send("inbox", "x", delay=-1)


async def test_each_client_is_a_consumer_of_its_own(broker):
    clients = [broker.client() for _ in range(3)]
    assert len({client.consumer for client in clients}) == 3
    for client in clients:
        await client.close()


# The requests whose replies are lost, as a client makes them.
REPEATED = {
    "MAILBOX.CREATE": lambda client: client.mailbox_create(name="inbox", renew=True),
    "MAILBOX.STATUS": lambda client: client.mailbox_status("inbox"),
    "MAILBOX.GRANT": lambda client: client.mailbox_grant("inbox", ["bob"]),
    "PUBLIC.LIST": lambda client: client.mailbox_list(),
    "MSG.SEND": lambda client: client.send("inbox", "twice?"),
    "MSG.FETCH": lambda client: client.fetch("inbox", group_name="new", deliver="earliest"),
    "MSG.ACK": lambda client: client.ack("inbox", "g", 0),
    "MSG.MOVE": lambda client: client.move("inbox", "g", 0, to="other"),
    "MSG.QUERY": lambda client: client.query("inbox"),
    "MSG.SENT": lambda client: client.sent(sender="agent"),
    "CONVERSATION.LIST": lambda client: client.conversations(),
    "CONVERSATION.READ": lambda client: client.conversation("c"),
    "CONVERSATION.LINKS": lambda client: client.links(),
    "STUCK.LIST": lambda client: client.stuck(),
    "AGENT.REGISTER": lambda client: client.agent_register({"name": "another"}),
    "AGENT.DISCOVER": lambda client: client.agent_discover(),
    "AGENT.LOOKUP": lambda client: client.agent_lookup(["agent"]),
    "AGENT.WHOAMI": lambda client: client.whoami(),
    "OWN.LIST": lambda client: client.mailbox_list_own(),
}
NOT_REPEATED = {
    "MAILBOX.CREATE": lambda client: client.mailbox_create(name="new"),
    "MAILBOX.DROP": lambda client: client.mailbox_drop("inbox"),
    "MSG.NACK": lambda client: client.nack("inbox", "g", 0),
    "MSG.EXTEND": lambda client: client.extend("inbox", "g", [0]),
    "MSG.NOTICE": lambda client: client.notice("inbox", host="h", session="s", occasion="start"),
    "MSG.CANCEL": lambda client: client.cancel("inbox", 1),
    "MSG.DELETE": lambda client: client.delete("inbox", 0),
    "AGENT.UNREGISTER": lambda client: client.agent_unregister(name="agent"),
    "AGENT.REPORT": lambda client: client.agent_report({"name": "agent", "load": 1}),
}


@pytest.fixture
async def busy(client):
    """A client with a message, a lease, a delayed message and an agent."""
    await client.send("inbox", "first")
    await client.send("inbox", "later", delay=60)
    await client.fetch("inbox", group_name="g", deliver="earliest")
    await client.agent_register({"name": "agent"})
    await client.mailbox_create(name="other")
    return client


def test_the_reply_of_every_verb_is_lost():
    assert REPEATED.keys() == {name for name, verb in VERBS.items() if verb.repeatable}
    without_reply = {"MSG.RELEASE"}  # nobody waits for it
    assert REPEATED.keys() | NOT_REPEATED.keys() == VERBS.keys() - without_reply


@pytest.mark.parametrize("verb", REPEATED)
async def test_a_lost_reply_is_asked_for_again_where_that_changes_nothing(broker, busy, verb):
    broker.lose_next_reply(verb)
    result = await REPEATED[verb](busy)
    assert broker.clock.now_ms() == 1_800_000_000_000  # the first repetition comes at once
    assert len(await busy.query("inbox")) == 1 + (verb == "MSG.SEND")
    if verb == "MSG.FETCH":
        assert [message.delivery_count for message in result] == [1]
    if verb == "MSG.ACK":
        assert result == [0]


@pytest.mark.parametrize("verb", NOT_REPEATED)
async def test_a_lost_reply_to_anything_else_is_told_at_once(broker, busy, verb):
    broker.lose_next_reply(verb)
    with pytest.raises(Unavailable, match="the outcome is unknown"):
        await NOT_REPEATED[verb](busy)


async def test_repetitions_are_counted_and_their_pauses_go_by_the_clock(broker):
    async with broker.client(reconnect_attempts=3, reconnect_delay=2.0) as client:
        await client.mailbox_create(name="inbox")
        for _ in range(4):
            broker.lose_next_reply("MSG.SEND")
        sending = asyncio.create_task(client.send("inbox", "x"))
        await broker.clock.advance(3.999)
        assert not sending.done()
        await broker.clock.advance(0.001)
        with pytest.raises(Unavailable):
            await sending
        hasty = broker.client(reconnect_attempts=0)
        assert await hasty.send("inbox", "y") == 1  # nothing more is lost


async def test_a_refusal_is_not_repeated(broker, client):
    with pytest.raises(MailboxNotFound):
        await client.send("nowhere", "x")
    assert broker.clock.now_ms() == 1_800_000_000_000


class Silent:
    """A broker that never answers."""

    def __init__(self):
        self.clock = ManualClock()
        self.asked = 0

    async def carry_out(self, _request):
        self.asked += 1
        await asyncio.Event().wait()

    def transport(self):
        async def release():
            pass

        return DirectTransport(self, BrokerSession("c"), release)


async def test_a_reply_that_does_not_come_in_time_is_unavailable():
    broker = Silent()
    async with Mq9Client(
        transport=broker.transport(),
        request_timeout=0.01,
        reconnect_attempts=1,
    ) as client:
        with pytest.raises(Unavailable, match=r"within 0.01 s; the outcome is unknown"):
            await client.send("inbox", "x")
        assert broker.asked == 2
        with pytest.raises(Unavailable, match=r"within 0.11 s"):  # the wait comes on top
            await client.fetch("inbox", max_wait_ms=100)


class OtherLoop:
    """An event loop that runs on another thread, until it is closed with all that goes on."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def begin(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def close(self):
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


@pytest.fixture
def other_loop():
    with closing(OtherLoop()) as loop:
        yield loop


@pytest.mark.parametrize("is_over", [False, True])
async def test_closing_ends_what_waits_on_another_loop_that_goes_on(other_loop, is_over):
    broker = Silent()
    client = Mq9Client(transport=broker.transport(), request_timeout=3_600, reconnect_attempts=0)
    waiting = other_loop.begin(client.send("inbox", "x"))
    await until(lambda: broker.asked)
    if is_over:
        other_loop.close()

    await client.close()

    assert not client.is_connected
    if is_over:
        assert not waiting.done()
    else:
        with pytest.raises(Unavailable, match="before the client was closed"):
            await asyncio.wrap_future(waiting)


async def test_an_ack_speaks_of_the_fetch_that_this_client_remembers(broker, client):
    """The latest reply with the message decides which others are done."""
    await send_all(client, "inbox", *map(str, range(4)))
    await client.fetch("inbox", group_name="g", deliver="earliest", num_msgs=3)
    await client.nack("inbox", "g", 0)
    again = await client.fetch("inbox", group_name="g", redeliver_own=False)
    assert [message.msg_id for message in again] == [0, 3]
    assert await client.ack("inbox", "g", 3) == [0, 3]
    assert await client.ack("inbox", "g", 2) == [1, 2]


async def test_a_batch_that_was_forgotten_is_left_to_the_broker(broker, client, monkeypatch):
    monkeypatch.setattr(base, "_MOST", 4)
    await send_all(client, "inbox", *map(str, range(6)))
    for _ in range(6):
        await client.fetch(
            "inbox", group_name="g", deliver="earliest", num_msgs=1, redeliver_own=False
        )
    assert [await client.ack("inbox", "g", number) for number in range(6)] == [
        [number] for number in range(6)
    ]


def test_the_last_tokens_are_remembered_and_older_ones_forgotten(monkeypatch):
    monkeypatch.setattr(base, "_MOST", 4)  # two messages have four
    memory = base.Batches()
    for number in range(6):
        message = Message(msg_id=number, payload=b"", create_time=0)
        memory.remember("inbox", "g", "c", FetchResult([message], batch=f"token {number}"))
    for consumer in ("c", None):
        tokens = [memory.token("inbox", "g", number, consumer) for number in range(6)]
        assert tokens == [None, None, *(f"token {number}" for number in range(2, 6))]


async def test_ids_mean_the_fetch_that_was_seen_not_one_whose_reply_was_lost(broker, client):
    await send_all(client, "inbox", *map(str, range(3)))
    assert len(await client.fetch("inbox", group_name="g")) == 3
    await client.send("inbox", "fire", priority="critical")
    async with broker.client(reconnect_attempts=0) as lossy:
        broker.lose_next_reply("MSG.FETCH")
        with pytest.raises(Unavailable):
            await lossy.fetch("inbox", group_name="g", consumer=client.consumer)
    assert await client.ack("inbox", "g", 2) == [0, 1, 2]  # and not the fire, never seen here


@pytest.mark.parametrize("anew", ["dropped by this client", "made by this client"])
async def test_a_mailbox_made_anew_has_no_batches_of_the_old_one(broker, client, anew):
    await client.mailbox_create(name="short", ttl=10)
    await client.send("short", "old")
    await client.fetch("short", group_name="g", deliver="earliest")
    if anew == "dropped by this client":
        await client.mailbox_drop("short")
        async with broker.client() as other:
            await other.mailbox_create(name="short")
    else:
        await broker.clock.advance(10)
        await client.mailbox_create(name="short")
    await client.send("short", "new")
    with pytest.raises(MessageNotFound):
        await client.ack("short", "g", 0)
    assert len(await client.fetch("short", group_name="g", deliver="earliest")) == 1
    assert await client.ack("short", "g", 0) == [0]


@pytest.mark.parametrize("verb", ["MAILBOX.CREATE", "MSG.SEND", "MSG.FETCH", "MAILBOX.DROP"])
async def test_a_question_survives_a_lost_reply(broker, client, verb):
    async def answer():
        [question] = await client.fetch("inbox", group_name="g", deliver="earliest")
        await client.reply(question, "yes")
        broker.lose_next_reply(verb)

    if verb in {"MAILBOX.CREATE", "MSG.SEND"}:
        broker.lose_next_reply(verb)
    answering = asyncio.create_task(answer())
    assert (await client.request("inbox", "?")).text == "yes"
    await answering
    assert len(await client.query("inbox")) == 1


async def test_each_task_watches_for_itself_and_within_it_the_innermost(client):
    await client.mailbox_create(name="a")
    await client.mailbox_create(name="b")
    await client.send("a", "x")
    entered = [asyncio.Event(), asyncio.Event()]

    async def watch_one(address, mine, others):
        with client.watch_unread(address, "g") as watch:
            mine.set()
            await others.wait()
            await client.mailbox_status("inbox")
            return watch.unread.total

    assert await asyncio.gather(watch_one("a", *entered), watch_one("b", *reversed(entered))) == [
        1,
        0,
    ]
    with client.watch_unread("a", "g") as outer:
        with client.watch_unread("b", "g") as inner:
            await client.mailbox_list()
        assert (outer.unread, inner.unread.total) == (None, 0)
        await client.mailbox_list()
    assert outer.unread.total == 1


async def test_two_clients_do_not_watch_for_each_other(broker, client):
    async with broker.client() as other:
        with client.watch_unread("inbox", "g") as watch:
            await other.send("inbox", "x")
        assert watch.unread is None


async def test_what_an_agent_registers_comes_back_unchanged(client):
    card = {"name": "A", "mailbox": "desk", "skills": [{"id": "x", "n": 1.5}], "zz": None}
    await client.agent_register(card, ttl=100)
    [found] = await client.agent_discover()
    assert found == {**card, "ttl": 100}
    assert found.match.mailbox == "desk"
    assert card == {"name": "A", "mailbox": "desk", "skills": [{"id": "x", "n": 1.5}], "zz": None}
