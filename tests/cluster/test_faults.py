"""Servers and gateways that are killed, stopped and added, under clients that go on."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import AsyncExitStack

import nats
import pytest
from nats_server import NatsCluster
from serving import Serving

from mq9 import Mq9Client

from .traffic import Traffic

pytestmark = [pytest.mark.programs, pytest.mark.soak]


class Cluster:
    """Three NATS servers and two gateways, which are programs.

    Args:
        directory: Where they may write.
        stack: Ends them.
    """

    def __init__(self, directory, stack):
        self._directory = directory
        self._stack = stack
        self.servers = stack.enter_context(NatsCluster(directory / "nats", 3))
        self.gateways = []

    @property
    def url(self):
        return ",".join(self.servers.urls)

    async def add(self):
        name = f"g{len(self.gateways)}"
        directory = self._directory / name
        directory.mkdir()
        gateway = Serving(directory, "--cluster", self.url, "--data", str(directory / "mail.db"))
        await self._stack.enter_async_context(gateway)
        self.gateways.append(gateway)

    async def connect(self):
        client = Mq9Client(
            self.url, request_timeout=2, reconnect_attempts=1_000, reconnect_delay=0.1
        )
        return await self._stack.enter_async_context(client)

    async def leader(self):
        """The server that leads the log."""
        asker = await nats.connect(self.servers.urls)
        try:
            info = await asker.jetstream().stream_info("MQ9")
        finally:
            await asker.close()
        return self.servers.servers[int(info.cluster.leader.removeprefix("n"))]

    async def verify(self):
        done = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-m", "mq9", "--url", self.url, "--json"),
                *("--timeout", "30", "cluster", "verify"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout)


@pytest.fixture
async def cluster(tmp_path):
    async with AsyncExitStack() as stack:
        made = Cluster(tmp_path, stack)
        await made.add()
        await made.add()
        yield made


async def kill_the_leader(cluster, traffic):
    leader = await cluster.leader()
    leader.kill()
    await traffic.more(100)
    await asyncio.to_thread(leader.start)


async def kill_a_gateway(cluster, traffic):
    gateway = random.choice(cluster.gateways)
    await asyncio.to_thread(gateway.kill)
    await traffic.more(100)
    await asyncio.to_thread(gateway.start)


async def stop_a_gateway_for_a_while(cluster, traffic):
    gateway = random.choice(cluster.gateways)
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        await traffic.more(100)
        await asyncio.sleep(5)
    finally:
        gateway.process.send_signal(signal.SIGCONT)


async def add_a_gateway(cluster, traffic):
    await cluster.add()
    await traffic.more(100)


FAULTS = [kill_the_leader, kill_a_gateway]
if os.environ.get("MQ9_TEST_SCALE", "1") != "1":
    FAULTS += [stop_a_gateway_for_a_while, add_a_gateway]


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    "fault",
    FAULTS,
    ids=lambda one: one.__name__,
)
async def test_nothing_is_lost_and_nothing_is_given_to_two(
    cluster, fault, scale, record_testsuite_property
):
    traffic = Traffic(cluster.connect)
    await traffic.begin()
    try:
        await traffic.more(200)
        for _ in range(scale):
            await fault(cluster, traffic)
            await traffic.more(300)
        await traffic.end(await cluster.connect())
    finally:
        traffic.cancel()
    verified = await cluster.verify()
    assert verified["equal"], verified
    assert len(verified["gateways"]) == len(cluster.gateways)
    record_testsuite_property(f"{fault.__name__}: sent", len(traffic.ledger.sent))
    record_testsuite_property(f"{fault.__name__}: longest_s", round(traffic.ledger.longest_s, 1))
