"""A question to the user, before something is removed."""

from __future__ import annotations

import logging

from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestedSchema,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_server.agents.callers import Context
from mcp_server.timing import in_time
from mq9.clock import Clock

_logger = logging.getLogger("mq9.mcp")

ANSWER_TIMEOUT_S = 300.0

_KEY = "confirm"
_NO_FIELDS: ElicitRequestedSchema = {"type": "object", "properties": {}}


async def ask_user(
    context: Context, params: CallToolRequestParams, question: str, clock: Clock
) -> bool | InputRequiredResult | None:
    """Ask the user a question that is answered by yes or no.

    Args:
        context: The request that it is about.
        params: The call that it is about. In the current protocol the answer comes with the call
            when it is made again.
        question: What is asked.
        clock: Measures how long the user takes; after ``ANSWER_TIMEOUT_S`` there is no answer.

    Returns:
        The answer; what to return so that the client asks and calls again; or None when the user
        gave none: the client cannot ask, or the question was dismissed or left alone.
    """
    if not _can_ask(context):
        return None
    form = ElicitRequestFormParams(message=question, requested_schema=_NO_FIELDS)
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        answer = (params.input_responses or {}).get(_KEY)
        # The state comes back sealed: it proves that it was us who asked, and just this.
        if params.request_state == question and isinstance(answer, ElicitResult):
            return _meaning(answer)
        return InputRequiredResult(
            input_requests={_KEY: ElicitRequest(params=form)}, request_state=question
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


def _meaning(answer: ElicitResult) -> bool | None:
    """Return what an answer says; a question that was dismissed says nothing."""
    return {"accept": True, "decline": False, "cancel": None}[answer.action]


def _can_ask(context: Context) -> bool:
    capabilities = context.session.client_capabilities
    asking = None if capabilities is None else capabilities.elicitation
    if asking is None:
        return False
    return asking.form is not None or asking.url is None  # neither named means a form
