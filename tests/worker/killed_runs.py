"""Runs a worker that is killed at one point after another, each time with another one after it.

A point is wherever something has just happened that outlasts a kill: after each request that
changed something at the broker, each write of the checkpointer, and what a node does. What was
found after each kill goes to stdout, as a line of JSON. Each worker is a forked process, so that
all is imported once.

    python killed_runs.py DIRECTORY STEP TASKS

kills at every STEPth point, with so many tasks.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from mq9.engine.groups import LEASES
from mq9.protocol.requests import Fetch
from mq9.protocol.verbs import verb_of
from mq9.testing import FakeBroker
from tests.worker.graphs import Steps, working

AN_HOUR = 3_600
START = 1_800_000_000
CONCURRENCY = 2
NODES = ("read", "think", "write")
TASKS = {"tea": "x", "rice": "x", "salt": "y"}  # the conversation by the topic


class Diary:
    """Notes what happens, so that it is there after a kill, and kills at one of the points.

    Args:
        path: The file.
        last: The number of the point to be killed at, from 1; 0 for none.
    """

    def __init__(self, path, last):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = last

    def note(self, *words):
        os.write(self._file, json.dumps(words).encode() + b"\n")

    def point(self):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class KilledBroker(FakeBroker):
    def __init__(self, diary, **options):
        super().__init__(**options)
        self._diary = diary

    async def carry_out(self, request):
        reply = await super().carry_out(request)
        found_nothing = isinstance(request.body, Fetch) and not reply.outcome.messages
        if not verb_of(type(request.body)).reads and not found_nothing:
            self._diary.point()
        return reply


class KilledSaver(AsyncSqliteSaver):
    diary = None

    async def aput(self, config, checkpoint, metadata, new_versions):
        stored = await super().aput(config, checkpoint, metadata, new_versions)
        values = checkpoint["channel_values"]
        self.diary.note("stored", config["metadata"]["mq9_message"], values.get("trail", []))
        self.diary.point()
        return stored

    async def aput_writes(self, *arguments):
        await super().aput_writes(*arguments)
        self.diary.point()


def make_graph(diary, saver):
    async def act(state, config):
        node = config["metadata"]["langgraph_node"]
        diary.note("ran", config["metadata"]["mq9_message"], node)
        diary.point()

    return Steps(*NODES, **dict.fromkeys(NODES, act)).compile(saver)


async def send_tasks(client, count):
    for name in ("lawyer", "answers"):
        await client.mailbox_create(name=name)
    for topic, conversation in [*TASKS.items()][:count]:
        await client.send(
            "lawyer",
            {"topic": topic},
            sender="ada",
            reply_to="answers",
            correlation_id=topic,
            headers={"conversation": conversation},
        )


async def is_done(client):
    status = await client.mailbox_status("lawyer", group_name="lawyer")
    return status.group.acked + status.group.moved == status.stored


async def work(directory, _count, start, last):
    """Work until all is done, or until the point to be killed at."""
    diary = Diary(directory / "diary", last)
    broker = KilledBroker(diary, path=directory / "mail.db", start=start)
    async with AsyncSqliteSaver.from_conn_string(str(directory / "threads.db")) as saver:
        saver.__class__, saver.diary = KilledSaver, diary
        with broker:
            async with broker.client() as client:
                options = {"concurrency": CONCURRENCY, "progress": "mailbox"}
                async with working(client, make_graph(diary, saver), **options):
                    while not await is_done(client):
                        await client.clock.advance(1)


async def prepare(directory, count):
    with FakeBroker(path=directory / "mail.db", start=START) as broker:
        async with broker.client() as client:
            await send_tasks(client, count)


def count_leases(path):
    """Count what is leased to somebody, in any mailbox."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        [(count,)] = database.execute(f"SELECT count(*) FROM {LEASES} WHERE holder IS NOT NULL")  # noqa: S608  # constant text
    return count


async def look(directory):
    """Return what there is when all is done."""
    with FakeBroker(path=directory / "mail.db", start=START + 2 * AN_HOUR) as broker:
        async with broker.client() as client:
            answers = await client.query("answers", limit=1_000)
            return {
                "answers": [
                    (one.correlation_id, one.json()["trail"])
                    for one in answers
                    if one.correlation_id is not None
                ],
                "progress": [
                    (one.headers["progress-of"], one.headers["progress"])
                    for one in answers
                    if one.correlation_id is None
                ],
                "dead": len(await client.query("lawyer.dead")),
                "held": count_leases(broker.path),
                "diary": [json.loads(line) for line in (directory / "diary").open()],
            }


def forked(coroutine):
    """Run a coroutine in a process of its own, and tell whether it came to its end.

    Raises:
        RuntimeError: It ended in another way than by a kill.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(coroutine)
            code = 0
        finally:
            os._exit(code)
    coroutine.close()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"a worker ended with {code}")
    return code == 0


def main(prepare, work, look):
    """Kill the work at one point after another, and print what is found each time."""
    root, step, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for last in itertools.count(1, step):
        directory = root / str(last)
        directory.mkdir()
        asyncio.run(prepare(directory, count))
        survived = forked(work(directory, count, START, last))
        forked(work(directory, count, START + AN_HOUR, 0))
        found = asyncio.run(look(directory))
        print(json.dumps({"last": last, "survived": survived, **found}), flush=True)  # noqa: T201
        if survived:
            return


if __name__ == "__main__":
    main(prepare, work, look)
