"""Middleware that puts unread mail before the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command

from langchain_mq9.inbox import (
    DEFAULT_MAX_CHARS,
    DEFAULT_MAX_MESSAGES,
    Inbox,
    InboxMode,
    Shown,
)
from langchain_mq9.toolkit import Mq9Toolkit

Answer = ModelResponse[Any] | AIMessage
Held = Sequence[str]


class InboxState(AgentState[Any]):
    """What ``InboxMiddleware`` keeps in the state of an agent.

    Attributes:
        mq9_held: The ids of the messages that show mail which is not confirmed yet.
    """

    mq9_held: NotRequired[Annotated[list[str], PrivateStateAttr]]


class InboxMiddleware(AgentMiddleware[InboxState, Any, Any]):
    """Puts unread mail before the model, so that it does not have to look for it.

    With ``mode="notice"`` each call of the model ends with a line that tells how much waits and
    from whom; it does not stay in the conversation. With ``mode="messages"`` the mail itself is put
    into the conversation, marked as what others wrote. It is leased meanwhile, confirmed when the
    agent has answered, and given back when the model or a tool raises an error. What is given
    back, and what a killed process held, is delivered again. A message that the model has given
    back with ``ack_messages`` is left so.

    Where the broker cannot be reached, that is logged, and the agent goes on without its mail.

    List it before middleware that repeats failed calls, as the error of a call that is repeated
    outside of it gives the mail back, too.

    Args:
        toolkit: The agent's tools; it belongs to an agent, and need not be given to the model.
        mode: ``notice`` or ``messages``.
        max_chars: How many characters of bodies one turn may be shown, at least 100. What does not
            fit stays unread; a single body that is longer is cut.
        max_messages: How many messages one turn may be shown, 1 to 100.

    Raises:
        InvalidRequest: An argument is not what it must be, or the toolkit belongs to no agent.
    """

    state_schema = InboxState

    def __init__(
        self,
        toolkit: Mq9Toolkit,
        *,
        mode: InboxMode = "notice",
        max_chars: int = DEFAULT_MAX_CHARS,
        max_messages: int = DEFAULT_MAX_MESSAGES,
    ) -> None:
        super().__init__()
        self._inbox = Inbox(toolkit, mode=mode, max_chars=max_chars, max_messages=max_messages)

    def before_model(self, state: InboxState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Put new mail into the conversation."""
        if self._inbox.mode == "notice":
            return None
        held = state.get("mq9_held", [])
        shown = self._inbox.run(
            lambda caller: self._inbox.take(caller, state["messages"], held),
            get_config(),
            Shown([], held),
        )
        return _update(shown, held)

    async def abefore_model(
        self, state: InboxState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Put new mail into the conversation."""
        if self._inbox.mode == "notice":
            return None
        held = state.get("mq9_held", [])
        shown = await self._inbox.arun(
            lambda caller: self._inbox.take(caller, state["messages"], held),
            get_config(),
            Shown([], held),
        )
        return _update(shown, held)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Tell the model what waits, or give the mail back when it fails."""
        config = get_config()
        if self._inbox.mode == "notice":
            return handler(_noticing(request, self._inbox.run(self._inbox.notice, config, None)))
        with self._given_back(request.state, config):
            return handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Tell the model what waits, or give the mail back when it fails."""
        config = get_config()
        if self._inbox.mode == "notice":
            notice = await self._inbox.arun(self._inbox.notice, config, None)
            return await handler(_noticing(request, notice))
        async with self._agiven_back(request.state, config):
            return await handler(request)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """Give the mail back when a tool fails the run."""
        with self._given_back(request.state, request.runtime.config):
            return handler(request)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Give the mail back when a tool fails the run."""
        async with self._agiven_back(request.state, request.runtime.config):
            return await handler(request)

    def after_agent(self, state: InboxState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Confirm the mail of the turn."""
        held = state.get("mq9_held", [])
        if not held:
            return None
        self._inbox.run(
            lambda caller: self._inbox.confirm(caller, state["messages"], held), get_config(), None
        )
        return {"mq9_held": []}

    async def aafter_agent(self, state: InboxState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Confirm the mail of the turn."""
        held = state.get("mq9_held", [])
        if not held:
            return None
        await self._inbox.arun(
            lambda caller: self._inbox.confirm(caller, state["messages"], held), get_config(), None
        )
        return {"mq9_held": []}

    @contextmanager
    def _given_back(self, state: Any, config: RunnableConfig) -> Iterator[None]:
        """Give back what the turn holds when what is done inside fails."""
        try:
            yield
        except GraphBubbleUp:
            raise  # the run is interrupted, and goes on later
        except BaseException:
            held = state.get("mq9_held", [])
            self._inbox.run(lambda caller: self._inbox.give_back(caller, held), config, None)
            raise

    @asynccontextmanager
    async def _agiven_back(self, state: Any, config: RunnableConfig) -> AsyncIterator[None]:
        """Do the same in async code."""
        try:
            yield
        except GraphBubbleUp:
            raise
        except BaseException:
            held = state.get("mq9_held", [])
            await self._inbox.arun(lambda caller: self._inbox.give_back(caller, held), config, None)
            raise


def _update(shown: Shown, held: Held) -> dict[str, Any] | None:
    if not shown.messages and shown.held == held:
        return None
    return {"messages": shown.messages, "mq9_held": shown.held}


def _noticing(request: ModelRequest[Any], notice: HumanMessage | None) -> ModelRequest[Any]:
    if notice is None:
        return request
    return request.override(messages=[*request.messages, notice])
