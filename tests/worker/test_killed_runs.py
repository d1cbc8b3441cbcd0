"""A worker that is killed at any moment: each task is answered once, no step lost or repeated."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.worker.killed_runs import CONCURRENCY, NODES, TASKS

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("killed_runs.py")


def kill_at_points(directory, step, tasks, program=PROGRAM):
    """Return what was found after each kill."""
    # What coverage writes does not survive a kill, so none is measured there.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [sys.executable, program, directory, str(step), str(tasks)],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found, tasks):
    topics = [*TASKS][:tasks]
    trails = dict(found["answers"])
    assert sorted(topic for topic, _ in found["answers"]) == sorted(topics)
    # The second task of a conversation goes on with the state that the first one left.
    assert trails["tea"] == trails.get("salt", trails["tea"]) == [*NODES]
    assert trails.get("rice", [*NODES, *NODES]) == [*NODES, *NODES]
    # One message for each node is missed if the kill was between its checkpoint and the message.
    told = Counter(map(tuple, found["progress"]))
    assert max(told.values()) == 1
    assert len(topics) * len(NODES) - CONCURRENCY <= len(told) <= len(topics) * len(NODES)
    assert (found["dead"], found["held"]) == (0, 0)
    stored = {}  # by message: how many steps its thread had behind it, first and last
    ran = Counter()
    for what, message, noted in found["diary"]:
        if what == "stored":
            first, _ = stored.setdefault(message, (len(noted), 0))
            stored[message] = first, len(noted)
        else:
            ran[message, noted] += 1
            first, last = stored[message]
            assert last - first <= NODES.index(noted), "a checkpointed node ran again"
    cut_off = min(CONCURRENCY, len(topics))
    assert ran.total() <= len(topics) * len(NODES) + cut_off


@pytest.mark.programs
@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.timeout(600)
def test_a_kill_at_any_step_of_a_task_loses_nothing_and_repeats_nothing(tmp_path, scale):
    found = kill_at_points(tmp_path, step=3 if scale == 1 else 1, tasks=1)
    assert [one["survived"] for one in found] == [False] * (len(found) - 1) + [True]
    assert len(found) > 7
    for one in found:
        check(one, 1)


@pytest.mark.programs
@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.timeout(600)
def test_a_kill_among_several_tasks_loses_nothing_and_repeats_nothing(tmp_path, scale):
    found = kill_at_points(tmp_path, step=7 if scale == 1 else 1, tasks=3)
    assert len(found) > 10
    for one in found:
        check(one, 3)
