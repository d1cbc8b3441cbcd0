"""Agents ranked by the words of a question.

Words that very many agents have tell little, and SQLite's ranking would look at all who have them:
it is left to the rarer ones. What is common decides only among who would else be equal.
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
# An agent's name says most of what it is for, then what it lists as skills.
_RANK = "bm25(agents_text, 8.0, 4.0, 4.0, 1.0)"
_MOST_COMPARED = 4_000  # agents: ranking takes its time with each
_FEW_COMPARED = 1_000  # agents with a word that tells little
_NAMED_SO = 2.0  # the score of who is called exactly what is asked for
_BRIEF = 200  # bytes of a registration
Ranking = Iterable[tuple[int, float]]  # the id and the score of each agent, best first
_MOST_TERMS = 32  # of one question
_SHORTEST_PREFIX = 3  # characters


def ranked(db: Connection, question: str) -> Ranking:
    """Yield who is called what is asked for, then who has the words of a question, best first.

    A score is 2 for the name itself, above 1 for every word, and else between 0 and 1. The
    database is looked into as far as the ranking is read.
    """
    named = agents.find_id(db, question)
    first = [] if named is None else [(named, _NAMED_SO)]
    by_words = _by_words(db, _terms(question))
    return _first_time(itertools.chain(first, by_words))


def having_all_words(db: Connection, question: str, most: int) -> list[int]:
    """Return the ids of the agents that have every word of a question which is no stop word.

    Where these are more than so many, the words tell nobody from the others, and it is none.
    """
    words = _terms(question)
    found = _matching(db, _all_of(words), most + 1) if words else []
    return found if len(found) <= most else []


def _by_words(db: Connection, words: list[str]) -> Iterator[tuple[int, float]]:
    """Yield agents with every word, then agents with some, else some with words that begin alike.

    An agent may come again, with a lower score. A score is between 0 and 1, and 1 more where an
    agent has every word. Of the words that are common count only who has all of them, the briefest
    first, and then who has most.
    """
    words, telling = _rarest_first(db, words)
    common = words[telling:]
    ranking: list[tuple[int, float]] = []
    if telling:
        ranking = _scored(db, _any_of(words[:telling]))
        whole = set(_matching(db, _all_of(words), _MOST_COMPARED))
        yield from ((id_, 1 + score) for id_, score in ranking if id_ in whole)
        yield from ranking
    if common:
        lowest = ranking[-1][1] if ranking else 1.0
        for id_, score in _briefest(db, common):
            yield id_, lowest * (1 + score) / 2 if telling else 1 + score
        for id_, score in _with_most(db, common):
            yield id_, lowest * score / 2
    if not ranking and not common:
        for expression in _prefixes(words):
            yield from _scored(db, expression)


def _rarest_first(db: Connection, words: list[str]) -> tuple[list[str], int]:
    """Sort words by how many agents have them; so many are rare enough to compare all who do."""
    if not words or _count(db, _any_of(words)) <= _MOST_COMPARED:
        return words, len(words)
    counts = {word: _count(db, _any_of([word])) for word in words}
    words = sorted(words, key=counts.__getitem__)
    together = itertools.accumulate(counts[word] for word in words)
    return words, sum(1 for _ in itertools.takewhile(_MOST_COMPARED.__ge__, together))


def _first_time(ranking: Ranking) -> Iterator[tuple[int, float]]:
    """Leave out agents that have come before."""
    seen = set()
    for id_, score in ranking:
        if id_ not in seen:
            seen.add(id_)
            yield id_, score


def _count(db: Connection, expression: str) -> int:
    """Count what matches, up to one more than are compared."""
    (count,) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM agents_text WHERE agents_text MATCH ? LIMIT ?)",
        (expression, _MOST_COMPARED + 1),
    ).fetchone()
    return int(count)


def _matching(db: Connection, expression: str, most: int) -> list[int]:
    """Return what matches; of very many the newest."""
    found = db.execute(
        "SELECT rowid FROM agents_text WHERE agents_text MATCH ? ORDER BY rowid DESC LIMIT ?",
        (expression, most),
    )
    return [id_ for (id_,) in found]


def _scored(db: Connection, expression: str) -> list[tuple[int, float]]:
    """Rank what matches; of very many the newest."""
    found = db.execute(
        f"SELECT rowid, -{_RANK} FROM agents_text WHERE agents_text MATCH ?"  # noqa: S608  # constant text
        " ORDER BY rowid DESC LIMIT ?",
        (expression, _MOST_COMPARED),
    )
    return _ordered((id_, score / (1 + score)) for id_, score in found)


def _briefest(db: Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents with all of the words: who says little else comes first."""
    found = db.execute(
        "SELECT a.id, length(a.registered) FROM agents_text t JOIN agents a ON a.id=t.rowid"
        " WHERE agents_text MATCH ? ORDER BY t.rowid DESC LIMIT ?",
        (_all_of(words), _FEW_COMPARED),
    )
    return _ordered((id_, 1 / (1 + length / _BRIEF)) for id_, length in found)


def _with_most(db: Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents with each of the words by how many of them they have."""
    counts = Counter(id_ for word in words for id_ in _matching(db, _any_of([word]), _FEW_COMPARED))
    return _ordered((id_, count / (1 + len(words))) for id_, count in counts.items())


def _ordered(ranking: Ranking) -> list[tuple[int, float]]:
    return sorted(ranking, key=lambda one: (-one[1], one[0]))


def _terms(question: str) -> list[str]:
    """Return the terms of a question, each once, without anything that is query syntax.

    Stop words are left out, unless there are no others.
    """
    words = documents.words(question)
    telling = [word for word in words if word.lower() not in _STOP_WORDS]
    return (telling or words)[:_MOST_TERMS]


def _all_of(words: list[str]) -> str:
    """Return the expression for agents that match every term."""
    return " ".join(map(_term, words))


def _any_of(words: list[str]) -> str:
    """Return the expression for agents that match at least one term."""
    return " OR ".join(map(_term, words))


def _prefixes(words: list[str]) -> list[str]:
    """Return expressions for agents with words that begin like all of the terms.

    The second is for shorter prefixes, since what is indexed of a word lacks its ending.
    """
    long = [word for word in words if len(word) >= _SHORTEST_PREFIX]
    shorter = [word[: max(_SHORTEST_PREFIX, len(word) * 3 // 4)] for word in long]
    return [" ".join(f'"{word}"*' for word in some) for some in (long, shorter) if some]


def _term(word: str) -> str:
    """Return what matches a word; for one character of CJK, whatever begins with it."""
    return f'"{word}"*' if len(word) == 1 and documents.is_cjk(word) else f'"{word}"'
