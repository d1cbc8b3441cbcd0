"""Count how many times in a row people approved the same action of a host."""

from __future__ import annotations

import hashlib
import logging

from mq9 import MailboxNotFound, Mq9Client, Mq9Error
from mq9.operations.presence import make_own_mailbox

_logger = logging.getLogger("mq9.mcp")
_KEPT_S = 30 * 86_400


class Approved:
    """Counts approvals in a mailbox of the agent that asks.

    The counts serve a proposal only: where they cannot be kept, nothing is proposed.
    """

    def __init__(self, client: Mq9Client, mail_address: str) -> None:
        self._client = client
        self._address = mail_address

    async def times(self, host: str, person: str, action: str) -> int:
        """Return how often a person has approved an action, since the last other decision."""
        try:
            return await self._times(_key(host, person, action))
        except Mq9Error as error:
            _logger.debug("earlier approvals are not known: %s", error)
            return 0

    async def note(self, host: str, person: str, action: str, decision: str) -> None:
        """Count a decision; any but an approval begins the count again."""
        key = _key(host, person, action)
        try:
            before = await self._times(key)
            times = before + 1 if decision == "approve" else 0
            if times == before:
                return
            await make_own_mailbox(self._client, self._address)
            await self._client.send(self._address, {"times": times}, key=key, ttl=_KEPT_S)
        except Mq9Error as error:
            _logger.info("an approval is not counted: %s", error)

    async def _times(self, key: str) -> int:
        try:
            found = await self._client.query(self._address, key=key, limit=1)
            body = found[0].json() if found else None
        except (MailboxNotFound, ValueError):
            return 0
        times = body.get("times") if isinstance(body, dict) else None
        return times if type(times) is int else 0


def _key(host: str, person: str, action: str) -> str:
    return hashlib.sha256(f"{host}\0{person}\0{action}".encode()).hexdigest()[:32]
