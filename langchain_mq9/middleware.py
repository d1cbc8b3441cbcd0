"""Middleware for ``langchain.agents.create_agent``: unread mail, and limits of what is sent.

It needs LangChain itself, which the extra ``agents`` installs.
"""

from __future__ import annotations

try:
    import langchain.agents.middleware  # noqa: F401  # tells what is missing before anything else
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
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
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
from mq9.operations.mail import send_message
from mq9.protocol import checks

if TYPE_CHECKING:
    from langchain_mq9.toolkit import Mq9Toolkit

__all__ = ["InboxMiddleware", "SendLimitExceeded", "SendLimitMiddleware"]

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


ExitBehavior = Literal["continue", "end", "error"]
_EXIT_BEHAVIORS = ("continue", "end", "error")

_limit = checks.optional(checks.whole(0, 1_000_000))
_ADVICE = "Do not send it again; go on without it, or tell the user."


class SendLimitExceeded(Exception):  # named as the errors of mq9 are
    """A run wanted to send more than it may."""


class SendLimitState(AgentState[Any]):
    """What ``SendLimitMiddleware`` keeps in the state of an agent.

    Attributes:
        mq9_sent: How much the thread has sent.
        mq9_sent_in_run: How much the run has sent, by recipient.
    """

    mq9_sent: NotRequired[Annotated[int, PrivateStateAttr]]
    mq9_sent_in_run: NotRequired[Annotated[dict[str, int], UntrackedValue, PrivateStateAttr]]


class SendLimitMiddleware(AgentMiddleware[SendLimitState, Any, Any]):
    """Limits the messages that an agent sends.

    Calls of ``send_message`` and ``ask_agent`` are counted when the model makes them, failed ones
    included. What exceeds a limit is not sent. As in LangChain's ``ToolCallLimitMiddleware``, which
    limits any tool, the model is told so and goes on, or the run ends, or it fails.

    Args:
        run_limit: How much one run may send.
        thread_limit: How much a thread may send in all its runs; without a checkpointer it is
            the same as ``run_limit``.
        per_recipient: How much one run may send to one mailbox or agent.
        max_hops: How many names the path of what is sent may have, the agent's own included, 1 to
            63. What exceeds this is always answered to the model.
        exit_behavior: ``continue`` answers what exceeds a limit as a tool that failed; ``end`` ends
            the run with an answer that says why, and carries out none of the calls beside it;
            ``error`` raises ``SendLimitExceeded``.
        tool_names: The tools that send. Their argument ``mail_address``, or ``capability`` in its
            place, is the recipient; a call with a ``question_id`` only waits for an answer.

    Raises:
        InvalidRequest: No limit is given, or an argument is not what it must be.
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
        """Count what the model wants to send, and answer what exceeds a limit in its place."""
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
            recipient = _recipient(call)
            exceeded = self._exceeded(in_thread, in_run, recipient)
            if exceeded is None:
                in_thread += 1
                in_run[recipient] += 1
            else:
                refused[call["id"]] = exceeded
        if not refused:
            return {"mq9_sent": in_thread, "mq9_sent_in_run": dict(in_run)} if calls else None
        first = next(iter(refused.values()))
        if self._exit_behavior == "error":
            raise SendLimitExceeded(first)
        if self._exit_behavior == "end":
            answers = [
                _answer(call, refused.get(call["id"], "Not carried out: the run has ended."))
                for call in calls
            ]
            # Nothing of this is carried out, so the counts stay as they are.
            return {"jump_to": "end", "messages": [*answers, AIMessage(first)]}
        return {
            "mq9_sent": in_thread,
            "mq9_sent_in_run": dict(in_run),
            "messages": [
                _answer(call, refused[call["id"]]) for call in calls if call["id"] in refused
            ],
        }

    @hook_config(can_jump_to=["end"])
    async def aafter_model(
        self, state: SendLimitState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Do the same in async code."""
        return self.after_model(state, runtime)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """Let a tool send nothing that would have passed through too many agents."""
        with hops_limited(self._max_hops):
            return handler(request)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Do the same in async code."""
        with hops_limited(self._max_hops):
            return await handler(request)

    def _exceeded(self, in_thread: int, in_run: Counter[str], recipient: str) -> str | None:
        """Say which limit one more message would exceed; None for none."""
        sent = in_run.total()
        if self._run_limit is not None and sent >= self._run_limit:
            return f"Not sent: this run may send {self._run_limit}, and has. {_ADVICE}"
        if self._thread_limit is not None and in_thread >= self._thread_limit:
            return f"Not sent: this conversation may send {self._thread_limit}, and has. {_ADVICE}"
        if self._per_recipient is not None and in_run[recipient] >= self._per_recipient:
            return (
                f"Not sent: this run may send {self._per_recipient} to one recipient, and has to "
                f"this one. {_ADVICE}"
            )
        return None


def _recipient(call: ToolCall) -> str:
    """Return one word for the address and the name of a recipient, as far as they are alike."""
    arguments = call["args"]
    given = str(arguments.get("mail_address") or arguments.get("capability"))
    for read in (addresses.parse, addresses.slug):
        with contextlib.suppress(InvalidRequest):
            return read(given)
    return given


def _answer(call: ToolCall, text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
