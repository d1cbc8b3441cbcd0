"""Mailboxes that only the agent sends to, and messages that it has sent itself."""

from __future__ import annotations

import logging

from mq9 import BadReply, Mq9Client
from mq9.models import Message, SendPolicy

logger = logging.getLogger("mq9.worker")


async def make_own_mailbox(client: Mq9Client, mail_address: str) -> None:
    """Make a mailbox that only the agent sends to, if it is missing; close one that is open.

    Raises:
        Mq9Error: The broker refuses, or cannot be reached.
    """
    try:
        await client.mailbox_create(name=mail_address, renew=True, send_policy=SendPolicy.CREATOR)
        await client.mailbox_grant(mail_address, send_policy=SendPolicy.CREATOR)
    except BadReply as error:
        logger.warning("others may send to %s: %s", mail_address, error)


class OwnMessages:
    """Tells the messages of one agent from those of others.

    If the broker authenticates the agent, only messages with that verified sender are its own.
    Otherwise a message of a verified sender belongs to that sender, and the rest count as own: the
    broker cannot tell them apart.

    Args:
        agent: The agent.
        mail_address: The agent's mailbox.
    """

    def __init__(self, *, agent: str, mail_address: str) -> None:
        self._agent = agent
        self._prefix = f"{mail_address}."
        self._identity: str | None = None

    async def prepare(self, client: Mq9Client) -> None:
        """Ask the broker as whom a connection is authenticated."""
        self._identity = await client.whoami()

    @property
    def are_verified(self) -> bool:
        """Whether the broker authenticates the agent."""
        return self._identity is not None

    def includes(self, message: Message) -> bool:
        """Tell whether the agent has sent a message.

        A move keeps the verified sender. So a message that was moved counts only if it came from a
        mailbox of the agent itself, such as its dead letters.
        """
        if message.moved is not None and not message.moved.mailbox.startswith(self._prefix):
            return not self.are_verified and not message.sender_verified
        if message.sender_verified:
            return message.sender == (self._identity or self._agent)
        return not self.are_verified
