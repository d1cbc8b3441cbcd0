"""The operations as tools: definitions, results of calls, questions and progress."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.requests import Request

from mcp_server.callers import Callers, Context, in_time
from mcp_server.settings import Settings
from mq9 import Mq9Error, OutcomeUnknown
from mq9 import address as addresses
from mq9.clock import Clock, sleep
from mq9.operations.caller import Caller
from mq9.operations.execution import OperationError, confirmation, perform
from mq9.operations.operation import Arguments, Operation, Result, arguments_schema, result_schema

MAX_CALLS = 64  # in work, of one agent
_MAX_ERRORS = 5  # wrong arguments that are spelled out


class Tools:
    """Lists the tools and answers calls."""

    def __init__(self, callers: Callers, settings: Settings) -> None:
        self._callers = callers
        self._offered = settings.offered
        self._definitions = [types.Tool.model_validate(one) for one in definitions(settings)]
        self._calls: Counter[str] = Counter()

    async def list(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """Return the tools."""
        return types.ListToolsResult(tools=self._definitions)

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Return the schema of a tool's arguments; None when there is no such tool."""
        return next((one.input_schema for one in self._definitions if one.name == name), None)

    async def call(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Perform an operation; a failure is a result, too, with advice for the model."""
        operation = self._offered.get(params.name)
        if operation is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown tool: {params.name[:80]!r}")
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
        params: types.CallToolRequestParams,
        caller: Caller,
        operation: Operation[Any, Any],
        arguments: Arguments,
    ) -> types.CallToolResult | types.InputRequiredResult:
        refusal = await _unless_confirmed(context, params, caller, operation, arguments)
        if refusal is not None:
            return refusal
        result: Result = await with_progress(
            context,
            caller.client.clock,
            min(arguments.longest_wait_s, caller.max_wait_s),
            perform(operation, caller, arguments),
        )
        caller.answered()
        return types.CallToolResult(
            content=[types.TextContent(text=result.content())],
            structured_content=result.model_dump(mode="json", exclude_none=True),
        )


async def _unless_confirmed(
    context: Context,
    params: types.CallToolRequestParams,
    caller: Caller,
    operation: Operation[Any, Any],
    arguments: Arguments,
) -> types.CallToolResult | types.InputRequiredResult | None:
    """Ask the user, where an operation needs that; None when it may be performed."""
    needed = await confirmation(operation, caller, arguments)
    if needed is None:
        return None
    answer = await ask_user(context, params, needed.question, caller.client.clock)
    if isinstance(answer, types.InputRequiredResult):
        return answer
    if answer is False:
        return _failed(needed.declined)
    if answer is None and needed.unanswered is not None:
        return _failed(needed.unanswered)
    return None


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _wrong(error: ValidationError, operation: Operation[Any, Any]) -> str:
    found = error.errors(include_url=False, include_context=False)
    said = [_said(one["loc"], one["msg"], one["type"], one["input"]) for one in found[:_MAX_ERRORS]]
    more = len(found) - len(said)
    text = "; ".join(said) + (f"; and {more} more" if more else "")
    if any(one["type"] == "extra_forbidden" for one in found):
        names = arguments_schema(operation.arguments)["properties"]
        text += f". There are {', '.join(names) or 'none'}"
    return text


def _said(place: tuple[int | str, ...], message: str, kind: str, value: object) -> str:
    where = ".".join(str(part)[:80] for part in place) or "arguments"
    if kind == "missing":
        return f"{where}: {message}"
    if kind == "extra_forbidden":
        return f"{where}: unknown argument"
    return f"{where}: {message}, not {addresses.shown(value)}"


_logger = logging.getLogger("mq9.mcp")

ANSWER_TIMEOUT_S = 300.0

_KEY = "confirm"
_NO_FIELDS: types.ElicitRequestedSchema = {"type": "object", "properties": {}}


async def ask_user(
    context: Context, params: types.CallToolRequestParams, question: str, clock: Clock
) -> bool | types.InputRequiredResult | None:
    """Ask the user a question that is answered by yes or no; None when the user gave no answer.

    In the current protocol the answer comes with the call when the client makes it again.
    """
    capabilities = context.session.client_capabilities
    asking = None if capabilities is None else capabilities.elicitation
    if asking is None or (asking.form is None and asking.url is not None):
        return None  # neither named means a form
    form = types.ElicitRequestFormParams(message=question, requested_schema=_NO_FIELDS)
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        answer = (params.input_responses or {}).get(_KEY)
        # The state comes back sealed: it proves that it was us who asked, and just this.
        if params.request_state == question and isinstance(answer, types.ElicitResult):
            return _meaning(answer)
        return types.InputRequiredResult(
            input_requests={_KEY: types.ElicitRequest(params=form)}, request_state=question
        )
    try:
        return await _asked(context, question, clock)
    except (MCPError, ValidationError) as error:
        _logger.info("the client could not ask the user: %s", error)
        return None


async def _asked(context: Context, question: str, clock: Clock) -> bool | None:
    asking = context.session.elicit_form(
        question, _NO_FIELDS, related_request_id=context.request_id
    )
    try:
        return _meaning(await in_time(clock, ANSWER_TIMEOUT_S, asking))
    except TimeoutError:
        _logger.info("the user did not answer within %g s", ANSWER_TIMEOUT_S)
        return None


def _meaning(answer: types.ElicitResult) -> bool | None:
    """Return the content of an answer; a dismissed question has none."""
    return {"accept": True, "decline": False, "cancel": None}[answer.action]


T = TypeVar("T")

INTERVAL_S = 5.0  # between two reports


async def with_progress(
    context: Context, clock: Clock, wait_s: float, work: Coroutine[Any, Any, T]
) -> T:
    """Return the result of some work, whose progress is reported to the client every five seconds.

    When the client gives up, or its connection is lost, the work is cancelled once, and may clean
    up: messages that a fetch was about to lease stay free for others.
    """
    working: asyncio.Task[Any] = asyncio.ensure_future(work)
    reporting: list[asyncio.Task[Any]] = []
    disconnecting: list[asyncio.Task[Any]] = []
    if wait_s:  # what does not wait is over too soon for either
        reporting.append(asyncio.ensure_future(_report(context, clock, wait_s)))
        disconnecting.append(asyncio.ensure_future(_disconnected(context)))
    try:
        await asyncio.wait([working, *disconnecting], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
    except asyncio.CancelledError:
        if not working.cancelling():
            working.cancel()
        raise
    finally:
        for one in (*reporting, *disconnecting):
            one.cancel()
        if ending := [one for one in (working, *reporting, *disconnecting) if not one.done()]:
            # anyio cancels every further await, too, until the request has ended.
            with anyio.CancelScope(shield=True):
                await asyncio.wait(ending)
        for one in reporting:
            if not one.cancelled() and one.exception() is not None:
                _logger.info("progress could not be reported: %s", one.exception())
    if working.cancelled():
        raise OperationError("the connection was lost", OutcomeUnknown.code)
    result: T = working.result()
    return result


async def _disconnected(context: Context) -> None:
    """Return when the connection is lost that the answer needs; streams are not resumed."""
    if not isinstance(context.request, Request):
        await asyncio.get_running_loop().create_future()  # the transport cancels the request
        return
    while (await context.request.receive())["type"] != "http.disconnect":
        pass


async def _report(context: Context, clock: Clock, wait_s: float) -> None:
    passed = 0.0
    while passed + INTERVAL_S < wait_s:
        await sleep(clock, INTERVAL_S)
        passed += INTERVAL_S
        await context.session.report_progress(
            passed, wait_s, f"no mail yet, after {passed:g} of {wait_s:g} s"
        )


def definitions(settings: Settings) -> list[dict[str, Any]]:
    """Return the definitions of all offered tools for ``tools/list``, as JSON."""
    names = settings.names
    return [
        {
            "name": name,
            "title": operation.title,
            "description": names.text(operation.description),
            "inputSchema": arguments_schema(operation.arguments),
            "outputSchema": result_schema(operation.result),
            "annotations": {
                "readOnlyHint": operation.read_only,
                "destructiveHint": operation.destructive,
                "idempotentHint": operation.idempotent,
                "openWorldHint": operation.open_world,
            },
        }
        for name, operation in settings.offered.items()
    ]
