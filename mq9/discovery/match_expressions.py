"""A question as match expressions of SQLite's full-text search."""

from __future__ import annotations

from mq9.discovery import stop_words, tokens

_MOST_TERMS = 32  # of one question
_SHORTEST_PREFIX = 3  # characters


def terms(question: str) -> list[str]:
    """Return the terms of a question, each once, without anything that is query syntax.

    Stop words are left out, unless there are no others.
    """
    return stop_words.without(tokens.words(question))[:_MOST_TERMS]


def all_of(words: list[str]) -> str:
    """Return the expression for agents that match every term."""
    return " ".join(map(_term, words))


def any_of(words: list[str]) -> str:
    """Return the expression for agents that match at least one term."""
    return " OR ".join(map(_term, words))


def prefixes(words: list[str]) -> list[str]:
    """Return expressions for agents with words that begin like all of the terms.

    The second is for shorter prefixes, since what is indexed of a word lacks its ending.
    """
    long = [word for word in words if len(word) >= _SHORTEST_PREFIX]
    shorter = [word[: max(_SHORTEST_PREFIX, len(word) * 3 // 4)] for word in long]
    return [" ".join(f'"{word}"*' for word in some) for some in (long, shorter) if some]


def _term(word: str) -> str:
    """Return what matches a word; for one character of CJK, whatever begins with it."""
    return f'"{word}"*' if len(word) == 1 and tokens.is_cjk(word) else f'"{word}"'
