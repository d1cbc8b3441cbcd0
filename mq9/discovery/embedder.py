"""Embeddings used on a thread of their own, and checked."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from mq9.discovery import vectors
from mq9.discovery.embeddings import Embeddings, Unusable, model_of
from mq9.discovery.vectors import Floats

T = TypeVar("T")

_BATCH = 100  # texts, so that questions get their turn between batches
_PROBE = "?"  # a text that any model embeds
_SCHEME = "mean of parts"  # how the vector of an agent is made of those of its texts


class Embedder:
    """Turns texts into vectors of length 1.

    The embeddings are used on one thread only, which does not keep the process from ending.

    Args:
        embeddings: Make the vectors.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def model(self) -> str:
        """Return the name of the model, its dimension and how an agent's vector is made.

        Vectors are comparable when these are the same.

        Raises:
            Unusable: The embeddings failed.
        """
        [probe] = await self._embed([_PROBE])
        return f"{model_of(self._embeddings)} {len(probe)} {_SCHEME}"

    async def question(self, text: str) -> Floats:
        """Return the vector of a question.

        Raises:
            Unusable: The embeddings failed.
        """
        made = await self._on_thread(lambda: _checked([self._embeddings.embed_query(text)], 1))
        return np.asarray(made[0])

    async def agents(self, agents: Sequence[tuple[str, ...]]) -> list[Floats | None]:
        """Return the vectors of agents, each the mean of the vectors of its parts.

        A part that cannot be embedded is left out. An agent with no other parts gets None.

        Raises:
            Unusable: The embeddings failed with every text, or changed their dimension meanwhile.
        """
        made = await self._documents([part for parts in agents for part in parts])
        if len({len(one) for one in made if one is not None}) > 1:
            raise Unusable(f"{model_of(self._embeddings)}: vectors of several dimensions")
        each = iter(made)
        found = ([next(each) for _ in parts] for parts in agents)
        return [vectors.mean([one for one in some if one is not None]) for some in found]

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._work.put(None)

    async def _documents(self, texts: list[str]) -> list[Floats | None]:
        made: list[Floats | None] = []
        for start in range(0, len(texts), _BATCH):
            made += await self._embed_each(texts[start : start + _BATCH])
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
    """Return what embeddings made of so many texts, with length 1.

    Raises:
        ValueError: It is not a vector of finite numbers for each.
    """
    made = np.asarray(made, np.float32)
    if made.ndim != 2 or len(made) != count or not made.size or not np.isfinite(made).all():
        raise ValueError(f"no vector of finite numbers for each of {count} texts")
    return vectors.unit(made)
