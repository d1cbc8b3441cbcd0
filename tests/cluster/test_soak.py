"""An hour of faults: journals agree in every round, and memory, log and disk stay flat."""

import asyncio
import logging
import os
import random
import resource
import statistics
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import namespaces
import pytest
from nats_server import NatsCluster, Place
from waiting import until

from . import test_faults as processes
from . import test_partitions as networks
from .clusters import Programs
from .traffic import Traffic

MINUTES = int(os.environ.get("MQ9_SOAK_MINUTES", "0"))
ROUND_S = 60
_LEAST = 5  # rounds in a third, of which the last is compared with the second
logger = logging.getLogger(__name__)
SERVERS = 3
FAULTS = [
    processes.kill_the_leader,
    processes.kill_a_gateway,
    processes.stop_a_gateway_for_a_while,
    networks.cut_the_leader_off_from_the_others,
    networks.cut_a_gateway_off,
]

pytestmark = [
    pytest.mark.programs,
    pytest.mark.unmeasured,
    pytest.mark.timeout(MINUTES * 90 + 600),
    pytest.mark.skipif(not MINUTES, reason="MQ9_SOAK_MINUTES says for how long it runs"),
]


@pytest.fixture
async def cluster(tmp_path):
    """Three servers and two gateways, each on a machine of its own, with frequent snapshots."""
    if reason := namespaces.why_not("ip"):
        pytest.skip(f"no network namespaces: {reason}")
    with ExitStack() as machines:
        network = namespaces.Network(machines)
        machines.enter_context(network.entered())
        places = []
        for number in range(SERVERS):
            prefix, outer, inner = network.machine(number)
            places.append(Place(outer, inner, prefix))
        async with AsyncExitStack() as stack:
            made = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", SERVERS, places))
            made.network = network
            for number in (SERVERS, SERVERS + 1):
                prefix, *_ = network.machine(number)
                await made.gateway(
                    "--snapshot-records", "5000", "--snapshot-age", "120", prefix=prefix
                )
            yield made


def measured(cluster):
    """Bytes of the processes' memory and of the files, by what they belong to."""
    servers = cluster.directory / "nats"
    return {
        "memory of gateways": sum(map(resident, cluster.gateways)),
        "memory of servers": sum(map(resident, cluster.servers.servers)),
        "files of gateways": sum(map(stored, cluster.directory.glob("gateway*"))),
        "files of servers": sum(stored(servers / str(number)) for number in range(SERVERS)),
    }


def resident(program):
    """Bytes of the memory of a process."""
    pages = int(Path(f"/proc/{program.pid}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def stored(directory):
    """Bytes of the files in a directory, without logs."""
    size = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # it was replaced meanwhile
            size += path.stat().st_size if path.suffix != ".log" and path.is_file() else 0
    return size


async def one_round(cluster, fault):
    """Make a fault under traffic; compare what was answered with what is stored, and drop it."""
    traffic = Traffic(cluster, pause_s=0.05)
    await traffic.begin()
    try:
        begun = asyncio.get_running_loop().time()
        await traffic.more(100)
        await fault(cluster, traffic)
        await traffic.more(100)
        await until(cluster.has_whole_log, 60)
        await until(cluster.serves, 60)
        left_s = begun + ROUND_S * 0.75 - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, left_s))
        await traffic.end()
    finally:
        traffic.cancel()
    client = await cluster.client()
    await client.mailbox_drop("inbox")
    await client.close()
    _, verified = await cluster.call("verify", timeout=60)
    assert verified["equal"], verified
    return len(traffic.ledger.sent)


async def test_an_hour_of_faults(cluster, record_testsuite_property):
    dice = random.Random(MINUTES)
    loop = asyncio.get_running_loop()
    ends = loop.time() + MINUTES * 60
    samples, sent, rounds = [], 0, 0
    while loop.time() < ends:
        begun = loop.time()
        fault = FAULTS[rounds % len(FAULTS)] if rounds < len(FAULTS) else dice.choice(FAULTS)
        sent += await one_round(cluster, fault)
        rounds += 1
        samples.append(measured(cluster))
        logger.info("round %d, %s, %d sent: %s", rounds, fault.__name__, sent, samples[-1])
        await asyncio.sleep(max(0.0, begun + ROUND_S - loop.time()))
    record_testsuite_property("soak: rounds", rounds)
    record_testsuite_property("soak: sent", sent)
    third = len(samples) // 3
    if third < _LEAST:  # it is still growing into its size
        return
    for name in samples[0]:
        early = statistics.median(one[name] for one in samples[third : 2 * third])
        late = statistics.median(one[name] for one in samples[-third:])
        record_testsuite_property(f"soak: {name}", f"{early:.0f} {late:.0f}")
        assert late < early * 1.25, (name, early, late)
