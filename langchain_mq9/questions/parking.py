"""Messages of a conversation whose thread waits for a person, kept until it goes on."""

from __future__ import annotations

from langchain_mq9.questions.own import make_own_mailbox
from mq9 import MailboxNotFound, Message, Mq9Client

_REASON = "its conversation waits for the answer to a question"
_AT_ONCE = 100


class Parking:
    """Moves messages aside, into a mailbox for each thread, and back in their order.

    Whoever calls this has the thread's turn.

    Args:
        client: The connection.
        mail_address: The agent's mailbox, which messages come from and go back to.
    """

    def __init__(self, client: Mq9Client, mail_address: str) -> None:
        self._client = client
        self._address = mail_address

    async def park(self, message: Message, thread_id: str) -> None:
        """Move a message aside."""
        aside = self._aside(thread_id)
        await make_own_mailbox(self._client, aside)
        await message.move(aside, reason=_REASON)

    async def release(self, thread_id: str) -> None:
        """Move back what was moved aside, if anything was."""
        aside = self._aside(thread_id)
        try:
            while fetched := await self._client.fetch(
                aside, group_name=self._address, num_msgs=_AT_ONCE, max_wait_ms=0
            ):
                for message in fetched:
                    await message.move(self._address, reason="its conversation goes on")
            await self._client.mailbox_drop(aside)
        except MailboxNotFound:
            return

    def _aside(self, thread_id: str) -> str:
        return f"{self._address}.waiting.{thread_id.replace('-', '')}"
