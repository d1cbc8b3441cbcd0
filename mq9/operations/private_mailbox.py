"""The private mailbox of one thread of an agent: made when needed, renewed when used."""

from __future__ import annotations

import threading
from collections import OrderedDict

from mq9.client.client import Mq9Client
from mq9.errors import MailboxNotFound, Mq9Error
from mq9.models import Unread

TTL_S = 30 * 86_400  # after the last use
_RENEWED_EVERY_MS = 86_400_000
_MOST = 10_000  # threads that are remembered


class PrivateMailbox:
    """The mailbox where one thread of an agent gets its answers.

    Args:
        mail_address: Its address, which nobody can guess.
        desc: Its description, by which the agent's other threads know that it is not theirs.
    """

    def __init__(self, mail_address: str, desc: str) -> None:
        self.mail_address = mail_address
        self._desc = desc
        self._renewed_ms: int | None = None  # by the client's monotonic clock

    async def ensure(self, client: Mq9Client) -> str:
        """Make it if it is missing, let it last for its whole time again, and return its address.

        A mailbox that was renewed within a day is taken to be there.

        Raises:
            LimitReached: The broker holds as many mailboxes as it may.
        """
        now = client.clock.monotonic_ms()
        if self._renewed_ms is None or now - self._renewed_ms >= _RENEWED_EVERY_MS:
            await client.mailbox_create(
                name=self.mail_address, ttl=TTL_S, desc=self._desc, renew=True
            )
            self._renewed_ms = now
        return self.mail_address

    def forget(self) -> None:
        """Note that it is not there."""
        self._renewed_ms = None

    async def unread(self, client: Mq9Client, group_name: str) -> Unread:
        """Return what waits for a group in it; nothing where that is not known.

        A mailbox that this process has not used yet is not asked for it.
        """
        if self._renewed_ms is None:
            return Unread()
        try:
            status = await client.mailbox_status(self.mail_address, group_name=group_name)
        except Mq9Error as error:  # what was called for is done
            if isinstance(error, MailboxNotFound):
                self.forget()
            return Unread()
        return Unread() if status.group is None else status.group.pending


class PrivateMailboxes:
    """The private mailboxes of an agent's threads, the longest unused forgotten first.

    Usable from several threads.

    Args:
        agent: The agent's name.
    """

    def __init__(self, agent: str) -> None:
        self._desc = description(agent)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, PrivateMailbox] = OrderedDict()

    def at(self, mail_address: str) -> PrivateMailbox:
        """Return the private mailbox with an address."""
        with self._lock:
            found = self._known.get(mail_address)
            if found is None:
                found = self._known[mail_address] = PrivateMailbox(mail_address, self._desc)
                if len(self._known) > _MOST:
                    self._known.popitem(last=False)
            self._known.move_to_end(mail_address)
            return found

    def forget(self) -> None:
        """Note that none of them may be there, as on another connection."""
        with self._lock:
            self._known.clear()


def description(agent: str) -> str:
    """Return the description of the private mailboxes of an agent's threads."""
    return f"private to a thread of agent {agent}"
