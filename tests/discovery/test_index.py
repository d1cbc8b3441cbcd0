"""The text index follows the registry, whoever changes it, and can be made anew at any time."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import orjson
import pytest
from calls import call, carry_out

from mq9 import Mq9Client
from mq9.discovery import index, text_search
from mq9.discovery.index import AGENT_INDEX
from mq9.engine import commands
from mq9.engine import mailboxes as engine_registry
from mq9.protocol import requests
from mq9.storage import store

CARDS = {
    "cook": "Makes soup, stew and bread",
    "lawyer": "Reads contracts and warns of unfair clauses",
    "天气": "提供北京的天气和气温",
    "poet": "Writes poems about soup",
}
QUESTIONS = ("soup", "unfair contract", "天气", "cook", "poems soup bread", "cooking")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mq9.db"


def client_on(file):
    return Mq9Client(f"sqlite:///{file.as_posix()}")


async def register(client, cards):
    for number, (name, payload) in enumerate(cards.items()):
        await client.agent_register({"name": name, "mailbox": f"box{number}", "payload": payload})


async def answers(client):
    """What each question is answered with, scores included."""
    return {
        question: [
            (agent.match.name, agent.match.score)
            for agent in await client.agent_discover(text=question)
        ]
        for question in QUESTIONS
    }


@pytest.fixture
async def expected(file):
    """The answers of an index that followed each registration; the file is closed again."""
    async with client_on(file) as client:
        await register(client, CARDS | {"gardener": "Grows herbs for soup"})
        await client.agent_unregister(name="gardener")
        found = await answers(client)
    assert [names[0][0] for names in found.values()] == [
        *("poet", "lawyer", "天气", "cook", "poet", "cook")
    ]
    return found


DAMAGES = {
    "the index is missing": "DROP TABLE agents_text",
    "all tables are missing": "DROP TABLE agents_text; DROP TABLE agents_index;"
    " DROP TABLE agents_vectors",
    "other rules made it": "UPDATE agents_index SET version='0'; DELETE FROM agents_text",
    "making it was interrupted": "DELETE FROM agents_text WHERE rowid>2;"
    "UPDATE agents_index SET id=2",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_an_index_that_is_made_anew_answers_as_before(file, expected, damage):
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(DAMAGES[damage])
    async with client_on(file) as client:
        assert await answers(client) == expected


async def test_an_index_that_is_up_to_date_is_left_alone_on_opening(file, expected):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM agents_text WHERE rowid=1")
        connection.commit()
    async with client_on(file) as client:
        assert await answers(client) != expected


async def test_a_change_by_another_version_lets_the_index_be_made_anew(file, expected, monkeypatch):
    async with client_on(file) as client:
        with monkeypatch.context() as patched:
            patched.setattr(index, "VERSION", "of another program")
            await register(client, {"cook": "Knows no more than tea"})
    assert version_in(file) == "several"
    async with client_on(file) as client:
        assert version_in(file) == index.VERSION
        assert [one["name"] for one in await client.agent_discover(text="tea")] == ["cook"]


def version_in(file):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT version FROM agents_index").fetchone()[0]


def test_several_that_open_the_file_at_once_make_one_index(file, monkeypatch):
    monkeypatch.setattr(index, "_AT_ONCE", 7)
    registry = Registry(store.open_file(file))
    for number in range(200):
        registry.register(f"{number:03}", "soup")
    registry.connection.execute("DROP TABLE agents_text")
    registry.connection.close()
    together = threading.Barrier(4)

    def open_it():
        with closing(store.open_file(file)) as connection:
            together.wait(60)
            AGENT_INDEX.open(connection)
            return list(connection.execute("SELECT rowid, name FROM agents_text"))

    with ThreadPoolExecutor(4) as threads:
        opened = [threads.submit(open_it) for _ in range(4)]
        for one in opened:
            assert one.result(60) == [(number + 1, f"{number:03}") for number in range(200)]


class Registry:
    """An engine whose changes are indexed when the test says so."""

    def __init__(self, connection=None):
        self.connection = connection or store.open_memory()
        AGENT_INDEX.open(self.connection)

    def __call__(self, command, now=1_000):
        return carry_out(self.connection, command, now)

    def register(self, name, said, mailbox="box", **options):
        registered = orjson.dumps({"description": said})
        self(
            call(
                requests.Register, mailbox, name=name, token=mailbox, payload=registered, **options
            )
        )

    def unregister(self, name):
        self(call(requests.Unregister, "", name=name))

    def follow(self):
        AGENT_INDEX.follow(self.connection)

    def indexed(self):
        rows = self.connection.execute("SELECT name FROM agents_text ORDER BY name")
        return [name for (name,) in rows]

    def find(self, question):
        return [id_ for id_, _ in text_search.ranked(self.connection, question)]


@pytest.fixture
def registry_of(monkeypatch):
    """Make registries."""
    made = []

    def make():
        made.append(Registry())
        return made[-1]

    yield make
    for one in made:
        one.connection.close()


CHANGES = {
    "unregistered": lambda registry: registry.unregister("one"),
    "registered as another": lambda registry: registry.register("one", "rain"),
    "expired": lambda registry: registry(call(commands.Sweep), 61_000),
    "its mailbox dropped": lambda registry: registry(call(requests.DropMailbox)),
    "its name claimed": lambda registry: registry(
        call(commands.ClaimNames, names=(("one", "ada"),), addresses=())
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_removes_a_registration_removes_its_text_and_vector(registry_of, change):
    registry = registry_of()
    registry.register("one", "soup", ttl=60)
    registry.register("two", "soup", mailbox="hall")
    registry.follow()
    index.store_vectors(registry.connection, "model", [(1, b"of one"), (2, b"of two")])
    assert registry.find("soup") == [1, 2]
    CHANGES[change](registry)
    registry.follow()
    assert registry.find("soup") == [2]
    vectors = registry.connection.execute("SELECT agent, vector FROM agents_vectors").fetchall()
    assert vectors == [(2, b"of two")]


def test_an_agent_that_renews_its_registration_is_not_indexed_again(registry_of):
    registry = registry_of()
    registry.register("one", "soup")
    registry.follow()
    before = registry.connection.total_changes
    registry.follow()
    assert registry.connection.total_changes == before
    registry.register("one", "soup")
    renewed = registry.connection.total_changes
    registry.follow()
    assert registry.connection.total_changes == renewed


def test_what_comes_and_goes_between_two_looks_is_never_indexed(registry_of):
    registry = registry_of()
    registry.register("stays", "soup")
    for number in range(20):
        registry.register(f"brief{number}", "soup")
        registry.unregister(f"brief{number}")
    registry.register("comes", "soup")
    registry.unregister("stays")
    registry.follow()
    assert registry.indexed() == ["comes"]


def test_very_many_changes_are_taken_in_a_part_at_a_time(registry_of, monkeypatch):
    monkeypatch.setattr(index, "_AT_ONCE", 3)
    registry = registry_of()
    for number in range(10):
        registry.register(f"{number}", "soup")
    indexed = []
    for _ in range(5):
        registry.follow()
        indexed.append(len(registry.indexed()))
    assert indexed == [3, 6, 9, 10, 10]
    for number in range(7):
        registry.unregister(f"{number}")
    indexed = []
    for _ in range(4):
        registry.follow()
        indexed.append(len(registry.indexed()))
    assert indexed == [7, 4, 3, 3]


def test_an_index_that_is_too_far_behind_still_forgets_who_was_removed(registry_of, monkeypatch):
    monkeypatch.setattr(engine_registry, "_REMOVALS_KEPT", 5)
    monkeypatch.setattr(engine_registry, "_FORGOTTEN_TOGETHER", 1)
    registry = registry_of()
    for number in range(10):
        registry.register(f"{number}", "soup")
    registry.follow()
    for number in range(8):
        registry.unregister(f"{number}")
    count = registry.connection.execute("SELECT count(*) FROM agents_removed").fetchone()
    assert count == (5,)
    registry.follow()
    assert registry.indexed() == ["8", "9"]
    registry.unregister("8")
    registry.follow()
    assert registry.indexed() == ["9"]
