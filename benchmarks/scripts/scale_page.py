"""The tables of the page about scale.

Run it with `.venv/bin/python -m benchmarks.scripts.scale_page`, which prints them. With `--write`
it writes them into `docs/explanation/scale.md`.
"""

from __future__ import annotations

import functools
import random
import sys

from benchmarks.scripts import scale
from benchmarks.scripts.scale import AGENTS, COSTS, DAY, GATEWAYS, RATE

PAGE = scale.ROOT / "docs/explanation/scale.md"
RATES = (100, 500, 1_000, 1_500, 2_000, 2_500, 3_000, round(RATE))
CLUSTERS, MANY = (1, 10, 100), (1, 2, 3, 5, 10)
ROOM = 0.6  # of a core, which leaves the rest for what comes unevenly
PART = 1 / 3  # of the largest state, which leaves time to act
# python benchmarks/discovery/scale.py: a question by meaning, and the first vectors, of 100 000
# agents; the dimension of WordLlama's vectors, and the room that mq9.discovery.semantic_index has.
DISCOVER_MS, EMBED_S, VECTOR_BYTES = 7.0, 11.2, 256 * 4 * 1.25
FIRST_VECTORS_S = 4.0  # mq9.discovery.semantic_index: longer, and words decide
IDLE_MB = 50  # python -m benchmarks.scripts.cluster_size: with 100 000 mailboxes
UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))
TIMES = (("hours", 3_600), ("minutes", 60), ("s", 1))


def shown(figure):
    """Return a figure with two digits that count; a whole number as it is."""
    figure = figure if isinstance(figure, int) else float(f"{figure:.2g}")
    return f"{figure:,.10g}".replace(",", " ")


def percent(share):
    """Return a share of a whole."""
    return f"{share:.0%}".replace("%", " %")


def size(count, units=UNITS):
    """Return so many bytes, as one writes them."""
    name, unit = next((one for one in units if count >= one[1]), units[-1])
    return f"{shown(count / unit)} {name}"


def lasting(seconds):
    """Return how long something takes, as one writes it."""
    return size(seconds, TIMES)


def table(*rows):
    """Return a table of Markdown, whose first row is its head."""
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def plan():
    """Return what to plan for: waiting agents, messages a second, and of a week, in one cluster.

    One of two gateways can have all of it. Half of its requests, and a part of its core, are left.
    """
    return scale.MOST_WAITING // 2, ROOM * scale.most_messages(1), PART * scale.WEEKLY


def sizes():
    """Return what to plan for, and what breaks."""
    waiting, peak, steady = plan()
    return table(
        ("One cluster with two gateways", "Plan for", "Breaks at"),
        ("agents that wait for mail at once", shown(waiting), shown(2 * scale.MOST_WAITING)),
        ("messages a second, at a peak", shown(peak), shown(scale.most_messages(GATEWAYS))),
        (
            "messages a day, every day",
            f"{shown(steady * DAY / 1e6)} million",
            f"{shown(scale.WEEKLY * DAY / 1e6)} million",
        ),
        ("size of the state", size(PART * scale.LOADED), size(scale.LOADED)),
    )


def needs():
    """Return what the load of the question needs of one log."""
    messages, waits = scale.most_messages(GATEWAYS), scale.most_waits(GATEWAYS)
    polls = AGENTS / scale.POLL_S * COSTS["commands_in_a_poll"]
    log, state = scale.each("log_bytes") * RATE, scale.state_bytes(AGENTS, RATE)
    waiting = scale.MOST_WAITING * COSTS["waiting_bytes"] / 1e6 + IDLE_MB

    def row(name, need, has, write=shown):
        return name, write(need), write(has), shown(need / has)

    return table(
        ("Need", "Ten million agents", "One log has", "Times"),
        row("messages a second", round(RATE), messages),
        row("SEND, FETCH and ACK a second, together", round(3 * RATE), 3 * messages),
        row("cores that each gateway uses for them", RATE / messages, 1),
        row("agents that wait for mail", AGENTS, GATEWAYS * scale.MOST_WAITING),
        row("commands a second because of these waits", polls, waits),
        row("bytes of log a second", log, COSTS["log_mb_s"] * 1e6, size),
        ("bytes of log a day", size(log * DAY), "", ""),
        row("size of the state, in each gateway", state, scale.LOADED, size),
        ("time to take a snapshot", lasting(state / scale.SNAPSHOT_MB_S / 1e6), "", ""),
        row(
            "time to load it into a new gateway",
            state / COSTS["load_mb_s"] / 1e6,
            scale.LOADING_S,
            lasting,
        ),
        ("memory of a gateway, without vectors", size(waiting * 1e6), "", ""),
        ("the same, for DISCOVER by meaning", size(AGENTS * VECTOR_BYTES + waiting * 1e6), "", ""),
        ("a DISCOVER by meaning", lasting(AGENTS / 1e5 * DISCOVER_MS / 1e3), "", ""),
        ("the first vectors, in each gateway", lasting(AGENTS / 1e5 * EMBED_S), "", ""),
    )


@functools.cache
def simulation():
    """Return what the simulation finds, beside the arithmetic, and the most records a second."""
    rows, often = [], 0
    for rate in RATES:
        share, calls, records, *taken = scale.simulate(rate, random.Random(9))  # noqa: S311
        filled = rate / scale.most_messages(GATEWAYS)
        grows, often = share > 1.05, max(often, records)
        latencies = ["grows"] * 2 if grows else [f"{shown(one)} ms" for one in taken]
        rows.append((shown(rate), percent(filled), shown(calls), shown(records), *latencies))
    head = ("Messages a second", "Of the limit", "Commands in a record", "Records a second")
    return table((*head, "Median", "p99"), *rows), often


def breaks():
    """Return what breaks, in the order in which it is met."""
    _, often = simulation()
    vectors = FIRST_VECTORS_S / EMBED_S * 1e5
    log = COSTS["log_mb_s"] * 1e6 / scale.each("log_bytes")
    pause = size(scale.SNAPSHOT_RECORDS / often * scale.SNAPSHOT_MB_S * 1e6)
    loaded = f"{size(scale.LOADED)} of state: {shown(scale.WEEKLY)} messages a second for a week"
    several = (scale.most_messages(count) for count in (GATEWAYS, 3, 1e9))
    most = "{} messages a second with two gateways, {} with three, {} with any number"
    rows = (
        (
            "requests in work, of one gateway",
            f"{shown(scale.MOST_WAITING)} waiting agents for each gateway",
            "a FETCH is answered `limit_reached`",
        ),
        (
            "a snapshot is due before the last one is stored",
            f"{pause} of state, at {shown(often)} records a second",
            "gateways take snapshots without a pause",
        ),
        (
            "a new gateway has 600 s to load a snapshot",
            loaded,
            "no new gateway can join. Running gateways continue",
        ),
        (
            "CPU: each gateway applies all commands",
            most.format(*map(shown, several)),
            "latency grows until clients give up",
        ),
        (
            "DISCOVER by meaning has 4 s for the first vectors",
            f"{shown(vectors)} agents that are new to a gateway",
            "words decide until all agents have vectors",
        ),
        (
            "JetStream stores the log on three servers",
            f"{shown(log)} messages a second",
            "not reached: the CPU limit comes first",
        ),
    )
    numbered = ((str(number), *row) for number, row in enumerate(rows, 1))
    return table(("", "Limit", "Number", "Beyond it"), *numbered)


def gateways():
    """Return what more gateways add."""
    rows = []
    for count in MANY:
        waiting = count * scale.MOST_WAITING
        waits = waiting / scale.POLL_S * COSTS["commands_in_a_poll"] / scale.most_waits(count)
        messages = shown(scale.most_messages(count))
        rows.append((str(count), messages, shown(waiting), percent(waits)))
    head = ("Gateways", "Messages a second", "Waiting agents", "CPU of each gateway for these")
    return table(head, *rows)


def divided():
    """Return what several clusters carry, each limit by itself."""
    waiting, peak, steady = plan()
    rows = [(shown(n), shown(n * peak), shown(n * steady), shown(n * waiting)) for n in CLUSTERS]
    state, messages = scale.state_bytes(AGENTS, RATE), scale.most_messages(GATEWAYS)
    planned = RATE / peak, state / scale.LOADED / PART, AGENTS / waiting
    broken = RATE / messages, state / scale.LOADED, AGENTS / (GATEWAYS * scale.MOST_WAITING)
    return table(
        ("Clusters", "Messages a second, at a peak", "Messages a second, always", "Waiting agents"),
        *rows,
        ("needed for ten million agents", *map(shown, planned)),
        ("needed at the limits", *map(shown, broken)),
    )


COMMAND = "`python -m benchmarks.scripts.log_costs`"


def costs():
    """Return the measured costs, with the command that measures each."""

    def microseconds(*kinds):
        return " + ".join(shown(COSTS[kind]) for kind in kinds) + " µs"

    triple = ("send", "fetch", "ack")
    larger, smaller = (COSTS[f"send_us_with_mailboxes.{n}"] for n in (1_000_000, 10_000))
    rows = [
        (
            "CPU of the gateway that answers: SEND + FETCH + ACK",
            microseconds(*(f"gateway_us.{one}" for one in triple)),
        ),
        (
            "CPU of each other gateway for them",
            microseconds(*(f"apply_us.{one}" for one in triple)),
        ),
        ("CPU of each gateway for the end of a message", microseconds("apply_us.expire")),
        (
            "CPU of a command of a wait: this gateway, each other",
            f"{shown(COSTS['gateway_us.wait'])} µs, {shown(COSTS['apply_us.wait'])} µs",
        ),
        ("commands of one FETCH that waits in vain", shown(COSTS["commands_in_a_poll"])),
        ("memory of a waiting FETCH", size(COSTS["waiting_bytes"])),
        (
            "log: SEND of 300 bytes + FETCH + ACK",
            " + ".join(shown(COSTS[f"log_bytes.{one}"]) for one in triple) + " bytes",
        ),
        ("state: a message, fetched and acked", size(scale.each("state_bytes"))),
        ("state: what a removed message leaves", size(COSTS["state_bytes.remembered"])),
        (
            "state: an agent with mailbox and group",
            size(scale.each("state_bytes", ("register", "poll"))),
        ),
        (
            "SEND with a million mailboxes, of one with 10 000",
            f"{shown(larger / smaller)} times",
        ),
        (
            "append of 1 and of 256 commands, three servers",
            f"{shown(COSTS['append_ms.1'])} ms, {shown(COSTS['append_ms.256'])} ms",
        ),
        ("log, large records, three servers", f"{shown(COSTS['log_mb_s'])} MB a second"),
        (
            "snapshot: copy, store, load",
            ", ".join(shown(COSTS[f"{one}_mb_s"]) for one in ("copy", "store", "load"))
            + " MB a second",
        ),
    ]
    elsewhere = [
        (
            "DISCOVER by meaning, first vectors: 100 000 agents",
            f"{shown(DISCOVER_MS)} ms, {shown(EMBED_S)} s",
            "`python benchmarks/discovery/scale.py`",
        ),
        (
            "memory of a gateway with 100 000 mailboxes",
            f"{IDLE_MB} MB",
            "`python -m benchmarks.scripts.cluster_size`",
        ),
    ]
    return table(("Cost", "Measured", "Command"), *((*row, COMMAND) for row in rows), *elsewhere)


PARTS = {
    "sizes": sizes,
    "needs": needs,
    "breaks": breaks,
    "gateways": gateways,
    "simulated": lambda: simulation()[0],
    "divided": divided,
    "costs": costs,
}


def written(text):
    """Return the text of the page with the tables between its marked lines."""
    for name, made in PARTS.items():
        begin, end = f"<!-- {name}: written by scale_page -->", f"<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise SystemExit(f"{PAGE}: the lines {begin} and {end} are missing. Restore them.")
        text = f"{before}{begin}\n{made()}\n{end}{after}"
    return text


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    for name, made in PARTS.items():
        print(f"\n{name}\n\n{made()}")
