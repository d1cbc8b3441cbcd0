"""``make bench-page``: write the figures of a run into the page about performance."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plot

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/explanation/performance.md"
KEPT = ROOT / "docs/assets/performance.json"
PICTURE = ROOT / "docs/assets/performance.svg"
_AGENTS = 50
_TOGETHER, _ALONE = "64 in flight", "sequential"
_SERVE, _JETSTREAM = "mq9 serve, Mq9Client", "JetStream, nats-py"
_GATEWAY = "mq9 serve --cluster, Mq9Client"
_REDIS, _PIPELINE = "Redis Streams, redis-py", "Redis Streams, a pipeline of 64"


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison that the page shows: its words there, and where a run has it."""

    title: str
    beside_title: str
    case: str
    measure: str
    ours: str
    beside: str | None = None


_MEMORY = "fakeredis"
_TAKEN = "messages a second"
RATES = (
    Row("SDK, one by one", "nats-py `request`", "sdk", _ALONE, "Mq9Client", "nats-py request"),
    Row("SDK, 64 in flight", "nats-py `request`", "sdk", _TOGETHER, "Mq9Client", "nats-py request"),
    Row("SEND, 64 in flight", "JetStream", "send", _TOGETHER, _SERVE, _JETSTREAM),
    Row("SEND, 64 in flight", "Redis Streams", "send", _TOGETHER, _SERVE, _REDIS),
    Row("SEND, 64 in flight", "Redis, a pipeline", "send", _TOGETHER, _SERVE, _PIPELINE),
    Row("SEND, one by one", "JetStream", "send", _ALONE, _SERVE, _JETSTREAM),
    Row("SEND, one by one", "Redis Streams", "send", _ALONE, _SERVE, _REDIS),
    Row("SEND, 64 clients", "JetStream", "crowd", "each one at a time", _SERVE, _JETSTREAM),
    Row("FETCH of 100 and ack", "JetStream", "fetch", _TAKEN, _SERVE, _JETSTREAM),
    Row("FETCH of 100 and ack", "Redis Streams", "fetch", _TAKEN, _SERVE, _REDIS),
    Row("SEND with fsync, 64", "JetStream", "fsync", _TOGETHER, _SERVE, _JETSTREAM),
    Row("SEND with fsync, 64", "Redis Streams", "fsync", _TOGETHER, _SERVE, _REDIS),
    Row("File, one by one", _MEMORY, "file", _ALONE, "sqlite:///", "fakeredis, memory only"),
    Row("File, 64 in flight", _MEMORY, "file", _TOGETHER, "sqlite:///", "fakeredis, memory only"),
    Row("Cluster, SEND, 64", "JetStream R3", "cluster-send", _TOGETHER, _GATEWAY, _JETSTREAM),
    Row("Cluster, one by one", "JetStream R3", "cluster-send", _ALONE, _GATEWAY, _JETSTREAM),
    Row("Cluster, FETCH and ack", "JetStream R3", "cluster-fetch", _TAKEN, _GATEWAY, _JETSTREAM),
)
_MEDIAN, _P99 = "median of a SEND", "p99 of a SEND"
_CALL, _BARE = "time of a call", "bare StructuredTool"
_MCP = ("mq9-mcp, a send to a file", "a tool that returns a constant")
_BACKLOG = ("1 000 000 messages", "1 000 messages")
_MAILBOXES = ("100 000 mailboxes", "100 mailboxes")
COSTS = (
    Row("CPU of a SEND, 64 in flight", "", "cpu", _TOGETHER, "mq9 serve"),
    Row("CPU of a SEND, one by one", "", "cpu", _ALONE, "mq9 serve"),
    Row("CPU of one FETCH and its ack", "", "cpu", "FETCH of one and ack", "mq9 serve"),
    Row("p99 of a SEND, idle server", "idle median", "tail", _P99, "quiet", "quiet"),
    Row("p99, one busy process", "idle median", "tail", _P99, "one busy process", "quiet"),
    Row("p99, two busy processes", "idle median", "tail", _P99, "two busy processes", "quiet"),
    Row("p99 during checkpoints", "idle median", "tail", _P99, "checkpoints", "quiet"),
    Row("p99 while messages expire", "idle median", "tail", _P99, "expiry", "quiet"),
    Row("p99 among DISCOVERs", "idle median", "tail", _P99, "discovery", "quiet"),
    Row("p99 next to a large reader", "idle median", "tail", _P99, "reader", "quiet"),
    Row("FETCH of 100 from 1 000 000", "one from 1 000", "backlog", "FETCH of 100", *_BACKLOG),
    Row("SEND with 100 000 mailboxes", "one with 100", "mailboxes", "SEND", *_MAILBOXES),
    Row("LangChain `send_message`", "bare tool", "langchain", _CALL, "send_message", _BARE),
    Row("MCP `mq9_send_message`", "tool of a constant", "mcp", _CALL, *_MCP),
)


def kept(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs of a run's table: the medians, and what was compared."""
    needed = {row.case for row in (*RATES, *COSTS)}
    cases = [case for case in table["cases"] if case["name"] in needed]
    return {
        "about": table["about"],
        "cases": {
            case["name"]: {
                "units": case["units"],
                "medians": {
                    contestant: {name: statistics.median(rounds) for name, rounds in one.items()}
                    for contestant, one in case["figures"].items()
                },
                "comparisons": case["comparisons"],
            }
            for case in cases
        },
    }


def _comparison(run: Mapping[str, Any], row: Row) -> Mapping[str, Any] | None:
    """Return what a run compared; None where it did not measure that."""
    for one in run["cases"].get(row.case, {}).get("comparisons", ()):
        if (one["measure"], one["ours"], one["beside"]) == (row.measure, row.ours, row.beside):
            return one if one["compared"] else None
    return None


def _median(run: Mapping[str, Any], row: Row, contestant: str) -> str:
    return _shown(_figure(run, row.case, contestant, row.measure))


def _shown(figure: float) -> str:
    """Return a figure with two digits, or three from 10 000 on."""
    digits = 3 if figure >= 10_000 else 2
    return f"{float(f'{figure:.{digits}g}'):,.10g}"


def _goal(one: Mapping[str, Any]) -> str:
    """Return a goal, and by how much the median misses it."""
    if one["goal"] is None:
        return ""
    if one["met"]:
        return f"{one['goal']}, met"
    share = one["compared"]["median"] / float(one["goal"][1:])
    missed = f"missed by {_percent(1 - share)}" if share < 1 else f"missed: {share:.1f} times it"
    return f"{one['goal']}, {missed}"


def _rates(run: Mapping[str, Any]) -> str:
    lines = [
        "| Messages a second | mq9 | Compared with | Other | mq9 / other | Goal |",
        "|---|---|---|---|---|---|",
    ]
    for row in RATES:
        one = _comparison(run, row)
        if one is not None and row.beside is not None:
            ours, other = (_median(run, row, name) for name in (row.ours, row.beside))
            ratio = f"{one['compared']['median']:.2f}"
            cells = (row.title, ours, row.beside_title, other, ratio, _goal(one))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _costs(run: Mapping[str, Any]) -> str:
    lines = ["| Cost | Measured | Compared | Goal |", "|---|---|---|---|"]
    for row in COSTS:
        one = _comparison(run, row)
        if one is not None:
            times = f"{one['compared']['median']:.3g} times the {row.beside_title}"
            compared = times if row.beside else ""
            unit = run["cases"][row.case]["units"][row.measure]
            figure = f"{_median(run, row, row.ours)} {unit}"
            cells = (row.title, figure, compared, _goal(one))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(run: Mapping[str, Any], case: str, contestant: str, measure: str) -> float:
    try:
        return float(run["cases"][case]["medians"][contestant][measure])
    except KeyError:
        raise SystemExit(
            f"The run lacks {measure!r} of the case {case}. Run make bench with this case."
        ) from None


def _cpu_us(run: Mapping[str, Any]) -> float:
    """Return the server's CPU time for a message that is sent and taken alone."""
    taken = _figure(run, "cpu", "mq9 serve", "FETCH of one and ack")
    return _figure(run, "cpu", "mq9 serve", _ALONE) + taken


def _summary(run: Mapping[str, Any]) -> str:
    rate = _shown(_figure(run, "send", _SERVE, _TOGETHER))
    median = _shown(_figure(run, "tail", "quiet", _MEDIAN))
    share = _percent(_AGENTS * _cpu_us(run) / 1e6)
    return f"""\
One `mq9 serve` stores {rate} messages a second and answers a single one in {median} ms.
{_AGENTS} agents that each send and receive a message a second use {share} of one CPU core
on the server."""


def _percent(share: float) -> str:
    return f"{_shown(share * 100)} %"


def _agents(run: Mapping[str, Any]) -> str:
    rows = []
    for words, each in (("one a minute", 1 / 60), ("one a second", 1), ("ten a second", 10)):
        rate = _AGENTS * each
        share = _percent(rate * _cpu_us(run) / 1e6)
        rows.append(f"| {words} | {_shown(rate)} | {share} of one core |")
    table = "\n".join(rows)
    median, quiet = (_shown(_figure(run, "tail", "quiet", name)) for name in (_MEDIAN, _P99))
    busy = max(_figure(run, "tail", name, _P99) for name in run["cases"]["tail"]["medians"])
    crowd = _shown(_figure(run, "crowd", _SERVE, "each one at a time"))
    return f"""\
| Each agent sends and receives | Messages a second | Server CPU |
|---|---|---|
{table}

- Latency: a SEND takes {median} ms (median). 99 of 100 take at most {quiet} ms.
- Latency under load: 99 of 100 take at most {_shown(busy)} ms during the worst background work.
- Limit: 64 clients that each send one message at a time reach {crowd} messages a second in all."""


def _about(run: Mapping[str, Any]) -> str:
    about = run["about"]
    scale = "" if about["scale"] == 1 else f" at scale {about['scale']:g}"
    nats = about["nats-server"].replace(": v", " ")
    return f"""\
Measured on {about["date"]} at commit `{about["commit"]}`, {about["rounds"]} rounds{scale}.
Machine: {about["processors"]} processors ({about["processor"]}), {about["machine"]}.
Python {about["Python"]} ({about["interpreter"]}), SQLite {about["SQLite"]},
uvloop {about["uvloop"]}, {nats}, nats-py {about["nats-py"]},
{_redis(about["redis-server"])}, redis-py {about["redis-py"]}, fakeredis {about["fakeredis"]}."""


def _redis(version: str) -> str:
    return version.replace("Redis server v=", "Redis ").partition(" sha=")[0]


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "summary": _summary,
    "rates": _rates,
    "costs": _costs,
    "agents": _agents,
    "about": _about,
}


def written(text: str, run: Mapping[str, Any]) -> str:
    """Return the text of the page with the figures of a run between its marked lines."""
    for name, made in _PARTS.items():
        begin, end = f"<!-- {name}: written by make bench-page -->", f"<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise SystemExit(f"{PAGE}: the lines {begin} and {end} are missing. Restore them.")
        text = f"{before}{begin}\n{made(run)}\n{end}{after}"
    return text


def picture(run: Mapping[str, Any]) -> str:
    """Return the plot of the page: each rate compared with the other's."""
    bars = []
    for row in RATES:
        one = _comparison(run, row)
        if one is not None:
            goal = None if one["goal"] is None else float(one["goal"][1:])
            label = f"{row.title} / {row.beside_title.replace('`', '')}"
            bars.append(plot.Bar(label, one["compared"]["median"], goal))
    return plot.ratios(bars)


def write(run: Mapping[str, Any]) -> None:
    """Write the page and its picture from what is kept of a run."""
    PAGE.write_text(written(PAGE.read_text("utf-8"), run), "utf-8")
    PICTURE.write_text(picture(run), "utf-8")


def main() -> None:
    """Keep what the page needs of a run, and write the page."""
    parser = argparse.ArgumentParser("python -m benchmarks.page", description=__doc__)
    parser.add_argument("table", type=Path, help="table.json of a run")
    run = kept(json.loads(parser.parse_args().table.read_text("utf-8")))
    KEPT.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
    write(run)


if __name__ == "__main__":
    main()
