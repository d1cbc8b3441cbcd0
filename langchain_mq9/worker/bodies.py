"""From the body of a message to the input of a graph, and from its final state to an answer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import orjson
from langchain_core.messages import HumanMessage
from langchain_core.messages.utils import convert_to_messages
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from langchain_mq9.control_values import control_value, message_control
from langchain_mq9.worker.conversations import message_key
from mq9 import InvalidRequest, Message, Payload, Reject

InputFunction: TypeAlias = Callable[[Message], Awaitable[Any] | Any]
OutputFunction: TypeAlias = Callable[[Any], Awaitable[Payload | None] | Payload | None]

_MESSAGES = "messages"


class Bodies:
    """Makes the input of runs and their answers, by the functions given or by the graph's schema.

    Args:
        graph: The graph.
        input_function: Makes the input of a message.
        output_function: Makes the answer of the final state; None for no answer.

    Raises:
        InvalidRequest: A function cannot be called.
    """

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
        # What a run returns; the state has whatever else the graph notes for itself.
        self._returned: Any = getattr(graph, "output_channels", None)

    async def input_of(self, message: Message) -> Any:
        """Return the input of a message's run.

        Raises:
            Reject: The body does not fit.
        """
        if self._input is not None:
            given = await _awaited(self._input(message))
            _refuse(control_value(given))
            return given
        if self._speaks:
            # The id keeps it single, should the same message be put into its thread once more.
            return {_MESSAGES: [HumanMessage(_text(message), id=f"mq9-{message_key(message)}")]}
        return self._object(message)

    async def answer_of(self, values: Any) -> Payload | None:
        """Return what to answer when a run has ended with a state.

        Raises:
            Reject: The state cannot be written as JSON.
        """
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
    """Return what an input may have; empty where the graph does not say."""
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
        raise Reject(f"the body is no text in UTF-8: {error}") from error


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
