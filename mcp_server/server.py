"""The MCP server: what answers each of its requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, PaginatedRequestParams, ServerCapabilities

from mcp_server.callers import Callers, Context, OwnMailboxes
from mcp_server.features.prompts import Prompts
from mcp_server.features.resources import Completions, Resources
from mcp_server.features.subscriptions import Subscriptions
from mcp_server.features.tools import Tools
from mcp_server.settings import Settings, instructions
from mq9 import InvalidRequest, Mq9Error
from mq9.address import shown
from mq9.operations.execution import OperationError
from mq9.version import VERSION

P = TypeVar("P")
R = TypeVar("R")

NAME = "mq9"
_KEY_CHARS = 32

# What can be done is fixed while the server runs.
_FRESH_MS = 5 * 60 * 1000
_HINTS: dict[CacheableMethod, CacheHint] = {
    "tools/list": CacheHint(_FRESH_MS, "public"),
    "prompts/list": CacheHint(_FRESH_MS, "public"),
    "resources/templates/list": CacheHint(_FRESH_MS, "public"),
    "resources/list": CacheHint(_FRESH_MS, "private"),
    "resources/read": CacheHint(0, "private"),
    "server/discover": CacheHint(_FRESH_MS, "public"),
}


class MailServer(Server[None]):
    """A server whose lists are fixed, which it reports in every protocol version.

    In the current protocol, the SDK would report changing lists, since clients can subscribe to
    mail.
    """

    def get_capabilities(self, *given: Any, **options: Any) -> ServerCapabilities:
        """Return the capabilities of the server."""
        found = super().get_capabilities(*given, **options)
        for one in (found.tools, found.prompts, found.resources):
            if one is not None:
                one.list_changed = False
        return found


def make_server(
    callers: Callers,
    settings: Settings,
    *,
    pushes: bool = True,
    state_key: str | None = None,
) -> Server[None]:
    """Make an MCP server, to be run over any transport.

    Args:
        callers: The agents that use it. Their connections are closed when the server stops.
        settings: What it offers.
        pushes: Whether clients of the older protocol stay connected, so that they can be told of
            new mail.
        state_key: At least 32 characters that nobody else knows, where several servers answer the
            calls of one client: each then accepts the request state that another one has sealed.

    Raises:
        InvalidRequest: The key is too short.
    """
    if state_key is not None and len(state_key) < _KEY_CHARS:
        raise InvalidRequest(f"state_key: {len(state_key)} characters; give {_KEY_CHARS} or more")

    def for_agent(
        handler: Callable[[Context, P], Awaitable[R]],
    ) -> Callable[[Context, P], Awaitable[R]]:
        return _with_errors(_with_name(callers, handler))

    tools = Tools(callers, settings)
    resources = Resources(callers, settings)
    prompts = Prompts(callers, settings)
    subscriptions = Subscriptions(callers)
    mailboxes = OwnMailboxes(callers)
    running = 0

    @asynccontextmanager
    async def lifespan(_server: Server[None]) -> AsyncIterator[None]:
        nonlocal running
        running += 1
        try:
            yield
        finally:
            running -= 1
            if not running:
                await mailboxes.close()
                await callers.close()

    server = MailServer(
        NAME,
        title="mq9 mailbox",
        description="A mailbox for this agent, and everybody else's.",
        version=VERSION,
        instructions=instructions(callers.default, settings.names),
        cache_hints=_HINTS,
        lifespan=lifespan,
        get_tool_input_schema=tools.input_schema,
        on_list_tools=_with_errors(_single_page(tools.list)),
        on_call_tool=for_agent(tools.call),
        on_list_resources=for_agent(_single_page(resources.list)),
        on_list_resource_templates=_with_errors(_single_page(resources.templates)),
        on_read_resource=for_agent(resources.read),
        on_subscribe_resource=for_agent(subscriptions.subscribe) if pushes else None,
        on_unsubscribe_resource=for_agent(subscriptions.unsubscribe) if pushes else None,
        on_subscriptions_listen=for_agent(subscriptions.listen),
        on_list_prompts=_with_errors(_single_page(prompts.list)),
        on_get_prompt=for_agent(prompts.get),
        on_completion=for_agent(Completions(callers, settings).complete),
    )
    # The request state that clients return is sealed, by default with a key of this process.
    security = (
        RequestStateSecurity.ephemeral()
        if state_key is None
        else RequestStateSecurity(keys=[state_key])
    )
    server.middleware.append(RequestStateBoundary(security, default_audience=NAME))
    server.middleware.append(mailboxes)
    return server


def _with_errors(
    handler: Callable[[Context, P], Awaitable[R]],
) -> Callable[[Context, P], Awaitable[R]]:
    """Return a handler whose errors of mq9 are errors of MCP."""

    async def answer(context: Context, params: P) -> R:
        try:
            return await handler(context, params)
        except (Mq9Error, OperationError) as error:
            raise MCPError(INVALID_REQUEST, str(error), {"code": error.code}) from error

    return answer


def _with_name(
    callers: Callers, handler: Callable[[Context, P], Awaitable[R]]
) -> Callable[[Context, P], Awaitable[R]]:
    """Return a handler before which the agent is named, where it is named after its host."""

    async def answer(context: Context, params: P) -> R:
        await callers.name_default(context)
        return await handler(context, params)

    return answer


def _single_page(
    handler: Callable[[Context, PaginatedRequestParams | None], Awaitable[R]],
) -> Callable[[Context, PaginatedRequestParams | None], Awaitable[R]]:
    """Return a handler of a list that refuses cursors: the list has one page."""

    async def answer(context: Context, params: PaginatedRequestParams | None) -> R:
        if params is not None and params.cursor:
            raise MCPError(
                INVALID_PARAMS, f"cursor: {shown(params.cursor)} leads nowhere; there is one page"
            )
        return await handler(context, params)

    return answer
