"""The answer to a DISCOVER: agents by name, by words, or by meaning where that is possible."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Connection
from typing import TYPE_CHECKING

import orjson

from mq9.discovery import text_search
from mq9.discovery.embeddings import Embeddings, Unusable, min_score_of
from mq9.engine import agents, status
from mq9.engine.agents import Registration
from mq9.engine.commands import Actor, Call
from mq9.models import Match
from mq9.protocol.outcomes import Discovered
from mq9.protocol.requests import Discover
from mq9.storage.backend import Backend, DerivedQuery

if TYPE_CHECKING:
    from mq9.discovery.semantic_index import SemanticIndex

logger = logging.getLogger("mq9.broker")
_FEWEST_RANKED = 100  # agents that are ranked for a page, however short


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page, and who asks.

    Attributes:
        number: Counted from 1.
        limit: Agents on a page.
        actor: Is told the backlog of mailboxes that it may read.
    """

    number: int
    limit: int
    actor: Actor

    @property
    def first(self) -> int:
        """How many agents are on the pages before."""
        return (self.number - 1) * self.limit


class AgentSearch:
    """Finds agents in the registry.

    Args:
        backend: Has the registry, followed by ``mq9.discovery.index``.
        embeddings: Let agents be found by meaning; without any they are found by their words.
    """

    def __init__(self, backend: Backend, embeddings: Embeddings | None) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._index: SemanticIndex | None = None
        self._making = threading.Lock()
        self._is_lack_logged = False

    async def find(self, asked: Discover, actor: Actor) -> Discovered:
        """Return the page that is asked for; the actor is told the backlog of what it may read."""
        request = PageRequest(asked.page, asked.limit, actor)
        if asked.semantic is not None:
            try:
                found = await self._by_meaning(asked.semantic, asked.min_score, request)
            except Unusable as error:
                logger.warning("agents are found by their words only: %s", error)
                found = None
            if found is not None:
                return found
        question = asked.text if asked.semantic is None else asked.semantic
        if question is None:
            return await self._backend.read(
                Call(DerivedQuery(lambda db, now: everybody(db, request, now)))
            )
        return await self._by_words(question, asked.min_score or 0.0, request)

    def close(self) -> None:
        """Let go of what ranks agents by meaning; it is made anew when it is asked for again."""
        with self._making:
            index, self._index = self._index, None
        if index is not None:
            index.close()

    async def _by_words(self, question: str, min_score: float, request: PageRequest) -> Discovered:
        return await self._backend.read(
            Call(
                DerivedQuery(
                    lambda db, now: page_of_ranking(
                        db,
                        _at_least(min_score, text_search.ranked(db, question)),
                        request,
                        "text",
                        0.0,
                        now,
                    )
                )
            )
        )

    async def _by_meaning(
        self, question: str, min_score: float | None, request: PageRequest
    ) -> Discovered | None:
        """Search by meaning; None where there are no embeddings."""
        if self._embeddings is None:
            if not self._is_lack_logged:
                self._is_lack_logged = True
                logger.info(
                    "agents are found by their words only; to find them by meaning, install the "
                    "extra `semantic` or give embeddings"
                )
            return None
        index = self._semantic_index(self._embeddings)
        weak_below = min_score_of(self._embeddings)
        least = weak_below if min_score is None else min_score
        most = max(_FEWEST_RANKED, 2 * (request.first + request.limit + 1))
        while True:
            ranking = await index.rank(question, most)
            if least:  # cosines may be below 0
                ranking = tuple(_at_least(least, ranking))
            found = await self._page(ranking, request, weak_below)
            if found.has_more or len(found.agents) == request.limit or len(ranking) < most:
                return found
            # Many of the best were removed, or have expired.
            await index.drop_removed()
            most *= 4

    def _semantic_index(self, embeddings: Embeddings) -> SemanticIndex:
        with self._making:  # clients may ask from several threads
            if self._index is None:
                from mq9.discovery.semantic_index import SemanticIndex  # noqa: PLC0415  # needs numpy

                self._index = SemanticIndex(self._backend, embeddings)
            return self._index

    async def _page(
        self, ranking: tuple[tuple[int, float], ...], request: PageRequest, weak_below: float
    ) -> Discovered:
        if request.first >= len(ranking):
            return Discovered(agents=(), mode="semantic", has_more=False)
        return await self._backend.read(
            Call(
                DerivedQuery(
                    lambda db, now: page_of_ranking(
                        db, ranking, request, "semantic", weak_below, now
                    )
                )
            )
        )


def _at_least(score: float, ranking: Iterable[tuple[int, float]]) -> Iterable[tuple[int, float]]:
    return (one for one in ranking if one[1] >= score)


def everybody(db: Connection, request: PageRequest, now: int) -> Discovered:
    """Return a page of all agents that are alive, by name."""
    found = agents.by_key(db, now, limit=request.limit + 1, offset=request.first)
    return _page(db, [(one, 0.0) for one in found], request, "all", 0.0, now)


def page_of_ranking(
    db: Connection,
    ranking: Iterable[tuple[int, float]],
    request: PageRequest,
    mode: str,
    weak_below: float,
    now: int,
) -> Discovered:
    """Return a page of the living agents of a ranking, and read no more of it than that takes."""
    found: list[tuple[Registration, float]] = []
    for id_, score in ranking:
        agent = agents.look(db, id_, now)
        if agent is not None:
            found.append((agent, score))
            if len(found) > request.first + request.limit:
                break
    return _page(db, found[request.first :], request, mode, weak_below, now)


def _page(
    db: Connection,
    found: list[tuple[Registration, float]],
    request: PageRequest,
    mode: str,
    weak_below: float,
    now: int,
) -> Discovered:
    """Show agents; one more than the page has room for says that another follows."""
    return Discovered(
        agents=tuple(
            (
                agent.registered,
                Match(
                    name=agent.key,
                    mailbox=agent.mailbox,
                    score=round(score, 6),
                    last_seen=agent.seen_ms // 1000,
                    status=None if agent.status is None else orjson.loads(agent.status),
                    mode=mode,
                    backlog=status.backlog(db, agent.mailbox, request.actor, now),
                    weak=score < weak_below,
                ),
            )
            for agent, score in found[: request.limit]
        ),
        mode=mode,
        has_more=len(found) > request.limit,
    )
