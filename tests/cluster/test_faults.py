"""Servers and gateways that are killed, stopped and added, under clients that go on."""

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack
from functools import partial

import pytest
from nats_server import NatsCluster

from .clusters import Programs
from .traffic import Traffic

pytestmark = [pytest.mark.programs, pytest.mark.soak]


@pytest.fixture
async def cluster(tmp_path):
    async with AsyncExitStack() as stack:
        made = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 3))
        await made.gateway()
        await made.gateway()
        yield made


async def kill_the_leader(cluster, traffic):
    leader = cluster.servers.servers[await cluster.leader()]
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
    await cluster.gateway()
    await traffic.more(100)


PATIENT = {"request_timeout": 2, "reconnect_attempts": 1_000, "reconnect_delay": 0.1}

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
    traffic = Traffic(partial(cluster.client, **PATIENT))
    await traffic.begin()
    try:
        await traffic.more(200)
        for _ in range(scale):
            await fault(cluster, traffic)
            await traffic.more(300)
        await traffic.end(await cluster.client())
    finally:
        traffic.cancel()
    _, verified = await cluster.call("verify")
    assert verified["equal"], verified
    assert len(verified["gateways"]) == len(cluster.gateways)
    record_testsuite_property(f"{fault.__name__}: sent", len(traffic.ledger.sent))
    record_testsuite_property(f"{fault.__name__}: longest_s", round(traffic.ledger.longest_s, 1))
