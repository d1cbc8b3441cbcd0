"""Vectors of many agents in one matrix, compared with one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

SPARE = 1.25  # how much room there is for more
_BLOCK = 128  # scores whose largest is looked at first


class Vectors:
    """An id and a vector of length 1 for each agent, 4 bytes times the dimension.

    Ids ascend. It is for one thread, but what ``compare`` returns is for any, and stays as it is.

    Attributes:
        count: How many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._ids: Ids = np.empty(0, np.int64)
        self._matrix: Floats = np.empty((0, 0), np.float32)

    @property
    def size(self) -> int:
        """The dimension; 0 while there is none."""
        return int(self._matrix.shape[1])

    def add(self, ids: Sequence[int], vectors: Sequence[Floats]) -> None:
        """Add ids above all those before.

        Raises:
            ValueError: The vectors are not of one dimension; nothing was added.
        """
        added = np.asarray(vectors, np.float32)
        if self.count == 0 and self.size != added.shape[1]:
            self._matrix = np.empty((0, added.shape[1]), np.float32)
        if added.shape[1:] != (self.size,):
            raise ValueError(f"{added.shape[1]} numbers in a vector, and {self.size} before")
        wanted = self.count + len(ids)
        if wanted > len(self._matrix):
            room = int(wanted * SPARE)
            self._ids = _grown(self._ids[: self.count], room)
            self._matrix = _grown(self._matrix[: self.count], room)
        self._ids[self.count : wanted] = ids
        self._matrix[self.count : wanted] = added
        self.count = wanted

    def keep(self, ids: Sequence[int]) -> None:
        """Drop all but those ids."""
        kept = np.flatnonzero(np.isin(self._ids[: self.count], ids))
        # Not in place: somebody may still look at the ids as they were.
        self._ids = _grown(self._ids[kept], len(self._matrix))
        self._matrix[: len(kept)] = self._matrix[kept]
        self.count = len(kept)

    def compare(self, vector: Floats) -> tuple[Ids, Floats]:
        """Return all ids, and the cosine of each one's vector and a vector of length 1.

        Raises:
            ValueError: It is of another dimension.
        """
        if vector.shape != (self.size,):
            raise ValueError(f"{len(vector)} numbers in a vector, and {self.size} in others")
        # One thread does this as fast as many, and leaves the others to those who send.
        return self._ids[: self.count], np.einsum("ij,j->i", self._matrix[: self.count], vector)


def best(ids: Ids, scores: Floats, most: int) -> tuple[tuple[int, float], ...]:
    """Return so many of the ids with the largest scores, best first; of equals the lowest id."""
    at = _largest(scores, min(most, len(ids)))
    at = at[np.lexsort((ids[at], -scores[at]))]
    return tuple((int(ids[one]), float(scores[one])) for one in at)


def raise_scores(ids: Ids, scores: Floats, chosen: Sequence[int], by: float) -> None:
    """Raise the scores of those of the ids that are chosen."""
    if chosen and len(ids):
        at = np.searchsorted(ids, chosen).clip(max=len(ids) - 1)
        scores[at[ids[at] == chosen]] += by


def unit(vectors: Floats) -> Floats:
    """Return the vectors with length 1; a vector of zeros as it is."""
    lengths: Any = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def mean(vectors: Sequence[Floats]) -> Floats | None:
    """Return the direction in which vectors of length 1 point together, each with equal weight.

    It has length 1, or 0 where they cancel out; of no vectors it is None.
    """
    return unit(np.mean(vectors, axis=0, keepdims=True))[0] if len(vectors) else None


def _largest(scores: Floats, most: int) -> Ids:
    """Return where the largest scores are.

    They lie in as many blocks at the most, which are those whose own largest scores are.
    """
    blocks = len(scores) // _BLOCK
    if blocks <= most:
        return _partition(scores, most)
    whole = blocks * _BLOCK
    chosen = _partition(scores[:whole].reshape(blocks, _BLOCK).max(axis=1), most)
    inside = (chosen[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
    candidates = np.concatenate((inside, np.arange(whole, len(scores))))
    return np.asarray(candidates[_partition(scores[candidates], most)])


def _partition(scores: Floats, most: int) -> Ids:
    if most >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - most)[len(scores) - most :]


def _grown(array: Any, room: int) -> Any:
    grown = np.empty((room, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
