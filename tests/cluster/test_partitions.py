"""Servers and gateways that a network no longer connects, under clients that go on."""

import asyncio
import random
from contextlib import AsyncExitStack, ExitStack

import namespaces
import pytest
from nats_server import NatsCluster, Place

from .clusters import Programs
from .faults import LONG, go_through

pytestmark = [pytest.mark.programs, pytest.mark.soak, pytest.mark.timeout(1_800)]

SERVERS = 3


@pytest.fixture
def network():
    """A network of the test's own, on which it is."""
    if reason := namespaces.why_not("ip"):
        pytest.skip(f"no network namespaces: {reason}")
    with ExitStack() as stack:
        network = namespaces.Network(stack)
        stack.enter_context(network.entered())
        yield network


@pytest.fixture
async def cluster(tmp_path, network):
    """Three servers, each on a machine of that number, and two gateways on those that come next."""
    places = []
    for number in range(SERVERS):
        prefix, outer, inner = network.machine(number)
        places.append(Place(outer, inner, prefix))
    async with AsyncExitStack() as stack:
        servers = NatsCluster(tmp_path / "nats", SERVERS, places)
        cluster = Programs(tmp_path, stack, servers)
        cluster.network = network
        for number in (SERVERS, SERVERS + 1):
            prefix, *_ = network.machine(number)
            await cluster.gateway(prefix=prefix)
        yield cluster


async def cut_the_leader_off_from_the_others(cluster, traffic):
    """Clients and gateways still reach it."""
    leader = await cluster.leader()
    cluster.network.cut("inner", leader)
    try:
        await traffic.more(100)
    finally:
        cluster.network.heal("inner", leader)


async def cut_a_gateway_off(cluster, traffic):
    number = SERVERS + random.randrange(len(cluster.gateways))
    cluster.network.cut("outer", number)
    try:
        await traffic.more(100)
        await asyncio.sleep(5)
    finally:
        cluster.network.heal("outer", number)


FAULTS = [cut_the_leader_off_from_the_others]
if LONG:
    FAULTS += [cut_a_gateway_off]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__)
async def test_nothing_is_lost_and_nothing_is_given_to_two(
    cluster, fault, scale, record_testsuite_property
):
    await go_through(cluster, fault, scale, record_testsuite_property)
