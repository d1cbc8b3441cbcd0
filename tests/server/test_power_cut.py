"""A server whose power is cut: what it has answered with durability `full` is stored."""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from disk_trace import after_cut, events, tracer
from serving import Serving

from mq9 import Mq9Client

pytestmark = [
    pytest.mark.programs,
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace"),
]

CUTS = 10
ROUNDS = 4


async def traced(directory, durability):
    """Send to a traced server; the bytes of its file before that, and what happened then."""
    database, trace = directory / "mq9.db", directory / "trace"
    async with Mq9Client(f"sqlite:///{database}") as client:
        await client.mailbox_create(name="inbox")
    begun_with = database.read_bytes()
    options = ("--data", str(database), "--durability", durability)
    async with Serving(directory, *options, prefix=tracer(trace)) as server:
        async with Mq9Client(server.url) as client:
            for _ in range(ROUNDS):
                await asyncio.gather(*(client.send("inbox", b"x" * 300) for _ in range(200)))
                for _ in range(20):
                    await client.send("inbox", b"y" * 300)
        await asyncio.to_thread(server.kill)
    return begun_with, events(trace, database)


def is_whole(directory, content, log, answered):
    """Tell whether a file is sound, and holds every message up to the last that was answered."""
    database = directory / "cut.db"
    database.write_bytes(content)
    database.with_name("cut.db-wal").write_bytes(log)
    database.with_name("cut.db-shm").unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count, last = connection.execute("SELECT count(*), max(msg_id) FROM messages").fetchone()
        counters = connection.execute("SELECT messages, next_msg_id FROM mailboxes").fetchone()
    assert counters == (count, count), "the mailbox counts what is not stored"
    return answered < 0 or (last == count - 1 and last >= answered)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_an_answered_message_survives_a_power_cut_with_durability_full(
    durability, tmp_path, scale
):
    begun_with, happened = await traced(tmp_path, durability)
    survived = []
    for seed in range(CUTS * scale):
        dice = random.Random(seed)
        before = happened[: dice.randrange(len(happened) // 10, len(happened))]
        survived.append(is_whole(tmp_path, *after_cut(begun_with, before, dice)))
    if durability == "full":
        assert all(survived)
    else:  # it does not promise that, which shows that the cuts take something away
        assert not all(survived)
