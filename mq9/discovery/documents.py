"""What is indexed of an agent: its text by columns, and the parts that are embedded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mq9.discovery import cards, tokens

_COLUMN_CHARACTERS = 65_536  # at most, of each column of one agent
_PART_CHARACTERS = 8_000  # at most, of each part of one agent
_COLUMNS = {
    "description": 1,
    **dict.fromkeys(("skills", "tags", "examples", "capabilities"), 2),
}
_OTHER = 3


def columns(name: str, registered: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the text of what an agent registered, as the tokenizer is to see it.

    Returns:
        Its name, its description, what its skills say, and every other text in the object but what
        is meant for programs.
    """
    texts: tuple[list[str], ...] = ([name], [], [], [])
    for field, value in cards.for_people(registered).items():
        texts[_COLUMNS.get(field, _OTHER)].extend(text for _, text in _texts(field, value))
    name, description, skills, other = (
        tokens.for_index(" ".join(some)[:_COLUMN_CHARACTERS]) for some in texts
    )
    return name, description, skills, other


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
    return tuple(" ".join(texts)[:_PART_CHARACTERS] for texts in said.values() if texts) or (name,)


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


def _part(top: str, field: str) -> str:
    if field == "tags":
        return field
    return "skills" if top == "skills" or field == "examples" else "description"
