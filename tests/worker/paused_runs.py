"""Workers that are paused by SIGSTOP for longer than a lease, at random, and then go on.

Some conversations go on all the time, in several processes with one checkpointer. What was found
goes to stdout, as JSON.

    python paused_runs.py PAUSES SEED sqlite FILE
    python paused_runs.py PAUSES SEED postgres CONNINFO
"""

import asyncio
import contextlib
import json
import operator
import random
import signal
import sys
from typing import Annotated

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_mq9 import MailboxWorker
from mq9 import Mq9Client
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.engine.commands import Limits
from mq9.server.server import Server

LEASE_MS = 1_000
WORKERS = 3
CONVERSATIONS = 8
WAITING = 3  # of a conversation's tasks, at most
NODES = ("read", "think", "write")
DONE_WITHIN_S = 60


class State(TypedDict, total=False):
    task: str
    trail: Annotated[list[str], operator.add]


@contextlib.asynccontextmanager
async def checkpointer(kind, where):
    if kind == "sqlite":
        async with AsyncSqliteSaver.from_conn_string(where) as saver:
            yield saver
    else:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(where) as saver:
            yield saver


def make_graph(saver, chance):
    """A graph of three steps, the second one of which is a graph of its own."""

    def step(name):
        async def run(state):
            await asyncio.sleep(chance.random() / 50)
            return {"trail": [f"{state['task']} {name}"]}

        return run

    inner = StateGraph(State).add_node("inner", step("think"))
    inner.add_edge(START, "inner").add_edge("inner", END)
    think = inner.compile()

    async def call(state):
        done = await think.ainvoke({"task": state["task"]})
        return {"trail": done["trail"]}

    builder = StateGraph(State)
    builder.add_node("read", step("read")).add_node("think", call).add_node("write", step("write"))
    builder.add_edge(START, "read").add_edge("read", "think").add_edge("think", "write")
    builder.add_edge("write", END)
    return builder.compile(checkpointer=saver)


async def work(url, kind, where, seed):
    """Work until it is killed."""
    async with checkpointer(kind, where) as saver:
        worker = MailboxWorker(
            make_graph(saver, random.Random(seed)),
            agent="lawyer",
            server=url,
            lease_ms=LEASE_MS,
            max_deliveries=1_000_000,
            max_deaths=1_000_000,  # whoever is paused that often while it works on one message
            retry_delay=0.05,
            max_retry_delay=0.5,
        )
        await worker.arun()


class Talk:
    """Sends tasks to the conversations, a few ahead of the answers."""

    def __init__(self, client):
        self._client = client
        self.sent = {f"{number}": 0 for number in range(CONVERSATIONS)}
        self.answers = []

    async def go_on(self):
        answered = dict.fromkeys(self.sent, 0)
        for conversation, _, _ in self.answers:
            answered[conversation] += 1
        for conversation, count in self.sent.items():
            if count - answered[conversation] < WAITING:
                await self._client.send(
                    "lawyer",
                    {"task": f"{count}"},
                    sender="ada",
                    reply_to="ada",
                    correlation_id=f"{conversation} {count}",
                    headers={"conversation": conversation},
                )
                self.sent[conversation] += 1

    async def collect(self):
        fetched = await self._client.fetch("ada", group_name="ada", max_wait_ms=100)
        for one in fetched:
            conversation, task = one.correlation_id.split()
            self.answers.append((conversation, task, one.json()["trail"]))
            await one.ack()

    @property
    def is_done(self):
        return len(self.answers) >= sum(self.sent.values())


async def pause_at_random(workers, count, chance):
    """Pause one worker after another, up to all but one at the same time."""
    free = asyncio.Semaphore(WORKERS - 1)

    async def pause(process):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_MS / 1000 * chance.uniform(1.05, 2))
        process.send_signal(signal.SIGCONT)

    running = {}
    for _ in range(count):
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        await free.acquire()
        awake = [one for one in workers if one not in running]
        chosen = chance.choice(awake)
        running[chosen] = asyncio.create_task(pause(chosen))

        def end(_, chosen=chosen):
            del running[chosen]
            free.release()

        running[chosen].add_done_callback(end)
    await asyncio.gather(*running.values())


async def main(pauses, seed, kind, where):
    chance = random.Random(seed)
    async with checkpointer(kind, where) as saver:
        await saver.setup()
    broker = EmbeddedBroker.in_memory(SystemClock())
    server = Server(broker, max_payload=Limits().max_payload)
    await server.start(port=0)
    workers = []
    try:
        async with Mq9Client(server.url) as client:
            for name in ("lawyer", "ada"):
                await client.mailbox_create(name=name)
            for number in range(WORKERS):
                arguments = ("work", server.url, kind, where, str(seed + number))
                workers.append(
                    await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments)
                )
            talk = Talk(client)
            while len(talk.answers) < CONVERSATIONS:  # until all workers have begun
                await talk.go_on()
                await talk.collect()
            pausing = asyncio.create_task(pause_at_random(workers, pauses, chance))
            while not pausing.done():
                await talk.go_on()
                await talk.collect()
            await pausing
            for _ in range(2):  # the second time a last task each goes on from all the others
                async with asyncio.timeout(DONE_WITHIN_S):
                    while not talk.is_done:
                        await talk.collect()
                await talk.go_on()
            async with asyncio.timeout(DONE_WITHIN_S):
                while not talk.is_done:
                    await talk.collect()
            dead = [one.moved.reason for one in await client.query("lawyer.dead", limit=10)]
            json.dump({"sent": talk.sent, "answers": talk.answers, "dead": dead}, sys.stdout)
    finally:
        for process in workers:
            process.kill()
            await process.wait()
        await server.close()
        await broker.close()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        asyncio.run(work(*sys.argv[2:5], int(sys.argv[5])))
    else:
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]))
