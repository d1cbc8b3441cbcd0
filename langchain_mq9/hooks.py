"""Hooks for ``langgraph.prebuilt.create_react_agent`` that show unread mail to the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_mq9.inbox import (
    DEFAULT_MAX_CHARS,
    DEFAULT_MAX_MESSAGES,
    Inbox,
    InboxMode,
    of_this_turn,
)

if TYPE_CHECKING:
    from langchain_mq9.toolkit import Mq9Toolkit

State = Mapping[str, Any]


class InboxHooks:
    """The hooks of ``create_react_agent`` with the function of ``InboxMiddleware``.

    ::

        hooks = InboxHooks(toolkit, mode="messages")
        create_react_agent(
            model,
            tools,
            pre_model_hook=hooks.pre_model_hook,
            post_model_hook=hooks.post_model_hook,
        )

    The post-model hook acks the mail of the turn. ``mode="messages"`` needs it. A failed turn does
    not give its mail back: the next turn of its thread continues with it. Other consumers get the
    mail after the leases end.

    Args:
        toolkit: The agent's tools. It needs an agent. The model does not need the tools.
        mode: ``notice`` or ``messages``; see ``InboxMiddleware``. Default: ``notice``.
        max_chars: Maximum characters of bodies in one turn, 100 to 10 000 000. Default: 4 000.
        max_messages: Maximum number of messages in one turn, 1 to 100. Default: 10.

    Attributes:
        pre_model_hook: Shows unread mail to the model.
        post_model_hook: Acks the mail after the model has answered without a tool call.

    Raises:
        InvalidRequest: An argument is invalid, or the toolkit has no agent.
    """

    def __init__(
        self,
        toolkit: Mq9Toolkit,
        *,
        mode: InboxMode = "notice",
        max_chars: int = DEFAULT_MAX_CHARS,
        max_messages: int = DEFAULT_MAX_MESSAGES,
    ) -> None:
        self._inbox = Inbox(toolkit, mode=mode, max_chars=max_chars, max_messages=max_messages)
        self.pre_model_hook: Runnable[Any, Any] = RunnableLambda(
            self._before, afunc=self._abefore, name="pre_model_hook"
        )
        self.post_model_hook: Runnable[Any, Any] = RunnableLambda(
            self._after, afunc=self._aafter, name="post_model_hook"
        )

    def _before(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        inbox, messages = self._inbox, state["messages"]
        if inbox.mode == "notice":
            return _noticing(messages, inbox.run(config, inbox.notice, None))
        return {
            "messages": inbox.run(config, *inbox.taking(messages, of_this_turn(messages))).messages
        }

    async def _abefore(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        inbox, messages = self._inbox, state["messages"]
        if inbox.mode == "notice":
            return _noticing(messages, await inbox.arun(config, inbox.notice, None))
        shown = await inbox.arun(config, *inbox.taking(messages, of_this_turn(messages)))
        return {"messages": shown.messages}

    def _after(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        messages = state["messages"]
        if held := _held_at_the_end(messages):
            confirm = partial(self._inbox.confirm, conversation=messages, held=held)
            self._inbox.run(config, confirm, None)
        return {}

    async def _aafter(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        messages = state["messages"]
        if held := _held_at_the_end(messages):
            confirm = partial(self._inbox.confirm, conversation=messages, held=held)
            await self._inbox.arun(config, confirm, None)
        return {}


def _noticing(messages: list[BaseMessage], notice: HumanMessage | None) -> dict[str, Any]:
    # The notice is not kept between calls of the model, so each call must return it.
    return {"llm_input_messages": messages if notice is None else [*messages, notice]}


def _held_at_the_end(messages: list[BaseMessage]) -> list[str]:
    """Return the ids of a turn's mail if the last message ends the turn. Otherwise none."""
    last = messages[-1]
    ends = isinstance(last, AIMessage) and not last.tool_calls
    return of_this_turn(messages[:-1]) if ends else []
