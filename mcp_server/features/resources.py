"""Mailboxes, messages and agents as resources to look at, and completed as they are typed."""

from __future__ import annotations

import re
from importlib import resources as files
from typing import Any, TypeVar
from urllib.parse import unquote

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from mcp_server.callers import Callers, Context
from mcp_server.settings import Settings
from mq9.operations.discovery import DiscoverArguments, agent_discover
from mq9.operations.execution import OperationError, perform
from mq9.operations.identity import Identity
from mq9.operations.operation import Arguments, Operation, Result
from mq9.operations.query import QueryArguments, query_messages
from mq9.operations.tool_names import ToolNames

R = TypeVar("R", bound=Result)

AGENTS = "mq9://agents"
PROTOCOL = "mq9://protocol"
MAILBOX = "mq9://mailbox/{address}"
MESSAGE = "mq9://message/{address}/{msg_id}"

_JSON = "application/json"
_MAX_AGENTS = 100

_MAILBOX = re.compile(r"mq9://mailbox/([^/]+)")
_MESSAGE = re.compile(r"mq9://message/([^/]+)/([0-9]{1,16})")


def mailbox_of(uri: str) -> str | None:
    """Return the address in the URI of a mailbox; None for any other URI."""
    found = _MAILBOX.fullmatch(uri)
    return None if found is None else unquote(found[1])


_PROTOCOL = types.Resource(
    uri=PROTOCOL,
    name="protocol",
    title="How mail works",
    description="Mailboxes, leases and acknowledgements on one page.",
    mime_type="text/markdown",
)
_AGENTS = types.Resource(
    uri=AGENTS,
    name="agents",
    title="Agents",
    description="Who is registered, and what each can do.",
    mime_type=_JSON,
)
_OWN_MAILBOX = types.Resource(
    uri=MAILBOX,
    name="mailbox",
    title="Your mailbox",
    description="Its newest messages. Looking takes nothing.",
    mime_type=_JSON,
)
_TEMPLATES = [
    types.ResourceTemplate(
        uri_template=uri, name=name, title=f"A {name}", description=description, mime_type=_JSON
    )
    for uri, name, description in (
        (MAILBOX, "mailbox", "The newest messages of a mailbox. Looking takes nothing."),
        (MESSAGE, "message", "One message of a mailbox."),
    )
]


class Resources:
    """Lists the resources and reads them, with the rights of the tools."""

    def __init__(self, callers: Callers, settings: Settings) -> None:
        self._callers = callers
        self._tools = settings.names
        self._shows_mail = query_messages.name in settings.allowed
        self._shows_agents = agent_discover.name in settings.allowed

    async def list(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """Return the resources: the agent's own mailbox, the agents, the protocol."""
        found = [_PROTOCOL]
        if self._shows_agents:
            found.append(_AGENTS)
        if self._shows_mail:
            own = MAILBOX.format(address=self._callers.identity().mail_address)
            found.append(_OWN_MAILBOX.model_copy(update={"uri": own}))
        return types.ListResourcesResult(resources=found)

    async def templates(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """Return the templates of the URIs of mailboxes and messages."""
        found = _TEMPLATES if self._shows_mail else []
        return types.ListResourceTemplatesResult(resource_templates=found)

    async def read(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Read a resource."""
        uri = params.uri
        if uri == PROTOCOL:
            return _contents(uri, guide(self._tools, self._callers.identity()), "text/markdown")
        try:
            text = await self._text(context, uri)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise _refusal(uri, f"{wrong['loc'][0]}: {wrong['msg']}") from None
        except OperationError as error:
            raise _refusal(uri, str(error)) from error
        return _contents(uri, text, _JSON)

    async def _text(self, context: Context, uri: str) -> str:
        if uri == AGENTS:
            agents = DiscoverArguments(limit=_MAX_AGENTS)
            return (await self._perform(context, agent_discover, agents)).content()
        address = mailbox_of(uri)
        if address is not None:
            newest = QueryArguments(mail_address=address)
            return (await self._perform(context, query_messages, newest)).content()
        found = _MESSAGE.fullmatch(uri)
        if found is None:
            raise _refusal(uri, "the resource does not exist; list the resources for valid URIs")
        arguments = QueryArguments(mail_address=unquote(found[1]), msg_id=int(found[2]))
        result = await self._perform(context, query_messages, arguments)
        if not result.messages:
            raise _refusal(uri, f"{result.mail_address} has no message {arguments.msg_id}")
        return result.content()

    async def _perform(
        self, context: Context, operation: Operation[Any, R], arguments: Arguments
    ) -> R:
        async with self._callers.calling(context) as caller:
            return await perform(operation, caller, arguments)


def guide(tools: ToolNames, identity: Identity) -> str:
    """Return how mail works, as a page for an agent that is new to it and has these tools."""
    page = tools.text(files.files("mcp_server.features").joinpath("guide.md").read_text("utf-8"))
    return page.replace("{name}", identity.name).replace("{address}", identity.mail_address)


def _contents(uri: str, text: str, mime_type: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=uri, text=text, mime_type=mime_type)]
    )


def _refusal(uri: str, text: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, text, data={"uri": uri[:500]})


_MAX_VALUES = 100  # of the protocol
_NAME = re.compile(r"[\w.-]{1,64}")  # one word; of other agents the address is offered
_NOTHING = types.Completion(values=[], total=0, has_more=False)


class Completions:
    """Completes arguments."""

    def __init__(self, callers: Callers, settings: Settings) -> None:
        self._callers = callers
        self._shows_agents = agent_discover.name in settings.allowed

    async def complete(
        self, context: Context, params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        """Return what begins as typed; nothing for what cannot be completed."""
        typed = params.argument.value
        match params.ref, params.argument.name:
            case types.PromptReference(name="delegate_task"), "agent" if self._shows_agents:
                return types.CompleteResult(completion=await self._agents(context, typed))
            case types.ResourceTemplateReference(uri=uri), "address" if uri in {MAILBOX, MESSAGE}:
                return types.CompleteResult(completion=self._addresses(typed))
            case _:
                return types.CompleteResult(completion=_NOTHING)

    async def _agents(self, context: Context, typed: str) -> types.Completion:
        async with self._callers.calling(context) as caller:
            found = await perform(agent_discover, caller, DiscoverArguments(limit=_MAX_VALUES))
        begun = typed.casefold()
        # A name becomes part of the prompt, and any agent can choose its name.
        names = [
            one.untrusted_name if _NAME.fullmatch(one.untrusted_name) else one.mail_address
            for one in found.agents
            if one.untrusted_name.casefold().startswith(begun)
        ]
        return types.Completion(
            values=list(dict.fromkeys(names)), has_more=len(found.agents) == _MAX_VALUES
        )

    def _addresses(self, typed: str) -> types.Completion:
        own = self._callers.identity().known_addresses
        fitting = [one for one in own if one.startswith(typed)]
        return types.Completion(
            values=fitting[:_MAX_VALUES], total=len(fitting), has_more=len(fitting) > _MAX_VALUES
        )
