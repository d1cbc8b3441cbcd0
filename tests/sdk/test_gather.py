"""Gathering answers without an event loop, on every kind of broker, and across a SIGKILL."""

import signal
import subprocess
import sys

import pytest

from mq9 import NoReply, SyncMessage, SyncMq9Client

WORKERS = ["ada", "bob", "eve"]
WORK = "kept with the work: 0123456789abcdef"

SUPERVISOR = """
import sys
from mq9 import SyncMq9Client

url, work, *workers = sys.argv[1:]
with SyncMq9Client(url) as client:
    print(*(one.text for one in client.gather([(name, "q") for name in workers], id=work)))
"""


@pytest.fixture
def asker(blocking):
    """A client of a broker on which three workers have mailboxes."""
    for name in WORKERS:
        blocking.mailbox_create(name=name)
    return blocking


def test_a_client_without_an_event_loop_gathers_messages_that_block(asker):
    questions = [(name, "q") for name in WORKERS]
    with (
        asker.consume("bob", lambda message: message.text.upper()),
        pytest.raises(NoReply, match="1 of 3") as raised,
    ):
        asker.gather(questions, timeout=2)
    [came] = raised.value.gathered.answers
    assert isinstance(came, SyncMessage)
    assert (came.text, raised.value.gathered.missing) == ("Q", [0, 2])

    with (
        asker.consume("ada", lambda _: "1"),
        asker.consume("bob", lambda _: "2"),
        asker.consume("eve", lambda _: "3"),
    ):
        gathered = asker.gather(questions)
    assert [one.text for one in gathered] == ["1", "2", "3"]
    assert all(isinstance(one, SyncMessage) for one in gathered)


@pytest.mark.programs
def test_a_supervisor_killed_between_answers_gets_each_once_and_asks_nobody_twice(tmp_path):
    url = f"sqlite:///{tmp_path / 'mq9.db'}"

    def start():
        command = [sys.executable, "-c", SUPERVISOR, url, WORK, *WORKERS]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def answer(name):
        [question] = client.fetch(name, group_name=name, max_wait_ms=30_000)
        question.reply(f"{name} answers")
        question.ack()

    with SyncMq9Client(url) as client:
        for name in WORKERS:
            client.mailbox_create(name=name)
        for name in WORKERS[:2]:
            with start() as supervisor:
                answer(name)
                client.fetch("eve", max_wait_ms=30_000)  # it has asked everybody
                supervisor.send_signal(signal.SIGKILL)
        with start() as supervisor:
            answer("eve")
            printed, _ = supervisor.communicate(timeout=60)

        assert printed == "ada answers bob answers eve answers\n"
        assert [len(client.query(name)) for name in WORKERS] == [1, 1, 1]
