"""Ranking of agents by the words of a query.

A very common word says little, and SQLite's ranking would read all agents that have it. So only the
rarer words are ranked. Common words decide only between otherwise equal agents.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from sqlite3 import Connection

from mq9.discovery import documents
from mq9.engine import agents

_STOP_WORDS = frozenset(
    """
    a about after again all also am an and any anybody anyone anything are as at be because been
    before being but by can could did do does doing for from get gets give given got had has
    have having he her here him his how i if in into is it its just like let made make makes
    many may me might more most much must my need needs no not now of off on one or other our
    out over please shall she should so some somebody someone something such take than that the
    their them then there these they this those through to too under up us very want wanted
    wants was we were what when where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905  # a hundred pairs of quotes would hide the words
)
# Weights of name, description, skills and other text.
_RANK = "bm25(agents_text, 8.0, 4.0, 4.0, 1.0)"
_MOST_COMPARED = 4_000  # agents, because ranking takes time for each
_FEW_COMPARED = 1_000  # agents with a common word
_NAME_SCORE = 2.0  # of the agent whose name is the query
_BRIEF = 200  # bytes of a registration
Ranking = Iterable[tuple[int, float]]  # the id and the score of each agent, best first
_MOST_TERMS = 32  # of one query
_SHORTEST_PREFIX = 3  # characters


def ranked(db: Connection, question: str) -> Ranking:
    """Yield the agent named like a query, then the agents with its words, best first.

    The score is 2 for the name, above 1 for all words, and otherwise between 0 and 1. The database
    is read only as far as the ranking is used.
    """
    named = agents.find_id(db, question)
    first = [] if named is None else [(named, _NAME_SCORE)]
    by_words = _by_words(db, _terms(question))
    return _first_time(itertools.chain(first, by_words))


def having_all_words(db: Connection, question: str, most: int) -> list[int]:
    """Return the ids of the agents that have every word of a query, except stop words.

    If they are more than ``most``, the words are too common and the result is empty.
    """
    words = _terms(question)
    found = _matching(db, _all_of(words), most + 1) if words else []
    return found if len(found) <= most else []


def _by_words(db: Connection, words: list[str]) -> Iterator[tuple[int, float]]:
    """Yield agents with all words, then with some words, or else with the same prefixes.

    An agent may come again with a lower score. A score is between 0 and 1, plus 1 if the agent has
    all words. For common words, the agents that have all of them come first, the shortest
    registration first. Then come the agents that have most of them.
    """
    words, rare_count = _rarest_first(db, words)
    common = words[rare_count:]
    ranking: list[tuple[int, float]] = []
    if rare_count:
        ranking = _scored(db, _any_of(words[:rare_count]))
        with_all = set(_matching(db, _all_of(words), _MOST_COMPARED))
        yield from ((id_, 1 + score) for id_, score in ranking if id_ in with_all)
        yield from ranking
    if common:
        lowest = ranking[-1][1] if ranking else 1.0
        for id_, score in _briefest(db, common):
            yield id_, lowest * (1 + score) / 2 if rare_count else 1 + score
        for id_, score in _with_most(db, common):
            yield id_, lowest * score / 2
    if not ranking and not common:
        for expression in _prefixes(words):
            yield from _scored(db, expression)


def _rarest_first(db: Connection, words: list[str]) -> tuple[list[str], int]:
    """Sort words by their number of agents; return them and the number of rare ones."""
    if not words or _count(db, _any_of(words)) <= _MOST_COMPARED:
        return words, len(words)
    counts = {word: _count(db, _any_of([word])) for word in words}
    words = sorted(words, key=counts.__getitem__)
    together = itertools.accumulate(counts[word] for word in words)
    return words, sum(1 for _ in itertools.takewhile(_MOST_COMPARED.__ge__, together))


def _first_time(ranking: Ranking) -> Iterator[tuple[int, float]]:
    """Yield each agent only the first time."""
    seen = set()
    for id_, score in ranking:
        if id_ not in seen:
            seen.add(id_)
            yield id_, score


def _count(db: Connection, expression: str) -> int:
    """Count matching agents, up to one more than are compared."""
    (count,) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM agents_text WHERE agents_text MATCH ? LIMIT ?)",
        (expression, _MOST_COMPARED + 1),
    ).fetchone()
    return int(count)


def _matching(db: Connection, expression: str, most: int) -> list[int]:
    """Return the newest matching agents."""
    found = db.execute(
        "SELECT rowid FROM agents_text WHERE agents_text MATCH ? ORDER BY rowid DESC LIMIT ?",
        (expression, most),
    )
    return [id_ for (id_,) in found]


def _scored(db: Connection, expression: str) -> list[tuple[int, float]]:
    """Rank the newest matching agents."""
    found = db.execute(
        f"SELECT rowid, -{_RANK} FROM agents_text WHERE agents_text MATCH ?"  # noqa: S608  # constant text
        " ORDER BY rowid DESC LIMIT ?",
        (expression, _MOST_COMPARED),
    )
    return _ordered((id_, score / (1 + score)) for id_, score in found)


def _briefest(db: Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents with all of the words, the shortest registration first."""
    found = db.execute(
        "SELECT a.id, length(a.registered) FROM agents_text t JOIN agents a ON a.id=t.rowid"
        " WHERE agents_text MATCH ? ORDER BY t.rowid DESC LIMIT ?",
        (_all_of(words), _FEW_COMPARED),
    )
    return _ordered((id_, 1 / (1 + length / _BRIEF)) for id_, length in found)


def _with_most(db: Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents of each word by the number of words that they have."""
    counts = Counter(id_ for word in words for id_ in _matching(db, _any_of([word]), _FEW_COMPARED))
    return _ordered((id_, count / (1 + len(words))) for id_, count in counts.items())


def _ordered(ranking: Ranking) -> list[tuple[int, float]]:
    return sorted(ranking, key=lambda one: (-one[1], one[0]))


def _terms(question: str) -> list[str]:
    """Return the distinct terms of a query, without query syntax.

    Stop words are left out, unless there are no other words.
    """
    words = documents.words(question)
    others = [word for word in words if word.lower() not in _STOP_WORDS]
    return (others or words)[:_MOST_TERMS]


def _all_of(words: list[str]) -> str:
    """Return the expression for agents that match every term."""
    return " ".join(map(_term, words))


def _any_of(words: list[str]) -> str:
    """Return the expression for agents that match at least one term."""
    return " OR ".join(map(_term, words))


def _prefixes(words: list[str]) -> list[str]:
    """Return expressions for agents whose words begin with all of the terms.

    The second expression has shorter prefixes, because the index stores words without endings.
    """
    long = [word for word in words if len(word) >= _SHORTEST_PREFIX]
    shorter = [word[: max(_SHORTEST_PREFIX, len(word) * 3 // 4)] for word in long]
    return [" ".join(f'"{word}"*' for word in some) for some in (long, shorter) if some]


def _term(word: str) -> str:
    """Return the expression for a word; a single CJK character matches as a prefix."""
    return f'"{word}"*' if len(word) == 1 and documents.is_cjk(word) else f'"{word}"'
