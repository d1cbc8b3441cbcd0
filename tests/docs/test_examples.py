"""The examples run, and show what they are there to show."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mq9 import Mq9Client

ROOT = Path(__file__).parents[2]

[TRANSCRIPT] = re.findall(
    r"```text\n(3\. translator.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
)

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


def run(*command, cwd=ROOT, env=None):
    return subprocess.run(
        command, cwd=cwd, env=env, check=True, capture_output=True, timeout=110, encoding="utf-8"
    ).stdout


def test_the_quickstart_runs_twice_on_one_broker(tmp_path):
    for acked in ([2, 1, 0], [5, 4, 3]):
        printed = run(sys.executable, "examples/quickstart.py", f"sqlite:///{tmp_path}/mq9.db")
        assert printed.splitlines() == [
            "critical: put out the fire",
            "urgent: answer the phone",
            "normal: tidy up",
            f"acked: {acked}",
            "answer: water the plants, done",
        ]


@pytest.mark.quick
def test_the_two_agents_meet_twice_on_one_broker(tmp_path):
    program = "import sys; from two_agents import main; main(sys.argv[1])"
    for number in range(2):
        printed = run(
            *(sys.executable, "-c", program, f"sqlite:///{tmp_path}/mq9.db"), cwd=ROOT / "examples"
        )
        assert number or TRANSCRIPT in printed  # the second time messages have other ids
        assert printed.count("power fails") == 1
        assert "urgent, from planner: Translate: 机房太热了 (delivery 2)" in printed
        assert "What to do next" in printed
        assert len(re.findall(r"confirmed #\d+, #\d+", printed)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_the_worker_finishes_in_time_when_it_is_sent_sigterm(tmp_path):
    url = f"sqlite:///{tmp_path}/mq9.db"

    async def send_jobs():
        async with Mq9Client(url) as client:
            for job in ("water the plants", "1", "3600"):
                await client.send("jobs", job)

    async def fetch_rest():
        async with Mq9Client(url) as client:
            return await client.fetch("jobs", group_name="workers", max_wait_ms=0)

    with subprocess.Popen(
        [sys.executable, "examples/worker.py"],
        cwd=ROOT,
        env={**os.environ, "MQ9_SERVER": url},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as worker:
        try:
            assert worker.stdout.readline() == "ready\n"
            asyncio.run(send_jobs())
            lines = [worker.stdout.readline() for _ in range(4)]
            assert "done: water the plants\n" in lines
            assert "begun: 3600\n" in lines
            worker.terminate()
            printed, _ = worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert worker.returncode == 0
    assert printed.splitlines()[-1] == "stopped: 2 done, 1 given back"
    [left] = asyncio.run(fetch_rest())
    assert (left.text, left.delivery_count) == ("3600", 2)


def test_an_installed_copy_is_complete(tmp_path):
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", "--target", str(tmp_path), str(ROOT)),
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import asyncio, mq9, langchain_mq9\n"
        "assert mq9.__file__.startswith(sys.path[0]), mq9.__file__\n"
        "async def main():\n"
        "    async with mq9.Mq9Client('memory://x') as client:\n"
        "        print(await client.mailbox_create(name='works'))\n"
        "asyncio.run(main())\n"
    )
    assert run(sys.executable, "-I", "-c", program, cwd=tmp_path) == "works\n"
    assert (tmp_path / "mq9" / "py.typed").exists()
    assert (tmp_path / "langchain_mq9" / "py.typed").exists()
    assert list(tmp_path.glob("*.dist-info/entry_points.txt"))
