"""Messages that tell, while a run goes on, what it has done so far."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from langchain_mq9.headers import PROGRESS, PROGRESS_OF
from mq9 import IdConflict, MailboxNotFound, Mq9Client, Mq9Error

logger = logging.getLogger("mq9.worker")

_LONGEST_HEADER = 256


class Progress:
    """Tells whoever waits for the answer to a message what its run does.

    These messages have no ``correlation_id``, which is the answer's alone: who waits for that does
    not take them for it.

    Args:
        client: The connection.
        agent: Who tells it.
        message: The key of the message.
        reply_to: Where it is answered.
        correlation_id: What it is answered under.
    """

    def __init__(
        self,
        client: Mq9Client,
        agent: str,
        *,
        message: str,
        reply_to: str,
        correlation_id: str | None,
    ) -> None:
        self._client = client
        self._agent = agent
        self._message = message
        self._reply_to = reply_to
        self._correlation_id = correlation_id
        self.sent = 0

    async def listen(self, mode: str, event: Any) -> None:
        """Tell of a node that has ended, or what a node has written for its listeners."""
        if mode == "custom":
            await self._send("custom", {"type": "progress", "value": event}, None)
        elif "result" in event and not event.get("error") and not event.get("interrupts"):
            name = str(event["name"])
            await self._send(name, {"type": "progress", "node": name}, str(event["id"]))

    async def tell_failure(self, reference: str) -> None:
        """Tell that the message failed for the first time, and is tried again.

        Args:
            reference: What stands in the log.
        """
        await self._send("failed", {"type": "progress", "failed": reference}, None)

    async def _send(self, name: str, body: dict[str, Any], task: str | None) -> None:
        try:
            payload = to_json(body)
        except (PydanticSerializationError, ValueError) as error:
            logger.warning("what a node wrote for its listeners is no JSON: %s", error)
            return
        headers = {PROGRESS: _header(name)}
        if self._correlation_id is not None:
            headers[PROGRESS_OF] = self._correlation_id
        # The same again when the step is: a run that was cut off repeats what was not stored.
        what = f"{self._message}\0{task or ''}\0".encode() + payload
        try:
            await self._client.send(
                self._reply_to,
                payload,
                id=f"progress.{hashlib.sha256(what).hexdigest()}",
                sender=self._agent,
                headers=headers,
            )
        except (MailboxNotFound, IdConflict) as error:
            logger.debug("nobody is told of progress: %s", error)
        except Mq9Error as error:
            logger.warning("progress could not be told: %s", error)
        else:
            self.sent += 1


def _header(name: str) -> str:
    text = "".join(one if one.isprintable() else "?" for one in name).strip()
    return text[:_LONGEST_HEADER] or "node"
