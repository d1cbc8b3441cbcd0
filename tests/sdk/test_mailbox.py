"""The six operations of `Mailbox`: on every broker, and as the page that describes them."""

import asyncio
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from mq9 import (
    InvalidAddress,
    InvalidRequest,
    Mailbox,
    MailboxExists,
    MailboxNotFound,
    MessageNotFound,
    NotConnected,
    Priority,
    SyncMessage,
    SyncMq9Client,
    Unavailable,
    Unreachable,
)
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.concurrency import until_done
from mq9.concurrency.portal import Portal
from mq9.engine.commands import Limits
from mq9.protocol.older_priorities import stored_as
from mq9.server.server import Server
from tests.waiting import until

PRIORITIES = ["high", "critical", "urgent", "normal", "low"]
RANKS = {"high": 0, "critical": 0, "urgent": 1, "normal": 2, "low": 3}


@pytest.fixture
def mb(url):
    with Mailbox(url) as one:
        yield one


@pytest.fixture
def box(mb):
    return mb.create(name="inbox")["mail_id"]


@pytest.fixture
def moved(broker):
    """A mailbox on a clock that goes on when everybody waits."""
    with Mailbox(broker.url) as one:
        one.create(name="inbox")
        yield one


@pytest.fixture
def other(broker):
    """The client of others, of the broker on that clock."""
    with SyncMq9Client(broker.url) as one:
        yield one


class Received(queue.Queue):
    """A callback that keeps what it gets."""

    def __call__(self, message):
        self.put(message.text)

    def texts(self, count):
        return [self.get(timeout=30) for _ in range(count)]


def texts(messages):
    return [message.text for message in messages]


# The operations


def test_a_mailbox_is_created_written_read_and_listed(mb):
    box = mb.create(ttl=3600)
    assert list(box) == ["mail_id"]
    assert mb.send(box["mail_id"], {"type": "task"}, sender="me", tags=["a"]) == 0

    [message] = mb.fetch(box["mail_id"])

    assert (message.json(), message.sender, message.tags) == ({"type": "task"}, "me", ("a",))
    assert isinstance(message, SyncMessage)
    assert texts(mb.fetch(box["mail_id"])) == ['{"type":"task"}']  # it was not leased
    mb.delete(box["mail_id"], 0)
    assert mb.fetch(box["mail_id"]) == []
    with pytest.raises(MessageNotFound):
        mb.delete(box["mail_id"], 0)
    assert mb.list() == []
    assert mb.create(prefix="team")["mail_id"].startswith("team.")


def test_who_asks_is_told_of_an_overdue_answer_and_a_holder_promises_one(moved, other):
    options = {"reply_to": "inbox", "correlation_id": "7", "answer_by": 1_800_000_000.5}
    moved.send("inbox", "question", tell_overdue=True, **options)
    [question] = other.fetch("inbox", group_name="g")
    assert question.answer_by == 1_800_000_001
    assert question.promise(1_800_000_002, "half of it").extended == (0,)
    [notice] = other.fetch("inbox", group_name="g", redeliver_own=False, max_wait_ms=60_000)
    assert notice.overdue
    assert notice.json()["promise"] == {"until": 1_800_000_002, "done": "half of it"}
    question.nack(reason="not today")
    [found] = other.query("inbox", msg_id=0, group_name="g")
    assert found.standing.reason == "not today"


def test_a_message_is_readable_when_it_is_printed(mb, box):
    mb.send(box, {"type": "task"}, sender="ada")
    mb.send(box, "two\nlines", "high")
    mb.send(box, b"\xff")

    assert [str(message) for message in mb.fetch(box)] == [
        "message 1 of inbox, critical: 'two\\nlines'",
        'message 0 of inbox, normal from ada: {"type":"task"}',
        "message 2 of inbox, normal: b'\\xff'",
    ]


def test_a_public_name_is_created_again_and_a_private_one_is_not(mb):
    again = [mb.create(ttl=60, public=True, name="task.queue", desc="tasks") for _ in range(2)]

    assert again == [{"mail_id": "task.queue"}] * 2
    assert mb.list() == [{"mail_id": "task.queue", "desc": "tasks"}]
    mb.create(name="mine")
    with pytest.raises(MailboxExists):
        mb.create(name="mine")


def test_created_again_it_lives_as_long_again(broker, moved):
    for _ in range(3):
        moved.create(ttl=60, public=True, name="task.queue")
        asyncio.run(broker.clock.advance(40))
    assert [one["mail_id"] for one in moved.list()] == ["task.queue"]
    asyncio.run(broker.clock.advance(20))
    assert moved.list() == []


def test_priorities_are_stored_as_the_others_know_them(blocking, mb, box):
    for priority in PRIORITIES:
        mb.send(box, priority, priority, headers={"x": "y"})

    stored = blocking.query(box)

    assert [(one.text, one.priority, dict(one.headers)) for one in stored] == [
        ("high", Priority.CRITICAL, {"x": "y"}),
        ("critical", Priority.CRITICAL, {"x": "y"}),
        ("urgent", Priority.URGENT, {"x": "y"}),
        ("normal", Priority.NORMAL, {"x": "y"}),
        ("low", Priority.NORMAL, {"x": "y", "priority": "low"}),
    ]


def test_the_most_urgent_is_fetched_first_and_low_ones_last(mb, box):
    for priority in [*reversed(PRIORITIES), *PRIORITIES]:
        mb.send(box, priority, priority)

    fetched = mb.fetch(box)

    assert [RANKS[one.text] for one in fetched] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert [one.msg_id for one in fetched] == [3, 4, 5, 6, 2, 7, 1, 8, 0, 9]
    assert [one.msg_id for one in mb.fetch(box, num=2)] == [3, 4]


# Receiving without a group


def test_what_is_stored_is_received_by_priority_and_then_what_arrives(mb, box):
    received = Received()
    for priority in reversed(PRIORITIES):
        mb.send(box, priority, priority)

    with mb.receive(box, received) as receiver:
        assert received.texts(5) == ["critical", "high", "urgent", "normal", "low"]
        mb.send(box, "later", "low")
        assert received.texts(1) == ["later"]
        mb.send(box, "at last")
        assert received.texts(1) == ["at last"]
        assert receiver.is_running

    assert not receiver.is_running
    assert repr(receiver) == "<Receiver of inbox, stopped>"


def test_everybody_gets_everything_and_nothing_is_remembered(mb, box):
    mb.send(box, "a")
    first, second = Received(), Received()
    receivers = [mb.receive(box, first), mb.receive(box, second)]
    mb.send(box, "b")

    assert (first.texts(2), second.texts(2)) == (["a", "b"], ["a", "b"])
    for receiver in receivers:
        receiver.stop()
    again = Received()
    with mb.receive(box, again):
        assert again.texts(2) == ["a", "b"]


def test_the_callback_is_called_on_one_thread(mb, box):
    threads = queue.Queue()
    for number in range(3):
        mb.send(box, str(number))

    with mb.receive(box, lambda _: threads.put(threading.current_thread())):
        called = {threads.get(timeout=30) for _ in range(3)}

    assert len(called) == 1
    assert called != {threading.current_thread()}


SENT = 1_600  # of which more are high than a reply holds


def send_many(client, priorities):
    """Send a message of each of these priorities, which has its place as its msg_id."""

    async def send(plain):
        return await asyncio.gather(
            *(
                plain.send("inbox", f"{number}", priority=stored_as(priority)[0])
                for number, priority in enumerate(priorities)
            )
        )

    assert client.run(send) == list(range(len(priorities)))


@pytest.mark.parametrize("order", ["mixed", "the least urgent first", "the most urgent first"])
def test_however_much_is_stored_comes_once_and_in_order(blocking, mb, box, order):
    priorities = random.Random(7).choices(["high"] * 6 + ["urgent", "normal"], k=SENT)
    if order != "mixed":
        priorities.sort(key=RANKS.get, reverse=order == "the least urgent first")
    send_many(blocking, priorities)
    for _ in range(3):
        mb.send(box, "low", "low")
    mb.send(box, "normal last")
    received = []

    for message in mb.receive(box):
        received.append(message)
        if len(received) == 10:
            mb.send(box, "meanwhile")
            mb.send(box, "meanwhile", "high")
        if len(received) == SENT + 6:
            break

    ids = {
        rank: [number for number, one in enumerate(priorities) if RANKS[one] == rank]
        for rank in range(3)
    }
    assert len(ids[0]) > 1_000
    normal, *low = SENT + 3, SENT, SENT + 1, SENT + 2
    meanwhile = [SENT + 5, SENT + 4]
    expected = [*ids[0], *ids[1], *ids[2], normal, *low, *meanwhile]
    assert [message.msg_id for message in received] == expected


def test_what_was_deleted_before_its_turn_does_not_come(blocking, mb, box):
    send_many(blocking, ["normal"] * 1_200)
    receiver = iter(mb.receive(box))
    assert next(receiver).msg_id == 0
    mb.delete(box, 1_100)

    assert [next(receiver).msg_id for _ in range(1_198)] == [*range(1, 1_100), *range(1_101, 1_200)]


def test_a_callback_that_raises_is_logged_and_the_next_message_follows(mb, box, caplog):
    received = Received()

    def callback(message):
        if message.text == "bad":
            raise ValueError("no good")
        if message.text == "worse":
            sys.exit(3)
        received(message)

    for text in ("bad", "worse", "good"):
        mb.send(box, text)
    with mb.receive(box, callback) as receiver:
        assert received.texts(1) == ["good"]
        assert receiver.is_running

    logged = [record for record in caplog.records if record.name == "mq9.mailbox"]
    assert [str(record.exc_info[1]) for record in logged] == [
        "no good",
        "the callback raised SystemExit(3)",
    ]
    assert [record.getMessage() for record in logged] == [
        f"the callback failed on message {msg_id} of inbox" for msg_id in range(2)
    ]


def test_without_a_callback_one_iterates(mb, box):
    mb.send(box, "a")
    with mb.receive(box) as receiver:
        assert next(receiver).text == "a"
        threading.Thread(target=mb.send, args=(box, "b")).start()
        assert next(receiver).text == "b"
        receiver.stop()
        assert list(receiver) == []
        assert not receiver.is_running
    with mb.receive(box, print) as receiver, pytest.raises(InvalidRequest, match=r"^callback: "):
        next(receiver)


# Receiving as a group


def test_members_compete_and_each_message_goes_to_one(blocking, mb, box):
    received = queue.Queue()
    both = threading.Barrier(2)  # each holds its first message until the other has one

    def member(name):
        is_first = True

        def callback(message):
            nonlocal is_first
            if is_first:
                is_first = False
                both.wait(30)
            received.put((name, message.text))

        return callback

    for number in range(10):
        mb.send(box, str(number))
    receivers = [mb.receive(box, member(name), resume="workers") for name in "ab"]
    handled = [received.get(timeout=30) for _ in range(10)]
    for receiver in receivers:
        receiver.stop()

    assert sorted(text for _, text in handled) == [str(number) for number in range(10)]
    assert {name for name, _ in handled} == {"a", "b"}
    group = blocking.mailbox_status(box, group_name="workers").group
    assert (group.acked, group.leased) == (10, ())


def test_a_member_that_comes_later_goes_on_where_the_group_was(mb, box):
    mb.send(box, "before")
    received = Received()
    with mb.receive(box, received, resume="workers"):
        assert received.texts(1) == ["before"]
    mb.send(box, "after", "low")
    mb.send(box, "fire", "high")
    with mb.receive(box, received, resume="workers"):
        assert received.texts(2) == ["fire", "after"]
    other = Received()
    with mb.receive(box, other, resume="others"):
        assert other.texts(3) == ["fire", "before", "after"]


def test_what_the_callback_fails_on_comes_again_and_moves_to_the_dead_letters(
    broker, moved, other, caplog
):
    moved.create(name="dead")
    attempts = []

    def callback(message):
        attempts.append((message.delivery_count, broker.clock.now_ms() // 1000))
        raise ValueError("never")

    moved.send("inbox", "poison")
    with moved.receive(
        "inbox", callback, resume="workers", dead_letter="dead", max_deliveries=4
    ) as receiver:
        [dead] = other.fetch("dead", max_wait_ms=60_000)
        assert receiver.is_running

    assert [count for count, _ in attempts] == [1, 2, 3, 4]
    assert [later[1] - sooner[1] for sooner, later in pairwise(attempts)] == [1, 2, 4]
    assert (dead.text, dead.moved.reason) == ("poison", "ValueError: never")
    assert {record.name for record in caplog.records} == {"mq9.consumer"}


def test_a_callback_decides_by_its_message(mb, box):
    handled = queue.Queue()

    def callback(message):
        if message.delivery_count == 1:
            message.nack()
            handled.put("given back")
        else:
            handled.put(message.reply("done"))

    mb.create(name="answers")
    mb.send(box, "question", reply_to="answers", correlation_id="7")
    with mb.receive(box, callback, resume="workers"):
        assert [handled.get(timeout=30) for _ in range(2)] == ["given back", 0]

    [answer] = mb.fetch("answers")
    assert (answer.text, answer.correlation_id) == ("done", "7")


# How it ends


@pytest.mark.parametrize("resume", [None, "workers"])
def test_a_mailbox_that_is_not_there_is_told_at_once(mb, resume):
    with pytest.raises(MailboxNotFound, match="nowhere does not exist"):
        mb.receive("nowhere", print, resume=resume)


@pytest.mark.parametrize("how", ["callback", "group", "iteration"])
def test_it_ends_when_the_mailbox_expires(broker, moved, how, caplog):
    moved.create(name="short", ttl=90)
    received = Received()
    moved.send("short", "x")
    if how == "iteration":
        receiver = moved.receive("short")
        assert next(receiver).text == "x"
    else:
        resume = "workers" if how == "group" else None
        receiver = moved.receive("short", received, resume=resume)
        assert received.texts(1) == ["x"]
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(next, receiver) if how == "iteration" else None
        asyncio.run(until(lambda: broker.waiting))
        asyncio.run(broker.clock.advance(90))
        with pytest.raises(MailboxNotFound):
            ended.result() if ended else receiver.join()

    assert not receiver.is_running
    if how != "iteration":
        assert "no more is received from short" in caplog.text
        with pytest.raises(MailboxNotFound), receiver:
            pass


def test_a_mailbox_made_anew_is_another(broker, moved, other):
    for text in ("a", "b", "c"):
        moved.send("inbox", text)
    receiver = moved.receive("inbox")
    assert [next(receiver).text for _ in range(3)] == ["a", "b", "c"]
    other.mailbox_drop("inbox")
    moved.create(name="inbox")

    def send():
        while not broker.waiting:
            time.sleep(0.001)
        moved.send("inbox", "of the other")

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(MailboxNotFound, match="made anew"):
        next(receiver)
    sender.join()


@pytest.mark.parametrize("how", ["stop", "close"])
@pytest.mark.parametrize("resume", [None, "workers"])
def test_whoever_ends_it_waits_for_the_callback_that_runs(blocking, url, resume, how):
    began, may_end = threading.Event(), threading.Event()
    ended = []

    def callback(message):
        began.set()
        assert may_end.wait(30)
        mb.send("inbox", "of the callback")
        ended.append(message.text)

    with Mailbox(url) as mb:
        mb.create(name="inbox")
        for text in "ab":
            mb.send("inbox", text)
        receiver = mb.receive("inbox", callback, resume=resume)
        assert began.wait(30)
        if how == "stop":
            receiver.request_stop()
            assert receiver.is_running
            assert not receiver.join(0)
        ending = threading.Thread(target=receiver.stop if how == "stop" else mb.close)
        ending.start()
        may_end.set()
        ending.join()
        receiver.stop()

        assert (ended, receiver.is_running, receiver.join()) == (["a"], False, True)
    if resume:
        group = blocking.mailbox_status("inbox", group_name="workers").group
        assert (group.acked, group.leased, group.pending.normal) == (1, (), 2)


def test_what_a_callback_does_not_finish_in_time_goes_to_another_member(mb, box):
    began, may_end = threading.Event(), threading.Event()

    def stuck(_message):
        began.set()
        assert may_end.wait(30)

    mb.send(box, "a")
    receiver = mb.receive(box, stuck, resume="workers")
    assert began.wait(30)
    receiver.stop(timeout=0)
    received = Received()

    with mb.receive(box, received, resume="workers"):
        assert received.texts(1) == ["a"]

    may_end.set()
    assert receiver.join(30)


@pytest.mark.parametrize(
    ("resume", "ends_by"), [(None, "stop"), ("workers", "stop"), (None, "close")]
)
def test_a_callback_ends_its_own_receiver(mb, box, resume, ends_by):
    handled = []
    has_receiver = threading.Event()

    def callback(message):
        assert has_receiver.wait(30)
        handled.append(message.text)
        receiver.stop() if ends_by == "stop" else mb.close()

    mb.send(box, "a")
    mb.send(box, "b")
    receiver = mb.receive(box, callback, resume=resume)
    has_receiver.set()

    assert receiver.join(30)
    assert handled == ["a"]
    receiver.stop()


def test_closing_ends_all_that_receives(url):
    mb = Mailbox(url)
    boxes = [mb.create()["mail_id"] for _ in range(3)]
    received = Received()
    receivers = [mb.receive(box, received) for box in boxes]
    receivers.append(mb.receive(boxes[0], received, resume="workers"))
    for box in boxes:
        mb.send(box, box)
    assert sorted(received.texts(4)) == sorted([*boxes, boxes[0]])

    mb.close()
    mb.close()

    assert [receiver.is_running for receiver in receivers] == [False] * 4
    assert all(receiver.join() for receiver in receivers)
    assert not {one.name for one in threading.enumerate()} & {"mq9-client", "mq9-receive"}
    with pytest.raises(NotConnected, match="the Mailbox was closed"):
        mb.fetch(boxes[0])
    assert "not connected" in repr(mb)


@pytest.mark.parametrize("resume", [None, "workers"])
def test_it_goes_on_when_the_server_is_there_again(resume, caplog):
    portal = Portal("server")
    broker = EmbeddedBroker.in_memory(SystemClock())

    async def serve(port=0):
        server = Server(broker, max_payload=Limits().max_payload)
        await server.start(port=port)
        return server

    server = portal.call(serve())
    received = Received()
    with Mailbox(server.url, reconnect_attempts=0) as mb:
        mb.create(name="inbox")
        receiver = mb.receive("inbox", received, resume=resume)
        mb.send("inbox", "before")
        assert received.texts(1) == ["before"]
        portal.call(server.close())
        with pytest.raises((Unavailable, Unreachable)):
            mb.fetch("inbox")
        server = portal.call(serve(server.address[1]))
        with Mailbox(server.url) as other:
            other.send("inbox", "after")
        assert received.texts(1) == ["after"]
        assert receiver.is_running
    portal.call(server.close())
    portal.call(broker.close())
    portal.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_receive_and_can(tmp_path):
    received = Received()
    with Mailbox(f"sqlite:///{tmp_path / 'mq9.db'}") as mb:
        mb.create(name="inbox")
        receiver = mb.receive("inbox", received)
        child = os.fork()
        if not child:
            code = 1
            try:
                assert not receiver.is_running
                receiver.stop()
                with pytest.raises(NotConnected, match="not in the child"):
                    receiver.join()
                until_done.wait_for_all()  # as its interpreter does at the end
                mb.send("inbox", "from the child")
                with mb.receive("inbox", received):
                    assert received.texts(1) == ["from the child"]
                mb.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert received.texts(1) == ["from the child"]
        assert receiver.is_running


# Bad input


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda mb: mb.create(ttl=-1), "ttl: -1 "),
        (lambda mb: mb.create(public="yes", name="x"), "public: 'yes' "),
        (lambda mb: mb.create(name="x", prefix="y"), "prefix: 'y' "),
        (lambda mb: mb.create(desc=1), "desc: 1 "),
        (lambda mb: mb.send("inbox", "x", "hi"), "priority: 'hi' is not one of critical, high, "),
        (lambda mb: mb.send("inbox", "x", None), "priority: None "),
        (lambda mb: mb.send("inbox", "x", headers=7), "headers: 7 "),
        (lambda mb: mb.send("inbox", "x", "low", headers=7), "headers: 7 "),
        (
            lambda mb: mb.send("inbox", "x", "low", headers={"Priority": "high"}),
            "headers: priority 'high' contradicts the priority low",
        ),
        (lambda mb: mb.send("inbox", 7), "payload: "),
        (lambda mb: mb.fetch("inbox", num=0), "num: 0 "),
        (lambda mb: mb.fetch("inbox", "all"), "num: 'all' "),
        (lambda mb: mb.delete("inbox", "x"), "msg_id: 'x' "),
        (lambda mb: mb.receive("inbox", 7), "callback: 7 cannot be called"),
        (lambda mb: mb.receive("inbox", asyncio.sleep), "callback: "),
        (lambda mb: mb.receive("inbox", resume="w"), "callback: needed with resume='w'"),
        (lambda mb: mb.receive("inbox", print, resume=7), "resume: 7 "),
        (lambda mb: mb.receive("inbox", print, dead_letter="d"), "dead_letter: 'd' goes with "),
        (
            lambda mb: mb.receive("inbox", print, resume="w", max_deliveries=0),
            "max_deliveries: 0 ",
        ),
        (lambda mb: mb.receive("inbox").stop(timeout="x"), "timeout: 'x' "),
        (lambda mb: mb.receive("inbox").join(timeout=-1), "timeout: -1 "),
        (lambda mb: mb.send("", "x"), "invalid mail_address"),
        (lambda mb: mb.fetch(None), "invalid mail_address"),
        (lambda mb: mb.delete(7, 0), "invalid mail_address"),
        (lambda mb: mb.receive("UPPER", print), "invalid mail_address"),
        (lambda mb: mb.receive({"mail_id": "inbox"}, print, resume="w"), "invalid mail_address"),
    ],
)
def test_what_cannot_be_is_named_with_its_value(moved, call, told):
    with pytest.raises((InvalidRequest, InvalidAddress)) as raised:
        call(moved)
    assert str(raised.value).startswith(told)
    assert "coroutine function" in str(raised.value) or told != "callback: "


def test_a_url_that_cannot_be_is_told():
    with pytest.raises(InvalidRequest, match="http://x"):
        Mailbox("http://x")
    with pytest.raises(InvalidRequest, match="request_timeout"):
        Mailbox("memory://x", request_timeout=0)
    with pytest.raises(Unreachable):
        Mailbox("nats://127.0.0.1:1")


# The program that it runs in


class Program:
    """A program that receives from a file, and sends to itself."""

    def __init__(self, path, *lines):
        head = (
            "import signal, sys, threading, time, traceback",
            "from mq9 import Mailbox",
            f"mb = Mailbox('sqlite:///{path}')",
            "mb.create(public=True, name='inbox')",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", "\n".join([*head, *lines])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def reads(self, line):
        assert self.process.stdout.readline() == f"{line}\n"

    def ends(self):
        return self.process.stdout.read(), self.process.stderr.read(), self.process.wait(60)


PRINTING = "mb.receive('inbox', lambda message: print(message.text, flush=True), resume={})"


@pytest.mark.programs
@pytest.mark.parametrize("resume", [None, "workers"])
def test_a_program_receives_after_its_last_line_until_ctrl_c(tmp_path, resume):
    path = tmp_path / "mq9.db"
    with (
        Program(path, PRINTING.format(repr(resume))) as program,
        Mailbox(f"sqlite:///{path}") as mb,
    ):
        mb.create(public=True, name="inbox")
        for text in ("a", "b"):
            mb.send("inbox", text)
            program.reads(text)
        program.process.send_signal(signal.SIGINT)

        assert program.ends() == ("", "", 0)


@pytest.mark.programs
def test_what_is_being_handled_at_ctrl_c_is_finished(tmp_path):
    path = tmp_path / "mq9.db"
    handle = (
        "def waits_at_its_end():",
        "    frame = sys._current_frames()[threading.main_thread().ident]",
        "    return 'in wait_for_all' in ''.join(traceback.format_stack(frame))",
        "def handle(message):",
        "    while not waits_at_its_end():",
        "        time.sleep(0.01)",
        "    print('begins', flush=True)",
        "    sys.stdin.readline()",
        "    print('ends', flush=True)",
        "mb.send('inbox', 'x')",
        "mb.receive('inbox', handle, resume='workers')",
    )
    with Program(path, *handle) as program:
        program.reads("begins")
        program.process.send_signal(signal.SIGINT)
        print(file=program.process.stdin, flush=True)
        out, err, code = program.ends()

    assert (out, err, code) == ("ends\n", "", 0)
    with SyncMq9Client(f"sqlite:///{path}") as client:
        assert client.mailbox_status("inbox", group_name="workers").group.acked == 1


@pytest.mark.programs
@pytest.mark.parametrize("end", ["signal.raise_signal(signal.SIGINT)", "raise ValueError('x')"])
def test_a_program_that_fails_does_not_go_on_receiving(tmp_path, end):
    with Program(tmp_path / "mq9.db", PRINTING.format(None), end) as program:
        out, err, code = program.ends()

    assert out == ""
    assert err.strip().endswith("KeyboardInterrupt" if "SIGINT" in end else "ValueError: x")
    assert code != 0


@pytest.mark.programs
def test_a_program_ends_when_its_receivers_have_been_stopped(tmp_path):
    lines = (
        "def handle(message):",
        "    print(message.text)",
        "    receiver.stop()",
        "receiver = mb.receive('inbox', handle)",
        "mb.send('inbox', 'x')",
    )
    with Program(tmp_path / "mq9.db", *lines) as program:
        assert program.ends() == ("x\n", "", 0)
