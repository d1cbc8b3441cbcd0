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
        """Return the agent that the broker has authenticated for this client, or None.

        Only our broker has this verb.

        Example:
            ```python
            print(await client.whoami() or "not authenticated as an agent")
            ```
        """
        return (await self.identity()).agent

    async def identity(self) -> Identity:
        """Return the agent and the role of this client, as the broker sees them.

        Only our broker has this verb.

        Example:
            ```python
            identity = await client.identity()
            print(identity.agent, identity.role)
            ```
        """
        return await self._connection.request(requests.Whoami())

    async def agent_register(
        self, agent_card: Mapping[str, Any], *, ttl: int | None = None
    ) -> None:
        """Register an agent, or replace its registration. If its mailbox is missing, create it.

        Args:
            agent_card: Any JSON object with a ``name`` or a ``mailbox``, such as an A2A AgentCard
                with a mailbox. The broker returns it unchanged.
            ttl: Seconds without activity after which the registration expires. Registering,
                reporting, sending as the agent, and fetching or acking for it count as activity.
                Default: the ``ttl`` of the card, or else never.

        Raises:
            LimitReached: The registry has reached its maximum number of agents.
            Forbidden: Another authenticated agent registered the name.

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
        """Remove an agent from the registry.

        Args:
            mailbox: The agent's mailbox, or its name.
            name: The agent's name.

        Raises:
            AgentNotFound: No such agent is registered.

        Example:
            ```python
            await client.agent_unregister(name="florist")
            ```
        """
        await self._connection.request(requests.Unregister(**_who(mailbox, name)))

    async def agent_report(self, report: Mapping[str, Any]) -> None:
        """Report the status of an agent. This counts as activity.

        Args:
            report: ``mailbox`` or ``name`` of the agent, with any other fields that it publishes.

        Raises:
            AgentNotFound: No such agent is registered.

        Example:
            ```python
            await client.agent_report({"name": "florist", "load": 0.7})
            ```
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
            semantic: A sentence to search for by meaning. It takes precedence over ``text``.
            min_score: The lowest score of a match, 0 to 2. Default: 0 for words. For meaning, it is
                the score of the broker's embeddings below which a match is ``weak``.
            limit: Maximum number of agents to return, 1 to 1 000. Default: 20.
            page: The number of the page of that size. Default: 1, the first page.

        Returns:
            The agents' cards, best match first. Without ``text`` and ``semantic`` they are in order
            of names. ``mode`` is the ranking that was used. It is ``text`` if the broker could not
            search by meaning.

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
        """Look up agents by exact name or by mailbox.

        Only our broker has this verb.

        Args:
            names: Up to 100 names, such as the senders of messages.
            mailboxes: Up to 100 addresses.
            wrote_to: A mailbox that this client may look at. Each entry of a name then has the
                instant of its oldest message there, among the newest 1 000.
            before: Ignore the message with this number, and all later ones.

        Returns:
            One entry for each of ``names``, registered or not. Then the other agents at
            ``mailboxes``, at most 10 for each mailbox.

        Raises:
            MailboxNotFound: The mailbox ``wrote_to`` does not exist.
            Forbidden: This client may not look at it.
            InvalidRequest: There is no name and no mailbox, or the broker does not have this verb.

        Example:
            ```python
            [entry] = await client.agent_lookup(["florist"])
            print(entry.registered, entry.mailbox)
            ```
        """
        body = requests.Lookup(
            names=arguments.listed(names),
            mailboxes=arguments.listed(mailboxes),
            wrote_to=wrote_to,
            before=before,
        )
        return list(await self._connection.request(body))


def _who(mailbox: Any, name: Any) -> dict[str, Any]:
    """Return mailbox and name of an agent as fields. Some brokers know only names."""
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
