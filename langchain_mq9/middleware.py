"""Middleware for ``langchain.agents.create_agent``: unread mail, and limits for sent messages.

Install: ``pip install '.[agents]'`` in a clone of this package.
"""

from __future__ import annotations

try:
    import langchain.agents.middleware  # noqa: F401  # a missing package must be reported first
except ModuleNotFoundError as error:
    if error.name != "langchain":
        raise
    raise ModuleNotFoundError(
        "langchain_mq9.middleware needs langchain, which the extra `agents` of this package "
        "installs; in a clone of it: pip install '.[agents]'",
        name="langchain",
    ) from error

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command

from langchain_mq9.calls import hops_limited
from langchain_mq9.inbox import (
    DEFAULT_MAX_CHARS,
    DEFAULT_MAX_MESSAGES,
    Inbox,
    InboxMode,
    Shown,
)
from mq9 import InvalidRequest
from mq9 import address as addresses
from mq9.operations.ask import ask_agent
from mq9.operations.conversations import HIGHEST_MAX_HOPS
from mq9.operations.fetch import FetchMessagesResult
from mq9.operations.send import SendArguments, send_message
from mq9.protocol import checks

if TYPE_CHECKING:
    from langchain_mq9.toolkit import Mq9Toolkit

__all__ = ["InboxMiddleware", "SendLimitExceeded", "SendLimitMiddleware"]


class InboxState(AgentState[Any]):
    """The state of an agent with ``InboxMiddleware``."""

    mq9_held: NotRequired[Annotated[list[str], PrivateStateAttr]]  # ids of unconfirmed mail


class InboxMiddleware(AgentMiddleware[InboxState, Any, Any]):
    """Shows unread mail to the model, so that it need not look for mail.

    With ``mode="notice"``, each call of the model ends with a line about the number and the senders
    of unread messages. The line does not stay in the conversation.

    With ``mode="messages"``, the messages themselves become part of the conversation, marked as
    written by others. The middleware leases them, acks them after the agent has answered, and gives
    them back if the model or a tool raises an error. The broker redelivers messages that were given
    back, or that a killed process held. Messages that the model has given back with
    ``ack_messages`` stay given back.

    If the broker is out of reach, the middleware logs that, and the agent continues without mail.

    List it before middleware that repeats failed calls. Otherwise the error of a repeated call also
    gives the mail back.

    Args:
        toolkit: The agent's tools. It needs an agent. The model does not need the tools.
        mode: ``notice`` or ``messages``. Default: ``notice``.
        max_chars: Maximum characters of bodies in one turn, 100 to 10 000 000. Further mail stays
            unread. A single longer body is cut. Default: 4 000.
        max_messages: Maximum number of messages in one turn, 1 to 100. Default: 10.

    Raises:
        InvalidRequest: An argument is invalid, or the toolkit has no agent.

    Example:
        ```python
        toolkit = Mq9Toolkit(agent="planner")
        create_agent(model, toolkit.get_tools(), middleware=[InboxMiddleware(toolkit)])
        ```
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
        """Add new mail to the conversation."""
        if self._inbox.mode == "notice":
            return None
        work = self._inbox.taking(state["messages"], _held(state))
        return _update(state, self._inbox.run(get_config(), *work))

    async def abefore_model(
        self, state: InboxState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Add new mail to the conversation."""
        if self._inbox.mode == "notice":
            return None
        work = self._inbox.taking(state["messages"], _held(state))
        return _update(state, await self._inbox.arun(get_config(), *work))

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Show unread mail to the model. If the model fails, give the mail back."""
        config = get_config()
        if self._inbox.mode == "notice":
            return handler(_noticing(request, self._inbox.run(config, self._inbox.notice, None)))
        with self._given_back(request.state, config):
            return handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Show unread mail to the model. If the model fails, give the mail back."""
        config = get_config()
        if self._inbox.mode == "notice":
            notice = await self._inbox.arun(config, self._inbox.notice, None)
            return await handler(_noticing(request, notice))
        async with self._agiven_back(request.state, config):
            return await handler(request)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """Give the mail back if a tool fails the run."""
        with self._given_back(request.state, request.runtime.config):
            return handler(request)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Give the mail back if a tool fails the run."""
        async with self._agiven_back(request.state, request.runtime.config):
            return await handler(request)

    def after_agent(self, state: InboxState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Ack the mail of the turn."""
        if not (held := _held(state)):
            return None
        confirm = partial(self._inbox.confirm, conversation=state["messages"], held=held)
        self._inbox.run(get_config(), confirm, None)
        return {"mq9_held": []}

    async def aafter_agent(self, state: InboxState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Ack the mail of the turn."""
        if not (held := _held(state)):
            return None
        confirm = partial(self._inbox.confirm, conversation=state["messages"], held=held)
        await self._inbox.arun(get_config(), confirm, None)
        return {"mq9_held": []}

    @contextmanager
    def _given_back(self, state: Any, config: RunnableConfig) -> Iterator[None]:
        """Give back the mail of the turn if the block fails."""
        try:
            yield
        except GraphBubbleUp:
            raise  # the run is interrupted, and resumes later
        except BaseException:
            self._inbox.run(config, partial(self._inbox.give_back, held=_held(state)), None)
            raise

    @asynccontextmanager
    async def _agiven_back(self, state: Any, config: RunnableConfig) -> AsyncIterator[None]:
        try:
            yield
        except GraphBubbleUp:
            raise
        except BaseException:
            await self._inbox.arun(config, partial(self._inbox.give_back, held=_held(state)), None)
            raise


def _held(state: InboxState) -> list[str]:
    return state.get("mq9_held", [])


def _update(state: InboxState, shown: Shown) -> dict[str, Any] | None:
    if not shown.messages and shown.held == _held(state):
        return None
    return {"messages": shown.messages, "mq9_held": shown.held}


def _noticing(request: ModelRequest[Any], notice: HumanMessage | None) -> ModelRequest[Any]:
    if notice is None:
        return request
    return request.override(messages=[*request.messages, notice])


ExitBehavior = Literal["continue", "end", "error"]
_EXIT_BEHAVIORS = ("continue", "end", "error")

_limit = checks.optional(checks.whole(0, 1_000_000))
_ADVICE = "Do not send it again; go on without it, or tell the user."


class SendLimitExceeded(Exception):  # without a suffix, like the errors of mq9
    """A run tried to send more messages than its limit."""


class SendLimitState(AgentState[Any]):
    """The state of an agent with ``SendLimitMiddleware``."""

    mq9_sent: NotRequired[Annotated[int, PrivateStateAttr]]  # messages of the thread
    # Messages of the run, by recipient.
    mq9_sent_in_run: NotRequired[Annotated[dict[str, int], UntrackedValue, PrivateStateAttr]]


class SendLimitMiddleware(AgentMiddleware[SendLimitState, Any, Any]):
    """Limits the messages that an agent sends.

    It counts the model's calls of ``send_message`` and ``ask_agent``, including failed ones. A
    message beyond a limit is not sent. As with LangChain's ``ToolCallLimitMiddleware``, the model
    gets an error and continues, or the run ends, or the run fails.

    Args:
        run_limit: Maximum number of messages of one run. Default: no limit.
        thread_limit: Maximum number of messages of a thread in all its runs. Without a checkpointer
            it acts like ``run_limit``. Default: no limit.
        per_recipient: Maximum number of messages of one run to one mailbox or agent. Default: no
            limit.
        max_hops: Maximum number of names in the path of a message, including the agent's own, 1 to
            63. Beyond this limit, the model always gets an error. Default: no limit.
        exit_behavior: ``continue`` fails the tool call of a message beyond a limit. ``end`` ends
            the run with an answer that gives the reason, and runs none of the model's other calls.
            ``error`` raises ``SendLimitExceeded``. Default: ``continue``.
        tool_names: The tools that send. The recipient is their argument ``to`` or ``capability``.
            With ``reply_to_msg``, it is the reply address of that message in an earlier result. A
            call with a ``question_id`` only waits for an answer. Default: ``send_message`` and
            ``ask_agent``.

    Raises:
        InvalidRequest: No limit is set, or an argument is invalid.

    Example:
        ```python
        create_agent(model, tools, middleware=[SendLimitMiddleware(run_limit=10)])
        ```
    """

    state_schema = SendLimitState

    def __init__(
        self,
        *,
        run_limit: int | None = None,
        thread_limit: int | None = None,
        per_recipient: int | None = None,
        max_hops: int | None = None,
        exit_behavior: ExitBehavior = "continue",
        tool_names: Sequence[str] = (send_message.name, ask_agent.name),
    ) -> None:
        super().__init__()
        self._run_limit: int | None = _limit("run_limit", run_limit)
        self._thread_limit: int | None = _limit("thread_limit", thread_limit)
        self._per_recipient: int | None = _limit("per_recipient", per_recipient)
        self._max_hops: int | None = checks.optional(checks.whole(1, HIGHEST_MAX_HOPS))(
            "max_hops", max_hops
        )
        if {run_limit, thread_limit, per_recipient, max_hops} == {None}:
            raise InvalidRequest(
                "run_limit: give at least one of run_limit, thread_limit, per_recipient, max_hops"
            )
        if exit_behavior not in _EXIT_BEHAVIORS:
            raise InvalidRequest(
                f"exit_behavior: {exit_behavior!r} is not one of {', '.join(_EXIT_BEHAVIORS)}"
            )
        if isinstance(tool_names, str):
            raise InvalidRequest(f"tool_names: {tool_names!r} is one text; give a list of names")
        self._exit_behavior = exit_behavior
        self._tool_names = frozenset(tool_names)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: SendLimitState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Count the model's calls that send, and answer those beyond a limit."""
        said = next(
            (one for one in reversed(state["messages"]) if isinstance(one, AIMessage)), None
        )
        calls = [] if said is None else said.tool_calls
        in_thread = state.get("mq9_sent", 0)
        in_run = Counter(state.get("mq9_sent_in_run", {}))
        refused: dict[str | None, str] = {}
        for call in calls:
            if call["name"] not in self._tool_names or call["args"].get("question_id"):
                continue
            recipient = _recipient(call, state["messages"])
            exceeded = self._exceeded(in_thread, in_run, recipient)
            if exceeded is None:
                in_thread += 1
                in_run[recipient] += 1
            else:
                refused[call["id"]] = exceeded
        counts = {"mq9_sent": in_thread, "mq9_sent_in_run": dict(in_run)}
        if not refused:
            return counts if calls else None
        first = next(iter(refused.values()))
        if self._exit_behavior == "error":
            raise SendLimitExceeded(first)
        if self._exit_behavior == "end":
            ended = "Not carried out: the run has ended."
            answers = [_answer(call, refused.get(call["id"], ended)) for call in calls]
            # No call runs, so the counts stay unchanged.
            return {"jump_to": "end", "messages": [*answers, AIMessage(first)]}
        answers = [_answer(call, refused[call["id"]]) for call in calls if call["id"] in refused]
        return {**counts, "messages": answers}

    @hook_config(can_jump_to=["end"])
    async def aafter_model(
        self, state: SendLimitState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Count the calls from async code; see ``after_model``."""
        return self.after_model(state, runtime)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """Limit the path of the messages that a tool sends."""
        with hops_limited(self._max_hops):
            return handler(request)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Limit the path of the messages that a tool sends."""
        with hops_limited(self._max_hops):
            return await handler(request)

    def _exceeded(self, in_thread: int, in_run: Counter[str], recipient: str) -> str | None:
        """Return an error about the first limit that one more message would exceed, or None."""
        for limit, sent, who, whom in (
            (self._run_limit, in_run.total(), "run", ", and has"),
            (self._thread_limit, in_thread, "conversation", ", and has"),
            (
                self._per_recipient,
                in_run[recipient],
                "run",
                " to one recipient, and has to this one",
            ),
        ):
            if limit is not None and sent >= limit:
                return f"Not sent: this {who} may send {limit}{whom}. {_ADVICE}"
        return None


def _recipient(call: ToolCall, messages: Sequence[BaseMessage]) -> str:
    """Return one word for the address and the name of a recipient, if both are similar."""
    arguments = call["args"]
    named = (arguments.get(name) for name in ("to", *SendArguments.FORMER, "capability"))
    given = str(
        next(filter(None, named), None) or _asks_at(arguments.get("reply_to_msg"), messages)
    )
    for read in (addresses.parse, addresses.slug):
        with contextlib.suppress(InvalidRequest):
            return read(given)
    return given


def _asks_at(msg_id: object, messages: Sequence[BaseMessage]) -> str | None:
    """Return the reply address of a message in an earlier result."""
    for message in reversed(messages):
        result = message.artifact if isinstance(message, ToolMessage) else None
        for one in result.messages if isinstance(result, FetchMessagesResult) else ():
            if one.msg_id == msg_id and one.untrusted_envelope is not None:
                return one.untrusted_envelope.reply_to
    return None


def _answer(call: ToolCall, text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
