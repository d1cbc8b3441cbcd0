"""Text search over the registry: what is indexed of an agent, and how a question becomes a query.

SQLite's tokenizer splits at spaces, which Chinese and Japanese do not write. Runs of their
characters are therefore indexed, and asked for, as overlapping pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mq9 import stop_words

_MOST_CHARACTERS = 65_536  # of each column of one agent
_MOST_TERMS = 32  # of one question
# What an AgentCard says to programs; the rest is for whoever looks for an agent.
_TECHNICAL = frozenset(
    (
        *("id", "uri", "url", "iconurl", "documentationurl", "version", "protocolversion"),
        *("defaultinputmodes", "defaultoutputmodes", "inputmodes", "outputmodes"),
        *("supportedinterfaces", "additionalinterfaces", "preferredtransport"),
        *("securityschemes", "securityrequirements", "security", "signatures"),
    )
)
_OWN = frozenset(("name", "mailbox", "ttl"))  # at the top of what an agent registers
_COLUMNS = {
    "description": 1,
    **dict.fromkeys(("skills", "tags", "examples", "capabilities"), 2),
}
_SHORTEST_BEGINNING = 3  # characters
_MOST_MEANT = 8_000  # characters of one agent
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
    for field, text in _said(registered):
        columns[_COLUMNS.get(field, 3)].append(text)
    return tuple(_indexed(" ".join(column)[:_MOST_CHARACTERS]) for column in columns)  # type: ignore[return-value]  # four in, four out


def _said(registered: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what an agent says of itself, beside its name: field and text."""
    for field, value in registered.items():
        if field not in _OWN and not _is_technical(field):
            for text in _texts(value, of_card=field in _COLUMNS or field == "provider"):
                yield field, text


def _texts(value: Any, *, of_card: bool) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for field, one in value.items():
            if not (of_card and _is_technical(field)):
                yield from _texts(one, of_card=of_card)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, of_card=of_card)


def _is_technical(field: str) -> bool:
    return field.replace("_", "").lower() in _TECHNICAL


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


def meaning(name: str, registered: Mapping[str, Any]) -> str:
    """Return what an agent says of itself, in its own order; its name, where it says nothing.

    A name is left out: it says less of what an agent does than it seems.
    """
    said = " ".join(text for _, text in _said(registered))
    return said[:_MOST_MEANT] or name


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
