"""Arguments of a client's methods, checked and given the types of the requests' fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from mq9.errors import InvalidRequest
from mq9.models import Priority
from mq9.protocol import checks

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)

_priority = checks.member(Priority)


def given(name: str, value: T | None) -> T:
    """Return an argument that must be given.

    Raises:
        InvalidRequest: It is None.
    """
    if value is None:
        raise InvalidRequest(f"{name}: must be given, not None")
    return value


def priority(value: Priority | str) -> Priority:
    """Return a priority. Raises InvalidRequest."""
    return _priority("priority", value)


def member(name: str, value: W | str, default: W) -> W:
    """Return a word of an enumeration; the default for None and the empty text.

    Raises:
        InvalidRequest: It is none of the words.
    """
    if checks.is_absent(value):
        return default
    return checks.member(type(default))(name, value)


def tags(value: Sequence[str] | None) -> tuple[str, ...]:
    """Return tags, each once. Raises InvalidRequest."""
    return checks.tags("tags", value)


def agents(name: str, value: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the names of agents, each once; None for none given. Raises InvalidRequest."""
    if value is None:
        return None
    return checks.agents(name, value if isinstance(value, str) else tuple(value))


def path(value: Sequence[str] | None) -> tuple[str, ...]:
    """Return the agents that a conversation has passed through. Raises InvalidRequest."""
    return () if value is None else checks.path("path", value)


def headers(value: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return the headers of a message, their names in lower case. Raises InvalidRequest."""
    return checks.message_headers("headers", value)
