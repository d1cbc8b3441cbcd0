"""Completion of what a user types: names of agents, addresses of the agent's mailboxes."""

from __future__ import annotations

import re

from mcp_types import (
    CompleteRequestParams,
    CompleteResult,
    Completion,
    PromptReference,
    ResourceTemplateReference,
)

from mcp_server.agents.callers import Callers, Context
from mcp_server.features.resources import MAILBOX, MESSAGE
from mcp_server.settings import Settings
from mq9.operations import perform
from mq9.operations.discovery import DiscoverArguments, agent_discover

_MAX_VALUES = 100  # as the protocol says
_NAME = re.compile(r"[\w.-]{1,64}")  # one word; of other agents the address is offered
_NOTHING = Completion(values=[], total=0, has_more=False)


class Completions:
    """Completes arguments.

    Args:
        callers: The agents whose users type.
        settings: What is offered.
    """

    def __init__(self, callers: Callers, settings: Settings) -> None:
        self._callers = callers
        self._shows_agents = agent_discover.name in settings.allowed

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        """Return what begins as typed; nothing for what cannot be completed."""
        typed = params.argument.value
        match params.ref, params.argument.name:
            case PromptReference(name="delegate_task"), "agent" if self._shows_agents:
                return CompleteResult(completion=await self._agents(context, typed))
            case ResourceTemplateReference(uri=uri), "address" if uri in {MAILBOX, MESSAGE}:
                return CompleteResult(completion=self._addresses(typed))
            case _:
                return CompleteResult(completion=_NOTHING)

    async def _agents(self, context: Context, typed: str) -> Completion:
        async with self._callers.calling(context) as caller:
            found = await perform(agent_discover, caller, DiscoverArguments(limit=_MAX_VALUES))
        begun = typed.casefold()
        # A name becomes part of what the user says, and whoever registers can choose any.
        names = [
            one.untrusted_name if _NAME.fullmatch(one.untrusted_name) else one.mail_address
            for one in found.agents
            if one.untrusted_name.casefold().startswith(begun)
        ]
        return Completion(
            values=list(dict.fromkeys(names)), has_more=len(found.agents) == _MAX_VALUES
        )

    def _addresses(self, typed: str) -> Completion:
        own = self._callers.identity().known_addresses
        fitting = [one for one in own if one.startswith(typed)]
        return Completion(
            values=fitting[:_MAX_VALUES], total=len(fitting), has_more=len(fitting) > _MAX_VALUES
        )
