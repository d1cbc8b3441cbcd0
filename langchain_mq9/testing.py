"""A chat model that plays a script, to run and test agents without a real model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

# The next output of the model: text, a message, or a function of the conversation so far.
__all__ = ["ScriptedModel", "Step", "call"]

Step = str | AIMessage | Callable[[Sequence[BaseMessage]], AIMessage]

_numbers = itertools.count(1)


def call(tool: str, **arguments: Any) -> AIMessage:
    """Return a message that calls a tool."""
    # Agents match the results of calls by this id.
    number = next(_numbers)
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call-{number}"}])


class ScriptedModel(BaseChatModel):
    """Returns one step of its script for each call, whatever the input.

    Args:
        steps: Its outputs, in order. ``call`` makes a step that calls a tool.

    Example:
        ```python
        model = ScriptedModel(call("fetch_messages"), "No new mail.")
        ```
    """

    _steps: list[Step] = PrivateAttr()
    _next: itertools.count[int] = PrivateAttr()

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self._steps = list(steps)
        self._next = itertools.count()

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        """Return the model itself: the script knows its tools."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        number = next(self._next)
        if number >= len(self._steps):
            raise ValueError(f"the script has {len(self._steps)} steps and was asked for another")
        step = self._steps[number]
        if isinstance(step, str):
            message = AIMessage(step)
        else:
            # A copy, because the run gives it an id.
            message = (step if isinstance(step, AIMessage) else step(messages)).model_copy()
        return ChatResult(generations=[ChatGeneration(message=message)])
