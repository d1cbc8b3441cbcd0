"""Servers and gateways that are killed, stopped and added, under clients that go on."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack

import pytest
from nats_server import NatsCluster

from .clusters import Programs
from .faults import LONG, go_through

pytestmark = [pytest.mark.programs, pytest.mark.soak, pytest.mark.timeout(1_800)]


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


FAULTS = [kill_the_leader]
if LONG:  # test_serve.py has a killed gateway in every run
    FAULTS += [kill_a_gateway, stop_a_gateway_for_a_while, add_a_gateway]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__)
async def test_nothing_is_lost_and_nothing_is_given_to_two(
    cluster, fault, scale, record_testsuite_property
):
    await go_through(cluster, fault, scale, record_testsuite_property)
