"""Runs workers of one agent, each in a process of its own; says their process ids on stdout.

    python crew.py URL CHECKPOINTS WORKERS LEASE_MS

The processes are forked when all is imported. SIGTERM stops one.
"""

import asyncio
import os
import sys

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_mq9 import MailboxWorker

AGENT = "crew"
_LOCKED_S = 60  # of the checkpoints, by so many other processes


class State(TypedDict, total=False):
    number: int
    seconds: float  # that each step takes
    square: int
    steps: list[str]


def step(name):
    async def run(state):
        await asyncio.sleep(state.get("seconds", 0))
        return {"square": state["number"] ** 2, "steps": [*state.get("steps", []), name]}

    return run


def build(saver):
    builder = StateGraph(State)
    for name in ("read", "work"):
        builder.add_node(name, step(name))
    builder.add_edge(START, "read")
    builder.add_edge("read", "work")
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


async def work(url, checkpoints, lease_ms):
    async with aiosqlite.connect(checkpoints, timeout=_LOCKED_S) as connection:
        saver = AsyncSqliteSaver(connection)
        worker = MailboxWorker(
            build(saver), agent=AGENT, server=url, concurrency=4, lease_ms=lease_ms
        )
        await worker.arun(signals=True)


def main(url, checkpoints, workers, lease_ms):
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            asyncio.run(work(url, checkpoints, lease_ms))
            os._exit(0)
        children.append(child)
    print(*children, flush=True)  # noqa: T201  # to the test
    ended = {}
    while len(ended) < workers:
        pid, status = os.wait()
        ended[pid] = os.waitstatus_to_exitcode(status)
    print(*(ended[child] for child in children), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
