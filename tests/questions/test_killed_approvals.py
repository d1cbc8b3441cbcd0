"""A worker that is killed at any moment of an approval: everything is asked and answered once."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.questions.killed_approvals import TOPICS
from tests.worker.test_killed_runs import kill_at_points

PROGRAM = Path(__file__).with_name("killed_approvals.py")
STEPS = ("read", "asked", "write")
TRAIL = ["read", '"yes"', "write"]

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.timeout(600),
]


def check(found, tasks):
    assert found["answers"] == [
        [topic, TRAIL * (number + 1)] for number, topic in enumerate(TOPICS[:tasks])
    ]
    assert (found["dead"], found["held"]) == (0, 0)
    stored = {}  # by message: how many steps its thread had behind it, first and last
    ran = Counter()
    questions = set()
    for what, *noted in found["diary"]:
        match what:
            case "stored":
                message, trail = noted
                first, _ = stored.setdefault(message, (len(trail), 0))
                stored[message] = first, len(trail)
            case "ran":
                message, step = noted
                ran[message, step] += 1
                first, last = stored[message]
                assert last - first <= STEPS.index(step), "a checkpointed node ran again"
            case "asked":
                questions.update(noted)
    assert len(questions) == tasks
    assert ran.total() <= tasks * len(STEPS) + 1  # the one that was cut off runs again


@pytest.mark.unmeasured
def test_a_kill_at_any_moment_of_an_approval_loses_nothing_and_repeats_nothing(tmp_path):
    found = kill_at_points(tmp_path, step=3, tasks=1, program=PROGRAM)
    assert [one["survived"] for one in found] == [False] * (len(found) - 1) + [True]
    assert len(found) > 10
    for one in found:
        check(one, 1)


@pytest.mark.soak
def test_a_kill_while_another_message_waits_loses_nothing_and_repeats_nothing(tmp_path, scale):
    found = kill_at_points(tmp_path, step=11 if scale == 1 else 1, tasks=2, program=PROGRAM)
    assert len(found) > 5
    for one in found:
        check(one, 2)
