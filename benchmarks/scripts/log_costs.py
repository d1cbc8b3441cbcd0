"""The costs of one log: bytes and CPU time of its commands, in the log, the state and a gateway.

Run it with `.venv/bin/python -m benchmarks.scripts.log_costs`. It takes some minutes. Three NATS
servers of its own store the log. With `--write` the figures go to `docs/assets/scale.json`, from
which `benchmarks/scripts/scale.py` computes the page about scale.

The commands of each kind are made by clients of a real gateway. Their records are then read from
the log, and applied once more in this process: as every other gateway applies them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import nats

from benchmarks import load
from benchmarks.scripts.cluster_size import cpu_s, memory_mb
from mq9 import Mq9Client
from mq9.clock import SystemClock
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import Logged
from mq9.cluster.records import LogRecord, encode
from mq9.cluster.replica import Replica, Snapshot
from mq9.cluster.snapshots import Snapshots
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.codec import encode_call
from mq9.engine.commands import Call, Limits, SetLimits, Sweep
from mq9.protocol import requests
from tests.nats_server import NatsCluster
from tests.serving import Serving

KEPT = Path(__file__).parents[2] / "docs/assets/scale.json"
AT_ONCE, CLIENTS = 512, 8
TTL_S = 3_600  # of the messages, and of what is remembered of replies
WAIT_MS, WAITING, POLLS = 5_000, 1_000, 3  # FETCHes that wait at the same time, in a row
BULK = 128 * 1024 * 1024
WORDS = [
    "translate",
    "review",
    "contract",
    "invoice",
    "code",
    "report",
    "plan",
    "help",
    "search",
    "data",
]
SERVERS = 3


def card(number):
    """An agent, described by some thirty words."""
    words = " ".join(random.Random(number).choices(WORDS, k=20))  # noqa: S311  # no secret
    rare = " ".join(f"w{number * step % 9_973}" for step in range(1, 11))
    return {"name": f"agent.{number}", "payload": f"{words} {rare}"}


class Work:
    """Commands of each kind, by clients of a gateway.

    Args:
        clients: Connected to its cluster.
        agents: How many there are; each gets one message.
    """

    def __init__(self, clients, agents):
        self._clients, self._agents = itertools.cycle(clients), agents
        self._fetched = {}

    async def _each(self, call, at_once=AT_ONCE, count=None):
        numbers = itertools.count()
        await load.repeat(lambda: call(next(numbers)), count or self._agents, at_once)

    async def create(self):
        """Create a mailbox each."""
        await self._each(lambda n: next(self._clients).mailbox_create(name=f"box.{n}"))

    async def register(self):
        """Register the agents, which creates their mailboxes."""
        await self._each(lambda n: next(self._clients).agent_register(card(n)))

    async def poll(self):
        """Have each look for mail once, which makes its group."""
        await self._each(lambda n: self._fetch(n, 0))

    async def send(self):
        """Send a message to each."""
        await self._each(self._send)

    async def alone(self):
        """Send one message after another."""
        await self._each(self._send, 1, 1_000)

    async def fetch(self):
        """Fetch it."""
        await self._each(lambda n: self._fetch(n, 0))

    async def ack(self):
        """Confirm it."""
        await self._each(self._ack)

    async def wait(self):
        """Have some wait for mail, each in one long poll after another."""

        async def polls(number):
            for _ in range(POLLS):
                await self._fetch(number, WAIT_MS)

        await self._each(polls, WAITING, WAITING)

    def _send(self, number):
        sender = f"agent.{(number * 7 + 1) % self._agents}"
        client = next(self._clients)
        return client.send(f"agent.{number}", load.BODY, sender=sender, ttl=TTL_S)

    async def _fetch(self, number, wait_ms):
        name, client = f"agent.{number}", next(self._clients)
        self._fetched[number] = (
            client,
            await client.fetch(name, group_name=name, consumer=name, max_wait_ms=wait_ms),
        )

    async def _ack(self, number):
        name, (client, batch) = f"agent.{number}", self._fetched.pop(number)
        await client.ack(name, name, batch[-1].msg_id, consumer=name)


PHASES = ("create", "register", "poll", "send", "fetch", "ack", "wait", "alone")


async def phases(work, log, gateway, costs):
    """Do the work of each kind; the first record after each."""
    ends = {}
    for name in PHASES:
        before = cpu_s(gateway.pid)
        doing = asyncio.create_task(getattr(work, name)())
        if name == "wait":
            quiet = memory_mb(gateway.pid)
            await asyncio.sleep(WAIT_MS / 1_500)
            costs["waiting_bytes"] = (memory_mb(gateway.pid) - quiet) * 1e6 / WAITING
        await doing
        costs[f"gateway_cpu.{name}"] = cpu_s(gateway.pid) - before
        ends[name] = (await log.last()).sequence
    return ends


async def records(log, count):
    """Read the log."""
    found = []
    while len(found) < count:
        found += await log.read(len(found) + 1)
    return found


def size(path):
    """The bytes of a state that are in use."""
    replica = Replica(path, AGENT_INDEX)
    pages, free, each = (
        replica._connection.execute(f"PRAGMA {name}").fetchone()[0]  # noqa: SLF001
        for name in ("page_count", "freelist_count", "page_size")
    )
    replica.close()
    return (pages - free) * each


def replay(found, ends, path, costs):
    """Apply the records of each kind in this process, and note what one command costs."""
    replica, first, kept = Replica(path, AGENT_INDEX), 0, 0
    for name, end in ends.items():
        some, calls = found[first:end], 0
        begun = time.process_time()
        for logged in some:
            [applied] = replica.apply([logged])
            calls += len(applied.calls)
        used = time.process_time() - begun
        before, kept, first = kept, size(path), end
        if not calls:  # as before the first of them
            continue
        costs[f"calls.{name}"], costs[f"records.{name}"] = calls, len(some)
        costs[f"apply_us.{name}"] = used * 1e6 / calls
        costs[f"log_bytes.{name}"] = sum(len(one.data) for one in some) / calls
        costs[f"state_bytes.{name}"] = (kept - before) / calls
    replica.close()


def swept(path, costs):
    """Let messages and replies expire, and note what stays of each message, and its cost."""
    sends = {name: costs[f"calls.{name}"] for name in ("send", "alone")}
    added = sum(costs[f"state_bytes.{name}"] * count for name, count in sends.items())
    added += sum(costs[f"state_bytes.{name}"] * sends["send"] for name in ("fetch", "ack"))
    before, sent = size(path), sum(sends.values())
    replica = Replica(path, AGENT_INDEX)
    now = replica.now_ms + 2 * TTL_S * 1_000
    begun, more = time.process_time(), True
    while more:
        sequence = replica.sequence + 1
        data = encode(LogRecord("bench", sequence, 0, (encode_call(Call(Sweep())),)))
        [applied] = replica.apply([Logged(sequence, now, data)])
        more = applied.outcomes[0].result() >= Sweep().most
    costs["apply_us.expire"] = (time.process_time() - begun) * 1e6 / sent
    replica.close()
    costs["state_bytes.remembered"] = (added + size(path) - before) / sent


def grown(path, mailboxes, costs):
    """Note what a SEND costs with many mailboxes, and what a copy of that state takes."""
    source, sequence, ids = random.Random(7), itertools.count(1), itertools.count()  # noqa: S311
    replica = Replica(path, AGENT_INDEX)

    def apply(calls):
        number = next(sequence)
        data = encode(LogRecord("bench", number, 0, tuple(map(encode_call, calls))))
        replica.apply([Logged(number, 1_700_000_000_000 + number, data)])

    def send(number):
        sent = requests.Send(sender="bench", id=f"{next(ids):024x}")
        return Call(sent, f"box.{number}", payload=load.BODY)

    apply([Call(SetLimits(limits=Limits(max_mailboxes=mailboxes)))])
    done = 0
    for some in (10_000, 100_000, 1_000_000):
        if some > mailboxes:
            break
        for start in range(done, some, 250):
            numbers = range(start, min(start + 250, some))
            apply([Call(requests.CreateMailbox(name=f"box.{n}"), token="aa") for n in numbers])  # noqa: S106  # of a mailbox
        done = some
        batches = [[send(source.randrange(some)) for _ in range(200)] for _ in range(100)]
        begun = time.process_time()
        for calls in batches:
            apply(calls)
        costs[f"send_us_with_mailboxes.{some}"] = (time.process_time() - begun) * 1e6 / 20_000
    begun = time.perf_counter()
    taken = replica.copy_to(path.with_name("copy"))
    costs["copy_mb_s"] = taken.bytes / 1e6 / (time.perf_counter() - begun)
    replica.close()


async def nats_costs(client, log, directory, costs):
    """Note what the servers take for records and for snapshots."""
    numbers = itertools.count()

    async def append(data):
        await log.append(data, f"bench.{next(numbers)}")

    for name, length in (("1", 500), ("256", 256 * 400)):
        data = os.urandom(length)
        costs[f"append_ms.{name}"] = await load.median_ms(lambda data=data: append(data), 200)
    data = os.urandom(256 * 400)
    costs["log_mb_s"] = len(data) / 1e6 * await load.rate(lambda: append(data), 500, 16)
    snapshots = Snapshots(client, SystemClock())
    await snapshots.open(SERVERS)
    path, snapshot = directory / "bulk", Snapshot(1, BULK)
    path.write_bytes(os.urandom(BULK))
    for name, call in (
        ("store_mb_s", lambda: snapshots.add(path, snapshot)),
        ("load_mb_s", lambda: snapshots.fetch(snapshot, directory / "loaded")),
    ):
        _, taken = await load.timed(call)
        costs[name] = BULK / 1e6 / (taken / 1_000)


async def measure(agents, mailboxes):
    """Measure everything; the costs by name."""
    costs = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with AsyncExitStack() as stack:
            urls = stack.enter_context(NatsCluster(directory / "nats", SERVERS)).urls
            gateway = Serving(
                directory, "--cluster", ",".join(urls), "--data", str(directory / "mail.db")
            )
            await stack.enter_async_context(gateway)
            clients = [
                await stack.enter_async_context(Mq9Client(urls[0], request_timeout=60))
                for _ in range(CLIENTS)
            ]
            client = await nats.connect(urls[0])
            stack.push_async_callback(client.close)
            log = JetStreamLog(client, SystemClock())
            start = (await log.last()).sequence
            ends = await phases(Work(clients, agents), log, gateway, costs)
            found = await records(log, max(ends.values()))
            await nats_costs(client, log, directory, costs)
        replay(found, {"start": start, **ends}, directory / "replayed", costs)
        swept(directory / "replayed", costs)
        grown(directory / "grown", mailboxes, costs)
    for name in PHASES:
        used = costs.pop(f"gateway_cpu.{name}")
        costs[f"gateway_us.{name}"] = used * 1e6 / costs[f"calls.{name}"]
    costs["commands_in_a_poll"] = costs["calls.wait"] / (POLLS * WAITING)
    return costs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=20_000)
    parser.add_argument("--mailboxes", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    measured = asyncio.run(measure(options.agents, options.mailboxes))
    text = json.dumps({name: round(cost, 3) for name, cost in measured.items()}, indent=2)
    print(text)
    if options.write:
        KEPT.write_text(text + "\n", "utf-8")
