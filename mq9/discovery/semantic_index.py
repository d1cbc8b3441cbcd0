"""Agents ranked by meaning: their vectors in memory, kept in step with the registry."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mq9.concurrency.portal import Portal, Stopped
from mq9.discovery import stored_vectors, text_search, vectors
from mq9.discovery.embedder import Embedder
from mq9.discovery.embeddings import Embeddings, Unusable
from mq9.discovery.vectors import Floats, Ids, Vectors
from mq9.engine import agents
from mq9.engine.commands import Call
from mq9.errors import Mq9Error
from mq9.storage.backend import Backend, DerivedQuery, LocalChange

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")

_BATCH = 1_000  # agents that are looked at together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_TIMEOUT_S = 4.0  # less than clients wait for a reply, and enough to load a model


@dataclass(frozen=True, slots=True)
class _Compared:
    """How much each agent fits a question.

    Attributes:
        ids: The agents that have a vector.
        scores: Of each of them.
        newest: The highest id in the registry.
        is_behind: Whether agents that registered since have no vector yet.
    """

    ids: Ids
    scores: Floats
    newest: int
    is_behind: bool


class SemanticIndex:
    """Ranks agents by the cosines of their vectors and a question's.

    The vectors are brought up to date when a question is asked: a new agent is embedded, or its
    vector is read if it was stored before. Agents that were removed are dropped now and then.

    All of it runs on an event loop of its own, since clients may be on several.

    Args:
        backend: Has the registry.
        embeddings: Turn texts into vectors. They are used on one thread, which is their own.
        timeout_s: Seconds that a question may take.

    Attributes:
        timeout_s: The same.
    """

    def __init__(
        self, backend: Backend, embeddings: Embeddings, *, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._backend = backend
        self._embedder = Embedder(embeddings)
        self.timeout_s = timeout_s
        self._portal = Portal("mq9-semantic")
        self._model = ""  # and its dimension, known once there is a vector
        self._vectors = Vectors()
        self._most = _BATCH  # vectors; above it, those of agents that were removed are dropped
        self._changing = asyncio.Lock()  # held while vectors are added or dropped
        self._comparing = asyncio.Lock()
        self._questions = 0  # that are being answered

        self._seen = 0  # the highest id that was looked at
        self._wanted = 0  # the highest id that a question waits for
        self._is_complete = False  # whether all agents have been looked at once
        self._is_outdated = False  # the model now makes vectors of another dimension
        self._follower: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._stepped = asyncio.Condition()  # notified when the follower is further, or has failed

    @property
    def count(self) -> int:
        """How many agents have a vector, those included that were removed and not yet dropped."""
        return self._vectors.count

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return the agents that fit a question best, expired ones included: id and score of each.

        The score is the cosine of the two meanings, and a half more where the agent's text has
        every word of the question that is no stop word, unless a thousand others have them, too.
        New agents whose embedding takes too long are left out.

        Raises:
            Unusable: The embeddings failed, or not all agents have been embedded once; that goes
                on.
        """
        return await self._on_loop(self._rank(question, most))

    async def drop_removed(self) -> None:
        """Drop the vectors of agents that were removed; else that is done now and then.

        Raises:
            Unusable: The broker is closed.
        """
        await self._on_loop(self._drop_when_free())

    def close(self) -> None:
        """Let the threads end; a question that is being answered raises Unusable."""
        self._portal.stop()
        self._embedder.close()

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._portal.await_(work)
        except Stopped:
            raise Unusable("the broker is closed") from None

    async def _rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        compared: _Compared | None = None
        self._questions += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                asked = await self._embedder.question(question)
                if self._vectors.count and len(asked) != self._vectors.size:
                    self._is_outdated = True
                else:
                    compared = await self._compare(question, asked)
                if compared is None or compared.is_behind:
                    await self._catch_up(0 if compared is None else compared.newest)
                    compared = await self._compare(question, asked)
        except TimeoutError:
            if compared is None or not self._is_complete:
                count = self._vectors.count
                raise Unusable(
                    f"it takes longer than {self.timeout_s:g} s; {count} agents have vectors so far"
                ) from None
        finally:
            self._questions -= 1
        return vectors.best(compared.ids, compared.scores, most)

    async def _compare(self, question: str, asked: Floats) -> _Compared:
        """Compare a question with all vectors, while its words are looked up.

        When other questions wait, the two are done one after the other: at once they keep two
        processors busy, and many questions would leave nothing to SENDs.
        """
        async with self._comparing:
            reading = asyncio.ensure_future(self._look_up(question))
            try:
                if self._questions > 1:
                    await asyncio.wait([reading])
                else:
                    await asyncio.sleep(0)  # so that the look-up begins
                seen = self._seen
                ids, scores = self._cosines(asked)
                having_all_words, newest = await reading
            finally:
                reading.cancel()
            vectors.raise_scores(ids, scores, having_all_words, _BONUS)
            return _Compared(ids, scores, newest, newest > seen)

    async def _look_up(self, question: str) -> tuple[list[int], int]:
        """Return who has every word of a question, and the highest id in the registry."""

        def look(connection: sqlite3.Connection, _now: int) -> tuple[list[int], int]:
            ids = text_search.having_all_words(connection, question, _MOST_MATCHING)
            return ids, agents.newest_id(connection)

        return await self._backend.read(Call(DerivedQuery(look)))

    def _cosines(self, asked: Floats) -> tuple[Ids, Floats]:
        if not self._vectors.count:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            return self._vectors.compare(asked)
        except ValueError as error:
            raise Unusable(f"{self._model}: {error}") from error

    async def _catch_up(self, newest: int) -> None:
        """Return when all agents up to an id have been looked at.

        Raises:
            Unusable: The embeddings failed.
        """
        self._wanted = max(self._wanted, newest)
        if self._follower is None or self._follower.done():
            self._failure = None
            self._follower = asyncio.create_task(self._follow())
        async with self._stepped:
            await self._stepped.wait_for(
                lambda: self._has_seen(newest) or self._failure is not None
            )
        if self._failure is not None and not self._has_seen(newest):
            raise self._failure

    def _has_seen(self, id_: int) -> bool:
        return self._seen >= id_ and not self._is_outdated

    async def _follow(self) -> None:
        try:
            while not self._has_seen(self._wanted):
                async with self._changing:
                    await self._step()
                async with self._stepped:
                    self._stepped.notify_all()
            self._is_complete = True
        except (Unusable, Mq9Error) as error:  # raised to the questions that wait
            async with self._stepped:
                self._failure = error
                self._stepped.notify_all()

    async def _step(self) -> None:
        """Add the vectors of the next agents, embedding those that have none yet."""
        if self._is_outdated or not self._model:
            self._model = await self._embedder.model()
            self._vectors, self._seen = Vectors(), 0
            self._is_complete = self._is_outdated = False
        model, seen = self._model, self._seen
        found = await self._backend.read(
            Call(
                DerivedQuery(
                    lambda connection, _: stored_vectors.after(connection, seen, model, _BATCH)
                )
            )
        )
        if not found:  # they were removed meanwhile
            self._seen = self._wanted
            return
        new = [one for one in found if one.vector is None]
        embedded = await self._embedder.agents([one.parts for one in new])
        known = {
            one.id: np.frombuffer(one.vector, "<f4") for one in found if one.vector is not None
        }
        made = {
            one.id: vector for one, vector in zip(new, embedded, strict=True) if vector is not None
        }
        if len(made) < len(new):
            logger.warning(
                "embedding failed for %d of %d agents; they are found by their words only",
                *(len(new) - len(made), len(new)),
            )
        both = sorted((known | made).items())
        if both:
            try:
                self._vectors.add([id_ for id_, _ in both], [vector for _, vector in both])
            except ValueError as error:
                self._is_outdated = True
                raise Unusable(f"the model has changed: {error}") from error
        self._seen = found[-1].id
        if made:
            await self._store(made)
        if self._vectors.count > self._most:
            await self._drop_removed()

    async def _store(self, made: dict[int, Floats]) -> None:
        model = self._model
        stored = [(id_, vector.astype("<f4").tobytes()) for id_, vector in made.items()]
        try:
            await self._backend.run(
                Call(
                    LocalChange(lambda connection: stored_vectors.store(connection, model, stored))
                )
            )
        except Mq9Error as error:  # they are made again when they are wanted again
            logger.warning("vectors of agents could not be stored: %s", error)

    async def _drop_when_free(self) -> None:
        async with self._changing:
            await self._drop_removed()

    async def _drop_removed(self) -> None:
        known = await self._backend.read(
            Call(DerivedQuery(lambda connection, _: agents.ids(connection)))
        )
        self._vectors.keep(known)
        self._most = int(self._vectors.count * vectors.SPARE) + _BATCH
