"""Faults under clients that go on, and what has to be true afterwards."""

import os

from waiting import until

from .traffic import Traffic

LONG = os.environ.get("MQ9_TEST_SCALE", "1") != "1"  # whether there is time for all of them


async def go_through(cluster, fault, times, record):
    """Have clients go on while something goes wrong, and see that nothing came of it.

    Args:
        cluster: The programs.
        fault: Makes something go wrong, and right again.
        times: How often.
        record: Notes what was measured.
    """
    traffic = Traffic(cluster)
    await traffic.begin()
    try:
        await traffic.more(200)
        for _ in range(times):
            await fault(cluster, traffic)
            await traffic.more(300)
            # A server that catches up is not there yet, and only one may be missing at a time.
            await until(cluster.has_whole_log, 60)
            await until(cluster.serves, 60)
        await traffic.end()
    finally:
        traffic.cancel()
    _, verified = await cluster.call("verify")
    assert verified["equal"], verified
    assert len(verified["gateways"]) == len(cluster.gateways)
    record(f"{fault.__name__}: sent", len(traffic.ledger.sent))
    record(f"{fault.__name__}: longest_s", round(traffic.ledger.longest_s, 1))
