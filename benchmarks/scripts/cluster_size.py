"""What a gateway of a cluster needs: memory, time to catch up, and time for a snapshot.

Run it with `.venv/bin/python -m benchmarks.scripts.cluster_size`. It takes some minutes. A NATS
server of its own stores the log in a directory that is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import load
from mq9 import Mq9Client
from mq9.clock import SystemClock
from mq9.cluster.operator import Operator, operating
from tests.nats_server import NatsCluster
from tests.serving import Serving

BODY = b"x" * 200
AT_ONCE = 512
USED = 1_000  # mailboxes, after all are made
QUIET_S = 5
CLIENTS = 8
_PATIENCE_S = 60


class Bench:
    """A NATS server, and programs that are gateways.

    Args:
        directory: Where they may write.
        stack: Ends them.
    """

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack
        [self.url] = stack.enter_context(NatsCluster(directory / "nats", 1)).urls

    async def gateway(self, name: str) -> tuple[Serving, float]:
        """Start one; it, and the seconds until it served."""
        directory = self._directory / name
        directory.mkdir()
        gateway = Serving(
            directory,
            *("--cluster", self.url, "--data", str(directory / "mail.db")),
            *("--max-mailboxes", "1000000", "--max-messages", "10000000"),
        )
        begun = time.perf_counter()
        await self._stack.enter_async_context(gateway)
        return gateway, time.perf_counter() - begun

    async def operator(self) -> Operator:
        """Ask the cluster as an operator does."""
        asking = operating(self.url, SystemClock(), "bench", 10.0)
        return await self._stack.enter_async_context(asking)

    async def client(self) -> Mq9Client:
        """Connect a client."""
        return await self._stack.enter_async_context(
            Mq9Client(self.url, request_timeout=_PATIENCE_S)
        )


def memory_mb(pid: int) -> float:
    """Return what a process has of its own, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1_000


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def taking(times: dict[str, float], name: str):
    """Note how many seconds something takes."""
    begun = time.perf_counter()
    yield
    times[name] = time.perf_counter() - begun


async def send_until(client: Mq9Client, done: asyncio.Event) -> list[float]:
    """Send one message after another; the milliseconds that each took."""
    taken = []
    while not done.is_set():
        taken.append((await load.timed(lambda: client.send("box.0", BODY)))[1])
    return taken


async def fill(clients: list[Mq9Client], mailboxes: int, sends: int) -> float:
    """Make mailboxes with a message each, and send more to some; how many of these a second."""
    names, turns = iter(range(mailboxes)), itertools.cycle(clients)
    numbers = itertools.count()

    async def make() -> None:
        client, name = next(turns), f"box.{next(names)}"
        await client.mailbox_create(name=name)
        await client.send(name, BODY)

    async def send() -> None:
        await next(turns).send(f"box.{next(numbers) % min(USED, mailboxes)}", BODY)

    await load.repeat(make, mailboxes, AT_ONCE)
    return await load.rate(send, sends, AT_ONCE)


async def snapshot_meanwhile(operator: Operator, client: Mq9Client, table: Table) -> None:
    """Compare sends while a snapshot is taken with those before."""
    quiet, done, times = asyncio.Event(), asyncio.Event(), {}
    sending = asyncio.create_task(send_until(client, quiet))
    await asyncio.sleep(QUIET_S)
    quiet.set()
    before = await sending
    sending = asyncio.create_task(send_until(client, done))
    with taking(times, "snapshot"):
        taken = await operator.snapshot()
    done.set()
    table.add_row("a snapshot", f"{taken.bytes / 1e6:.0f} MB, {times['snapshot']:.1f} s")
    for when, figures in (("before", before), ("meanwhile", await sending)):
        table.add_row(
            f"one send after another, {when}",
            f"median {statistics.median(figures):.1f} ms, "
            f"99 % {load.percentile(figures, 99):.1f} ms, longest {max(figures):.0f} ms",
        )


async def measure(bench: Bench, mailboxes: int, sends: int, records: int, table: Table) -> None:
    """Measure one thing after the other."""
    first, starting = await bench.gateway("first")
    starting_cpu = cpu_s(first.pid)
    table.add_row("a gateway with nothing", f"{starting:.1f} s, {memory_mb(first.pid):.0f} MB")
    clients = [await bench.client() for _ in range(CLIENTS)]
    operator = await bench.operator()
    rate = await fill(clients, mailboxes, sends)
    last, calls = await operator.last(), 2 * mailboxes + sends
    table.add_row(f"sends a second, {AT_ONCE} at once", f"{rate:,.0f}")
    table.add_row("calls in a record", f"{calls / last:.0f}")
    table.add_row(f"memory with {mailboxes:,} mailboxes", f"{memory_mb(first.pid):.0f} MB")

    second, seconds = await bench.gateway("second")
    rate = calls / (cpu_s(second.pid) - starting_cpu)
    table.add_row(
        f"a new gateway, from {last:,} records with {calls:,} calls",
        f"{seconds:.1f} s, {memory_mb(second.pid):.0f} MB; {rate:,.0f} calls a second of CPU",
    )

    await snapshot_meanwhile(operator, clients[0], table)
    taken = await operator.snapshot()  # from the second on, the log is kept behind the one before
    third, seconds = await bench.gateway("third")
    third_cpu = cpu_s(third.pid)
    table.add_row("a new gateway, from a snapshot", f"{seconds:.1f} s; {third_cpu:.1f} s of CPU")

    for _ in range(records):
        await clients[0].send("box.1", BODY)
    fourth, seconds = await bench.gateway("fourth")
    count = await operator.last() - taken.sequence
    rate = count / (cpu_s(fourth.pid) - third_cpu)
    table.add_row(
        f"the same, and {count:,} records of one call",
        f"{seconds:.1f} s; {rate:,.0f} records a second of CPU",
    )


async def main(mailboxes: int, sends: int, records: int) -> None:
    """Measure, and print a table."""
    table = Table("what", "figure")
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            bench = Bench(Path(directory), stack)
            await measure(bench, mailboxes, sends, records, table)
    Console(width=110).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=100_000)
    parser.add_argument("--sends", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=20_000)
    asyncio.run(main(**vars(parser.parse_args())))
