"""Ranking of agents by meaning, with their vectors in memory."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from sqlite3 import Connection
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mq9.concurrency.portal import Portal, Stopped
from mq9.discovery import index, text_search
from mq9.discovery.embeddings import Embeddings, Unusable, model_of
from mq9.engine import agents
from mq9.engine.commands import Call
from mq9.errors import Mq9Error
from mq9.storage.backend import Backend, DerivedQuery, LocalChange

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
logger = logging.getLogger("mq9.broker")
T = TypeVar("T")
_BATCH = 1_000  # agents that are processed together
_MOST_MATCHING = 1_000
_BONUS = 0.5  # for having every word: chosen with benchmarks/discovery
_TIMEOUT_S = 4.0  # less than clients wait for a reply, and enough to load a model
_TEXTS_AT_ONCE = 100  # in a batch, so that queries can run between batches
_PROBE = "?"  # a text that any model embeds
_SCHEME = "mean of parts"  # the way to combine the vectors of an agent's texts
_SPARE = 1.25  # growth factor of arrays


class _Compared(NamedTuple):
    """Scores of the agents for a query."""

    ids: Ids  # of the agents that have a vector
    scores: Floats
    newest: int  # the highest id in the registry
    is_behind: bool  # whether newer agents have no vector yet


class SemanticIndex:
    """Ranking of agents by the cosines of their vectors and that of a query.

    A query updates the vectors: a new agent is embedded, or its stored vector is read. Vectors of
    removed agents are dropped from time to time.

    The index has its own event loop, because clients may be on several. The embeddings have their
    own thread. A query may take ``timeout_s``.
    """

    def __init__(
        self, backend: Backend, embeddings: Embeddings, *, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._backend = backend
        self._embedder = Embedder(embeddings)
        self.timeout_s = timeout_s
        self._portal = Portal("mq9-semantic")
        self._model = ""  # with its dimension; set with the first vector
        self._vectors = Vectors()
        self._most = _BATCH  # number of vectors at which those of removed agents are dropped
        self._changing = asyncio.Lock()  # held while vectors are added or dropped
        self._comparing = asyncio.Lock()
        self._questions = 0  # number of queries in progress

        self._seen = 0  # the highest processed id
        self._wanted = 0  # the highest id that a query waits for
        self._is_complete = False  # whether all agents have been processed once
        self._is_outdated = False  # whether the model now makes vectors of another dimension
        self._follower: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._stepped = asyncio.Condition()  # notified after each step or failure of the follower

    @property
    def count(self) -> int:
        """The number of vectors, including those of removed agents that are not dropped yet."""
        return self._vectors.count

    async def rank(self, question: str, most: int) -> tuple[tuple[int, float], ...]:
        """Return id and score of the agents that match a query best, including expired ones.

        The score is the cosine of the two vectors. It is 0.5 higher if the agent's text has every
        word of the query except stop words. This bonus does not apply if more than 1,000 agents
        have them all. New agents whose embedding takes too long are left out.
        """
        return await self._on_loop(self._rank(question, most))

    async def drop_removed(self) -> None:
        """Drop the vectors of removed agents now, instead of at a later step."""
        await self._on_loop(self._drop_when_free())

    def close(self) -> None:
        """End the threads; a query in progress raises Unusable."""
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
                vector = await self._embedder.question(question)
                if self._vectors.count and len(vector) != self._vectors.size:
                    self._is_outdated = True
                else:
                    compared = await self._compare(question, vector)
                if compared is None or compared.is_behind:
                    await self._catch_up(0 if compared is None else compared.newest)
                    compared = await self._compare(question, vector)
        except TimeoutError:
            if compared is None or not self._is_complete:
                count = self._vectors.count
                raise Unusable(
                    f"it takes longer than {self.timeout_s:g} s; {count} agents have vectors so far"
                ) from None
        finally:
            self._questions -= 1
        return best(compared.ids, compared.scores, most)

    async def _compare(self, question: str, vector: Floats) -> _Compared:
        """Compare a query with all vectors, and look up its words at the same time.

        If other queries wait, do one after the other. Both at once use two CPUs, and many queries
        would leave no CPU time for SENDs.
        """
        async with self._comparing:
            reading = asyncio.ensure_future(self._look_up(question))
            try:
                if self._questions > 1:
                    await asyncio.wait([reading])
                else:
                    await asyncio.sleep(0)  # so that the look-up begins
                seen = self._seen
                ids, scores = self._cosines(vector)
                having_all_words, newest = await reading
            finally:
                reading.cancel()
            raise_scores(ids, scores, having_all_words, _BONUS)
            return _Compared(ids, scores, newest, newest > seen)

    async def _look_up(self, question: str) -> tuple[list[int], int]:
        """Return the agents that have every word of a query, and the highest id."""

        def look(db: Connection, _now: int) -> tuple[list[int], int]:
            ids = text_search.having_all_words(db, question, _MOST_MATCHING)
            return ids, agents.newest_id(db)

        return await self._backend.read(Call(DerivedQuery(look)))

    def _cosines(self, vector: Floats) -> tuple[Ids, Floats]:
        if not self._vectors.count:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            return self._vectors.compare(vector)
        except ValueError as error:
            raise Unusable(f"{self._model}: {error}") from error

    async def _catch_up(self, newest: int) -> None:
        """Wait until all agents up to an id have been processed."""
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
        except (Unusable, Mq9Error) as error:  # raised in the waiting queries
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
            Call(DerivedQuery(lambda db, _: index.vectors_after(db, seen, model, _BATCH)))
        )
        if not found:  # the agents were removed in the meantime
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
                Call(LocalChange(lambda db: index.store_vectors(db, model, stored)))
            )
        except Mq9Error as error:  # a later query computes them again
            logger.warning("vectors of agents could not be stored: %s", error)

    async def _drop_when_free(self) -> None:
        async with self._changing:
            await self._drop_removed()

    async def _drop_removed(self) -> None:
        known = await self._backend.read(Call(DerivedQuery(lambda db, _: agents.ids(db))))
        self._vectors.keep(known)
        self._most = int(self._vectors.count * _SPARE) + _BATCH


class Embedder:
    """Embeddings whose vectors have length 1.

    They are used on one daemon thread only.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def model(self) -> str:
        """Return an id of the model, its dimension and the way to combine vectors.

        Vectors with the same id are comparable.
        """
        [probe] = await self._embed([_PROBE])
        return f"{model_of(self._embeddings)} {len(probe)} {_SCHEME}"

    async def question(self, text: str) -> Floats:
        """Return the vector of a query."""
        made = await self._on_thread(lambda: _checked([self._embeddings.embed_query(text)], 1))
        return np.asarray(made[0])

    async def agents(self, agents: Sequence[tuple[str, ...]]) -> list[Floats | None]:
        """Return the vectors of agents, each the mean of the vectors of its parts.

        A part that cannot be embedded is left out. An agent with no other parts gets None.
        """
        made = await self._documents([part for parts in agents for part in parts])
        if len({len(one) for one in made if one is not None}) > 1:
            raise Unusable(f"{model_of(self._embeddings)}: vectors of several dimensions")
        each = iter(made)
        found = ([next(each) for _ in parts] for parts in agents)
        return [mean([one for one in some if one is not None]) for some in found]

    def close(self) -> None:
        """End the thread after its current work."""
        self._work.put(None)

    async def _documents(self, texts: list[str]) -> list[Floats | None]:
        made: list[Floats | None] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            made += await self._embed_each(texts[start : start + _TEXTS_AT_ONCE])
        return made

    async def _embed_each(self, texts: list[str]) -> list[Floats | None]:
        try:
            return list(await self._embed(texts))
        except Unusable:
            await self._embed([_PROBE])
        if len(texts) == 1:
            return [None]
        half = len(texts) // 2
        return await self._embed_each(texts[:half]) + await self._embed_each(texts[half:])

    async def _embed(self, texts: list[str]) -> Floats:
        return await self._on_thread(
            lambda: _checked(self._embeddings.embed_documents(texts), len(texts))
        )

    async def _on_thread(self, work: Callable[[], T]) -> T:
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:  # noqa: BLE001  # raised to the caller
                    future.set_exception(error)

        self._work.put(run)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_run_all, args=(self._work,), name="mq9-embedder", daemon=True
            )
            self._thread.start()
        try:
            return await asyncio.wrap_future(future)
        except Exception as error:
            raise Unusable(f"{model_of(self._embeddings)}: {error}") from error


def _run_all(work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (item := work.get()) is not None:
        item()


def _checked(made: Any, count: int) -> Floats:
    """Return the vectors of ``count`` texts, scaled to length 1."""
    made = np.asarray(made, np.float32)
    if made.ndim != 2 or len(made) != count or not made.size or not np.isfinite(made).all():
        raise ValueError(f"no vector of finite numbers for each of {count} texts")
    return unit(made)


class Vectors:
    """An id and a vector of length 1 for each agent, 4 bytes times the dimension.

    Ids ascend. One thread uses it. The result of ``compare`` never changes and may go to any
    thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._ids: Ids = np.empty(0, np.int64)
        self._matrix: Floats = np.empty((0, 0), np.float32)

    @property
    def size(self) -> int:
        """The dimension; 0 while there are no vectors."""
        return int(self._matrix.shape[1])

    def add(self, ids: Sequence[int], vectors: Sequence[Floats]) -> None:
        """Add ids above all those before."""
        added = np.asarray(vectors, np.float32)
        if self.count == 0 and self.size != added.shape[1]:
            self._matrix = np.empty((0, added.shape[1]), np.float32)
        if added.shape[1:] != (self.size,):
            raise ValueError(f"{added.shape[1]} numbers in a vector, and {self.size} before")
        wanted = self.count + len(ids)
        if wanted > len(self._matrix):
            room = int(wanted * _SPARE)
            self._ids = _grown(self._ids[: self.count], room)
            self._matrix = _grown(self._matrix[: self.count], room)
        self._ids[self.count : wanted] = ids
        self._matrix[self.count : wanted] = added
        self.count = wanted

    def keep(self, ids: Sequence[int]) -> None:
        """Drop all other ids."""
        kept = np.flatnonzero(np.isin(self._ids[: self.count], ids))
        # Not in place: a result of `compare` may still use the old ids.
        self._ids = _grown(self._ids[kept], len(self._matrix))
        self._matrix[: len(kept)] = self._matrix[kept]
        self.count = len(kept)

    def compare(self, vector: Floats) -> tuple[Ids, Floats]:
        """Return all ids, and the cosines of their vectors with a vector of length 1."""
        if vector.shape != (self.size,):
            raise ValueError(f"{len(vector)} numbers in a vector, and {self.size} in others")
        # One thread is as fast as many, and leaves CPU time for SENDs.
        return self._ids[: self.count], np.einsum("ij,j->i", self._matrix[: self.count], vector)


def best(ids: Ids, scores: Floats, most: int) -> tuple[tuple[int, float], ...]:
    """Return the ``most`` ids with the largest scores, best first; for equal scores by id."""
    at = np.arange(len(ids))
    if most < len(ids):
        at = np.argpartition(scores, len(ids) - most)[len(ids) - most :]
    at = at[np.lexsort((ids[at], -scores[at]))]
    return tuple((int(ids[one]), float(scores[one])) for one in at)


def raise_scores(ids: Ids, scores: Floats, chosen: Sequence[int], by: float) -> None:
    """Raise the scores of the chosen ids."""
    if chosen and len(ids):
        at = np.searchsorted(ids, chosen).clip(max=len(ids) - 1)
        scores[at[ids[at] == chosen]] += by


def unit(vectors: Floats) -> Floats:
    """Return the vectors scaled to length 1; a vector of zeros is unchanged."""
    lengths: Any = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def mean(vectors: Sequence[Floats]) -> Floats | None:
    """Return the mean direction of vectors of length 1, with length 1.

    The length is 0 if the vectors cancel out. The result for no vectors is None.
    """
    return unit(np.mean(vectors, axis=0, keepdims=True))[0] if len(vectors) else None


def _grown(array: Any, room: int) -> Any:
    grown = np.empty((room, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
