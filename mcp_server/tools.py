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

from mcp_server.callers import Callers, Context
from mcp_server.confirmation import ask_user
from mcp_server.definitions import definitions
from mcp_server.settings import Settings
from mcp_server.waiting import waited_for
from mq9 import MessageNotFound, Mq9Error
from mq9 import address as addresses
from mq9.operations import Caller, Operation, OperationError, perform
from mq9.operations.arguments import Arguments
from mq9.operations.errors import explained
from mq9.operations.fetch import FetchArguments
from mq9.operations.messages import DELETE_MESSAGE, DeleteArguments
from mq9.operations.result import Result

_MOST_AT_ONCE = 64  # calls in work, of one agent
_MOST_SAID = 5  # wrong arguments that are spelled out


class Tools:
    """Lists the tools and answers calls.

    Args:
        callers: Who calls.
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
        """Say which tools there are."""
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
        if self._calls[agent] >= _MOST_AT_ONCE:
            return _failed(f"{_MOST_AT_ONCE} calls are in work already. Try again later.")
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
        if isinstance(arguments, DeleteArguments):
            refusal = await _unless_confirmed(context, params, caller, arguments)
            if refusal is not None:
                return refusal
        wait_s = (arguments.wait_seconds or 0) if isinstance(arguments, FetchArguments) else 0
        result: Result = await waited_for(
            context, caller.client.clock, wait_s, perform(operation, caller, arguments)
        )
        return CallToolResult(
            content=[TextContent(text=result.content())],
            structured_content=result.model_dump(mode="json", exclude_none=True),
        )


async def _unless_confirmed(
    context: Context, params: CallToolRequestParams, caller: Caller, arguments: DeleteArguments
) -> CallToolResult | InputRequiredResult | None:
    """Ask the user, or else the model once more; None when the answer is yes."""
    number = arguments.msg_id
    try:  # what cannot be done anyway is said before anybody is asked
        address = await caller.mailbox_to_read(arguments.mail_address)
        if not await caller.client.query(address, msg_id=number, max_bytes=1):
            raise MessageNotFound(f"message not found: {number} is not in {address}")
    except Mq9Error as error:
        raise explained(error, DELETE_MESSAGE, caller.tools) from error
    answer = await ask_user(
        context,
        params,
        f"Delete message {number} of {address} for everybody? It cannot be undone.",
        caller.client.clock,
    )
    if isinstance(answer, InputRequiredResult):
        return answer
    if answer is False:
        return _failed("The user said no: nothing is deleted. Do not try again.")
    if answer is None and arguments.confirm_address is None:
        return _failed(
            "confirm_address: deleting cannot be undone, and the user gave no answer. If it "
            f"is what the user wants, call again with confirm_address={address!r} as well."
        )
    return None


def _failed(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def _wrong(error: ValidationError, operation: Operation[Any, Any]) -> str:
    """Say which arguments are wrong and why, and what was given for each."""
    found = error.errors(include_url=False, include_context=False)
    said = [_said(one["loc"], one["msg"], one["type"], one["input"]) for one in found[:_MOST_SAID]]
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
