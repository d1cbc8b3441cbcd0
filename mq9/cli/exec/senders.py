"""The senders that may run the command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, InvalidRequest, Unreachable
from mq9.models import Message
from mq9.operations import discovery
from mq9.operations.identity import slug
from mq9.protocol import checks

EVERYONE, KNOWN = "everyone", "known"
_LATEST = 1_000  # messages of the agent's own by which it knows others


class Senders:
    """The senders that ``--from`` lets in.

    Args:
        client: The connection of the agent.
        agent: The agent's name.
        given: ``everyone``, ``known`` or the names of agents; empty for what is safe.
    """

    def __init__(self, client: Mq9Client, agent: str, given: Sequence[str]) -> None:
        self._client = client
        self._agent = agent
        self._names = frozenset(checks.agent_name("from", one) for one in given)
        if len(self._names) > 1 and EVERYONE in self._names:
            raise InvalidRequest("from: `everyone` leaves nobody to be named besides")

    async def prepare(self, *, is_private: bool) -> None:
        """Choose what is safe where nothing was given.

        Args:
            is_private: Whether only programs of this user reach the broker.

        Raises:
            InvalidRequest: The broker does not know who sends.
        """
        if self._names:
            return
        if is_private:
            self._names = frozenset({EVERYONE})
        elif await self._client.whoami() is not None:
            self._names = frozenset({KNOWN})
        else:
            raise InvalidRequest(
                "from: this broker does not authenticate this program as an agent, so that anybody "
                "may have the command run. Give it a user (mq9 serve --users), or say who may: "
                "--from everyone, or --from NAME for a verified sender"
            )

    async def why_not(self, message: Message) -> str | None:
        """Return why the command is not run for a message; None where it is."""
        if EVERYONE in self._names:
            return None
        if not message.sender_verified or message.sender is None:
            return "the broker does not know who sent it, and this agent takes no such mail"
        if message.sender in self._names:
            return None
        if KNOWN in self._names and await self._has_written_to(message.sender):
            return None
        return "this agent takes no mail from its sender"

    async def _has_written_to(self, name: str) -> bool:
        """Tell whether the agent has sent something to another one's own mailbox lately."""
        try:
            page = await self._client.sent(sender=self._agent, limit=_LATEST)
        except (Forbidden, InvalidRequest, Unreachable):
            return False
        written_to = {one.mail_address for one in page.sent}
        own = set()
        with suppress(InvalidRequest):  # it has no letters to make an address of
            own.add(slug(name))
        for entry in await discovery.look_up(self._client, names=[name]) or ():
            if entry.mailbox is not None and entry.by == name:
                own.add(entry.mailbox)
        return not own.isdisjoint(written_to)
