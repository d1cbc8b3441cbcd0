"""How far one log carries, from its measured costs: arithmetic, and a simulation to check it.

The costs are those that `python -m benchmarks.scripts.log_costs --write` has measured.
`benchmarks/scripts/scale_page.py` makes tables of this.
"""

from __future__ import annotations

import heapq
import itertools
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
COSTS = json.loads((ROOT / "docs/assets/scale.json").read_text("utf-8"))
AGENTS, RATE = 10_000_000, 1_000_000 / 60  # of the question, messages a second
HOUR, DAY, WEEK = 3_600, 86_400, 7 * 86_400
GATEWAYS, POLL_S, SIMULATED_S = 2, 30, 4
MOST_WAITING, MOST_CALLS = 10_000, 256  # mq9.cluster.gateway, mq9.cluster.records
LOADING_S, SNAPSHOT_RECORDS = 600, 100_000  # mq9.cluster.snapshots
KINDS = ("send", "fetch", "ack")  # commands of one message that an agent gets


def each(what, names=KINDS):
    """Return what the commands of one message cost together."""
    return sum(COSTS[f"{what}.{name}"] for name in names)


def most_messages(gateways):
    """Return how many messages a second fill one core of each gateway."""
    applied = each("apply_us") + COSTS["apply_us.expire"]
    return 1e6 / (applied + (each("gateway_us") - each("apply_us")) / gateways)


def most_waits(gateways):
    """Return how many commands of waiting FETCHes a second do so."""
    applied = COSTS["apply_us.wait"]
    return 1e6 / (applied + (COSTS["gateway_us.wait"] - applied) / gateways)


def state_bytes(agents, rate):
    """Return the size of a state whose messages live an hour, at a rate of a week."""
    alone = each("state_bytes", ("register", "poll")) * agents
    return alone + rate * (each("state_bytes") * HOUR + COSTS["state_bytes.remembered"] * WEEK)


LOADED = COSTS["load_mb_s"] * 1e6 * LOADING_S  # bytes of the largest state that can be loaded
WEEKLY = LOADED / state_bytes(0, 1)  # messages a second, for a week, that fill it
SNAPSHOT_MB_S = 1 / (1 / COSTS["copy_mb_s"] + 1 / COSTS["store_mb_s"])


def simulate(rate, source, gateways=GATEWAYS, seconds=SIMULATED_S):
    """Serve messages of so many a second.

    Each is three commands, each of which any gateway may get. A gateway has one core. It does what
    comes first, appends one record at a time, and applies all records.

    Returns:
        Seconds that one of simulation takes the gateways, calls in a record, records a second, and
        milliseconds from a command to its reply: median, and 99th percentile.
    """
    busy, taken = [0.0] * gateways, []
    queues, appending = [[] for _ in busy], [False] * gateways
    apply_us = {kind: COSTS[f"apply_us.{kind}"] for kind in KINDS}
    answer_us = {kind: COSTS[f"gateway_us.{kind}"] - apply_us[kind] for kind in KINDS}
    apply_us["send"] += COSTS["apply_us.expire"]
    own_us = COSTS["gateway_us.alone"] - COSTS["gateway_us.send"]  # of a record, one by one
    other_us = COSTS["apply_us.alone"] - COSTS["apply_us.send"]
    growth_ms = (COSTS["append_ms.256"] - COSTS["append_ms.1"]) / (MOST_CALLS - 1)
    events, order, records = [], itertools.count(), 0

    def at(when, *event):
        heapq.heappush(events, (when, next(order), *event))

    def use(gateway, now, microseconds):
        busy[gateway] = max(busy[gateway], now) + microseconds / 1e6
        return busy[gateway]

    def append(gateway, now):
        calls, queues[gateway] = queues[gateway][:MOST_CALLS], queues[gateway][MOST_CALLS:]
        appending[gateway] = bool(calls)
        if calls:
            stored_ms = COSTS["append_ms.1"] + growth_ms * (len(calls) - 1)
            at(use(gateway, now, own_us) + stored_ms / 1_000, "stored", gateway, calls)

    at(source.expovariate(rate * len(KINDS)), "arrives", 0, ())
    while events:
        now, _, event, gateway, calls = heapq.heappop(events)
        if event == "arrives":
            kind, one = source.choice(KINDS), source.randrange(gateways)
            at(use(one, now, answer_us[kind]), "queued", one, [(now, kind)])
            if (later := now + source.expovariate(rate * len(KINDS))) < seconds:
                at(later, "arrives", 0, ())
        elif event == "queued":
            queues[gateway] += calls
            if not appending[gateway]:
                append(gateway, now)
        else:
            records += 1
            microseconds = sum(apply_us[kind] for _, kind in calls)
            for one in range(gateways):
                done = use(one, now, microseconds + (one != gateway) * other_us)
                if one == gateway:
                    taken += [(done - arrived) * 1_000 for arrived, _ in calls]
            append(gateway, now)
    taken.sort()
    median, slow = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    return max(busy) / seconds, len(taken) / records, records / seconds, median, slow
