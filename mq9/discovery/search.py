"""Text search over the registry: what is indexed of an agent, and how a question becomes a query.

SQLite's tokenizer splits at spaces, which Chinese and Japanese do not write. Runs of their
characters are therefore indexed, and asked for, as overlapping pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mq9.discovery import cards, stop_words

_MOST_CHARACTERS = 65_536  # of each column of one agent
_MOST_TERMS = 32  # of one question
_COLUMNS = {
    "description": 1,
    **dict.fromkeys(("skills", "tags", "examples", "capabilities"), 2),
}
_SHORTEST_BEGINNING = 3  # characters
_MOST_MEANT = 8_000  # characters of each part of one agent
_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003fffd"
)
_RUN_OF_CJK = re.compile(f"[{_CJK}]+")
_TERM = re.compile(r"[^\W_]+")


def document(name: str, registered: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the columns of ``agents_text`` for what an agent registered.

    Returns:
        Its name, its description, what its skills say, and every other text in the object but what
        is meant for programs.
    """
    columns: tuple[list[str], ...] = ([name], [], [], [])
    for field, value in cards.for_people(registered).items():
        columns[_COLUMNS.get(field, 3)].extend(text for _, text in _texts(field, value))
    return tuple(_indexed(" ".join(column)[:_MOST_CHARACTERS]) for column in columns)  # type: ignore[return-value]  # four in, four out


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON value, with the name of the nearest field that it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(name, one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(field, one)


def _indexed(text: str) -> str:
    """Return a text with its runs of CJK as pairs; the last character also by itself.

    So each character is the beginning of something.
    """
    return _spread(text, lambda run: [*_pairs(run), run[-1]] if len(run) > 1 else [run])


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


def _spread(text: str, split: Callable[[str], list[str]]) -> str:
    # What looks alike is alike: full and half width, composed and decomposed.
    alike = unicodedata.normalize("NFKC", text)
    return _RUN_OF_CJK.sub(lambda run: f" {' '.join(split(run[0]))} ", alike)


def terms(question: str) -> list[str]:
    """Return the terms of a question, each once, without anything that is query syntax.

    Words that say nothing are left out, unless there are no others.
    """
    words = {word.lower(): word for word in _TERM.findall(_spread(question, _pairs))}
    return stop_words.without(list(words.values()))[:_MOST_TERMS]


def parts(name: str, registered: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what an agent says of itself, in up to three parts that are embedded apart.

    They are its description with everything that is in no other part, its tags, and its skills
    with their examples. A text that stands twice counts once. The name is left out, since it says
    less of what an agent does than it seems, unless the agent says nothing else.
    """
    said: dict[str, list[str]] = {"description": [], "tags": [], "skills": []}
    seen = set()
    for top, value in cards.for_people(registered).items():
        for field, text in _texts(top, value):
            alike = " ".join(text.casefold().split())
            if alike and alike not in seen:
                seen.add(alike)
                said[_part(top, field)].append(text)
    return tuple(" ".join(texts)[:_MOST_MEANT] for texts in said.values() if texts) or (name,)


def _part(top: str, field: str) -> str:
    if field == "tags":
        return field
    return "skills" if top == "skills" or field == "examples" else "description"


def all_of(words: list[str]) -> str:
    """Return the full-text query for agents that match every term."""
    return " ".join(map(_term, words))


def any_of(words: list[str]) -> str:
    """Return the full-text query for agents that match at least one term."""
    return " OR ".join(map(_term, words))


def beginning_with(words: list[str]) -> list[str]:
    """Return full-text queries for agents with words that begin like all of the terms.

    The second is for shorter beginnings, since what is indexed of a word lacks its ending.
    """
    long = [word for word in words if len(word) >= _SHORTEST_BEGINNING]
    shorter = [word[: max(_SHORTEST_BEGINNING, len(word) * 3 // 4)] for word in long]
    return [" ".join(f'"{word}"*' for word in some) for some in (long, shorter) if some]


def _term(word: str) -> str:
    """Return what matches a word; for one character of CJK, whatever begins with it."""
    return f'"{word}"*' if len(word) == 1 and _RUN_OF_CJK.match(word) else f'"{word}"'
