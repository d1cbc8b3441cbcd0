"""A broker that is killed at any moment has lost nothing that it acknowledged."""

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from direct import client_of

from mq9.broker.embedded import EmbeddedBroker
from mq9.testing import ManualClock

CHILD = Path(__file__).with_name("child_to_kill.py")
LEASES_ARE_OVER_S = 3_600


@dataclass
class Diary:
    """What the children said, one after another."""

    begun: dict[str, int] = field(default_factory=dict)  # sends: the body's length by its word
    sent: dict[str, int] = field(default_factory=dict)  # the answer by the word
    deleting: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    acking: set[int] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)

    def read(self, line):
        verb, what, *rest = line.split()
        if verb == "sending":
            self.begun[what] = int(rest[0])
        elif verb == "sent":
            self.sent[what] = int(rest[0])
        elif verb == "fetched":
            assert int(what) not in self.acked, "an acked message was delivered again"
        else:
            getattr(self, verb).add(int(what))

    def body(self, word):
        return f"{word} ".ljust(self.begun[word], "x")


def start(url, name, **options):
    # What coverage writes does not survive a kill, so none is measured there.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    return subprocess.Popen(
        [sys.executable, CHILD, url, name], stdout=subprocess.PIPE, env=environment, **options
    )


def run_and_kill(url, name, lines, diary):
    """Let a child work until it has said so many lines, and kill it wherever it is by then."""
    child = start(url, name, text=True)
    try:
        for _ in range(lines):
            line = child.stdout.readline()
            assert line, "the child ended by itself"
            diary.read(line)
    finally:
        child.kill()
        rest, _ = child.communicate()
    complete = rest[: rest.rfind("\n") + 1]
    for line in complete.splitlines():
        diary.read(line)


class Frozen:
    """A child that works, and stands still whenever the test looks at what it has written."""

    def __init__(self, url, name):
        self._child = start(url, name)
        self._said = self._child.stdout.fileno()
        self._line = b""

    def work(self, lines, diary):
        """Let it say at least so many lines."""
        while lines > 0:
            lines -= self._read(diary)

    @contextmanager
    def standing_still(self, diary):
        """Stop it wherever it is, with the diary up to date; go on after that."""
        self._child.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the child ended by itself"
        while select.select([self._said], [], [], 0)[0]:
            self._read(diary)
        yield
        self._child.send_signal(signal.SIGCONT)

    def _read(self, diary):
        data = os.read(self._said, 65_536)
        assert data, "the child ended by itself"
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            diary.read(line.decode())
        return len(lines)

    def end(self):
        self._child.kill()
        self._child.communicate()


def copy(path, directory, *, but=None):
    directory.mkdir()
    for part in path.parent.glob(f"{path.name}*"):
        if part.name != but:
            shutil.copy(part, directory)


@asynccontextmanager
async def opened_after_an_hour(path):
    """Reach a file at a time when all leases and delays are over."""
    clock = ManualClock(time.time() + LEASES_ARE_OVER_S)
    broker = EmbeddedBroker.on_file(path, clock)
    async with client_of(broker, closes=True) as client:
        yield client


async def drain(client, group_name):
    messages = {}
    while True:
        fetched = await client.fetch(
            "inbox",
            group_name=group_name,
            deliver="earliest",
            num_msgs=1_000,
            max_wait_ms=0,
            redeliver_own=False,
        )
        if not fetched:
            return messages
        messages |= {message.msg_id: message for message in fetched}


async def check(client, diary):
    await client.mailbox_create(name="inbox", renew=True)  # perhaps it was killed before that
    for word in sorted(diary.begun.keys() - diary.sent.keys()):
        # Whether this one was stored nobody knows; under its id it may be repeated.
        await client.send("inbox", diary.body(word), id=word)

    left_for_the_group = await drain(client, "workers")
    stored = await drain(client, "everything")
    by_word = {}
    words = {msg_id: word for word, msg_id in diary.sent.items()}
    for msg_id, message in stored.items():
        word = message.text.split()[0]
        assert by_word.setdefault(word, msg_id) == msg_id, f"{word} is stored twice"
        assert message.text == diary.body(word)
        assert words.get(msg_id, word) == word, f"the id {msg_id} was used again"

    for word, msg_id in diary.sent.items():
        if msg_id == -1:
            assert word in by_word
        elif msg_id in diary.deleted:
            assert msg_id not in stored
        elif msg_id not in diary.deleting:
            assert by_word[word] == msg_id
            [found] = await client.query("inbox", msg_id=msg_id)
            assert found.text == diary.body(word)

    assert not left_for_the_group.keys() & diary.acked, "acked, and delivered again"
    assert stored.keys() - diary.acking <= left_for_the_group.keys(), "lost to its group"


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("durability", ["normal", "full"])
async def test_whatever_was_acknowledged_survives_a_kill_at_any_moment(tmp_path, scale, durability):
    path = tmp_path / "mq9.db"
    url = f"sqlite:///{path.as_posix()}?durability={durability}"
    dice = random.Random(durability)
    diary = Diary()

    for number in range(10 * scale):
        run_and_kill(url, f"{number}", dice.randint(0, 150), diary)
        if path.exists():  # otherwise it was killed before it came to anything
            directory = tmp_path / f"copy{number}"
            copy(path, directory)
            async with opened_after_an_hour(directory / path.name) as client:
                await check(client, diary)
            shutil.rmtree(directory)

    answers = [msg_id for msg_id in diary.sent.values() if msg_id != -1]
    assert len(answers) == len(set(answers))
    assert len(diary.sent) > 10 * scale
    assert len(diary.acked) > 10 * scale


@pytest.mark.programs
@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGSTOP")
async def test_whatever_was_acknowledged_is_in_every_copy_of_file_and_log(tmp_path, scale):
    """A copy that is taken while nothing is written holds what was answered, at every instant."""
    path = tmp_path / "mq9.db"
    dice = random.Random(0)
    diary = Diary()
    child = Frozen(f"sqlite:///{path.as_posix()}?durability=full", "child")
    try:
        for number in range(20 * scale):
            child.work(dice.randint(1, 60), diary)
            directory = tmp_path / f"copy{number}"
            # It stands still as long as the copy is looked at, or it would fill the mailbox.
            with child.standing_still(diary):
                copy(path, directory, but=f"{path.name}-shm")  # SQLite's index of the log
                async with opened_after_an_hour(directory / path.name) as client:
                    await check(client, diary)
            shutil.rmtree(directory)
    finally:
        child.end()
    assert len(diary.sent) > 10 * scale
    assert len(diary.acked) > 10 * scale
