"""The index of conversations: what it comes to, whoever builds it, whatever happens meanwhile."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from direct import client_of

from mq9 import Mq9Client
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.discovery.index import AGENT_INDEX
from mq9.engine import state
from mq9.engine.commands import Limits
from mq9.listings import index
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.storage.schema import drop_conversations
from mq9.testing import ManualClock

LISTER = Path(__file__).with_name("lister_to_kill.py")


def content(db):
    """What the index holds, without the ids that each gives as it likes."""
    senders = {0: None, 1: "moved"}
    for id_, name, verified in db.execute("SELECT id, name, verified FROM conversation_senders"):
        senders[-id_] = (name, verified)
    held = {}
    names = dict(db.execute("SELECT id, name FROM conversations"))
    for id_, at_ms, mailbox, number, sender in db.execute("SELECT * FROM conversation_messages"):
        held.setdefault(id_, []).append((at_ms, mailbox, number, senders[sender]))
    keys = {id_: names[id_] or tuple(held[id_]) for id_ in names}
    conversations = {
        keys[id_]: (last_ms, tie, sorted(held[id_], key=repr))
        for id_, last_ms, tie in db.execute("SELECT id, last_ms, tie FROM conversations")
    }
    places = {
        (senders.get(place, place) if place < 0 else place, keys[id_]): count
        for place, id_, count in db.execute(
            "SELECT place, conversation, messages FROM conversation_places"
        )
    }
    links = {
        (senders[sender], mailbox): count
        for sender, mailbox, count in db.execute(
            "SELECT sender, mailbox, messages FROM conversation_links"
        )
    }
    return {
        "conversations": conversations,
        "places": places,
        "links": links,
        "dead": set(db.execute("SELECT * FROM conversation_dead")),
        "messages": db.execute("SELECT messages FROM conversations_index").fetchone(),
    }


def build(db):
    """Do all that is to be done, and look at all rows for what is gone."""
    with store.transaction(db):
        task = index.to_do(db)
        while task.progress is not None:
            index.index_part(db, task)
        for _ in range(2):  # from where it ended last, and from the beginning
            index.check_some(db, 10_000)


def built_anew(db):
    """What an index comes to that is made anew."""
    with store.transaction(db):
        drop_conversations(db)
    build(db)
    return content(db)


class Traffic:
    """Does whatever may happen to messages, at random."""

    def __init__(self, client, clock, dice):
        self._client = client
        self._clock = clock
        self._dice = dice
        self._boxes = ["a", "b", "c", "a.dead"]

    async def begin(self):
        for name in self._boxes:
            await self._client.mailbox_create(name=name)

    async def step(self):
        do = self._dice.choice([self.send] * 6 + [self.take] * 3 + [self.remove, self.drop])
        await do(self._dice.choice(self._boxes))
        if self._dice.random() < 0.3:
            await self._clock.advance(self._dice.choice([1, 40]))

    async def send(self, box):
        dice, client = self._dice, self._client
        await client.send(
            box,
            dice.choice("xyz"),
            sender=dice.choice([None, "ann", "ben"]),
            key=dice.choice([None, None, "k"]),
            ttl=dice.choice([None, None, 100]),
            delay=dice.choice([None, None, None, 30]),
            reply_to=dice.choice([None, *self._boxes]),
            **dice.choice(
                [
                    {},
                    *({"correlation_id": f"q{number}"} for number in range(3)),
                    {"headers": {"conversation": "one"}},
                    {"headers": {"part-of-conversation": "q1"}},
                ]
            ),
        )

    async def take(self, box):
        client = self._client
        for message in await client.fetch(box, group_name=box, num_msgs=2, max_wait_ms=0):
            if self._dice.random() < 0.3 and box != "a.dead":
                await message.move("a.dead")
            elif self._dice.random() < 0.5 and message.reply_to is not None:
                await message.reply("done", sender="ben")
                await message.ack()

    async def remove(self, box):
        client = self._client
        for message in (await client.query(box, limit=3))[:1]:
            await client.delete(box, message.msg_id)

    async def drop(self, box):
        if self._dice.random() < 0.3:
            client = self._client
            await client.mailbox_drop(box)
            await client.mailbox_create(name=box)


@pytest.mark.parametrize("seed", range(12))
async def test_it_comes_to_what_one_made_anew_does(seed, monkeypatch):
    dice = random.Random(seed)
    monkeypatch.setattr(index, "AT_ONCE", dice.choice([3, 50]))
    db, clock = store.open_memory(), ManualClock()
    broker = EmbeddedBroker(
        lambda steady, _: InlineBackend(db, steady, Limits(), AGENT_INDEX), clock
    )
    async with client_of(broker, BrokerSession("session")) as client:
        traffic = Traffic(client, clock, dice)
        await traffic.begin()
        for _ in range(150):
            await traffic.step()
            if dice.random() < 0.2:
                await client.conversations()
        before = state.digest(db)
        build(db)
        found = content(db)
        assert found == built_anew(db)
        assert found["messages"] == (sum(len(one[2]) for one in found["conversations"].values()),)
        assert state.digest(db) == before
    await broker.close()


async def fill(url, count):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="box")
        for number in range(count):
            await client.send("box", "x", sender="ann", correlation_id=f"q{number % 50}")


async def test_two_processes_take_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "AT_ONCE", 20)
    monkeypatch.setattr("mq9.listings.listings.MOST_S", 0)
    path = tmp_path / "mq9.db"
    await fill(f"sqlite:///{path}", 100)
    async with AsyncExitStack() as stack:
        clients = []
        for name in "ab":
            broker = EmbeddedBroker.on_file(path, SystemClock())
            stack.push_async_callback(broker.close)
            clients.append(await stack.enter_async_context(client_of(broker, BrokerSession(name))))
        progress = []
        for client in clients * 3:
            page = await client.conversations()
            progress.append(None if page.building is None else page.building.done)
        assert progress == [20, 40, 60, 80, None, None]
        one, other = clients
        await one.send("box", "x", correlation_id="new")
        assert (await other.conversations()).conversations[0].id == "new"


async def complete(url):
    async with Mq9Client(url) as client:
        while (await client.conversations()).building is not None:
            pass


async def test_a_file_whose_time_is_set_back_has_another_order(tmp_path):
    path = tmp_path / "mq9.db"
    async with AsyncExitStack() as stack:
        for now, id_ in ((1_800_000_000 + 30 * 86_400, "old"), (1_800_000_060, "new")):
            clock = ManualClock(now)
            broker = EmbeddedBroker.on_file(path, clock)
            stack.push_async_callback(broker.close)
            async with client_of(broker, BrokerSession(id_)) as client:
                await client.mailbox_create(name="box", renew=True)
                await client.send("box", "x", correlation_id=id_)
                found = await client.conversations()
            if id_ == "old":
                store.set_file_time(path, 1_800_000_000_000)
    assert [one.id for one in found.conversations] == ["new", "old"]


@pytest.mark.programs
def test_builders_that_are_killed(tmp_path):
    path = tmp_path / "mq9.db"
    url = f"sqlite:///{path}"
    asyncio.run(fill(url, 400))
    for lines in (1, 3, 5):
        with subprocess.Popen(
            [sys.executable, LISTER, url], stdout=subprocess.PIPE, text=True
        ) as lister:
            for _ in range(lines):
                assert lister.stdout.readline().startswith("Progress(")
            lister.kill()
    asyncio.run(complete(url))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        found = content(db)
        assert found["messages"] == (400,)
        assert len(found["conversations"]) == 50
        assert found == built_anew(db)
