"""``make bench`` with sizes of almost nothing: what the table says, whatever the figures are."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, pytest.mark.timeout(600)]


def bench(out, *options, path=None):
    """Run it; the table as JSON and as Markdown, and what was printed."""
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--rounds", "1", "--scale", "0.0001"),
            *("--out", str(out), *options),
        ],
        cwd=ROOT,
        env=environment if path is None else {**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = json.loads((out / "table.json").read_text("utf-8"))
    return table, (out / "table.md").read_text("utf-8"), done.stdout


# One of each sort: on a server, in this process, on a file that is stored, and one that grows.
SOME = ["send", "file", "disk", "by-agents"]


@pytest.mark.soak
def test_a_case_measures_all_that_it_compares(tmp_path, scale):
    from benchmarks.cases import CASES

    names = [case.name for case in CASES if scale > 1 or case.name in SOME]

    table, markdown, _ = bench(tmp_path, "--only", ",".join(names))

    assert [case["name"] for case in table["cases"]] == names
    assert {"Python", "SQLite", "commit", "nats-server", "processors"} <= set(table["about"])
    rows = 0
    for case in table["cases"]:
        for comparison in case["comparisons"]:
            rows += 1
            absent = {comparison["ours"], comparison["beside"]} & set(case["not_installed"])
            compared = comparison["compared"]
            assert (compared is None) == bool(absent), comparison
            assert (comparison["met"] is None) == bool(absent or not comparison["goal"])
            if compared is not None:
                assert all(map(math.isfinite, compared.values()))
                assert compared["lower"] <= compared["median"] <= compared["upper"]
    assert sum(line.startswith("| ") for line in markdown.splitlines()) == 2 + rows
    pictures = {"goals.svg", "growth.svg"}
    assert {one.name for one in tmp_path.iterdir()} == {
        "files",
        "table.json",
        "table.md",
        *pictures,
    }
    assert all("</svg>" in (tmp_path / name).read_text("utf-8") for name in pictures)


def test_a_peer_that_is_missing_is_named_where_its_figures_would_be(tmp_path):
    table, markdown, printed = bench(tmp_path, "--only", "fsync", path=str(tmp_path))

    [case] = table["cases"]
    assert table["about"]["redis-server"] == "not installed"
    missing = {"Redis Streams, redis-py", "Redis Streams, a pipeline of 64"}
    assert missing <= set(case["not_installed"])
    beside = {one["beside"]: one for one in case["comparisons"]}
    assert all(beside[name]["compared"] is None for name in missing)
    assert beside["JetStream, nats-py"]["compared"] is not None
    assert "not installed: redis" in markdown
    assert "not installed: redis" in printed
