"""How many messages a second go through: memory, a file, an fsync per commit, and a server.

Run it with `.venv/bin/python benchmarks/throughput.py`. It takes some seconds and talks to a
server on this machine only.
"""

import asyncio
import statistics
import tempfile
import time

from rich.console import Console
from rich.table import Table
from served import served

from mq9 import Mq9Client

MESSAGES = 2_000
AT_ONCE = 50
BODY = b"x" * 200


async def timed(work):
    """Run `work` and return messages a second."""
    begin = time.perf_counter()
    await work
    return MESSAGES / (time.perf_counter() - begin)


async def one_by_one(client):
    for _ in range(MESSAGES):
        await client.send("inbox", BODY)


async def together(client):
    async def some():
        for _ in range(MESSAGES // AT_ONCE):
            await client.send("inbox", BODY)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def take(client, group, at_once):
    """Fetch and ack everything, so many at once."""
    taken = 0
    while taken < MESSAGES:
        messages = await client.fetch(
            "inbox", group_name=group, deliver="earliest", num_msgs=at_once, max_wait_ms=0
        )
        await client.ack("inbox", group, messages[-1].msg_id)
        taken += len(messages)


async def latency(client):
    """Return the median milliseconds of one SEND."""
    samples = []
    for _ in range(300):
        begin = time.perf_counter()
        await client.send("inbox", BODY)
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1000


async def measure(url):
    async with Mq9Client(url, request_timeout=60) as client:
        await client.mailbox_create(name="inbox")
        return [
            await timed(one_by_one(client)),
            await timed(together(client)),
            await timed(take(client, "singly", 1)),
            await timed(take(client, "hundreds", 100)),
            await latency(client),
        ]


def add(table, name, measured):
    *rates, median = measured
    table.add_row(name, *(f"{rate:,.0f}/s" for rate in rates), f"{median:.2f}")


async def main():
    table = Table(
        "broker",
        "send, one by one",
        f"send, {AT_ONCE} at once",
        "fetch and ack, 1 at once",
        "fetch and ack, 100 at once",
        "one send, median ms",
    )
    with tempfile.TemporaryDirectory() as directory:
        for name, url in [
            ("memory", "memory://benchmark"),
            ("file", f"sqlite:///{directory}/normal.db"),
            ("file, durability=full", f"sqlite:///{directory}/full.db?durability=full"),
        ]:
            add(table, name, await measure(url))
        for name, options in [
            ("server, memory", ["--memory"]),
            ("server, file", ["--data", f"{directory}/served.db"]),
        ]:
            with served(*options) as url:
                add(table, name, await measure(url))
    Console(width=140).print(table)


if __name__ == "__main__":
    asyncio.run(main())
