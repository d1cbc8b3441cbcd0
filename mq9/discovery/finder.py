"""Who answers a question for agents: their words, or their meaning where that is possible."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from mq9.discovery.embeddings import Embeddings, Unusable, min_score_of
from mq9.engine import commands
from mq9.engine.commands import Actor, Discovered
from mq9.protocol.requests import Discover
from mq9.storage.backend import Backend

if TYPE_CHECKING:
    from mq9.discovery.meaning import Meaning

logger = logging.getLogger("mq9.broker")

_FEWEST_RANKED = 100  # agents that are ranked for a page, however short


class Finder:
    """Finds agents in the registry.

    Args:
        backend: Has the registry.
        embeddings: Let agents be found by meaning; without any they are found by their words.
    """

    def __init__(self, backend: Backend, embeddings: Embeddings | None) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._meaning: Meaning | None = None
        self._making = threading.Lock()
        self._told = False

    async def find(self, asked: Discover, actor: Actor) -> Discovered:
        """Return a page of the agents that are asked for, as far as the actor may know them."""
        found = None
        if asked.semantic is not None:
            try:
                found = await self._by_meaning(asked, asked.semantic, actor)
            except Unusable as error:
                logger.warning("agents are found by their words only: %s", error)
        if found is None:
            text = asked.text if asked.semantic is None else asked.semantic
            by_words = commands.Discover(
                text=text,
                min_score=asked.min_score or 0.0,
                limit=asked.limit,
                page=asked.page,
                actor=actor,
            )
            found = await self._backend.read(by_words)
        return found

    def close(self) -> None:
        """Let go of what ranks agents by meaning; it is made anew when it is asked for again."""
        with self._making:
            meaning, self._meaning = self._meaning, None
        if meaning is not None:
            meaning.close()

    async def _by_meaning(self, asked: Discover, question: str, actor: Actor) -> Discovered | None:
        """Search by meaning; None where there are no embeddings.

        Raises:
            Unusable: It is not possible this time.
        """
        if self._embeddings is None:
            if not self._told:
                self._told = True
                logger.info(
                    "agents are found by their words only; to find them by meaning, install the "
                    "extra `semantic` or give embeddings"
                )
            return None
        with self._making:  # clients may ask from several threads
            if self._meaning is None:
                from mq9.discovery.meaning import Meaning  # noqa: PLC0415  # needs numpy

                self._meaning = Meaning(self._backend, self._embeddings)
            meaning = self._meaning
        limit, page = asked.limit, asked.page
        weak_below = min_score_of(self._embeddings)
        least = weak_below if asked.min_score is None else asked.min_score
        most = max(_FEWEST_RANKED, 2 * (page * limit + 1))
        while True:
            ranking = await meaning.rank(question, most)
            if least:  # cosines may be below 0
                ranking = tuple((row, score) for row, score in ranking if score >= least)
            found = await self._backend.read(
                commands.Ranked(
                    ranking=ranking,
                    mode="semantic",
                    weak_below=weak_below,
                    limit=limit,
                    page=page,
                    actor=actor,
                )
            )
            if found.has_more or len(found.agents) == limit or len(ranking) < most:
                return found
            # Many of the best have gone, or are dead and still in the registry.
            await meaning.drop_the_gone()
            most *= 4
