"""Agents are found by meaning, by a small model that the tests made up."""

import asyncio
import math
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import orjson
import pytest
from calls import call
from direct import client_of
from python_programs import run_python

from mq9 import InvalidRequest, Mq9Error
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SteadyClock
from mq9.discovery.embeddings import Unusable
from mq9.discovery.index import AGENT_INDEX
from mq9.discovery.semantic_index import SemanticIndex
from mq9.engine.commands import Limits
from mq9.protocol import requests
from mq9.storage import store
from mq9.storage.backend import InlineBackend
from mq9.testing import FakeBroker, ManualClock

from .agents import Topics, found, register


@pytest.fixture
def topics():
    return Topics()


@pytest.fixture(params=["memory", "file"])
def open_broker(request, tmp_path):
    """Open brokers, in memory or on one file."""
    clock = ManualClock()

    def open_one(embeddings):
        if request.param == "memory":
            return EmbeddedBroker.in_memory(clock, embeddings=embeddings)
        return EmbeddedBroker.on_file(tmp_path / "mq9.db", clock, embeddings=embeddings)

    open_one.clock = clock
    open_one.file = tmp_path / "mq9.db" if request.param == "file" else None
    return open_one


@pytest.fixture
async def broker(open_broker, topics):
    broker = open_broker(topics)
    yield broker
    await broker.close()


@pytest.fixture
async def backend():
    """A backend without a broker, in memory."""
    backend = InlineBackend(store.open_memory(), SteadyClock(ManualClock()), Limits(), AGENT_INDEX)
    yield backend
    await backend.close()


@pytest.fixture
def client(broker):
    return client_of(broker)


async def register_in(backend, **agents):
    for name, payload in agents.items():
        card = orjson.dumps({"name": name, "payload": payload})
        command = call(requests.Register, name, name=name, token=name, payload=card)
        await backend.run(command)


async def test_an_agent_is_found_by_words_that_it_does_not_use(client):
    await register(client, cook="soup", weather="rain", accountant="tax")

    for question, first in (("stew", "cook"), ("sunny", "weather"), ("invoice", "accountant")):
        agents = await client.agent_discover(semantic=question)
        assert agents[0].match.name == first
        assert {agent.match.mode for agent in agents} == {"semantic"}
        assert agents[0].match.score > agents[1].match.score


async def test_text_is_still_by_words(client):
    await register(client, cook="soup")
    assert await client.agent_discover(text="stew") == []
    [agent] = await client.agent_discover(text="soup")
    assert agent.match.mode == "text"


async def test_who_has_every_word_comes_before_who_merely_means_it(client):
    await register(client, first="soup soup soup", second="stew and much else about rain rain")
    assert await found(client, "stew rain please") == ["second", "first"]


async def test_what_is_registered_anew_is_found_as_it_is_now(client, topics):
    await register(client, one="soup", two="rain")
    assert (await found(client, "stew"))[0] == "one"
    await register(client, one="tax", two="stew")
    assert (await found(client, "soup"))[0] == "two"
    assert (await found(client, "invoice"))[0] == "one"
    assert sorted(text for text in topics.embedded if text != "?") == [
        "rain",
        "soup",
        "stew",
        "tax",
    ]


async def test_an_agent_that_was_removed_is_not_found(client, open_broker):
    await register(client, one="soup", two="soup", three="soup")
    assert len(await found(client, "soup")) == 3
    await client.agent_unregister("two")
    assert set(await found(client, "soup")) == {"one", "three"}

    await client.agent_register({"name": "brief", "payload": "soup"}, ttl=10)
    assert len(await found(client, "soup")) == 3
    await open_broker.clock.advance(10)
    assert set(await found(client, "soup")) == {"one", "three"}

    box = await client.mailbox_create(name="hall", ttl=10)
    await client.agent_register({"name": "one", "mailbox": box, "payload": "soup"})
    await open_broker.clock.advance(10)
    assert await found(client, "soup") == ["three"]


async def test_pages_are_slices_of_one_ranking(client):
    await register(client, **{f"agent{number}": "soup " * (number + 1) for number in range(25)})
    everybody = await found(client, "soup", limit=100)
    pages = [await found(client, "soup", limit=10, page=page) for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [name for page in pages for name in page] == everybody


async def test_agents_that_expired_do_not_crowd_out_the_others(client, open_broker, monkeypatch):
    monkeypatch.setattr("mq9.discovery.search._FEWEST_RANKED", 4)
    for number in range(40):
        await client.agent_register({"name": f"expired{number}", "payload": "soup"}, ttl=1)
    await register(client, alive="rain")
    await open_broker.clock.advance(1)
    assert await found(client, "soup", limit=1) == ["alive"]


async def test_vectors_of_agents_that_were_removed_do_not_pile_up(backend, topics, monkeypatch):
    monkeypatch.setattr("mq9.discovery.semantic_index._BATCH", 10)
    index = SemanticIndex(backend, topics)
    await register_in(backend, **{f"agent{number}": "soup" for number in range(20)})
    for number in range(100):
        await register_in(backend, restless=f"stew {number}")
        [(newest, _), *_] = await index.rank(f"stew {number}", 100)
        assert newest == 21 + number
    assert index.count <= 21 * 1.25 + 10
    index.close()


async def test_agents_that_were_removed_are_dropped_when_that_is_asked_for(backend, topics):
    index = SemanticIndex(backend, topics)
    await register_in(backend, **{f"agent{number}": "soup" for number in range(40)})
    await index.rank("soup", 1)
    for number in range(39):
        command = call(requests.Unregister, "", name=f"agent{number}")
        await backend.run(command)
    await index.drop_removed()
    assert index.count == 1
    index.close()


async def test_agents_that_were_removed_do_not_crowd_out_the_others(client, monkeypatch):
    monkeypatch.setattr("mq9.discovery.search._FEWEST_RANKED", 4)
    await register(client, **{f"left{number}": "soup" for number in range(40)})
    await register(client, stayed="rain")
    assert len(await found(client, "soup", limit=100)) == 41
    for number in range(40):
        await client.agent_unregister(name=f"left{number}")
    assert await found(client, "soup", limit=1) == ["stayed"]


async def test_who_registers_while_others_leave_is_found(client, monkeypatch):
    monkeypatch.setattr("mq9.discovery.search._FEWEST_RANKED", 1)
    await register(client, stays="rain")
    for turn in range(20):
        await register(client, **{f"leaves{turn}.{number}": "soup" for number in range(5)})
        await found(client, "soup", limit=1)
        asked = [asyncio.create_task(found(client, "soup", limit=1)) for _ in range(3)]
        for number in range(5):
            await client.agent_unregister(name=f"leaves{turn}.{number}")
            await register(client, **{f"comes{turn}.{number}": f"tax {turn}"})
        await asyncio.gather(*asked)
    assert len(await found(client, "tax", limit=1_000)) == 101


async def test_failing_embeddings_leave_the_words(client, topics, caplog):
    await register(client, cook="soup")
    topics.error = OSError("no network")
    [agent] = await client.agent_discover(semantic="soup")
    assert agent.match.mode == "text"
    assert "agents are found by their words only: " in caplog.text
    assert "no network" in caplog.text

    topics.error = None
    [agent] = await client.agent_discover(semantic="stew")
    assert agent.match.mode == "semantic"


@pytest.mark.parametrize(
    ("method", "vectors"),
    [
        *(("embed_documents", made) for made in ([], [[1.0, 2.0]] * 2, [[math.nan] * 3], [1.0])),
        *(("embed_query", made) for made in ([], [math.nan] * 3, [1.0])),
    ],
)
async def test_embeddings_that_make_nonsense_leave_the_words(client, topics, method, vectors):
    await register(client, cook="soup")
    setattr(topics, method, lambda _texts: vectors)
    [agent] = await client.agent_discover(semantic="soup")
    assert agent.match.mode == "text"


async def test_a_question_that_is_given_up_spoils_nothing(client):
    await register(client, **{f"agent{number}": "soup" for number in range(50)})
    for turns in range(30):
        asked = asyncio.create_task(found(client, "soup", limit=100))
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
    assert len(await found(client, "soup", limit=100)) == 50


async def test_many_questions_at_once_are_answered_each(client):
    await register(client, cook="soup", weather="rain")
    answers = await asyncio.gather(*(found(client, "stew") for _ in range(30)))
    assert answers == [["cook", "weather"]] * 30


class Held(Topics):
    """Embeds no document before it may."""

    def __init__(self):
        super().__init__()
        self.may = threading.Event()

    def embed_documents(self, texts):
        assert self.may.wait(60)
        return super().embed_documents(texts)


async def test_a_question_does_not_wait_long_for_the_vectors_of_others(backend):
    await register_in(backend, cook="soup")
    held = Held()
    index = SemanticIndex(backend, held, timeout_s=0.01)
    for _ in range(20):
        with pytest.raises(Unusable, match=r"longer than 0\.01 s; 0 agents have vectors"):
            await index.rank("stew", 10)
    held.may.set()
    async with asyncio.timeout(30):
        ranking = ()
        while not ranking:
            with suppress(Unusable):
                ranking = await index.rank("stew", 10)
    assert [id_ for id_, _ in ranking] == [1]
    assert held.embedded == ["?", "soup"]
    index.close()


class Choosy(Topics):
    """Refuses whatever speaks of poison, and whatever comes with it."""

    def embed_documents(self, texts):
        if any("poison" in text for text in texts):
            raise ValueError("too long")
        return super().embed_documents(texts)


async def test_one_text_that_cannot_be_embedded_leaves_the_others_alone(open_broker, caplog):
    broker = open_broker(Choosy())
    client = client_of(broker)
    await register(client, cook="soup", evil="poison", weather="rain")
    for _ in range(3):
        assert await found(client, "stew") == ["cook", "weather"]
    assert (
        caplog.text.count("embedding failed for 1 of 3 agents; they are found by their words only")
        == 1
    )
    [agent] = await client.agent_discover(text="poison")
    assert agent.match.name == "evil"
    await register(client, again="poison", more="stew")
    assert (await found(client, "soup"))[:2] in (["cook", "more"], ["more", "cook"])
    await broker.close()


async def test_embeddings_of_another_dimension_replace_those_before(client, topics):
    await register(client, cook="soup")
    assert await found(client, "stew") == ["cook"]
    topics.size = 5
    await register(client, weather="rain")
    modes = []
    async with asyncio.timeout(30):
        while "semantic" not in modes:
            modes += [one.match.mode for one in await client.agent_discover(semantic="stew rain")]
    assert await found(client, "stew") == ["cook", "weather"]


async def test_an_agent_that_registers_again_as_it_was_is_not_embedded_again(client, topics):
    for turn in range(5):
        await register(client, cook="soup")
        await client.agent_report({"name": "cook", "turn": turn})
        [agent] = await client.agent_discover(semantic="stew")
        assert agent.match.status == {"turn": turn}
    await register(client, cook="soup")
    [agent] = await client.agent_discover(semantic="stew")
    assert agent.match.status is None
    assert topics.embedded == ["?", "soup"]


async def test_new_agents_that_take_long_do_not_keep_the_others_from_being_found(backend):
    held = Held()
    held.may.set()
    index = SemanticIndex(backend, held, timeout_s=30)
    await register_in(backend, cook="soup")
    assert [id_ for id_, _ in await index.rank("stew", 10)] == [1]
    held.may.clear()
    await register_in(backend, other="soup")
    index.timeout_s = 0.2
    assert [id_ for id_, _ in await index.rank("stew", 10)] == [1]
    held.may.set()
    index.timeout_s = 30
    assert [id_ for id_, _ in await index.rank("stew", 10)] == [1, 2]
    index.close()


async def test_the_vectors_of_a_mailbox_go_with_it(open_broker, client):
    if open_broker.file is None:
        pytest.skip("nobody else can look into memory")
    box = await client.mailbox_create(name="kitchen")
    for name in ("cook", "waiter"):
        await client.agent_register({"name": name, "mailbox": box, "payload": "soup"})
    await register(client, weather="rain")
    assert len(await found(client, "soup")) == 3
    await client.mailbox_drop(box)
    with sqlite3.connect(open_broker.file) as connection:
        assert connection.execute("SELECT count(*) FROM agents_vectors").fetchone() == (1,)
    connection.close()


@pytest.mark.programs
@pytest.mark.parametrize("url", ["memory://exit", "sqlite:///exit.db"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_process_ends_while_something_is_embedded(tmp_path, url, closed):
    program = f"""
import asyncio, threading, time
from mq9 import Mq9Client

begun = threading.Event()

class Slow:
    def embed_documents(self, texts):
        begun.set()
        time.sleep(600)

    embed_query = embed_documents

async def main():
    client = await Mq9Client.connect({url!r}, embeddings=Slow())
    await client.agent_register({{"name": "cook", "payload": "soup"}})
    asked = asyncio.create_task(client.agent_discover(semantic="stew"))
    await asyncio.to_thread(begun.wait)
    if {closed}:
        await client.close()
    asked.cancel()

asyncio.run(main())
print("over")
"""
    done = run_python("-c", program, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("over\n", 0), done.stderr


async def test_a_broker_closes_while_its_agents_are_embedded(open_broker):
    held = Held()
    broker = open_broker(held)
    client = client_of(broker)
    await register(client, cook="soup")
    asked = asyncio.create_task(client.agent_discover(semantic="stew"))
    for _ in range(20):
        await asyncio.sleep(0)
    await broker.close()
    with pytest.raises(Mq9Error, match="closed"):
        await asked
    held.may.set()


def test_clients_of_several_loops_share_one_ranking(open_broker, topics):
    broker = open_broker(topics)

    async def ask(number):
        client = client_of(broker)
        await register(client, **{f"cook{number}": "soup", f"weather{number}": "rain"})
        for _ in range(10):
            names = await found(client, "stew", limit=100)
            assert f"cook{number}" in names
            assert names.index(f"cook{number}") < names.index(f"weather{number}")

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, ask(number)) for number in range(4)]:
            done.result(60)
    assert sorted(topics.embedded) == sorted(["?", *["soup"] * 4, *["rain"] * 4])
    asyncio.run(broker.close())


async def test_a_broker_for_tests_finds_by_meaning_across_a_restart(topics):
    with FakeBroker(embeddings=topics) as broker:
        client = broker.client()
        await register(client, cook="soup", weather="rain")
        assert await found(client, "stew") == ["cook", "weather"]
        await broker.restart()
        assert await found(client, "stew") == ["cook", "weather"]
    assert topics.embedded == ["?", "soup", "rain", "?"]
    with pytest.raises(InvalidRequest, match="embeddings: int has no embed_documents"):
        FakeBroker(embeddings=7)


async def test_vectors_are_kept_for_the_next_process_and_made_anew_for_another_model(open_broker):
    if open_broker.file is None:
        pytest.skip("what is in memory is gone with the broker")
    embedded = []
    for embeddings, expected in (
        (Topics(), {"soup", "rain"}),
        (Topics(), set()),
        (Topics(size=5), {"soup", "rain"}),
        (Topics(), {"soup", "rain"}),
    ):
        broker = open_broker(embeddings)
        client = client_of(broker)
        if not embedded:
            await register(client, cook="soup", weather="rain")
        assert await found(client, "stew") == ["cook", "weather"]
        embedded.append(set(embeddings.embedded) - {"?"})
        assert embedded[-1] == expected
        await broker.close()
    with sqlite3.connect(open_broker.file) as connection:
        assert connection.execute("SELECT count(*) FROM agents_vectors").fetchone() == (2,)
    connection.close()


async def test_vectors_of_an_older_scheme_are_made_anew(open_broker):
    if open_broker.file is None:
        pytest.skip("what is in memory is gone with the broker")
    for expected in ([], ["?", "soup", "rain"]):
        embeddings = Topics()
        broker = open_broker(embeddings)
        client = client_of(broker)
        await register(client, cook="soup", weather="rain")
        assert await found(client, "stew") == ["cook", "weather"]
        await broker.close()
        assert not expected or embeddings.embedded == expected
        with sqlite3.connect(open_broker.file) as connection:
            (model,) = connection.execute("SELECT DISTINCT model FROM agents_vectors").fetchone()
            name, _, size = model.removesuffix(" mean of parts").rpartition(" ")
            older = f"{name} {size}"  # as it was called when an agent was embedded in one piece
            connection.execute("UPDATE agents_vectors SET model=?", (older,))
        connection.close()


async def test_embeddings_that_change_their_dimension_between_two_texts_recover(client, topics):
    sizes = iter([3, 3, 5])
    embed = topics.embed_documents

    def changing(texts):
        topics.size = next(sizes, 5)
        return embed(texts)

    topics.embed_documents = changing
    await client.agent_register({"name": "cook", "payload": "soup", "tags": [f"tax {'x' * 9}"]})
    await register(client, **{f"cook{number}": f"soup {number}" for number in range(120)})
    modes = []
    async with asyncio.timeout(30):
        while "semantic" not in modes:
            modes += [one.match.mode for one in await client.agent_discover(semantic="stew")]
    assert len(await found(client, "stew", limit=200)) == 121


async def test_another_process_sees_what_one_registers(open_broker):
    if open_broker.file is None:
        pytest.skip("a broker in memory is one process's")
    one, two = open_broker(Topics()), open_broker(Topics())
    first, second = client_of(one), client_of(two)
    await register(first, cook="soup")
    assert await found(second, "stew") == ["cook"]
    await register(second, weather="rain")
    await first.agent_unregister("cook")
    assert await found(first, "rain") == await found(second, "rain") == ["weather"]
    await one.close()
    await two.close()


async def test_without_embeddings_it_is_by_words_and_said_once(open_broker, caplog):
    caplog.set_level("INFO")
    broker = open_broker(None)
    client = client_of(broker)
    await register(client, cook="soup")
    for _ in range(3):
        [agent] = await client.agent_discover(semantic="soup")
        assert agent.match.mode == "text"
    assert caplog.text.count("install the extra `semantic` or give embeddings") == 1
    await broker.close()


CARD = {
    "description": "soup",
    "url": "https://rain.example",
    "skills": [
        {"id": "rain", "name": "stew", "description": "Soup", "tags": ["tax", "rain"]},
        {"name": "more", "description": "stew", "tags": ["tax"], "examples": ["sunny", "stew"]},
    ],
}


async def test_the_parts_of_a_card_are_embedded_apart_and_no_text_twice(client, topics):
    await client.agent_register({**CARD, "name": "cook"})
    [agent] = await client.agent_discover(semantic="soup")
    assert topics.embedded == ["?", "soup", "tax rain", "stew more sunny"]
    # A third of it is soup, a third tax and rain, a third stew and sun.
    assert agent.match.score == pytest.approx(0.5 + 0.74, abs=0.01)  # in one piece: 0.67


async def test_who_says_nothing_of_itself_is_found_by_its_name(client, topics):
    await client.agent_register({"name": "soup", "url": "https://rain.example"})
    assert await found(client, "stew") == ["soup"]
    assert topics.embedded == ["?", "soup"]


class Strict(Topics):
    """Says which matches are weak."""

    min_score = 0.5


async def test_what_is_weak_is_said_by_the_embeddings_and_left_out(open_broker):
    broker = open_broker(Strict())
    client = client_of(broker)
    await register(client, cook="soup", weather="rain")
    for options, expected in (
        ({}, [("cook", False)]),
        ({"min_score": 0}, [("cook", False), ("weather", True)]),
        ({"min_score": 0.01}, [("cook", False), ("weather", True)]),
        ({"min_score": 1}, []),
    ):
        agents = await client.agent_discover(semantic="stew", **options)
        assert [(one.match.name, one.match.weak) for one in agents] == expected
        assert (agents.mode, agents.has_more) == ("semantic", False)
    agents = await client.agent_discover(semantic="stew", min_score=0, limit=1)
    assert agents.has_more
    assert not (await client.agent_discover(semantic="stew", limit=1)).has_more
    await broker.close()


async def test_who_points_the_other_way_is_found_when_no_score_is_too_low(open_broker):
    class Opposed(Topics):
        def _vector(self, text):
            return [-1.0] if "not" in text else [1.0]

    broker = open_broker(Opposed())
    client = client_of(broker)
    await register(client, other="not so")
    assert await found(client, "stew") == ["other"]
    assert await found(client, "stew", min_score=0.1) == []
    await broker.close()
