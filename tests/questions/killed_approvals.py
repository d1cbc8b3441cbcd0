"""Runs a worker whose graph asks, and the person whom it asks, killed at one point after another.

The points are those of ``killed_runs``, and what was found after each kill goes to stdout as there.

    python killed_approvals.py DIRECTORY STEP TASKS

kills at every STEPth point, with so many tasks of one conversation.
"""

import json

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from mq9.testing import FakeBroker
from tests.questions.graphs import Asking, asked, outcome, working
from tests.worker.killed_runs import (
    AN_HOUR,
    START,
    Diary,
    KilledBroker,
    KilledSaver,
    count_leases,
    main,
)

TOPICS = ("tea", "milk")
MAILBOXES = ("lawyer", "lawyer.answers")


async def prepare(directory, count):
    """Send the tasks, the later ones of which come while the first one waits for the person."""
    with FakeBroker(path=directory / "mail.db", start=START) as broker:
        async with broker.client() as client:
            for name in ("lawyer", "asker", "boss"):
                await client.mailbox_create(name=name)
            for topic in TOPICS[:count]:
                await client.send(
                    "lawyer",
                    {"topic": topic},
                    sender="ada",
                    reply_to="asker",
                    correlation_id=topic,
                    headers={"conversation": "one"},
                )


async def decide(client, diary):
    """Answer what the boss is asked, as mq9 reply does."""
    for message, _ in await asked(client):
        diary.note("asked", message.correlation_id)
        await client.reply(message, "yes", sender="boss", id=message.correlation_id)
        await client.delete("boss", message.msg_id)


async def is_done(client, count):
    if len(await outcome(client)) < count:
        return False
    statuses = [await client.mailbox_status(one, group_name="lawyer") for one in MAILBOXES]
    return all(one.group.acked + one.group.moved == one.stored for one in statuses)


async def work(directory, count, start, last):
    """Work and decide until all is done, or until the point to be killed at."""
    diary = Diary(directory / "diary", last)
    broker = KilledBroker(diary, path=directory / "mail.db", start=start)

    async def note(node, config):
        diary.note("ran", config["metadata"]["mq9_message"], node)
        diary.point()

    async with AsyncSqliteSaver.from_conn_string(str(directory / "threads.db")) as saver:
        saver.__class__, saver.diary = KilledSaver, diary
        with broker:
            graph = Asking("May I?", note=note, saver=saver).graph
            async with broker.client() as client, broker.client() as boss, working(client, graph):
                while not await is_done(boss, count):
                    await decide(boss, diary)
                    await client.clock.advance(1)


async def look(directory):
    """Return what there is when all is done."""
    with FakeBroker(path=directory / "mail.db", start=START + 2 * AN_HOUR) as broker:
        async with broker.client() as client:
            return {
                "answers": [
                    (one.correlation_id, one.json()["trail"]) for one in await client.query("asker")
                ],
                "dead": len(await client.query("lawyer.dead")),
                "held": count_leases(broker.path),
                "diary": [json.loads(line) for line in (directory / "diary").open()],
            }


if __name__ == "__main__":
    main(prepare, work, look)
