"""Agents compared by meaning: their vectors in one matrix, kept in step with the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mq9.broker.backend import Backend
from mq9.embeddings import Embeddings, Unusable, model_of
from mq9.engine import commands
from mq9.engine.commands import Meant
from mq9.errors import Mq9Error

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")
Floats = npt.NDArray[np.float32]

_BATCH = 1_000  # agents that are looked at, embedded and stored together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_SPARE = 1.25  # how much the matrix grows when it is full


class Meaning:
    """Ranks agents by what they mean.

    A matrix holds one vector of length 1 for each agent, 4 bytes times the dimension. It follows
    the registry when a question is asked: what is new is embedded, or read where it was stored
    before, and what has gone is dropped.

    Args:
        backend: Has the registry.
        embeddings: Turn texts into vectors. They are used on a thread of their own.
    """

    def __init__(self, backend: Backend, embeddings: Embeddings) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._model = ""  # and its dimension, known once there is a vector
        self._thread = ThreadPoolExecutor(1, "mq9-meaning")
        self._following = asyncio.Lock()
        self._rows = np.empty(0, np.int64)
        self._matrix: Floats = np.empty((0, 0), np.float32)
        self._count = 0
        self._seen = 0  # the highest row that was looked at

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return the agents that fit a question best, dead ones included: row and score of each.

        The score is the cosine of the two meanings, and a half more where the agent's text has
        every word of the question that says something.

        Raises:
            Unusable: The embeddings failed.
        """
        ranking = asyncio.create_task(self._rank(question, most))
        ranking.add_done_callback(_retrieve)
        # What is being done to the matrix is done to its end, whoever still waits for it.
        return await asyncio.shield(ranking)

    async def _rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        async with self._following:
            if not self._model:
                self._model = await self._apart(self._name)
            await self._follow()
            matching = await self._backend.read(
                commands.Matching(text=question, most=_MOST_MATCHING)
            )
            return await self._apart(lambda: self._best(question, matching, most))

    @property
    def count(self) -> int:
        """How many agents can be ranked."""
        return self._count

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        count, highest = await self._backend.read(commands.Census())
        while self._seen < highest:
            found = await self._backend.read(
                commands.Meanings(model=self._model, after=self._seen, most=_BATCH)
            )
            if not found:
                break
            made = await self._apart(lambda found=found: self._add(found))  # type: ignore[misc]  # mypy knows no such lambda
            if made:
                await self._store(made)
        if self._count != count:
            rows = await self._backend.read(commands.AgentRows())
            await self._apart(lambda: self._keep(rows))

    async def _store(self, made: tuple[tuple[int, bytes], ...]) -> None:
        try:
            await self._backend.run(commands.StoreVectors(model=self._model, vectors=made))
        except Mq9Error as error:  # they are made again when they are wanted again
            logger.warning("vectors of agents could not be stored: %s", error)

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _name(self) -> str:
        """Name the model with its dimension: vectors of another one are of no use."""
        return f"{model_of(self._embeddings)} {self._embed(['?']).shape[1]}"

    def _add(self, found: Sequence[Meant]) -> tuple[tuple[int, bytes], ...]:
        """Take agents into the matrix; what had to be embedded, to be stored."""
        new = [one for one in found if one.vector is None]
        embedded = self._embed([one.text for one in new]) if new else np.empty((0, 0), np.float32)
        made = {one.row: vector for one, vector in zip(new, embedded, strict=True)}
        vectors = [
            made[one.row] if one.vector is None else np.frombuffer(one.vector, "<f4")
            for one in found
        ]
        self._append([one.row for one in found], vectors)
        self._seen = found[-1].row
        return tuple((row, vector.astype("<f4").tobytes()) for row, vector in made.items())

    def _append(self, rows: Sequence[int], vectors: Sequence[Floats]) -> None:
        size = len(vectors[0])
        if self._count == 0 and self._matrix.shape[1] != size:
            self._matrix = np.empty((0, size), np.float32)
        wanted = self._count + len(rows)
        if wanted > len(self._rows):
            room = max(wanted, int(wanted * _SPARE))
            self._rows = np.resize(self._rows, room)
            grown = np.empty((room, self._matrix.shape[1]), np.float32)
            grown[: self._count] = self._matrix[: self._count]
            self._matrix = grown
        for vector in vectors:
            if vector.shape != (self._matrix.shape[1],):
                raise Unusable(
                    f"{self._model} made a vector of {vector.shape} numbers, and of "
                    f"{self._matrix.shape[1]} before"
                )
        self._rows[self._count : wanted] = rows
        self._matrix[self._count : wanted] = vectors
        self._count = wanted

    def _keep(self, rows: Sequence[int]) -> None:
        """Drop the agents that are not among those rows."""
        kept = np.flatnonzero(np.isin(self._rows[: self._count], rows))
        self._rows[: len(kept)] = self._rows[kept]
        self._matrix[: len(kept)] = self._matrix[kept]
        self._count = len(kept)

    def _best(
        self, question: str, matching: Sequence[int], most: int
    ) -> tuple[tuple[int, float], ...]:
        if not self._count:
            return ()
        try:
            asked = self._unit(np.asarray([self._embeddings.embed_query(question)], np.float32))[0]
        except Exception as error:
            raise Unusable(f"{self._model}: {error}") from error
        rows = self._rows[: self._count]
        # One thread does this as fast as many, and leaves the others to those who send.
        scores = np.einsum("ij,j->i", self._matrix[: self._count], asked)
        if matching:
            scores[np.isin(rows, matching)] += _BONUS
        most = min(most, self._count)
        best = np.argpartition(-scores, most - 1)[:most]
        best = best[np.lexsort((rows[best], -scores[best]))]
        return tuple((int(rows[one]), float(scores[one])) for one in best)

    def _embed(self, texts: list[str]) -> Floats:
        try:
            made = np.asarray(self._embeddings.embed_documents(texts), np.float32)
        except Exception as error:
            raise Unusable(f"{self._model}: {error}") from error
        if made.ndim != 2 or len(made) != len(texts) or not np.isfinite(made).all():
            raise Unusable(f"{self._model} made no finite vector for each of {len(texts)} texts")
        return self._unit(made)

    @staticmethod
    def _unit(vectors: Floats) -> Floats:
        lengths: Any = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of an outcome that perhaps nobody waits for any more."""
    if not task.cancelled():
        task.exception()
