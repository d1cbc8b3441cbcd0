"""Embeddings, which turn text into vectors to find agents by meaning.

Any object with ``embed_documents`` and ``embed_query`` works, such as LangChain's ``Embeddings``.
Cosines of different models have different ranges, so ``min_score`` is the score below which a match
is weak. The default is WordLlama (extra ``semantic``). Its model is part of the package: small,
offline, and quick enough for every query.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mq9.errors import InvalidRequest
from mq9.protocol import checks

# Attributes that hold the model's name in LangChain's embeddings.
_NAMES_OF_MODELS = ("model", "model_name", "model_id", "deployment", "repo_id", "model_path")


class Unusable(Exception):
    """Embeddings failed."""


@runtime_checkable
class Embeddings(Protocol):
    """Model that turns texts of similar meaning into vectors of similar direction."""

    def embed_documents(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """Return a vector for each text.

        Args:
            texts: The parts of agent cards; at least one.
        """

    def embed_query(self, text: str) -> Sequence[float]:
        """Return the vector of a question.

        Args:
            text: The text that an agent searches for.
        """


class WordLlamaEmbeddings:
    """Embeddings with the model in the package ``wordllama``, loaded on first use."""

    model = "wordllama/l2_supercat/256"
    min_score = 0.12  # keeps 97 % of the right first answers: benchmarks/discovery

    def __init__(self) -> None:
        self._loaded: Any = None

    def embed_documents(self, texts: list[str]) -> Any:
        """Return a vector for each text."""
        return self._model().embed(texts)

    def embed_query(self, text: str) -> Any:
        """Return the vector of a question."""
        return self.embed_documents([text])[0]

    def _model(self) -> Any:
        if self._loaded is None:
            with _root_logger_kept():
                import wordllama  # noqa: PLC0415  # heavy, and an extra

            # With the path of its own files it searches nowhere else.
            self._loaded = wordllama.WordLlama.load(
                cache_dir=Path(wordllama.__file__).parent, disable_download=True
            )
        return self._loaded


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Keep imports inside from configuring logging: ``basicConfig`` respects a handler."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def default_embeddings() -> Embeddings | None:
    """Return WordLlama if it is installed, otherwise None."""
    return None if importlib.util.find_spec("wordllama") is None else WordLlamaEmbeddings()


def checked(name: str, embeddings: object) -> Embeddings:
    """Return the given embeddings if they are valid."""
    if isinstance(embeddings, type) or not isinstance(embeddings, Embeddings):
        raise InvalidRequest(
            f"{name}: {type(embeddings).__name__} has no embed_documents and embed_query"
        )
    checks.number(0, 1)(f"{name}: min_score", getattr(embeddings, "min_score", 0.0))
    if importlib.util.find_spec("numpy") is None:
        raise InvalidRequest(
            f"{name}: vectors are compared by numpy, which is not installed; the extra `semantic` "
            "brings it"
        )
    return embeddings


def min_score_of(embeddings: Embeddings) -> float:
    """Return the score below which a match is weak, 0 to 1; 0 if they do not define one."""
    return float(getattr(embeddings, "min_score", 0.0))


def model_of(embeddings: Embeddings) -> str:
    """Return the id of a model, which its stored vectors are kept with."""
    kind = type(embeddings)
    names = (getattr(embeddings, name, None) for name in _NAMES_OF_MODELS)
    return " ".join(
        [f"{kind.__module__}.{kind.__qualname__}", *(one for one in names if isinstance(one, str))]
    )
