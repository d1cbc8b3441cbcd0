"""Each decision counts once, while the page's server, the worker or the broker is killed."""

import asyncio
import random
import re
from collections import Counter

import httpx
import pytest

from mq9 import ErrorAnswer, Unreachable
from tests.desk_stories.stage import OnFile, OnServer

pytestmark = [pytest.mark.programs, pytest.mark.soak, pytest.mark.slow, pytest.mark.unmeasured]

KILLS = 2
PATIENT = ("--max-deaths", "1000")  # else what was in hand at three kills is a dead letter
OUTSTANDING = 6  # questions that are open, at the most
TASKS = """
import os
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class Task(TypedDict, total=False):
    task: int
    answer: str


def decide(task):
    return {"answer": interrupt({"text": f"May I do task {task['task']}?"})}


def do(task):
    line = f"{task['task']} {task['answer']}\\n"
    journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, line.encode())
    os.close(journal)
    return {}


def build(checkpointer):
    graph = StateGraph(Task).add_node(decide).add_node(do)
    return graph.add_edge(START, "decide").add_edge("decide", "do").compile(checkpointer)
"""


class Boss:
    """Decides all that is asked, twice at once and differently, however often it fails."""

    def __init__(self, page):
        self._page = page

    async def decide(self):
        """Decide until cancelled."""
        while True:
            try:
                async with httpx.AsyncClient(follow_redirects=True, timeout=20) as http:
                    await http.get(self._page.link)
                    is_let_in = True
                    while is_let_in:
                        is_let_in = await self._decide_open(http)
            except httpx.HTTPError:
                await asyncio.sleep(0.1)

    async def _decide_open(self, http):
        page = await http.get(self._page.desk)
        if page.status_code != 200:
            return page.status_code != 403  # then the page's server is another one
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
        headers = {"Origin": self._page.desk.removesuffix("/desk")}
        await asyncio.gather(
            *(
                http.post(
                    f"{self._page.desk}/questions/answer",
                    data={"csrf": csrf, "msg_id": one, "message": answer},
                    headers=headers,
                )
                for one in re.findall(r'id="question-(\d+)"', page.text)
                for answer in random.sample(("yes", "no"), 2)
            ),
            asyncio.sleep(0.1),
        )
        return True


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("victim", ["page", "worker", "broker"])
async def test_each_decision_counts_once(tmp_path, scale, victim):
    dice = random.Random(victim)
    sent, told = 0, []
    (tmp_path / "tasks.py").write_text(TASKS)
    async with OnServer(tmp_path) as broker, asyncio.TaskGroup() as tasks:
        for name in ("boss", "ada", "lawyer"):
            await (await broker.client(name)).mailbox_create(name=name)
        page = OnFile(tmp_path, broker.broker_url("boss"))
        async with page:
            options = ("--human", "boss", "--checkpoint", "threads.db", "--lease", "3", *PATIENT)
            worker = await broker.run("worker", "tasks:build", "--agent", "lawyer", *options)
            ada = await broker.client("ada")
            deciding = tasks.create_task(Boss(page).decide())

            async def take():
                try:
                    found = await ada.fetch("ada", group_name="ada", max_wait_ms=100)
                    for one in found:
                        await one.ack()
                        told.append(one)
                except Unreachable:  # it is being started again
                    await asyncio.sleep(0.1)

            async def top_up():
                nonlocal sent
                while sent - len({one.correlation_id for one in told}) < OUTSTANDING:
                    await ada.send(
                        "lawyer",
                        {"task": sent},
                        sender="ada",
                        reply_to="ada",
                        correlation_id=f"task.{sent}",
                    )
                    sent += 1

            killed = {"page": page, "worker": worker, "broker": broker}[victim]
            for _ in range(KILLS * scale):
                await top_up()
                before = len(told)
                async with asyncio.timeout(60):
                    while len(told) == before:
                        await take()
                await asyncio.sleep(dice.uniform(0, 1))
                await asyncio.to_thread(killed.kill)
                await asyncio.to_thread(killed.start)
            async with asyncio.timeout(120):
                while len({one.correlation_id for one in told}) < sent:
                    await take()
            deciding.cancel()
        boss = await broker.client("boss")
        kept = [one.json() for one in await boss.query("boss.decisions", limit=1_000)]
    assert not [one for one in told if ErrorAnswer.read(one)]
    answered = {one.json()["task"]: one.json()["answer"] for one in told}
    assert len(told) == len(answered) == sent  # one answer for each
    done = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    assert {(task, answer) for task, answer in done} == {
        (str(task), answer) for task, answer in answered.items()
    }
    by_task = Counter(re.search(r"task (\d+)", one["question"])[1] for one in kept)
    assert set(by_task.values()) == {1}  # what was decided is kept once
    kept_and_more = f"{KILLS * scale} kills, {sent} decisions, {len(kept)} kept"
    print(victim, kept_and_more, Counter(answered.values()))  # noqa: T201
