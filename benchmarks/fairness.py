"""Does one client that floods a server starve another? What a SEND takes, alone and beside it.

Run it with `.venv/bin/python benchmarks/fairness.py`. It takes about fifteen seconds and talks to a
server on this machine only. The flood is a program of its own that writes as fast as it is read.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table
from served import served

from mq9 import Mq9Client

SAMPLES = 500
BODY = b"x" * 200
FLOOD = """
import socket, sys, threading
host, port = sys.argv[1].removeprefix("nats://").split(":")
flood = socket.create_connection((host, int(port)))
body = b"x" * 200
many = (b"PUB $mq9.AI.MSG.SEND.flooded in %d\\r\\n%s\\r\\n" % (len(body), body)) * 500
flood.sendall(b'CONNECT {"verbose":false}\\r\\nSUB in 1\\r\\n')
def read():
    while flood.recv(1 << 20):
        pass
threading.Thread(target=read, daemon=True).start()
while True:
    flood.sendall(many)
"""


async def sends(client):
    """Return the milliseconds of each of some SENDs, one after another."""
    samples = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        await client.send("inbox", BODY)
        samples.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(0.005)
    return samples


async def until_flooded(client):
    while (await client.mailbox_status("flooded")).stored == 0:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)


async def measure(url):
    """Return the samples alone, those beside a flood, and what the flood stored in a second."""
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        await client.mailbox_create(name="flooded")
        alone = await sends(client)
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, url])  # noqa: ASYNC220, S603  # ours
        try:
            await until_flooded(client)
            begin = time.perf_counter()
            beside = await sends(client)
            seconds = time.perf_counter() - begin
            stored = (await client.mailbox_status("flooded")).stored
        finally:
            flood.kill()
            flood.wait()
    return alone, beside, stored / seconds


def shown(samples):
    return statistics.median(samples), statistics.quantiles(samples, n=100)[98], max(samples)


async def main():
    table = Table("broker", "", "median ms", "p99 ms", "worst ms", "flood stored")
    with tempfile.TemporaryDirectory() as directory:
        for name, options in [
            ("memory", ["--memory"]),
            ("file", ["--data", f"{directory}/mq9.db"]),
        ]:
            with served(*options, "--max-messages", "10000000") as url:
                alone, beside, rate = await measure(url)
            for what, samples in [("alone", alone), ("beside a flood", beside)]:
                table.add_row(name, what, *(f"{one:.2f}" for one in shown(samples)), "")
            ratios = [b / a for a, b in zip(shown(alone), shown(beside), strict=True)]
            table.add_row(name, "ratio", *(f"{one:.1f}" for one in ratios), f"{rate:,.0f}/s")
    Console(width=100).print(table)


if __name__ == "__main__":
    asyncio.run(main())
