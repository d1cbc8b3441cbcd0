"""Hooks for ``langgraph.prebuilt.create_react_agent`` that put unread mail before the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_mq9.inbox import (
    DEFAULT_MAX_CHARS,
    DEFAULT_MAX_MESSAGES,
    Inbox,
    InboxMode,
    Shown,
    of_this_turn,
)

if TYPE_CHECKING:
    from langchain_mq9.toolkit import Mq9Toolkit

State = Mapping[str, Any]


class InboxHooks:
    """Does for ``create_react_agent`` what ``InboxMiddleware`` does for ``create_agent``.

    ::

        hooks = InboxHooks(toolkit, mode="messages")
        create_react_agent(
            model,
            tools,
            pre_model_hook=hooks.pre_model_hook,
            post_model_hook=hooks.post_model_hook,
        )

    The post-model hook confirms what the turn was shown, and is needed with ``mode="messages"``.
    A turn that fails does not give its mail back: the next one of its thread goes on with it, and
    others get it when the leases have ended.

    Args:
        toolkit: The agent's tools; it belongs to an agent, and need not be given to the model.
        mode: ``notice`` or ``messages``; see ``InboxMiddleware``.
        max_chars: How many characters of bodies one turn may be shown, at least 100.
        max_messages: How many messages one turn may be shown, 1 to 100.

    Attributes:
        pre_model_hook: Puts unread mail before the model.
        post_model_hook: Confirms it when the model has answered without calling a tool.

    Raises:
        InvalidRequest: An argument is not what it must be, or the toolkit belongs to no agent.
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
        messages: list[BaseMessage] = state["messages"]
        if self._inbox.mode == "notice":
            return _noticing(messages, self._inbox.run(self._inbox.notice, config, None))
        held = of_this_turn(messages)
        shown = self._inbox.run(
            lambda caller: self._inbox.take(caller, messages, held), config, Shown([], held)
        )
        return {"messages": shown.messages}

    async def _abefore(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        messages: list[BaseMessage] = state["messages"]
        if self._inbox.mode == "notice":
            return _noticing(messages, await self._inbox.arun(self._inbox.notice, config, None))
        held = of_this_turn(messages)
        shown = await self._inbox.arun(
            lambda caller: self._inbox.take(caller, messages, held), config, Shown([], held)
        )
        return {"messages": shown.messages}

    def _after(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        messages: list[BaseMessage] = state["messages"]
        held = _held_at_the_end(messages)
        if held:
            self._inbox.run(
                lambda caller: self._inbox.confirm(caller, messages, held), config, None
            )
        return {}

    async def _aafter(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        messages: list[BaseMessage] = state["messages"]
        held = _held_at_the_end(messages)
        if held:
            await self._inbox.arun(
                lambda caller: self._inbox.confirm(caller, messages, held), config, None
            )
        return {}


def _noticing(messages: list[BaseMessage], notice: HumanMessage | None) -> dict[str, Any]:
    # It is kept from one call of the model to the next, and has to be given anew each time.
    return {"llm_input_messages": messages if notice is None else [*messages, notice]}


def _held_at_the_end(messages: list[BaseMessage]) -> list[str]:
    """Return the ids of the mail of a turn that ends with the last message; none before that."""
    last = messages[-1]
    ends = isinstance(last, AIMessage) and not last.tool_calls
    return of_this_turn(messages[:-1]) if ends else []
