"""The program that a page prints for the second generation runs as it is printed.

The page lies beside the repository, and nothing of it is copied here. Its indentation is
restored, and the address of the server is replaced.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from tests.seeds.printed import program
from tests.serving import Serving

PAGE = Path(__file__).parents[3] / "shared/seeds/eight-scenarios.md"

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(not PAGE.is_file(), reason="the page is not beside the repository"),
]


@pytest.fixture
async def served(tmp_path):
    async with Serving(tmp_path, "--memory") as server:
        yield server


async def scenarios(url):
    """Run the program; what each scenario printed, by its number."""
    code = program(PAGE.read_text("utf-8")).replace("nats://localhost:4222", url)
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0
    parts = re.split(r"=== Scenario (\d): .* ===\n", printed.decode())
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


def bodies(text, speaker):
    """The JSON objects that a speaker printed."""
    lines = re.findall(rf"^\[{speaker}\] [^{{\n]*(\{{.*)$", text, re.MULTILINE)
    return [json.loads(line) for line in lines]


async def test_all_eight_do_what_they_promise_and_again_when_they_are_repeated(served):
    for _ in range(2):
        told = await scenarios(served.url)
        assert list(told) == list(range(1, 9))
        assert [one["task_id"] for one in bodies(told[1], "Orchestrator")] == ["t-001"]
    told = await scenarios(served.url)  # what was stored is there again, and what is new
    assert len(bodies(told[2], "Orchestrator")) == 6
    assert len(bodies(told[4], "Handler-A")) == len(bodies(told[4], "Handler-B")) == 3
    tasks = bodies(told[3], r"Worker-\d")  # each went to one, once
    assert sorted(one["task_id"] for one in tasks) == ["t-001", "t-002", "t-003"]
    commands = [one["command"] for one in bodies(told[5], "Edge") if "command" in one]
    assert commands == ["emergency_stop", "update_config", "report_status"]
    [listed] = [one for one in bodies(told[5], "Edge") if "messages" in one]
    assert [one["priority"] for one in listed["messages"]] == ["critical", "urgent", "normal"]
    assert "[Agent] received approval result: approved=True" in told[6]
    assert bodies(told[7], "Agent-A")[0]["correlation_id"] == "req-001"
    assert bodies(told[8], "Orchestrator")[0]["from"] == "capability.worker001"
