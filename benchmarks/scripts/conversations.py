"""Measure the index of conversations: time to build it, times of pages, and memory.

Run it with `.venv/bin/python -m benchmarks.scripts.conversations`. A million messages take some
minutes, most of which fill a file in a directory that is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

from mq9 import Mq9Client
from mq9.engine.commands import Actor, Call, Entry, Limits, SetLimits
from mq9.engine.machine import Applying
from mq9.protocol.requests import CreateMailbox, Send
from mq9.storage import store

LIMITS = Limits(max_messages=100_000_000, max_bytes=1 << 50, max_mailboxes=1_000_000)
ROUNDS = 20
LONG = 300  # messages of one conversation
BEGUN_MS = 1_790_000_000_000
BODY = b'{"task": "Look at the figures of last week, and say what is odd.", "week": 31}'


def spread(count: int) -> Iterator[Call[Send]]:
    """Make questions and answers of a thousand agents, and some messages that are neither."""
    for number in range(0, count - LONG, 4):
        asker, asked = f"agent{number % 1_000}", f"agent{(number * 7 + 1) % 1_000}"
        question = Send(
            sender=asker, reply_to=asker, correlation_id=f"q{number}", headers=(("a", "b"),)
        )
        yield Call(question, asked, Actor(asker), payload=BODY)
        yield Call(
            Send(sender=asked, correlation_id=f"q{number}"), asker, Actor(asked), payload=BODY
        )
        yield Call(Send(sender=asker), asked, Actor(asker), payload=BODY)
        yield Call(Send(), asked, payload=BODY)
    yield from long_one("agent1")


def alone(count: int) -> Iterator[Call[Send]]:
    """Make messages of one mailbox, each a conversation by itself."""
    for _ in range(count - LONG):
        yield Call(Send(sender="one"), "agent0", payload=BODY)
    yield from long_one("agent0")


def long_one(address: str) -> Iterator[Call[Send]]:
    """Make a conversation of many messages."""
    for number in range(LONG):
        say = Send(sender=f"agent{number % 2}", headers=(("conversation", "long"),))
        yield Call(say, address, payload=BODY)


def fill(path: Path, calls: Iterator[Call[Send]], mailboxes: int) -> None:
    """Store messages in a file, a millisecond apart."""
    with closing(store.open_file(path)) as db:
        numbers = itertools.count(1)
        made = (
            Call(CreateMailbox(name=f"agent{one}"), f"agent{one}", token=f"t{one}")
            for one in range(mailboxes)
        )
        calls = itertools.chain([Call(SetLimits(limits=LIMITS))], made, calls)
        while some := list(itertools.islice(calls, 20_000)):
            with store.transaction(db):
                applying = Applying(db)
                for call in some:
                    number = next(numbers)
                    applying.apply(Entry(number, BEGUN_MS + number, call)).result()
                applying.finish()


async def timed(what: str, ask: Callable[[], Awaitable[object]]) -> None:
    """Measure a request some times."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - begun) * 1_000)
    print(f"{what:44} median {statistics.median(times):7.1f} ms, highest {max(times):7.1f} ms")


async def measure(path: Path) -> None:
    """Build the index, then read pages."""
    async with Mq9Client(f"sqlite:///{path}") as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, slowest, requests = time.perf_counter(), 0.0, 0
        while True:
            asked = time.perf_counter()
            page = await client.conversations()
            slowest, requests = max(slowest, time.perf_counter() - asked), requests + 1
            if page.building is None:
                break
        built = time.perf_counter() - begun
        print(f"built in {built:.1f} s by {requests} requests, the slowest {slowest:.2f} s")
        await timed("first page", client.conversations)
        deep = page
        for _ in range(100):
            deep = await client.conversations(before=deep.more, limit=1_000)
        await timed("page after 100 000", lambda: client.conversations(before=deep.more))
        await timed("page of a mailbox", lambda: client.conversations(mail_address="agent0"))
        await timed("page of a sender", lambda: client.conversations(agent="agent1"))
        await timed("state waiting", lambda: client.conversations(state="waiting"))
        await timed("state that none has", lambda: client.conversations(state="dead"))
        await timed("text that none has", lambda: client.conversations(text="nothing of that"))
        await timed(f"{LONG} messages", lambda: client.conversation("long", limit=LONG))
        await timed("links", client.links)
        await timed("stuck", client.stuck)
        await timed("mailboxes with details", lambda: client.mailbox_list_own(details=True))
        await timed("unchanged", lambda: client.conversations(if_changed_from=page.position))

        async def send_and_list() -> None:
            await client.send("agent0", "x")
            await client.conversations()

        await timed("first page after a message", send_and_list)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"memory: {before >> 10} MiB before, {after >> 10} MiB at most")


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--layout", choices=["spread", "alone"], default="spread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mq9.db"
        begun = time.perf_counter()
        if options.layout == "spread":
            fill(path, spread(options.messages), 1_000)
        else:
            fill(path, alone(options.messages), 2)
        print(f"filled in {time.perf_counter() - begun:.0f} s with {path.stat().st_size >> 20} MiB")
        asyncio.run(measure(path))


if __name__ == "__main__":
    main()
