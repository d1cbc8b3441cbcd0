"""Texts of a registration: for people, for the text index, and for embedding.

SQLite's tokenizer splits at spaces, which Chinese and Japanese do not use. Runs of their characters
are therefore indexed and searched as overlapping pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

OWN_FIELDS = frozenset({"name", "mailbox", "ttl"})  # fields of mq9 at the top of a registration
# Fields of an AgentCard for programs; the others are text to search.
_TECHNICAL = frozenset(
    (
        *("id", "uri", "url", "iconurl", "documentationurl", "version", "protocolversion"),
        *("defaultinputmodes", "defaultoutputmodes", "inputmodes", "outputmodes"),
        *("supportedinterfaces", "additionalinterfaces", "preferredtransport"),
        *("securityschemes", "securityrequirements", "security", "signatures"),
    )
)
# Text fields of an AgentCard. Below other fields, names have no fixed meaning.
_OF_CARD = frozenset(("description", "skills", "tags", "examples", "capabilities", "provider"))
_COLUMN_CHARACTERS = 65_536  # at most, of each column of one agent
_PART_CHARACTERS = 8_000  # at most, of each part of one agent
_COLUMNS = {"description": 1, **dict.fromkeys(("skills", "tags", "examples", "capabilities"), 2)}
_OTHER = 3
_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003fffd"
)
_RUN_OF_CJK = re.compile(f"[{_CJK}]+")
_WORD = re.compile(r"[^\W_]+")


def for_people(registered: Mapping[str, Any]) -> dict[str, Any]:
    """Return a registration without its name and the fields for programs."""
    return {
        field: _pruned(value) if field in _OF_CARD else value
        for field, value in registered.items()
        if field not in OWN_FIELDS and not _is_technical(field)
    }


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            field: _pruned(one) for field, one in value.items() if not _is_technical(str(field))
        }
    return [_pruned(one) for one in value] if isinstance(value, list) else value


def _is_technical(field: str) -> bool:
    return field.replace("_", "").lower() in _TECHNICAL


def columns(name: str, registered: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the text of a registration for the tokenizer, for each column of the index."""
    texts: tuple[list[str], ...] = ([name], [], [], [])
    for field, value in for_people(registered).items():
        texts[_COLUMNS.get(field, _OTHER)].extend(text for _, text in _texts(field, value))
    name, description, skills, other = (
        for_index(" ".join(some)[:_COLUMN_CHARACTERS]) for some in texts
    )
    return name, description, skills, other


def parts(name: str, registered: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the text of a registration in up to three parts, to embed separately.

    The parts are the description with all remaining text, the tags, and the skills with their
    examples. A repeated text counts once. The name is used only if there is no other text, because
    it says little about what an agent does.
    """
    texts_of: dict[str, list[str]] = {"description": [], "tags": [], "skills": []}
    seen = set()
    for top, value in for_people(registered).items():
        for field, text in _texts(top, value):
            alike = " ".join(text.casefold().split())
            if alike and alike not in seen:
                seen.add(alike)
                texts_of[_part(top, field)].append(text)
    found = (" ".join(texts)[:_PART_CHARACTERS] for texts in texts_of.values() if texts)
    return tuple(found) or (name,)


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON value, with the name of its nearest field."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(name, one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(field, one)


def _part(top: str, field: str) -> str:
    if field == "tags":
        return field
    return "skills" if top == "skills" or field == "examples" else "description"


def for_index(text: str) -> str:
    """Return a text with its CJK runs as pairs, plus the last character of each run.

    So each character is the beginning of a token.
    """
    return _split_runs(text, lambda run: [*_pairs(run), run[-1]] if len(run) > 1 else [run])


def words(question: str) -> list[str]:
    """Return the distinct words of a query, ignoring case, with CJK runs as pairs."""
    return list(
        {word.lower(): word for word in _WORD.findall(_split_runs(question, _pairs))}.values()
    )


def is_cjk(word: str) -> bool:
    """Return whether a word begins with a CJK character."""
    return _RUN_OF_CJK.match(word) is not None


def _split_runs(text: str, split: Callable[[str], list[str]]) -> str:
    # Unify characters that look the same: full and half width, composed and decomposed.
    alike = unicodedata.normalize("NFKC", text)
    return _RUN_OF_CJK.sub(lambda run: f" {' '.join(split(run[0]))} ", alike)


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
