"""Does one client that floods a server starve another? What a SEND takes, alone and beside it.

Run it with `.venv/bin/python benchmarks/scripts/fairness.py`. It takes about a minute, on a
server on this machine only. Each flood is a program of its own that writes as fast as it is read.
"""

import asyncio
import itertools
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from rich.console import Console
from rich.table import Table
from served import served

from mq9 import Mq9Client

SAMPLES = 100
STORED = 1_500  # messages that a flood of reads reads
BODY = b"x" * 200
FETCH = b'{"group_name":"g","deliver":"earliest","num_msgs":1000}'


def request(verb, body):
    return b"PUB $mq9.AI.%b in %d\r\n%b\r\n" % (verb, len(body), body)


FLOODS = {
    "small SENDs": request(b"MSG.SEND.flooded", BODY) * 500,
    "SENDs of 1 MB": request(b"MSG.SEND.flooded", bytes(1_000_000)),
    "group FETCHes of 1 000": request(b"MSG.FETCH.inbox", FETCH) * 500,
    "publications": b"PUB in 1\r\nx\r\n" * 500,
    "subscriptions": b"SUB a.b 2\r\nUNSUB 2\r\nPING\r\n" * 500,
    "messages past 1 000 wildcards": b"PUB t.t.t.t.t.t.t.t.t.none 1\r\nx\r\nPING\r\n" * 500,
    "messages for 1 000 subscriptions": b"PUB many 1\r\nx\r\n" * 100,
}
# What a flood listens to before it begins.
SUBJECTS = {
    "messages past 1 000 wildcards": [
        ".".join((*tokens, last)) for last in "xy" for tokens in itertools.product("t*", repeat=9)
    ][:1_000],
    "messages for 1 000 subscriptions": ["many"] * 1_000,
}


def flood(url, kind):
    """Write as fast as it is read; print a line once there is an answer."""
    host, port = url.removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b'CONNECT {"verbose":false}\r\nSUB in 1\r\n')
        for number, subject in enumerate(SUBJECTS.get(kind, ())):
            connection.sendall(f"SUB {subject} s{number}\r\n".encode())

        def push():
            while True:
                connection.sendall(FLOODS[kind])

        connection.recv(1 << 16)  # INFO
        threading.Thread(target=push, daemon=True).start()
        said = False
        while connection.recv(1 << 20):
            if not said:
                print("it flows", flush=True)
            said = True


async def sends(client):
    """Return the milliseconds of each of some SENDs, one after another."""
    samples = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        await client.send("inbox", BODY)
        samples.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(0.005)
    return samples


async def measure(url, kind):
    """Return the samples alone, and those beside a flood."""
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        await client.mailbox_create(name="flooded")
        for _ in range(STORED):
            await client.send("inbox", BODY)
        alone = await sends(client)
        command = [sys.executable, __file__, url, kind]
        flooding = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220, S603  # ours
        try:
            await asyncio.to_thread(flooding.stdout.readline)
            beside = await sends(client)
            if flooding.poll() is not None:
                sys.exit(f"the flood of {kind} was cut off")
        finally:
            flooding.kill()
            flooding.communicate()
    return alone, beside


def shown(samples):
    return statistics.median(samples), statistics.quantiles(samples, n=100)[98], max(samples)


async def main():
    table = Table("broker", "flood", "median ms", "p99 ms", "worst ms", "ratios to alone")
    with tempfile.TemporaryDirectory() as directory:
        for number, kind in enumerate(FLOODS):
            for name, options in [
                ("memory", ["--memory"]),
                ("file", ["--data", f"{directory}/{number}.db"]),
            ]:
                with served(*options, "--max-messages", "10000000") as (url, _):
                    alone, beside = map(shown, await measure(url, kind))
                ratios = ", ".join(f"{b / a:.0f}" for a, b in zip(alone, beside, strict=True))
                table.add_row(name, kind, *(f"{one:.2f}" for one in beside), ratios)
    Console(width=100).print(table)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        flood(*sys.argv[1:])
    else:
        asyncio.run(main())
