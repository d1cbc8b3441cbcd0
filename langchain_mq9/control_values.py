"""JSON that LangGraph would obey instead of storing it.

LangGraph gives a meaning to some values inside a state update: ``{"__overwrite__": …}`` replaces a
value in place of its reducer, a message with an id replaces the message that has it. Whoever sends
mail to an agent is to add to its state, not to rewrite it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

_RESERVED = {
    "__end__",
    "__error__",
    "__error_source_node__",
    "__input__",
    "__interrupt__",
    "__no_writes__",
    "__overwrite__",
    "__previous__",
    "__remove_all__",
    "__resume__",
    "__return__",
    "__root__",
    "__snapshot_bumps__",
    "__start__",
}
_RESERVED_PREFIX = "__pregel_"
_NAMING = ("type", "role", "id")  # whose values may be such a name
_SERIALIZED = {"constructor", "not_implemented", "secret"}  # as LangChain's `load` reads them
_REMOVALS = {"remove", "remove-ui"}
_REDUCERS = "langgraph."  # the modules of reducers that merge messages by their ids


def control_value(value: Any) -> str | None:
    """Return the first control value in JSON, and where it is; None where there is none.

    Objects that are no JSON, such as ``Overwrite``, are left to their makers.
    """
    for path, one in _objects(value, ()):
        for key in one:
            if isinstance(key, str) and (key in _RESERVED or key.startswith(_RESERVED_PREFIX)):
                return _told(key, path)
        for key in _NAMING:
            named = one.get(key)
            if isinstance(named, str) and named in _RESERVED:
                return _told(named, (*path, key))
        if "lc" in one and isinstance(one.get("type"), str) and one["type"] in _SERIALIZED:
            return _told("lc", path)
    return None


def message_control(body: Mapping[str, Any], channels: Mapping[str, Any] | None) -> str | None:
    """Return the first message that would remove or replace another one; None where none would.

    Args:
        body: The update of a state.
        channels: The channels of the graph; None where it does not tell.
    """
    for name, value in body.items():
        if not (name == "messages" if channels is None else _merges(channels.get(name))):
            continue
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, list) and one and one[0] == "remove":
                return _told("remove", (name, number))
            if not isinstance(one, dict):
                continue
            for key in ("type", "role"):
                if isinstance(one.get(key), str) and one[key] in _REMOVALS:
                    return _told(one[key], (name, number, key))
            if one.get("id") is not None:
                return _told("id", (name, number))
    return None


def _merges(channel: Any) -> bool:
    """Tell whether a channel is one of messages that LangGraph merges by their ids."""
    reducer = getattr(channel, "operator", None) or getattr(channel, "reducer", None)
    if isinstance(reducer, partial):
        reducer = reducer.func
    module, name = getattr(reducer, "__module__", ""), getattr(reducer, "__name__", "")
    return str(module).startswith(_REDUCERS) and "message" in name


def _objects(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[Any, Any]]]:
    """Walk through all objects in JSON, with where they are."""
    left = [(path, value)]
    while left:
        where, one = left.pop()
        if isinstance(one, dict):
            yield where, one
            left += [((*where, key), inner) for key, inner in one.items()]
        elif isinstance(one, list | tuple):
            left += [((*where, number), inner) for number, inner in enumerate(one)]


def _told(key: str, path: tuple[Any, ...]) -> str:
    where = ".".join(map(str, path))
    return f"{key!r} at {where}" if where else repr(key)
