"""Several processes on one file: one broker, as far as anybody can tell."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from mq9 import Mq9Client

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

NEIGHBOUR = Path(__file__).with_name("neighbour.py")


class Neighbour:
    """Another process on the file."""

    def __init__(self, url, *arguments):
        self._child = subprocess.Popen(
            [sys.executable, NEIGHBOUR, url, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self):
        line = self._child.stdout.readline()
        assert line, "the process ended without an answer"
        return json.loads(line)

    def tell(self, line=""):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def end(self):
        try:
            self._child.communicate(timeout=10)
        finally:
            self._child.kill()
            self._child.wait()


@pytest.fixture
def neighbours():
    """Start a process that ends with the test."""
    with ExitStack() as stack:

        def start(url, *arguments):
            neighbour = Neighbour(url, *arguments)
            stack.callback(neighbour.end)
            return neighbour

        yield start


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_two_processes_in_one_group_share_the_work_and_do_nothing_twice(
    url, neighbours, scale
):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        count = 150 * scale
        both = [neighbours(url, "trade", name, count, 2 * count) for name in "ab"]
        for neighbour in both:
            assert neighbour.hear() == "ready"
        for neighbour in both:
            neighbour.tell()
        handed_out = [tuple(one) for neighbour in both for one in neighbour.hear()]

        sent = {f"{name}.{number}" for name in "ab" for number in range(count)}
        assert sorted(handed_out) == sorted((text, 1) for text in sent)
        status = await client.mailbox_status("inbox", group_name="g")
        assert (status.stored, status.group.acked) == (2 * count, 2 * count)


@pytest.mark.quick
async def test_a_waiter_is_woken_by_what_another_process_sends(url, neighbours, record_property):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        listener = neighbours(url, "listen", 10)
        assert listener.hear() == "ready"
        listener.tell()
        latencies = []
        began = time.monotonic()
        for _ in range(10):
            await client.send("inbox", str(time.time_ns()))
            latencies.append(listener.hear())

        # Each wait would have lasted a minute.
        assert time.monotonic() - began < 55
        median = statistics.median(latencies)
        record_property("median wake latency in ms", round(median, 1))
        print(f"median wake latency: {median:.1f} ms")  # noqa: T201  # shown when the test fails


async def test_a_consumer_here_handles_what_another_process_sends_and_both_see_the_ack(
    url, neighbours
):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        sender = neighbours(url, "trade", "a", 20, 20)
        assert sender.hear() == "ready"
        handled = []

        async def handle(message):
            handled.append((message.text, message.delivery_count))

        async with await client.consume("inbox", handle, group_name="g", concurrency=5):
            sender.tell()
            theirs = [tuple(one) for one in sender.hear()]

        assert sorted(handled + theirs) == sorted((f"a.{number}", 1) for number in range(20))


async def test_many_processes_may_open_a_file_that_is_not_there_yet(tmp_path, neighbours):
    rounds = 10
    racers = [neighbours("", "race", rounds) for _ in range(6)]
    for racer in racers:
        assert racer.hear() == "ready"
    for number in range(rounds):
        url = f"sqlite:///{(tmp_path / f'{number}.db').as_posix()}"
        start = json.dumps([time.time() + 0.01, url])
        for racer in racers:
            racer.tell(start)
        assert sorted(racer.hear() for racer in racers) == list(range(6))


async def test_an_agent_that_one_registers_is_found_by_another_at_once(url, neighbours):
    said = ["soup", "soup and bread", None, "rain", None]
    async with Mq9Client(url) as client:
        neighbour = neighbours(url, "register", len(said))
        assert neighbour.hear() == "ready"
        neighbour.tell()
        for payload in said:
            neighbour.tell(json.dumps(payload))
            assert neighbour.hear() == "done"
            found = await client.agent_discover(text="soup rain")
            assert [one["payload"] for one in found] == [payload] * (payload is not None)
