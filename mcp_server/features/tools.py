"""The operations as tools: what they are, and what a call answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from pydantic import ValidationError

from mcp_server.agents.callers import Callers, Context
from mcp_server.features.confirmation import ask_user
from mcp_server.features.definitions import definitions
from mcp_server.features.progress import with_progress
from mcp_server.settings import Settings
from mq9 import Mq9Error
from mq9 import address as addresses
from mq9.operations import Caller, Operation, OperationError, perform
from mq9.operations.execution import confirmation
from mq9.operations.operation import Arguments, Result

MAX_CALLS = 64  # in work, of one agent
_MAX_ERRORS = 5  # wrong arguments that are spelled out


class Tools:
    """Lists the tools and answers calls.

    Args:
        callers: The agents that call.
        settings: What is offered.
    """

    def __init__(self, callers: Callers, settings: Settings) -> None:
        self._callers = callers
        self._offered = settings.offered
        self._definitions = [Tool.model_validate(one) for one in definitions(settings)]
        self._calls: Counter[str] = Counter()

    async def list(
        self, _context: Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Return the tools."""
        return ListToolsResult(tools=self._definitions)

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Return the schema of a tool's arguments; None when there is no such tool."""
        return next((one.input_schema for one in self._definitions if one.name == name), None)

    async def call(
        self, context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Perform an operation.

        What goes wrong is a result, too, which tells the model what to do next.

        Raises:
            MCPError: There is no such tool.
        """
        operation = self._offered.get(params.name)
        if operation is None:
            raise MCPError(INVALID_PARAMS, f"unknown tool: {params.name[:80]!r}")
        try:
            arguments: Arguments = operation.arguments.model_validate(params.arguments or {})
        except ValidationError as error:
            return _failed(f"{_wrong(error, operation)}. Correct that and call again.")
        try:
            agent = self._callers.identity().name
        except Mq9Error as error:
            return _failed(f"{error}. Tell the user.")
        if self._calls[agent] >= MAX_CALLS:
            return _failed(f"{MAX_CALLS} calls are in work already. Try again later.")
        self._calls[agent] += 1
        try:
            async with self._callers.calling(context) as caller:
                return await self._answer(context, params, caller, operation, arguments)
        except OperationError as error:
            return _failed(str(error))
        finally:
            self._calls[agent] -= 1
            if not self._calls[agent]:
                del self._calls[agent]

    async def _answer(
        self,
        context: Context,
        params: CallToolRequestParams,
        caller: Caller,
        operation: Operation[Any, Any],
        arguments: Arguments,
    ) -> CallToolResult | InputRequiredResult:
        refusal = await _unless_confirmed(context, params, caller, operation, arguments)
        if refusal is not None:
            return refusal
        result: Result = await with_progress(
            context,
            caller.client.clock,
            arguments.longest_wait_s,
            perform(operation, caller, arguments),
        )
        return CallToolResult(
            content=[TextContent(text=result.content())],
            structured_content=result.model_dump(mode="json", exclude_none=True),
        )


async def _unless_confirmed(
    context: Context,
    params: CallToolRequestParams,
    caller: Caller,
    operation: Operation[Any, Any],
    arguments: Arguments,
) -> CallToolResult | InputRequiredResult | None:
    """Ask the user, where an operation needs that; None when it may be performed."""
    needed = await confirmation(operation, caller, arguments)
    if needed is None:
        return None
    answer = await ask_user(context, params, needed.question, caller.client.clock)
    if isinstance(answer, InputRequiredResult):
        return answer
    if answer is False:
        return _failed(needed.declined)
    if answer is None and needed.unanswered is not None:
        return _failed(needed.unanswered)
    return None


def _failed(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def _wrong(error: ValidationError, operation: Operation[Any, Any]) -> str:
    """Say which arguments are wrong and why, and what was given for each."""
    found = error.errors(include_url=False, include_context=False)
    said = [_said(one["loc"], one["msg"], one["type"], one["input"]) for one in found[:_MAX_ERRORS]]
    more = len(found) - len(said)
    text = "; ".join(said) + (f"; and {more} more" if more else "")
    if any(one["type"] == "extra_forbidden" for one in found):
        text += f". There are {', '.join(operation.arguments.model_fields) or 'none'}"
    return text


def _said(place: tuple[int | str, ...], message: str, kind: str, value: object) -> str:
    where = ".".join(str(part)[:80] for part in place) or "arguments"
    if kind == "missing":
        return f"{where}: {message}"
    if kind == "extra_forbidden":
        return f"{where}: there is no such argument"
    return f"{where}: {message}, not {addresses.shown(value)}"
