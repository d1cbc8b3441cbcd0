"""Workers that are paused for longer than a lease, and go on: no step is lost, none done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.paused_runs import NODES

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("paused_runs.py")

pytestmark = [
    pytest.mark.programs,
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP"),
    pytest.mark.timeout(900),
]


def pause(pauses, kind, where):
    # What coverage writes takes time that has nothing to do with pauses.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [sys.executable, PROGRAM, str(pauses), "1", kind, where],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def check(found):
    assert found["dead"] == []
    for conversation, count in found["sent"].items():
        answers = [(task, trail) for one, task, trail in found["answers"] if one == conversation]
        assert sorted(int(task) for task, _ in answers) == [*range(count)], "answered once each"
        # Each task goes on from the state that the one before it was answered with.
        before = []
        for task, trail in sorted(answers, key=lambda one: len(one[1])):
            assert trail == [*before, *(f"{task} {node}" for node in NODES)]
            before = trail


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_worker_that_is_paused_takes_no_thread_back(request, tmp_path, scale, kind):
    where = str(tmp_path / "threads.db")
    if kind == "postgres":
        pytest.importorskip("langgraph.checkpoint.postgres.aio")
        where = request.getfixturevalue("postgres_database")
    check(pause(5 if scale == 1 else 200, kind, where))
