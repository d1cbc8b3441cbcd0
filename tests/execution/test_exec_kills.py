"""`mq9 exec` while it, its commands or its broker are killed, again and again."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from serving import Serving
from waiting import until

from mq9 import ErrorAnswer, Mq9Client

pytestmark = [
    pytest.mark.programs,
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups"),
]

KILLS = 10
PROGRAMS = 2
OUTSTANDING = 12  # tasks that are not answered yet, at the most
TASK = Path(__file__).with_name("noted_task.py")
LEASE_S = 2


class Fleet:
    """Several `mq9 exec` of one agent, on one server."""

    def __init__(self, directory, server):
        self.directory = directory
        self._server = server
        self._programs = []
        self._dead = set()  # which noted no end
        for name in ("locks", "results"):
            (directory / name).mkdir()
        (directory / "journal").touch()

    def __enter__(self):
        self._programs = [self._start() for _ in range(PROGRAMS)]
        return self

    def __exit__(self, *exception):
        for one in self._programs:
            one.terminate()
        for one in self._programs:
            one.wait(30)
            one.stdout.close()

    def _start(self):
        inherited = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
        patience = ("--retry-delay", "0.05", "--max-retry-delay", "0.2", "--retries", "1000")
        with (self.directory / "exec.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "mq9", "exec", "--agent", "robot"),
                    *("--from", "everyone", "--concurrency", "3", "--lease", str(LEASE_S)),
                    *("--max-deaths", "1000", *patience),
                    *("--", sys.executable, "-I", "-S", TASK, self.directory),
                ],
                env={**inherited, "MQ9_SERVER": self._server.url},
                stdout=subprocess.PIPE,
                stderr=log,
            )

    @property
    def journal(self):
        """What the tasks have noted: what, of which message, by which process."""
        lines = (self.directory / "journal").read_text().splitlines()
        return [tuple(line.split()) for line in lines]

    @property
    def running(self):
        """The processes that have begun a task, and have not ended."""
        noted = [(what, pid) for what, _, pid in self.journal]
        open_ones = {pid for what, pid in noted if what == "begin"}
        open_ones -= {pid for what, pid in noted if what == "end"} | self._dead
        if not open_ones:
            return []
        listed = subprocess.run(
            ["/bin/ps", "-ww", "-o", "pid=,args=", "-p", ",".join(open_ones)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        ).stdout.splitlines()
        alive = {one.split()[0] for one in listed if str(self.directory) in one}
        self._dead |= open_ones - alive
        return [int(one) for one in sorted(alive)]

    async def kill(self, victim, dice):
        """Kill something while a task runs."""
        await until(lambda: self.running)
        if victim == "command":
            with suppress(ProcessLookupError, IndexError):  # it has ended just now
                os.kill(dice.choice(self.running), signal.SIGKILL)
        elif victim == "broker":
            await asyncio.to_thread(self._server.kill)
            await asyncio.to_thread(self._server.start)
        else:
            number = dice.randrange(PROGRAMS)
            killed = self._programs[number]
            killed.kill()
            killed.wait()
            killed.stdout.close()
            self._programs[number] = self._start()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["exec", "command", "broker"])
async def test_no_task_is_lost_and_each_has_one_result_and_one_answer(tmp_path, scale, victim):
    dice = random.Random(victim)
    sent = {}  # by message
    async with AsyncExitStack() as stack:
        data = ("--data", str(tmp_path / "mq9.db"))
        server = await stack.enter_async_context(Serving(tmp_path, *data))
        client = Mq9Client(server.url, reconnect_attempts=1_000, reconnect_delay=0.1)
        await stack.enter_async_context(client)
        for name in ("robot", "answers"):
            await client.mailbox_create(name=name)
        fleet = stack.enter_context(Fleet(tmp_path, server))
        results = tmp_path / "results"

        async def top_up():
            while len(sent) - len(list(results.iterdir())) < OUTSTANDING:
                body = f"task.{len(sent)} {dice.uniform(0.02, 0.3):.3f}"
                sent[await client.send("robot", body, reply_to="answers")] = body

        for _ in range(KILLS * scale):
            await top_up()
            await fleet.kill(victim, dice)
            await asyncio.sleep(dice.uniform(0, 0.3))

        async def all_are_acked():
            status = await client.mailbox_status("robot", group_name="robot")
            return status.group.acked == len(sent)

        await until(all_are_acked, seconds=120)
        told = await client.fetch("answers", num_msgs=1_000, max_wait_ms=0)
        assert not [one for one in told if ErrorAnswer.read(one)]
        assert Counter(one.text for one in told) == Counter(sent.values())
        assert (await client.mailbox_status("robot.dead")).stored == 0
    assert {int(one.name): one.read_text() for one in results.iterdir()} == sent
    noted = Counter(what for what, _, _ in fleet.journal)
    assert noted["overlap"] == 0
    assert noted["written"] == len(sent)
    print(victim, KILLS * scale, "kills,", len(sent), "tasks,", dict(noted))  # noqa: T201
