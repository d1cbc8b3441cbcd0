"""Agents ranked by what they mean, in step with the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mq9.concurrency.portal import Portal, Stopped
from mq9.discovery import vectors
from mq9.discovery.embedder import Embedder
from mq9.discovery.embeddings import Embeddings, Unusable
from mq9.discovery.vectors import Floats, Rows, Vectors
from mq9.engine import commands
from mq9.errors import Mq9Error
from mq9.storage.backend import Backend

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")

_BATCH = 1_000  # agents that are looked at together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_PATIENCE_S = 4.0  # less than clients wait for a reply, and enough to load a model


@dataclass(frozen=True, slots=True)
class _Compared:
    """The score of each agent, and whether others had registered by then."""

    rows: Rows
    scores: Floats
    newest: int
    is_behind: bool


class Meaning:
    """Ranks agents by what they mean.

    It keeps a vector for each agent and follows the registry when a question is asked: who is new
    is embedded, or read where it was stored before. Who has gone is dropped now and then.

    All of it lives on an event loop of its own, since clients may be on several.

    Args:
        backend: Has the registry.
        embeddings: Turn texts into vectors. They are used on one thread, which is their own.
        patience: Seconds that a question may take.
    """

    def __init__(
        self, backend: Backend, embeddings: Embeddings, *, patience: float = _PATIENCE_S
    ) -> None:
        self._backend = backend
        self._embedder = Embedder(embeddings)
        self._patience = patience
        self._portal = Portal("mq9-meaning")
        self._model = ""  # and its dimension, known once there is a vector
        self._vectors = Vectors()
        self._roomy = _BATCH  # so many vectors there may be before those that have gone are sought
        self._changing = asyncio.Lock()  # held by whoever adds vectors or drops them
        self._turn = asyncio.Lock()  # held by whoever compares
        self._asking = 0

        self._seen = 0  # the highest row that was looked at
        self._wanted = 0  # the highest that somebody asks for
        self._is_complete = False  # whether the one has been the other
        self._is_outdated = False  # the model has come to make vectors of another dimension
        self._follower: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._stepped = asyncio.Condition()  # notified when the follower is further, or has failed

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return the agents that fit a question best, dead ones included: row and score of each.

        The score is the cosine of the two meanings, and a half more where the agent's text has
        every word of the question that says something, unless a thousand others have them, too.
        Where embedding those that are new takes too long, they are left out.

        Raises:
            Unusable: The embeddings failed, or have not been through the registry once; they go on
                with it.
        """
        return await self._somewhere(self._rank(question, most))

    async def drop_the_gone(self) -> None:
        """Drop those that are not in the registry any more; else that is done in its own time.

        Raises:
            Unusable: The broker is closed.
        """
        await self._somewhere(self._tidy())

    def close(self) -> None:
        """Stop, and let go of the threads."""
        self._portal.stop()
        self._embedder.close()

    async def _somewhere(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._portal.await_(work)
        except Stopped:
            raise Unusable("the broker is closed") from None

    async def _rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        compared: _Compared | None = None
        self._asking += 1
        try:
            async with asyncio.timeout(self._patience):
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
                    f"it takes longer than {self._patience:g} s; {count} agents have vectors so far"
                ) from None
        finally:
            self._asking -= 1
        return vectors.best(compared.rows, compared.scores, most)

    async def _compare(self, question: str, asked: Floats) -> _Compared:
        """Compare a question with all vectors, while its words are looked up.

        When others wait, that is done one after the other: together they keep two processors busy,
        and in a storm of questions those who send would find none.
        """
        async with self._turn:
            reading = asyncio.ensure_future(
                self._backend.read(commands.Matching(text=question, most=_MOST_MATCHING))
            )
            try:
                if self._asking > 1:
                    await asyncio.wait([reading])
                else:
                    await asyncio.sleep(0)  # so that it begins
                seen = self._seen
                rows, scores = self._cosines(asked)
                found = await reading
            finally:
                reading.cancel()
            vectors.raise_scores(rows, scores, found.rows, _BONUS)
            return _Compared(rows, scores, found.newest, found.newest > seen)

    def _cosines(self, asked: Floats) -> tuple[Rows, Floats]:
        if not self._vectors.count:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            return self._vectors.compare(asked)
        except ValueError as error:
            raise Unusable(f"{self._model}: {error}") from error

    async def _catch_up(self, newest: int) -> None:
        """Return when all agents up to a row have been looked at.

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

    def _has_seen(self, row: int) -> bool:
        return self._seen >= row and not self._is_outdated

    async def _follow(self) -> None:
        try:
            while not self._has_seen(self._wanted):
                async with self._changing:
                    await self._step()
                async with self._stepped:
                    self._stepped.notify_all()
            self._is_complete = True
        except (Unusable, Mq9Error) as error:  # whoever waits gets it
            async with self._stepped:
                self._failure = error
                self._stepped.notify_all()

    async def _step(self) -> None:
        """Take in the next agents."""
        if self._is_outdated or not self._model:
            self._model = await self._embedder.model()
            self._vectors, self._seen = Vectors(), 0
            self._is_complete = self._is_outdated = False
        found = await self._backend.read(
            commands.Meanings(model=self._model, after=self._seen, most=_BATCH)
        )
        if not found:  # they have gone meanwhile
            self._seen = self._wanted
            return
        new = [one for one in found if one.vector is None]
        embedded = await self._embedder.agents([one.parts for one in new])
        known = {
            one.row: np.frombuffer(one.vector, "<f4") for one in found if one.vector is not None
        }
        made = {
            one.row: vector for one, vector in zip(new, embedded, strict=True) if vector is not None
        }
        if len(made) < len(new):
            logger.warning(
                "embedding failed for %d of %d agents; they are found by their words only",
                *(len(new) - len(made), len(new)),
            )
        both = sorted((known | made).items())
        if both:
            try:
                self._vectors.add([row for row, _ in both], [vector for _, vector in both])
            except ValueError as error:
                self._is_outdated = True
                raise Unusable(f"the model has changed: {error}") from error
        self._seen = found[-1].row
        if made:
            await self._store(made)
        if self._vectors.count > self._roomy:
            await self._drop_the_gone()

    async def _store(self, made: dict[int, Floats]) -> None:
        stored = tuple((row, vector.astype("<f4").tobytes()) for row, vector in made.items())
        try:
            await self._backend.run(commands.StoreVectors(model=self._model, vectors=stored))
        except Mq9Error as error:  # they are made again when they are wanted again
            logger.warning("vectors of agents could not be stored: %s", error)

    async def _tidy(self) -> None:
        async with self._changing:
            await self._drop_the_gone()

    async def _drop_the_gone(self) -> None:
        rows = await self._backend.read(commands.AgentRows())
        self._vectors.keep(rows)
        self._roomy = int(self._vectors.count * vectors.SPARE) + _BATCH
