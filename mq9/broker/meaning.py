"""Agents ranked by what they mean, in step with the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from mq9.broker import vectors
from mq9.broker.backend import Backend
from mq9.broker.vectors import Floats, Rows, Vectors
from mq9.embeddings import Embeddings, Unusable, model_of
from mq9.engine import commands
from mq9.engine.commands import Meant
from mq9.errors import Mq9Error
from mq9.portal import Portal, Stopped

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")

_BATCH = 1_000  # agents that are looked at, embedded and stored together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_PATIENCE_S = 2.0  # less than clients wait for a reply


class Meaning:
    """Ranks agents by what they mean.

    It keeps a vector for each agent and follows the registry when a question is asked: who is new
    is embedded, or read where it was stored before. Who has gone is dropped now and then.

    Args:
        backend: Has the registry.
        embeddings: Turn texts into vectors. They are used on one thread, which is their own.
        patience: Seconds that a question may take.
    """

    def __init__(
        self, backend: Backend, embeddings: Embeddings, *, patience: float = _PATIENCE_S
    ) -> None:
        self._backend = backend
        self._embeddings = embeddings
        self._patience = patience
        self._portal = Portal("mq9-meaning")  # clients may be on several event loops
        self._thread = ThreadPoolExecutor(1, "mq9-vectors")
        self._model = ""  # and its dimension, known once there is a vector
        self._vectors = Vectors()
        self._seen = 0  # the highest row that was looked at
        self._roomy = _BATCH  # so many vectors there may be before those that have gone are sought
        self._changing = asyncio.Lock()  # held by whoever adds vectors or drops them
        self._following: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # held by whoever compares
        self._asking = 0

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return the agents that fit a question best, dead ones included: row and score of each.

        The score is the cosine of the two meanings, and a half more where the agent's text has
        every word of the question that says something, unless a thousand others have them, too.

        Raises:
            Unusable: The embeddings failed, or have very much to do first; they go on with it.
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
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _somewhere(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._portal.await_(work)
        except Stopped:
            raise Unusable("the broker is closed") from None

    def _apart(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        self._asking += 1
        try:
            async with asyncio.timeout(self._patience):
                rows, scores, is_behind = await self._compare(question)
                if is_behind:
                    following = self._follow_registry()
                    await asyncio.wait([following])
                    following.result()
                    rows, scores, _ = await self._compare(question)
        except TimeoutError:
            raise Unusable(f"{self._vectors.count} of the agents have vectors so far") from None
        finally:
            self._asking -= 1
        return vectors.best(rows, scores, most)

    async def _compare(self, question: str) -> tuple[Rows, Floats, bool]:
        """Return the score of each agent, and whether others had registered since.

        The words are looked for while the vectors are compared, but when others wait one after
        the other: together they keep two processors busy, and in a storm of questions those who
        send would find none.
        """
        async with self._turn:
            seen = self._seen
            comparing = self._apart(lambda: self._cosines(question))
            comparing.add_done_callback(_retrieve)
            try:
                if self._asking > 1:
                    await asyncio.wait([comparing])
                found = await self._backend.read(
                    commands.Matching(text=question, most=_MOST_MATCHING)
                )
                rows, scores = await comparing
            finally:
                comparing.cancel()
            vectors.raise_scores(rows, scores, found.rows, _BONUS)
            return rows, scores, found.newest > seen

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
        async with self._changing:
            await self._follow()

    async def _follow(self) -> None:
        if not self._model:
            self._model = await self._apart(self._name)
        while found := await self._backend.read(
            commands.Meanings(model=self._model, after=self._seen, most=_BATCH)
        ):
            made = await self._apart(lambda found=found: self._add(found))  # type: ignore[misc]  # mypy knows no such lambda
            if made:
                await self._store(made)
            if self._vectors.count > self._roomy:
                await self._drop_the_gone()

    async def _store(self, made: tuple[tuple[int, bytes], ...]) -> None:
        try:
            await self._backend.run(commands.StoreVectors(model=self._model, vectors=made))
        except Mq9Error as error:  # they are made again when they are wanted again
            logger.warning("vectors of agents could not be stored: %s", error)

    async def _tidy(self) -> None:
        async with self._changing:
            await self._drop_the_gone()

    async def _drop_the_gone(self) -> None:
        rows = await self._backend.read(commands.AgentRows())
        await self._apart(lambda: self._vectors.keep(rows))
        self._roomy = int(self._vectors.count * vectors.SPARE) + _BATCH

    def _add(self, found: Sequence[Meant]) -> tuple[tuple[int, bytes], ...]:
        """Take agents in; return what had to be embedded, to be stored."""
        new = [one for one in found if one.vector is None]
        embedded = self._embed([one.text for one in new]) if new else ()
        made = {one.row: vector for one, vector in zip(new, embedded, strict=True)}
        try:
            self._vectors.add(
                [one.row for one in found],
                [
                    made[one.row] if one.vector is None else np.frombuffer(one.vector, "<f4")
                    for one in found
                ],
            )
        except ValueError as error:
            raise Unusable(f"{self._model}: {error}") from error
        self._seen = found[-1].row
        return tuple((row, vector.astype("<f4").tobytes()) for row, vector in made.items())

    def _name(self) -> str:
        """Name the model with its dimension: vectors of another one are of no use."""
        return f"{model_of(self._embeddings)} {self._embed(['?']).shape[1]}"

    def _cosines(self, question: str) -> tuple[Rows, Floats]:
        if not self._vectors.count:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            asked = _checked([self._embeddings.embed_query(question)], 1)
            return self._vectors.compare(asked[0])
        except Exception as error:
            raise Unusable(f"{self._model}: {error}") from error

    def _embed(self, texts: list[str]) -> Floats:
        try:
            return _checked(self._embeddings.embed_documents(texts), len(texts))
        except Exception as error:
            raise Unusable(f"{self._model}: {error}") from error


def _checked(made: Any, count: int) -> Floats:
    """Return what embeddings made of so many texts, with length 1.

    Raises:
        ValueError: It is not a vector of finite numbers for each.
    """
    made = np.asarray(made, np.float32)
    if made.ndim != 2 or len(made) != count or not np.isfinite(made).all():
        raise ValueError(f"no vector of finite numbers for each of {count} texts")
    return vectors.unit(made)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of an outcome that perhaps nobody waits for any more."""
    if not future.cancelled():
        future.exception()
