"""What idle consumers cost, with short polls and with the long polls that are the default.

Run it with `.venv/bin/python benchmarks/scripts/idle_consumers.py`. It takes a minute and a half.
"""

import asyncio
import time

from rich.console import Console
from rich.table import Table

from mq9 import Mq9Client
from mq9.testing import FakeBroker

CONSUMERS = 50
SECONDS = 30  # one long poll
HOURS = 1
POLLS = {"0.5 s": {"max_wait_ms": 500}, "default": {}}


async def ignore(message):
    """Get nothing, since nothing is sent."""


async def cpu_share(options):
    """Return the share of a core that idle consumers of one process take, its broker included."""
    async with Mq9Client("memory://idle") as client:
        await client.mailbox_create(name="inbox", renew=True)
        for number in range(CONSUMERS):
            await client.consume("inbox", ignore, group_name=f"g{number}", **options)
        await asyncio.sleep(1)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(SECONDS)
        return (time.process_time() - begin_cpu) / (time.perf_counter() - begin)


async def day_of_fake_clock(options):
    """Return the CPU seconds that a day of a test's clock takes with one idle consumer."""
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="inbox")
            async with await client.consume("inbox", ignore, **options):
                begin = time.process_time()
                await broker.clock.advance(HOURS * 3_600)
                return (time.process_time() - begin) * 24 / HOURS


async def main():
    table = Table("polls", f"{CONSUMERS} idle consumers, share of a core", "a day of fake clock")
    for name, options in POLLS.items():
        share, day = await cpu_share(options), await day_of_fake_clock(options)
        table.add_row(name, f"{share:.2%}", f"{day:.1f} s")
    Console(width=100).print(table)


if __name__ == "__main__":
    asyncio.run(main())
