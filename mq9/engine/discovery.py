"""Agents found in the registry, by their words or in an order that is given."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator

import orjson

from mq9.discovery import search
from mq9.engine import status
from mq9.engine.agents import ALIVE
from mq9.engine.commands import Discover, Discovered, Ranked
from mq9.models import Match

_FOUND = "a.registered, a.key, a.mailbox, a.seen_ms, a.status"
# An agent's name says most of what it is for, then what it lists as skills.
_RANK = "bm25(agents_text, 8.0, 4.0, 4.0, 1.0)"
_MOST_COMPARED = 4_000  # agents: ranking takes its time with each
_FEW_COMPARED = 1_000  # agents with a word that tells little
_CALLED_SO = 2.0  # the score of who is called exactly what is asked for
_BRIEF = 200  # bytes of a registration

_Row = tuple[bytes, str, str, int, str | None, float]


def discover(connection: sqlite3.Connection, query: Discover, now: int) -> Discovered:
    """Search by text, or for a name; without text list by name."""
    if query.text is None:
        rows = connection.execute(
            f"SELECT {_FOUND}, 0.0 FROM agents a WHERE {ALIVE}"  # noqa: S608  # constant text
            " ORDER BY a.key LIMIT :limit OFFSET :offset",
            {"now": now, "limit": query.limit + 1, "offset": (query.page - 1) * query.limit},
        ).fetchall()
        return _discovered(connection, rows, query, "all", now)
    ranking = _first_time(
        itertools.chain(
            _called(connection, query.text), _by_words(connection, search.terms(query.text))
        )
    )
    wanted = ((row, score) for row, score in ranking if score >= query.min_score)
    return _page(connection, wanted, query, "text", now)


def ranked(connection: sqlite3.Connection, query: Ranked, now: int) -> Discovered:
    """Return the living of some agents, in the order given."""
    if (query.page - 1) * query.limit >= len(query.ranking):
        return Discovered(agents=(), mode=query.mode, has_more=False)
    return _page(connection, query.ranking, query, query.mode, now)


def _rarest_first(connection: sqlite3.Connection, words: list[str]) -> tuple[list[str], int]:
    """Sort words by how many agents have them; so many are rare enough to compare all who do."""
    if not words or _count(connection, search.any_of(words)) <= _MOST_COMPARED:
        return words, len(words)
    counts = {word: _count(connection, search.any_of([word])) for word in words}
    words = sorted(words, key=counts.__getitem__)
    together = itertools.accumulate(counts[word] for word in words)
    return words, sum(1 for _ in itertools.takewhile(_MOST_COMPARED.__ge__, together))


def _called(connection: sqlite3.Connection, name: str) -> list[tuple[int, float]]:
    """Return the agent of exactly that name."""
    found = connection.execute("SELECT id FROM agents WHERE key=?", (name,))
    return [(row, _CALLED_SO) for (row,) in found]


def _by_words(connection: sqlite3.Connection, words: list[str]) -> Iterator[tuple[int, float]]:
    """Yield agents with every word, then agents with some, else some with words that begin alike.

    An agent may come again, with a lower score. A score is between 0 and 1, and 1 more where an
    agent has every word. Words that very many agents have tell little, and SQLite's ranking would
    look at all who have them: it is left to the others. Without it come who has all of the common
    words, the briefest first, and who has most of them.
    """
    words, telling = _rarest_first(connection, words)
    common = words[telling:]
    ranking: list[tuple[int, float]] = []
    if telling:
        ranking = _scored(connection, search.any_of(words[:telling]))
        whole = set(matching(connection, search.all_of(words), _MOST_COMPARED))
        yield from ((row, 1 + score) for row, score in ranking if row in whole)
        yield from ranking
    if common:
        lowest = ranking[-1][1] if ranking else 1.0
        for row, score in _briefest(connection, common):
            yield row, lowest * (1 + score) / 2 if telling else 1 + score
        for row, score in _with_most(connection, common):
            yield row, lowest * score / 2
    if not ranking and not common:
        for beginning in search.beginning_with(words):
            yield from _scored(connection, beginning)


def _first_time(ranking: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Leave out rows that have come before."""
    seen = set()
    for row, score in ranking:
        if row not in seen:
            seen.add(row)
            yield row, score


def _count(connection: sqlite3.Connection, match: str) -> int:
    """Count what matches, up to one more than are compared."""
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM agents_text WHERE agents_text MATCH ? LIMIT ?)",
        (match, _MOST_COMPARED + 1),
    ).fetchone()
    return int(count)


def matching(connection: sqlite3.Connection, match: str, most: int) -> list[int]:
    """Return what matches; of very many the newest."""
    found = connection.execute(
        "SELECT rowid FROM agents_text WHERE agents_text MATCH ? ORDER BY rowid DESC LIMIT ?",
        (match, most),
    )
    return [row for (row,) in found]


def _scored(connection: sqlite3.Connection, match: str) -> list[tuple[int, float]]:
    """Rank what matches; of very many the newest."""
    found = connection.execute(
        f"SELECT rowid, -{_RANK} FROM agents_text WHERE agents_text MATCH ?"  # noqa: S608  # constant text
        " ORDER BY rowid DESC LIMIT ?",
        (match, _MOST_COMPARED),
    )
    return _ordered((row, score / (1 + score)) for row, score in found)


def _briefest(connection: sqlite3.Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents with all of the words: who says little else comes first."""
    found = connection.execute(
        "SELECT a.id, length(a.registered) FROM agents_text t JOIN agents a ON a.id=t.rowid"
        " WHERE agents_text MATCH ? ORDER BY t.rowid DESC LIMIT ?",
        (search.all_of(words), _FEW_COMPARED),
    )
    return _ordered((row, 1 / (1 + length / _BRIEF)) for row, length in found)


def _with_most(connection: sqlite3.Connection, words: list[str]) -> list[tuple[int, float]]:
    """Rank the newest agents with each of the words by how many of them they have."""
    counts = Counter(
        row for word in words for row in matching(connection, search.any_of([word]), _FEW_COMPARED)
    )
    return _ordered((row, count / (1 + len(words))) for row, count in counts.items())


def _ordered(ranking: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(ranking, key=lambda one: (-one[1], one[0]))


def _page(
    connection: sqlite3.Connection,
    ranking: Iterable[tuple[int, float]],
    query: Discover | Ranked,
    mode: str,
    now: int,
) -> Discovered:
    """Return a page of the living among agents in their order, and look at no more than needed."""
    rows: list[_Row] = []
    for row_id, score in ranking:
        row = connection.execute(
            f"SELECT {_FOUND} FROM agents a WHERE a.id=:id AND {ALIVE}",  # noqa: S608  # constant text
            {"id": row_id, "now": now},
        ).fetchone()
        if row is not None:
            rows.append((*row, score))
            if len(rows) > query.page * query.limit:
                break
    first = (query.page - 1) * query.limit
    return _discovered(connection, rows[first:], query, mode, now)


def _discovered(
    connection: sqlite3.Connection,
    rows: list[_Row],
    query: Discover | Ranked,
    mode: str,
    now: int,
) -> Discovered:
    return Discovered(
        agents=tuple(
            (
                registered,
                Match(
                    name=name,
                    mailbox=mailbox,
                    score=round(score, 6),
                    last_seen=seen_ms // 1000,
                    status=None if said is None else orjson.loads(said),
                    mode=mode,
                    backlog=status.backlog(connection, mailbox, query.actor, now),
                    weak=isinstance(query, Ranked) and score < query.weak_below,
                ),
            )
            for registered, name, mailbox, seen_ms, said, score in rows[: query.limit]
        ),
        mode=mode,
        has_more=len(rows) > query.limit,
    )
