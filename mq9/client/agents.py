"""The methods of a client on the registry of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mq9 import address as addresses
from mq9.client import arguments
from mq9.client.base import ClientBase
from mq9.errors import InvalidRequest
from mq9.models import AgentEntry, AgentMatches, Identity
from mq9.protocol import checks, replies, requests


class AgentMethods(ClientBase):
    """Register agents, find them, and remove them."""

    async def whoami(self) -> str | None:
        """Return the agent that the broker takes this client for; None for nobody in particular.

        Our broker has this verb; others do not.
        """
        return (await self.identity()).agent

    async def identity(self) -> Identity:
        """Return the agent and the role that the broker takes this client for.

        Our broker has this verb; others do not.
        """
        return await self._connection.request(requests.Whoami())

    async def agent_register(
        self, agent_card: Mapping[str, Any], *, ttl: int | None = None
    ) -> None:
        """Register an agent, or replace its registration; its mailbox is made if it is missing.

        Args:
            agent_card: Any JSON object with a ``name`` or a ``mailbox``, such as an A2A AgentCard
                with a mailbox. Kept and returned unchanged.
            ttl: Seconds without activity of the agent after which its registration expires.
                Registering, reporting, sending as the agent, and fetching or acking for it count.

        Raises:
            LimitReached: The registry holds as many agents as it may.
            Forbidden: The name was registered by another, authenticated agent.

        Example:
            ```python
            card = {"name": "florist", "mailbox": "florist", "description": "Sells roses"}
            await client.agent_register(card, ttl=86_400)
            ```
        """
        card = dict(checks.json_object("agent_card", agent_card))
        if ttl is not None:
            card["ttl"] = ttl
        register = requests.Register(
            name=card.get("name"), mailbox=card.get("mailbox"), ttl=card.get("ttl", 0)
        )
        await self._connection.request(register, payload=arguments.encode_json("agent_card", card))

    async def agent_unregister(
        self, mailbox: str | None = None, *, name: str | None = None
    ) -> None:
        """Take an agent out of the registry.

        Args:
            mailbox: Its mailbox, or its name.
            name: Its name.

        Raises:
            AgentNotFound: No agent is registered so.
        """
        await self._connection.request(requests.Unregister(**_who(mailbox, name)))

    async def agent_report(self, report: Mapping[str, Any]) -> None:
        """Report the status of an agent, which counts as activity.

        Args:
            report: ``mailbox`` or ``name``, beside whatever it wants to be known.

        Raises:
            AgentNotFound: No agent is registered so.
        """
        given = dict(checks.json_object("report", report))
        who = _who(given.pop("mailbox", None), given.pop("name", None))
        asked = requests.Report(**who)
        payload = arguments.encode_json("report", {**who, **given})
        await self._connection.request(asked, payload=payload)

    async def agent_discover(
        self,
        *,
        text: str | None = None,
        semantic: str | None = None,
        min_score: float | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AgentMatches:
        """Find registered agents.

        Args:
            text: Words to look for.
            semantic: A sentence to find by meaning; wins over ``text``.
            min_score: The lowest score that is found, 0 to 2; 0 leaves out nobody. By default it
                is what the broker's embeddings say, below which a match is ``weak``, and 0 for
                words.
            limit: Highest number to return, 1 to 1 000.
            page: Which page of that size, from 1.

        Returns:
            What the agents registered, best first; by name when nothing is asked. Its ``mode``
            tells what really ranked them: ``text`` where finding by meaning was not possible.

        Example:
            ```python
            for agent in await client.agent_discover(semantic="sells flowers", limit=3):
                print(agent["name"], agent["mailbox"])
            ```
        """
        body = requests.Discover(
            text=text, semantic=semantic, min_score=min_score, limit=limit, page=page
        )
        return replies.agents_of(await self._connection.request(body))

    async def agent_lookup(
        self,
        names: Sequence[str] = (),
        *,
        mailboxes: Sequence[str] = (),
        wrote_to: str | None = None,
        before: int | None = None,
    ) -> list[AgentEntry]:
        """Look up agents by their exact names, or by their mailboxes.

        Our broker has this verb; others do not.

        Args:
            names: Up to 100 names, such as the senders of messages.
            mailboxes: Up to 100 addresses.
            wrote_to: A mailbox that this client may look at: then it is told of each name since
                when there are messages from it, among the newest 1 000.
            before: Leave out the message with this number, and later ones.

        Returns:
            First of each of ``names``, registered or not, then of the agents at ``mailboxes`` that
            are not among these, at most 10 of one mailbox.

        Raises:
            MailboxNotFound: The mailbox ``wrote_to`` is not there.
            Forbidden: This client may not look at it.
            InvalidRequest: Nobody is named, or the broker does not know the verb.
        """
        body = requests.Lookup(
            names=arguments.listed(names),
            mailboxes=arguments.listed(mailboxes),
            wrote_to=wrote_to,
            before=before,
        )
        return list(await self._connection.request(body))


def _who(mailbox: Any, name: Any) -> dict[str, Any]:
    """Name an agent by mailbox and name, since some brokers know only names."""
    if mailbox is None or mailbox == "":
        return {"name": name}
    if not isinstance(mailbox, str):
        raise InvalidRequest(f"mailbox: {checks.shown(mailbox)} is not a text")
    if name is not None:
        return {"mailbox": addresses.parse(mailbox), "name": name}
    try:
        return {"mailbox": addresses.parse(mailbox), "name": mailbox}
    except InvalidRequest:
        return {"name": mailbox}
