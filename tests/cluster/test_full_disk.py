"""A server whose disk is full, and then no longer, under clients that go on."""

import asyncio
from contextlib import AsyncExitStack

import namespaces
import pytest
from nats_server import NatsCluster, Place
from waiting import until

from .clusters import Programs
from .faults import LONG, go_through

pytestmark = [pytest.mark.programs, pytest.mark.soak, pytest.mark.timeout(1_800)]

SERVERS = 3
MIB = 1024 * 1024


@pytest.fixture
async def cluster(tmp_path):
    """Three servers, each with a disk of its own, and two gateways."""
    if reason := namespaces.why_not():
        pytest.skip(f"no mount namespaces: {reason}")
    async with AsyncExitStack() as stack:
        nats = tmp_path / "nats"
        disks = [namespaces.SmallDisk(nats / str(number), 128, stack) for number in range(SERVERS)]
        places = [Place(prefix=disk.prefix) for disk in disks]
        cluster = Programs(tmp_path, stack, NatsCluster(nats, SERVERS, places))
        cluster.disks = disks
        await cluster.gateway()
        await cluster.gateway()
        yield cluster


async def fill_the_disk_of_the_leader(cluster, traffic):
    number = await cluster.leader()
    server, disk = cluster.servers.servers[number], cluster.disks[number]

    async def leads_no_longer():
        return await cluster.leader() != number

    disk.fill(MIB // 4)
    await until(leads_no_longer, 60)
    await traffic.more(300)
    disk.empty()
    await traffic.more(100)
    server.kill()  # it goes on storing only when it is started again
    await asyncio.to_thread(server.start)


@pytest.mark.skipif(not LONG, reason="it has a long version only")
async def test_nothing_is_lost_and_nothing_is_given_to_two(
    cluster, scale, record_testsuite_property
):
    await go_through(cluster, fill_the_disk_of_the_leader, scale, record_testsuite_property)
