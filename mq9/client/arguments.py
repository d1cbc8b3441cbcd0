"""Check arguments of a client's methods, and convert them to the types of request fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from mq9.errors import InvalidRequest
from mq9.models import Payload, Priority
from mq9.protocol import checks

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)

_priority = checks.member(Priority)


def given(name: str, value: T | None) -> T:
    """Return a required argument."""
    if value is None:
        raise InvalidRequest(f"{name}: must be given, not None")
    return value


def priority(value: Priority | str) -> Priority:
    """Return a priority. Raises InvalidRequest."""
    return _priority("priority", value)


def member(name: str, value: W | str, default: W) -> W:
    """Return a member of an enumeration. None and the empty text give the default."""
    if checks.is_absent(value):
        return default
    return checks.member(type(default))(name, value)


def tags(value: Sequence[str] | None) -> tuple[str, ...]:
    """Return tags, each once. Raises InvalidRequest."""
    return checks.tags("tags", value)


def agents(name: str, value: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the names of agents without duplicates, or None. Raises InvalidRequest."""
    if value is None:
        return None
    return checks.agents(name, listed(value))


def listed(value: Any) -> Any:
    """Return a list of texts as a tuple. The check refuses any other value later."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return tuple(value) if is_list else value


def correlation_ids(value: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return correlation ids without duplicates, or None. Raises InvalidRequest."""
    if value is None:
        return None
    name = "correlation_ids"
    return checks.correlation_ids(name, value if isinstance(value, str) else tuple(value))


def path(value: Sequence[str] | None) -> tuple[str, ...]:
    """Return the agents that a conversation has passed through. Raises InvalidRequest."""
    return () if value is None else checks.path("path", value)


def headers(value: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return the headers of a message, with names in lower case. Raises InvalidRequest."""
    return checks.message_headers("headers", value)


def payload(value: Payload) -> bytes:
    """Return a payload as bytes: bytes unchanged, text as UTF-8, any other value as JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"payload: cannot be written as UTF-8: {error}") from None
    if isinstance(value, (Mapping, list, tuple)):
        return encode_json("payload", value)
    raise InvalidRequest(f"payload: {type(value).__name__} is neither bytes, str, dict nor list")


def encode_json(name: str, value: Any) -> bytes:
    """Return a value as JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: cannot be written as JSON: {error}") from None
