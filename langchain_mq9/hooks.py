"""Hooks for ``langgraph.prebuilt.create_react_agent`` that put unread mail before the model."""

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
    """The hooks of ``create_react_agent`` that do the work of ``InboxMiddleware``.

    ::

        hooks = InboxHooks(toolkit, mode="messages")
        create_react_agent(
            model,
            tools,
            pre_model_hook=hooks.pre_model_hook,
            post_model_hook=hooks.post_model_hook,
        )

    The post-model hook confirms the mail of the turn, and is needed with ``mode="messages"``. A
    failed turn does not give its mail back: the next one of its thread goes on with it, and others
    get it when the leases have ended.

    Args:
        toolkit: The agent's tools; it belongs to an agent, and need not be given to the model.
        mode: ``notice`` or ``messages``; see ``InboxMiddleware``.
        max_chars: Most characters of bodies that one turn shows, 100 to 10 000 000.
        max_messages: Most messages that one turn shows, 1 to 100.

    Attributes:
        pre_model_hook: Puts unread mail before the model.
        post_model_hook: Confirms it when the model has answered without calling a tool.

    Raises:
        InvalidRequest: An argument is invalid, or the toolkit belongs to no agent.
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
    # It is not kept between calls of the model, and must be returned each time.
    return {"llm_input_messages": messages if notice is None else [*messages, notice]}


def _held_at_the_end(messages: list[BaseMessage]) -> list[str]:
    """Return the ids of the mail of a turn that ends with the last message; none before that."""
    last = messages[-1]
    ends = isinstance(last, AIMessage) and not last.tool_calls
    return of_this_turn(messages[:-1]) if ends else []
