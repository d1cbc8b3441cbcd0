"""A fleet of workers, of which some are killed: each task has one result."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from mq9 import Mq9Client
from tests.fleet.crew import AGENT
from tests.serving import Serving

ROOT = Path(__file__).parents[2]
CREW = Path(__file__).with_name("crew.py")
LEASE_MS = 2_000
KILLED = 2
_DONE_S = 300  # at the latest

pytestmark = [
    pytest.mark.programs,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
]


@contextlib.asynccontextmanager
async def crew(url, directory, workers, lease_ms=LEASE_MS):
    """Run workers; yields the program that runs them, and their process ids."""
    # What coverage writes does not survive a kill, so none is measured there.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        CREW,
        url,
        directory / "threads.db",
        str(workers),
        str(lease_ms),
        stdout=asyncio.subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    pids = [int(pid) for pid in (await program.stdout.readline()).split()]
    assert len(pids) == workers
    try:
        yield program, pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await program.communicate()


async def work_off(client, tasks, pids):
    """Send tasks, kill workers on the way, and return the results when all tasks are done."""
    await client.mailbox_create(name="results")
    await client.mailbox_create(name=AGENT, renew=True)
    for number in range(tasks):
        await client.send(
            AGENT,
            {"number": number},
            sender="boss",
            headers={"conversation": str(number)},  # so that none waits for another
            reply_to="results",
            correlation_id=str(number),
        )
    kills = {tasks * (nth + 1) // 4: pid for nth, pid in enumerate(pids[:KILLED])}
    async with asyncio.timeout(_DONE_S):
        while (stored := (await client.mailbox_status("results")).stored) < tasks:
            for due in [one for one in kills if one <= stored]:
                os.kill(kills.pop(due), signal.SIGKILL)
            await client.fetch("results", group_name="look", deliver="new", max_wait_ms=100)
        assert kills == {}
        while (await client.mailbox_status(AGENT, group_name=AGENT)).group.acked < tasks:
            # What the killed ones held comes again when their leases end.
            await client.fetch("results", group_name="look", deliver="new", max_wait_ms=100)
    assert (await client.mailbox_status("results")).stored == tasks
    return await client.query("results", limit=tasks)


@pytest.mark.parametrize("broker", ["file", "server"])
async def test_each_task_of_a_fleet_has_one_result_whoever_is_killed(tmp_path, scale, broker):
    workers, tasks = min(4 * scale, 10), 60 * scale
    async with contextlib.AsyncExitStack() as stack:
        if broker == "server":
            url = (await stack.enter_async_context(Serving(tmp_path, "--memory"))).url
        else:
            url = f"sqlite:///{tmp_path / 'mail.db'}"
        client = await stack.enter_async_context(Mq9Client(url))
        program, pids = await stack.enter_async_context(crew(url, tmp_path, workers))

        results = await work_off(client, tasks, pids)

        assert Counter(one.correlation_id for one in results) == {str(n): 1 for n in range(tasks)}
        for one in results:
            number = int(one.correlation_id)
            assert one.json() == {
                "number": number,
                "square": number**2,
                "steps": ["read", "work"],
            }
        assert (await client.mailbox_status(f"{AGENT}.dead")).stored == 0
        group = (await client.mailbox_status(AGENT, group_name=AGENT)).group
        assert sum(one.count for one in group.leased) == 0
        for pid in pids[KILLED:]:
            os.kill(pid, signal.SIGTERM)
        said, _ = await program.communicate()
        codes = [int(code) for code in said.split()]
        assert codes == [-signal.SIGKILL] * KILLED + [0] * (workers - KILLED)
