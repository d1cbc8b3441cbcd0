"""Inputs and replies of the messages that a graph runs for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import orjson
from langchain_core.messages import HumanMessage
from langchain_core.messages.utils import convert_to_messages
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from mq9 import InvalidRequest, Message, Payload, Reject
from mq9.operations.conversations import message_key

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
    """Return the first control value of LangGraph in JSON, with its path, if any.

    Objects other than JSON, such as ``Overwrite``, are left to their makers.
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
    """Return the first message in an update that would remove or replace another one, if any."""
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
    """Return whether LangGraph merges the messages of a channel by their ids."""
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


InputFunction: TypeAlias = Callable[[Message], Awaitable[Any] | Any]
OutputFunction: TypeAlias = Callable[[Any], Awaitable[Payload | None] | Payload | None]

_MESSAGES = "messages"


class Bodies:
    """Makes the input of runs and their replies, by functions or by the graph's schema."""

    def __init__(
        self,
        graph: Any,
        input_function: InputFunction | None,
        output_function: OutputFunction | None,
    ) -> None:
        for name, function in (("input", input_function), ("output", output_function)):
            if function is not None and not callable(function):
                raise InvalidRequest(f"{name}: {function!r} cannot be called")
        builder = getattr(graph, "builder", None)
        self._schema: Any = getattr(builder, "input_schema", None)
        self._keys = _keys(builder, self._schema)
        self._channels: Mapping[str, Any] | None = getattr(graph, "channels", None)
        self._speaks = _MESSAGES in self._keys
        self._input, self._output = input_function, output_function
        # The result of a run; the state may have other values of the graph.
        self._returned: Any = getattr(graph, "output_channels", None)

    async def input_of(self, message: Message) -> Any:
        """Return the input of a message's run; ``Reject`` if the body does not fit."""
        if self._input is not None:
            given = await _awaited(self._input(message))
            _refuse(control_value(given))
            return given
        if self._speaks:
            # The id keeps it single, should the same message be put into its thread once more.
            return {_MESSAGES: [HumanMessage(_text(message), id=f"mq9-{message_key(message)}")]}
        return self._object(message)

    async def answer_of(self, values: Any) -> Payload | None:
        """Return the reply of a run that ended with a state; None for no reply."""
        if self._output is not None:
            answer: Payload | None = await _awaited(self._output(values))
            return answer
        if self._speaks:
            spoken = values.get(_MESSAGES) or []
            return str(convert_to_messages(spoken[-1:])[-1].text) if spoken else ""
        if isinstance(values, Mapping) and isinstance(self._returned, list | tuple):
            values = {name: values[name] for name in self._returned if name in values}
        try:
            encoded: bytes = to_json(values)
        except (PydanticSerializationError, ValueError) as error:
            raise Reject(
                f"the graph's final state is no JSON, so that the worker needs output=: {error}"
            ) from error
        return encoded

    def _object(self, message: Message) -> dict[str, Any]:
        try:
            body = message.json()
        except orjson.JSONDecodeError as error:
            raise Reject(f"the body is no JSON, and the graph takes an object: {error}") from error
        if not isinstance(body, dict):
            raise Reject(f"the body is JSON, but no object: the graph takes {self._taken}")
        unknown = sorted(set(body) - self._keys) if self._keys else []
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise Reject(f"the body has {named}; the graph takes {self._taken}")
        if self._keys and not body:
            raise Reject(f"the body is an empty object; the graph takes {self._taken}")
        _refuse(control_value(body) or message_control(body, self._channels))
        if isinstance(self._schema, type) and issubclass(self._schema, BaseModel):
            try:
                self._schema.model_validate(body)
            except ValidationError as error:
                raise Reject(f"the body does not fit: {error}") from error
        return body

    @property
    def _taken(self) -> str:
        names = ", ".join(sorted(self._keys))
        return f"an object with {names}" if names else "an object"


def _keys(builder: Any, schema: Any) -> set[str]:
    """Return the fields of an input; empty if the graph does not declare them."""
    schemas = getattr(builder, "schemas", {})
    if schema is None or schema not in schemas:
        return set()
    return {name for name in schemas[schema] if name != "__root__"}


def _refuse(control: str | None) -> None:
    if control is not None:
        raise Reject(
            f"the body has {control}, by which LangGraph would rewrite the state; leave it out"
        )


def _text(message: Message) -> str:
    try:
        return message.text
    except UnicodeDecodeError as error:
        raise Reject(f"the body is not UTF-8 text: {error}") from error


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
