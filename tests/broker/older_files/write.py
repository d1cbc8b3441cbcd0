"""Writes a file with mail of every kind, by the code of whichever version runs this.

The files beside this one were made by it, each in a checkout of the last commit with that schema:

    PYTHONPATH=. python .../older_files/write.py /tmp/mq9.db && gzip -9n /tmp/mq9.db

The first edition is schema 2, commit 330753b. It uses only what that one can do already.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from mq9 import Mq9Client
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Session
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport

START_S = 1_800_000_000
HOUR_S = 3_600
FETCH = {"group_name": "workers", "deliver": "earliest", "max_wait_ms": 0, "lease_ms": 600_000}


@asynccontextmanager
async def client(path, at_s, agent=None):
    """Use the file at an instant, in seconds from the start, perhaps as an agent."""
    broker = EmbeddedBroker.on_file(path, ManualClock(START_S + at_s))

    async def release():
        await broker.close()

    transport = DirectTransport(broker, Session(f"session.{agent}", agent), release)
    async with Mq9Client(transport=transport) as client:
        yield client


async def write(path):
    async with client(path, 0) as one:
        await make_mailboxes(one)
        await send_mail(one)
        await take_mail(one)
        await register(one)
    async with client(path, 0, "ada") as ada:
        await ada.mailbox_create(name="ada", desc="Ada's", ttl=30 * HOUR_S)
        await ada.mailbox_grant("ada", ["bob"])
    async with client(path, 10) as later:  # what lasted 5 s is over
        await later.send("inbox", "much later", sender="eve")
        await later.fetch("inbox", consumer="two", num_msgs=2, **FETCH)
        await later.fetch("inbox", consumer="two", num_msgs=1, **{**FETCH, "group_name": "late"})


async def make_mailboxes(one):
    await one.mailbox_create(name="inbox", desc="Everything", public=True)
    await one.mailbox_create(name="brief", ttl=5)
    await one.mailbox_create(name="dropped")
    await one.send("dropped", "nobody reads this")
    await one.mailbox_drop("dropped")


async def send_mail(one):
    """Send messages 0 to 11, of which 2 is replaced, 9 deleted and 10 expires; delay two others."""
    await one.send("inbox", "normal")
    await one.send("inbox", "urgent", priority="urgent")
    await one.send("inbox", "old state", key="state")
    await one.send("inbox", "new state", key="state", sender="ada")
    await one.send("inbox", "grüße 你好", tags=["greeting", "u"])
    await one.send("inbox", b"\x00\xff\xfe")
    await one.send("inbox", "once", id="once", sender="ada")
    await one.send("inbox", "a question", reply_to="ada", correlation_id="c1", path=["ada", "bob"])
    await one.send("inbox", "critical", priority="critical", ttl=HOUR_S)
    await one.delete("inbox", await one.send("inbox", "deleted"))
    await one.send("inbox", "short-lived", ttl=5)
    await one.send("inbox", "long ".ljust(5_000, "x"))
    await one.send("inbox", "tomorrow", delay=24 * HOUR_S, key="state", tags=["later"])
    await one.send("inbox", "in an hour", delay=HOUR_S, priority="urgent", ttl=2 * HOUR_S)
    await one.send("brief", "lost with its mailbox")


async def take_mail(one):
    """Have a group confirm 0, 1 and 8, give 3 back and hold 4; another one confirms everything."""
    await one.fetch("inbox", consumer="one", num_msgs=5, **FETCH)  # 8, 1, 0, 3, 4
    await one.ack("inbox", "workers", 0, consumer="one")
    await one.nack("inbox", "workers", 3, consumer="one")
    await one.extend("inbox", "workers", [4], consumer="one", lease_ms=700_000)
    await one.fetch("inbox", consumer="one", num_msgs=1, **FETCH)  # what it holds
    everything = await one.fetch("inbox", consumer="one", **{**FETCH, "group_name": "readers"})
    await one.ack("inbox", "readers", everything[-1].msg_id, consumer="one")


async def register(one):
    card = {
        "name": "cook",
        "mailbox": "inbox",
        "description": "Makes soup",
        "capabilities": ["soup"],
    }
    await one.agent_register(card, ttl=48 * HOUR_S)
    await one.agent_report({"name": "cook", "status": "busy"})
    await one.agent_register({"name": "removed", "mailbox": "inbox"})
    await one.agent_unregister(name="removed")


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
