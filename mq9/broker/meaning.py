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
from mq9.portal import Portal, Stopped

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_BATCH = 1_000  # agents that are looked at, embedded and stored together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_PATIENCE_S = 2.0  # less than clients wait for a reply
_SPARE = 1.25  # how much the matrix grows when it is full


class Meaning:
    """Ranks agents by what they mean.

    A matrix holds one vector of length 1 for each agent, 4 bytes times the dimension. It follows
    the registry when a question is asked: what is new is embedded, or read where it was stored
    before, and what has gone is dropped.

    Args:
        backend: Has the registry.
        embeddings: Turn texts into vectors. They are used on one thread, which is their own.
        patience: Seconds that a question waits for the vectors of new agents.
    """

    def __init__(
        self, backend: Backend, embeddings: Embeddings, *, patience: float = _PATIENCE_S
    ) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._patience = patience
        self._model = ""  # and its dimension, known once there is a vector
        self._portal = Portal("mq9-meaning")  # clients may be on several event loops
        self._thread = ThreadPoolExecutor(1, "mq9-vectors")
        self._following: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._asking = 0
        self._turn = asyncio.Lock()
        self._rows = np.empty(0, np.int64)
        self._matrix: Floats = np.empty((0, 0), np.float32)
        self._count = 0
        self._seen = 0  # the highest row that was looked at

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return the agents that fit a question best, dead ones included: row and score of each.

        The score is the cosine of the two meanings, and a half more where the agent's text has
        every word of the question that says something, unless a thousand others have them, too.

        Raises:
            Unusable: The embeddings failed, or have very much to do first; they go on with it.
        """
        try:
            return await self._portal.await_(self._rank(question, most))
        except Stopped:
            raise Unusable("the broker is closed") from None

    def close(self) -> None:
        """Stop, and let go of the threads."""
        self._portal.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        following = self._follow_registry()
        done, _ = await asyncio.wait([following], timeout=self._patience)
        if not done:
            raise Unusable(f"{self._count} of the agents have vectors so far")
        following.result()
        self._asking += 1
        try:
            async with self._turn:
                return await self._ranked(question, most, alone=self._asking == 1)
        finally:
            self._asking -= 1

    async def _ranked(
        self, question: str, most: int, *, alone: bool
    ) -> tuple[tuple[int, float], ...]:
        """Look for the words while the matrix is scanned, unless others wait.

        Then it is one after the other: together they keep two processors busy, and in a storm of
        questions those who send would find none.
        """
        scanning = self._apart(lambda: self._scan(question))
        scanning.add_done_callback(_retrieve)
        try:
            if not alone:
                await asyncio.wait([scanning])
            matching = await self._backend.read(
                commands.Matching(text=question, most=_MOST_MATCHING)
            )
            rows, scores = await scanning
        finally:
            scanning.cancel()
        return await self._apart(lambda: _best(rows, scores, matching, most))

    def _follow_registry(self) -> asyncio.Task[None]:
        """Return the task that will have taken in what is registered by now.

        One that has begun may have passed by it; whoever comes meanwhile shares the next one.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._follow_after(self._following))
            self._next.add_done_callback(_retrieve)
        return self._next

    async def _follow_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._following, self._next = self._next, None
        await self._follow()

    async def _follow(self) -> None:
        if not self._model:
            self._model = await self._apart(self._name)
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

    def _apart(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

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

    def _scan(self, question: str) -> tuple[Rows, Floats]:
        """Return the rows of all agents, and how near each is to a question."""
        rows = self._rows[: self._count].copy()
        if not len(rows):
            return rows, np.empty(0, np.float32)
        try:
            asked = self._unit(np.asarray([self._embeddings.embed_query(question)], np.float32))[0]
        except Exception as error:
            raise Unusable(f"{self._model}: {error}") from error
        if asked.shape != self._matrix.shape[1:] or not np.isfinite(asked).all():
            raise Unusable(
                f"{self._model} made of a question no {self._matrix.shape[1]} finite numbers"
            )
        # One thread does this as fast as many, and leaves the others to those who send.
        return rows, np.einsum("ij,j->i", self._matrix[: self._count], asked)

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


def _best(
    rows: Rows, scores: Floats, matching: Sequence[int], most: int
) -> tuple[tuple[int, float], ...]:
    if not len(rows):
        return ()
    if matching:
        scores[np.isin(rows, matching)] += _BONUS
    most = min(most, len(rows))
    best = np.argpartition(-scores, most - 1)[:most]
    best = best[np.lexsort((rows[best], -scores[best]))]
    return tuple((int(rows[one]), float(scores[one])) for one in best)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of an outcome that perhaps nobody waits for any more."""
    if not future.cancelled():
        future.exception()
