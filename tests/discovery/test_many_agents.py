"""Text discovery among more agents than are compared for one question."""

import orjson
import pytest
from calls import call, carry_out

from mq9.discovery import search, text_search
from mq9.discovery.index import AGENT_INDEX
from mq9.discovery.search import PageRequest
from mq9.engine.commands import ANYBODY
from mq9.protocol import requests
from mq9.storage import store


@pytest.fixture
def registry(monkeypatch):
    """Register agents by what they say, when no more than ten are compared."""
    monkeypatch.setattr("mq9.discovery.text_search._MOST_COMPARED", 10)
    monkeypatch.setattr("mq9.discovery.text_search._FEW_COMPARED", 5)
    connection = store.open_memory()
    AGENT_INDEX.open(connection)

    def register(*texts, ttl_s=0):
        for text in texts:
            said = orjson.dumps({"description": text})
            name = f"{text} #{register.count}"
            register.count += 1
            command = call(requests.Register, name=name, payload=said, ttl=ttl_s)
            carry_out(connection, command, 1_000)
            AGENT_INDEX.follow(connection)

    def find(text, limit=100, page=1, now=1_000):
        ranking = text_search.ranked(connection, text)
        request = PageRequest(page, limit, ANYBODY, "text")
        found = search.page_of_ranking(connection, ranking, request, now)
        return [match.name.split(" #")[0] for _, match in found.agents], [
            match.score for _, match in found.agents
        ]

    register.count = 0
    register.find = find
    yield register
    connection.close()


def test_the_rare_word_of_a_question_decides_among_very_many(registry):
    registry("klingon poetry")
    registry(*["translate contracts"] * 50)
    registry("translate klingon")
    registry(*["translate contracts"] * 50)
    names, scores = registry.find("translate klingon")
    assert names[:2] == ["translate klingon", "klingon poetry"]
    assert set(names[2:]) == {"translate contracts"}
    assert scores[0] > 1 > scores[1] > 0


def test_who_has_every_word_comes_first_though_many_have_each(registry):
    registry("translate poems, contracts")
    registry(*["translate letters"] * 20, *["sign contracts"] * 20)
    names, scores = registry.find("translate contracts")
    assert names[0] == "translate poems, contracts"
    assert scores[0] >= 1 > scores[1]
    assert len(names) == 1 + 2 * 5


def test_a_word_that_nobody_has_does_not_spoil_the_others(registry):
    registry("translate poems, contracts")
    registry(*["translate letters"] * 20, *["sign contracts"] * 20)
    names, scores = registry.find("translate unheard contracts")
    assert names[0] == "translate poems, contracts"
    assert 1 > scores[0] > scores[1]


def test_some_words_of_very_many_agents_count_for_less_than_a_rare_one(registry):
    registry("klingon", "translate contracts for everybody and everything", "translate contracts")
    registry(*["translate letters"] * 20, *["sign contracts"] * 20)
    names, scores = registry.find("translate klingon contracts")
    assert names[:3] == [
        "klingon",
        "translate contracts",
        "translate contracts for everybody and everything",
    ]
    assert scores == sorted(scores, reverse=True)


def test_of_very_many_with_every_word_some_are_ranked(registry):
    registry(*["translate contracts"] * 30)
    registry("translate contracts and a good deal of other papers")
    registry(*["translate contracts"] * 2)
    names, scores = registry.find("translate contracts")
    assert len(names) == 5
    assert names[-1] == "translate contracts and a good deal of other papers"
    assert min(scores) > 1


def test_every_agent_comes_once_and_pages_are_slices(registry):
    registry(*["translate contracts"] * 4, *["translate"] * 20, *["contracts klingon"] * 6)
    for question in ("translate contracts klingon", "translate", "klingon", "contracts translate"):
        everybody, scores = registry.find(question)
        assert scores == sorted(scores, reverse=True)
        paged = []
        for page in range(1, 20):
            paged += registry.find(question, limit=3, page=page)[0]
        assert paged == everybody


def test_the_dead_are_passed_over(registry):
    registry(*["klingon"] * 3, ttl_s=1)
    registry("klingon poetry")
    assert len(registry.find("klingon")[0]) == 4
    assert registry.find("klingon", limit=1, now=2_000)[0] == ["klingon poetry"]


def test_words_that_begin_alike_are_the_last_resort(registry):
    registry(*["translating"] * 3)
    assert registry.find("transl")[0] == ["translating"] * 3
    assert registry.find("transl nothing")[0] == []
    assert registry.find("")[0] == []
    assert registry.find("?!")[0] == []
