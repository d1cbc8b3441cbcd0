"""The client for code without an event loop: the same methods, on every broker and any thread."""

import asyncio
import inspect
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mq9 import (
    Consumer,
    InvalidRequest,
    MailboxExists,
    MailboxNotFound,
    Message,
    Mq9Client,
    NotConnected,
    SyncConsumer,
    SyncMessage,
    SyncMq9Client,
    Unreachable,
)


def threads():
    return [one for one in threading.enumerate() if one.name == "mq9-client"]


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")} - ATTRIBUTES


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {one.name: (one.kind, one.default) for one in parameters}


# What only one of the two has, since it makes no sense for the other.
ONLY_SYNC = {"run"}
ONLY_ASYNC = {"start", "end_with", "any_loop"}  # the former of a consumer, for who makes it
ATTRIBUTES = {"consumer"}  # set when an object is made


@pytest.mark.parametrize(
    ("blocking", "plain"), [(SyncMq9Client, Mq9Client), (SyncConsumer, Consumer)]
)
def test_both_faces_have_the_same_methods_and_parameters(blocking, plain):
    assert public(blocking) - ONLY_SYNC == public(plain) - ONLY_ASYNC
    for name in public(blocking) & public(plain):
        there = inspect.getattr_static(plain, name)
        if inspect.isfunction(there):
            here = inspect.getattr_static(blocking, name)
            # Each knows what is its own: SyncMq9Client where the other has Mq9Client.
            if name == "consume":
                assert defaults(here) == defaults(there)
            else:
                assert str(inspect.signature(here)).replace("Sync", "") == str(
                    inspect.signature(there)
                ), name
            assert not inspect.iscoroutinefunction(here), name
            assert here.__doc__, name


def test_both_clients_are_made_with_the_same_arguments():
    assert inspect.signature(SyncMq9Client) == inspect.signature(Mq9Client)


def test_each_verb_blocks_until_it_is_answered(blocking):
    inbox = blocking.mailbox_create(name="inbox", ttl=60)
    assert blocking.send(inbox, {"task": "tidy up"}, tags=["a"], sender="me") == 0
    with blocking.watch_unread(inbox, "g") as watch:
        assert blocking.send(inbox, "fire", priority="critical") == 1
    assert (watch.unread.critical, watch.unread.total) == (1, 2)

    first, second = blocking.fetch(inbox, group_name="g", deliver="earliest")

    assert (first.text, second.json(), second.sender) == ("fire", {"task": "tidy up"}, "me")
    assert blocking.extend(inbox, "g", [0, 1]).extended == (0, 1)
    blocking.nack(inbox, "g", 1)
    assert blocking.ack(inbox, "g", 0, individual=True) == [0]
    assert [one.msg_id for one in blocking.query(inbox, limit=1)] == [1]
    blocking.delete(inbox, 1)
    assert blocking.mailbox_status(inbox).stored == 1
    blocking.agent_register({"name": "translator", "payload": "Translates"}, ttl=60)
    blocking.agent_report({"name": "translator", "load": 1})
    [found] = blocking.agent_discover(text="translates")
    assert (found["name"], found.match.status) == ("translator", {"load": 1})
    blocking.agent_unregister(name="translator")
    assert blocking.agent_discover() == []
    with pytest.raises(MailboxExists):
        blocking.mailbox_create(name=inbox)
    blocking.mailbox_drop(inbox)
    assert blocking.mailbox_list() == []
    with pytest.raises(MailboxNotFound, match="mailbox not found: inbox does not exist"):
        blocking.send(inbox, "x")


def test_a_message_blocks_until_it_is_acked_given_back_or_answered(blocking):
    inbox = blocking.mailbox_create(name="inbox")
    blocking.mailbox_create(name="other")
    for number in range(5):
        blocking.send(inbox, f"{number}", reply_to="other")

    result = blocking.fetch(inbox, group_name="g")
    first, second, third, *rest = result[:4]

    assert isinstance(first, SyncMessage)
    assert (first.consumer, first.batch) == (blocking.consumer, result.batch)
    assert first.ack() == [0]
    assert second.extend(lease=90).extended == (1,)
    second.nack()
    assert third.move("other", reason="not mine") == 0
    assert [one.ack(individual=False) for one in rest] == [[3]]
    assert third.reply("done", path=["ada"], from_mailbox=inbox) == 1
    assert blocking.ack(result[4]) == [4]
    answered = [(one.text, one.from_mailbox) for one in blocking.query("other")]
    assert answered == [("2", None), ("done", "inbox")]
    assert [one.msg_id for one in blocking.fetch(inbox, group_name="g", max_wait_ms=0)] == [1]
    with pytest.raises(InvalidRequest, match="not fetched by a consumer group"):
        blocking.query(inbox)[0].ack()


def test_a_copy_of_a_message_goes_to_the_client(blocking):
    blocking.mailbox_create(name="inbox")
    blocking.send("inbox", "x")
    [message] = blocking.fetch("inbox", group_name="g")

    again = pickle.loads(pickle.dumps(message))  # noqa: S301  # its own

    assert again == message
    with pytest.raises(NotConnected, match="remembers no client"):
        again.ack()
    assert blocking.ack(again) == [0]


def test_a_handler_decides_by_its_message(blocking):
    blocking.mailbox_create(name="inbox")
    kinds, given_back = [], []

    def handle(message):
        kinds.append(type(message))
        if message.delivery_count == 1:
            message.nack()
        else:
            message.reply("done", from_mailbox=message.mail_address)
            given_back.append(message.ack())

    async def handle_on_the_loop(message):
        kinds.append(type(message))
        await message.ack()

    blocking.mailbox_create(name="answers")
    blocking.send("inbox", "x", reply_to="answers")
    with blocking.consume("inbox", handle, group_name="g") as consumer:
        until(lambda: consumer.processed_count == 2)
        assert (consumer.counters.retried, given_back) == (1, [[0]])
    assert [one.from_mailbox for one in blocking.query("answers")] == ["inbox"]
    with blocking.consume("inbox", handle_on_the_loop, group_name="h") as consumer:
        until(lambda: consumer.processed_count == 1)

    assert kinds == [SyncMessage, SyncMessage, Message]
    assert blocking.mailbox_status("inbox", group_name="g").group.acked == 1


def test_an_error_handler_decides_too(blocking):
    blocking.mailbox_create(name="inbox")

    def fail(_message):
        raise ValueError

    blocking.send("inbox", "x")
    with blocking.consume(
        "inbox", fail, group_name="g", error_handler=lambda message, _error: message.ack()
    ) as consumer:
        until(lambda: blocking.mailbox_status("inbox", group_name="g").group.acked)

    assert (consumer.failed_count, consumer.counters.retried) == (1, 0)


def test_a_consumer_handles_with_plain_functions_that_use_the_client(blocking):
    blocking.mailbox_create(name="inbox")
    failed = []

    def handle(message):
        assert threading.current_thread() not in threads()
        if message.text == "bad":
            raise ValueError(message.text)
        blocking.reply(message, f"{message.text}, done")

    def note(message, error):
        failed.append((message.text, str(error)))

    with blocking.consume(
        "inbox", handle, group_name="g", deliver="earliest", error_handler=note, concurrency=4
    ) as consumer:
        blocking.send("inbox", "bad")
        answer = blocking.request("inbox", "water the plants", timeout=10)
        until(lambda: consumer.failed_count)
        assert consumer.is_running
        assert consumer.group_name == "g"

    assert answer.text == "water the plants, done"
    assert failed == [("bad", "bad")]
    assert (consumer.is_running, consumer.processed_count) == (False, 1)
    assert consumer.counters.failed == 1
    consumer.stop()
    consumer.wait()


def test_a_handler_asks_its_own_consumer_to_stop(blocking):
    blocking.mailbox_create(name="inbox")
    begun = threading.Event()

    def handle(_message):
        assert begun.wait(30)
        consumer.request_stop(timeout=30)

    consumer = blocking.consume("inbox", handle, group_name="g")
    blocking.send("inbox", "x")
    begun.set()
    consumer.wait()

    assert (consumer.is_running, consumer.processed_count) == (False, 1)


def until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_threads_share_a_client(blocking):
    blocking.mailbox_create(name="inbox")

    def work(number):
        blocking.send("inbox", str(number))
        [message] = blocking.fetch(
            "inbox", group_name="g", deliver="earliest", num_msgs=1, redeliver_own=False
        )
        return blocking.ack("inbox", "g", message.msg_id)[0]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(40))) == list(range(40))
    assert len(threads()) == 1


async def test_connect_makes_a_client_that_may_be_used_where_an_event_loop_runs(url):
    client = await asyncio.to_thread(SyncMq9Client.connect, url, request_timeout=1)
    assert client.open() is client
    assert client.is_connected
    client.mailbox_create(name="inbox")
    assert client.send("inbox", "x") == 0
    client.close()


def test_its_own_thread_is_not_made_to_wait_for_itself(blocking):
    blocking.mailbox_create(name="inbox")
    said = []

    async def handle(message):
        try:
            blocking.send("inbox", "y")
        except RuntimeError as error:
            said.append(str(error))

    with blocking.consume("inbox", handle, group_name="g"):
        blocking.send("inbox", "x")
        until(lambda: said)

    assert "from its own event loop" in said[0]


def test_a_client_that_is_not_connected_says_so_and_has_no_thread(url):
    client = SyncMq9Client(url)
    for method in (client.mailbox_list, lambda: client.send("inbox", "x")):
        with pytest.raises(NotConnected, match="use `with` or `open\\(\\)`"):
            method()
    client.close()
    assert (client.is_connected, threads()) == (False, [])


def test_closing_ends_consumers_and_the_thread_and_may_be_repeated(url):
    client = SyncMq9Client(url).open()
    client.mailbox_create(name="inbox")
    consumer = client.consume("inbox", print, group_name="g")

    client.close()
    client.close()

    assert (consumer.is_running, client.is_connected, threads()) == (False, False, [])
    with pytest.raises(NotConnected):
        client.mailbox_list()
    with client:
        client.mailbox_create(name="again")
    with client.open() as same:
        assert same is client
    assert threads() == []


def test_closing_ends_a_wait_of_another_thread(blocking):
    blocking.mailbox_create(name="inbox")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(blocking.fetch, "inbox", group_name="g", max_wait_ms=60_000)
        until(lambda: blocking.mailbox_status("inbox", group_name="g").group.exists)

        blocking.close()

        with pytest.raises(NotConnected):
            waiting.result(30)


def test_a_wrong_argument_is_told_when_the_client_is_made():
    with pytest.raises(InvalidRequest, match="request_timeout"):
        SyncMq9Client("memory://x", request_timeout=0)
    with pytest.raises(InvalidRequest, match="server"):
        SyncMq9Client("http://x")
    with pytest.raises(Unreachable), SyncMq9Client("nats://127.0.0.1:1"):
        pass
    assert threads() == []


def test_it_shows_no_secrets():
    assert repr(SyncMq9Client("nats://alice:secret@localhost")) == (
        "<SyncMq9Client nats://***@localhost:4222 not connected>"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_connects_anew(tmp_path):
    with SyncMq9Client(f"sqlite:///{tmp_path / 'mq9.db'}") as client:
        client.mailbox_create(name="inbox")
        consumer = client.consume("inbox", print, group_name="g")
        client.send("inbox", "before")
        [before] = client.fetch("inbox", group_name="h")
        parent = client.consumer
        child = os.fork()
        if not child:
            code = 1
            try:
                assert not consumer.is_running
                client.send("inbox", "from the child")
                assert before.ack() == [0]
                assert client.consumer != parent
                client.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert consumer.is_running
        assert [one.text for one in client.query("inbox")] == ["before", "from the child"]
