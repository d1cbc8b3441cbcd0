"""The answer to a DISCOVER: agents by name, by words, or by meaning if there are embeddings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
_FEWEST_RANKED = 100  # agents that are ranked for a short page


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page of agents: the page, the caller, and the ranking."""

    number: int  # counted from 1
    limit: int  # agents on a page
    actor: Actor  # sees the backlog of mailboxes that it may read
    mode: str = "all"
    weak_below: float = 0.0  # score below which a match is weak

    @property
    def first(self) -> int:
        """The number of agents on earlier pages."""
        return (self.number - 1) * self.limit


class AgentSearch:
    """Search for agents in the registry, with the tables of ``mq9.discovery.index``.

    It finds agents by meaning with ``embeddings``, and only by words without.
    """

    def __init__(self, backend: Backend, embeddings: Embeddings | None) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._index: SemanticIndex | None = None
        self._making = threading.Lock()
        self._is_lack_logged = False

    async def find(self, request: Discover, actor: Actor) -> Discovered:
        """Return the requested page; the actor sees the backlog of mailboxes that it may read."""
        page = PageRequest(request.page, request.limit, actor)
        question = request.text if request.semantic is None else request.semantic
        if question is None:
            return await self._read(lambda db, now: page_of_all(db, page, now))
        if request.semantic is not None:
            try:
                found = await self._by_meaning(question, request.min_score, page)
            except Unusable as error:
                logger.warning("agents are found by their words only: %s", error)
                found = None
            if found is not None:
                return found
        page, least = replace(page, mode="text"), request.min_score or 0.0

        def by_words(db: Connection, now: int) -> Discovered:
            return page_of_ranking(
                db, _at_least(least, text_search.ranked(db, question)), page, now
            )

        return await self._read(by_words)

    async def _read(self, look: Callable[[Connection, int], Discovered]) -> Discovered:
        return await self._backend.read(Call(DerivedQuery(look)))

    def close(self) -> None:
        """Close the semantic index; the next search by meaning rebuilds it."""
        with self._making:
            index, self._index = self._index, None
        if index is not None:
            index.close()

    async def _by_meaning(
        self, question: str, min_score: float | None, page: PageRequest
    ) -> Discovered | None:
        """Search by meaning; return None if there are no embeddings."""
        if self._embeddings is None:
            if not self._is_lack_logged:
                self._is_lack_logged = True
                logger.info(
                    "agents are found by their words only; to find them by meaning, install the "
                    "extra `semantic` or give embeddings"
                )
            return None
        index = self._semantic_index(self._embeddings)
        page = replace(page, mode="semantic", weak_below=min_score_of(self._embeddings))
        least = page.weak_below if min_score is None else min_score
        most = max(_FEWEST_RANKED, 2 * (page.first + page.limit + 1))
        while True:
            ranking = await index.rank(question, most)
            if least:  # cosines may be below 0
                ranking = tuple(_at_least(least, ranking))
            found = await self._page(ranking, page)
            if found.has_more or len(found.agents) == page.limit or len(ranking) < most:
                return found
            # Many of the best agents were removed or have expired.
            await index.drop_removed()
            most *= 4

    def _semantic_index(self, embeddings: Embeddings) -> SemanticIndex:
        with self._making:  # clients may ask from several threads
            if self._index is None:
                from mq9.discovery.semantic_index import SemanticIndex  # noqa: PLC0415  # needs numpy

                self._index = SemanticIndex(self._backend, embeddings)
            return self._index

    async def _page(self, ranking: tuple[tuple[int, float], ...], page: PageRequest) -> Discovered:
        if page.first >= len(ranking):
            return Discovered(agents=(), mode=page.mode, has_more=False)
        return await self._read(lambda db, now: page_of_ranking(db, ranking, page, now))


def _at_least(score: float, ranking: Iterable[tuple[int, float]]) -> Iterable[tuple[int, float]]:
    return (one for one in ranking if one[1] >= score)


def page_of_all(db: Connection, page: PageRequest, now: int) -> Discovered:
    """Return a page of all live agents, by name."""
    found = agents.by_key(db, now, limit=page.limit + 1, offset=page.first)
    return _shown(db, [(one, 0.0) for one in found], page, now)


def page_of_ranking(
    db: Connection, ranking: Iterable[tuple[int, float]], page: PageRequest, now: int
) -> Discovered:
    """Return a page of the live agents in a ranking, which is read only as far as needed."""
    found: list[tuple[Registration, float]] = []
    for id_, score in ranking:
        agent = agents.look(db, id_, now)
        if agent is not None:
            found.append((agent, score))
            if len(found) > page.first + page.limit:
                break
    return _shown(db, found[page.first :], page, now)


def _shown(
    db: Connection, found: list[tuple[Registration, float]], page: PageRequest, now: int
) -> Discovered:
    """Return agents as a page; one more than its limit shows that another page follows."""
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
                    mode=page.mode,
                    backlog=status.backlog(db, agent.mailbox, page.actor, now),
                    weak=score < page.weak_below,
                ),
            )
            for agent, score in found[: page.limit]
        ),
        mode=page.mode,
        has_more=len(found) > page.limit,
    )
