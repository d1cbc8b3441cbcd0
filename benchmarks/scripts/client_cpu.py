"""CPU time and duration of a SEND in the client: by nats-py, our connection and the SDK.

Run it with `.venv/bin/python benchmarks/scripts/client_cpu.py`; `--uvloop` after it has the clients
on uvloop. It takes half a minute. The ways take turns in many short rounds, to one server in a
process of its own. The figures are the lower quartiles of the rounds.
"""

import asyncio
import secrets
import statistics
import sys
import tempfile
import time
from itertools import count

import nats
import orjson
from rich.console import Console
from rich.table import Table
from served import served

from mq9 import Mq9Client
from mq9.transport.nats_link import Link
from mq9.transport.nats_login import Login
from mq9.transport.servers import parse

ROUNDS = 60
SENDS = {1: 48, 64: 512}  # in a round, by how many are in flight
LIMITS = ("--max-messages", "10000000", "--max-bytes", "10000000000")  # which nobody reaches
BODY = b"x" * 300
SUBJECT = "$mq9.AI.MSG.SEND.inbox"
TIMEOUT_S = 10


async def repeat(call, times, at_once):
    async def some():
        for _ in range(times // at_once):
            await call()

    await asyncio.gather(*(some() for _ in range(at_once)))


async def measure(ways):
    """Return the CPU time and the time of a call in microseconds, by way and number in flight."""
    taken = {}
    for number in range(ROUNDS):
        names = list(ways)
        turn = number % len(names)
        for at_once, times in SENDS.items():
            for name in names[turn:] + names[:turn]:
                cpu, begin = time.process_time(), time.perf_counter()
                await repeat(ways[name], times, at_once)
                one = (time.process_time() - cpu, time.perf_counter() - begin)
                taken.setdefault((name, at_once), []).append([1e6 * part / times for part in one])
    return {
        key: [statistics.quantiles(part, n=4)[0] for part in zip(*rounds, strict=True)]
        for key, rounds in taken.items()
    }


async def compare(url):
    prefix, numbers = secrets.token_hex(6), count()
    link = Link(parse(url).members[0], None)
    await link.open("link", Login())
    client = await nats.connect(url)
    sdk = await Mq9Client.connect(url)
    await sdk.mailbox_create(name="inbox")

    def new_id():
        return f"{prefix}{next(numbers):012x}"

    async def by_nats_py():
        headers = {"mq9-id": new_id()}
        reply = await client.request(SUBJECT, BODY, timeout=TIMEOUT_S, headers=headers)
        return orjson.loads(reply.data)["msg_id"]

    async def by_link():
        headers = [("mq9-id", new_id())]
        return orjson.loads(await link.request(SUBJECT, BODY, headers, TIMEOUT_S))["msg_id"]

    ways = {
        "nats-py request": by_nats_py,
        "our connection": by_link,
        "SDK": lambda: sdk.send("inbox", BODY),
    }
    try:
        return await measure(ways)
    finally:
        await sdk.close()
        await client.close()
        await link.close("at the end")


def main():
    with (
        tempfile.TemporaryDirectory() as directory,
        served(*LIMITS, "--data", f"{directory}/mail.db") as (url, _pid),
    ):
        if "--uvloop" in sys.argv:
            import uvloop  # noqa: PLC0415  # it may be missing

            found = uvloop.run(compare(url))
        else:
            found = asyncio.run(compare(url))
    table = Table("way", "in flight", "CPU µs", "µs", "CPU / nats-py", "speed / nats-py")
    for (name, at_once), (cpu, wall) in found.items():
        their_cpu, their_wall = found["nats-py request", at_once]
        ratios = (f"{cpu / their_cpu:.2f}", f"{their_wall / wall:.2f}")
        table.add_row(name, str(at_once), f"{cpu:.1f}", f"{wall:.1f}", *ratios)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
