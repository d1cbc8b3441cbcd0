"""Reports of a worker: counters, and progress of its runs."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from langchain_mq9.calls import PROGRESS, PROGRESS_OF
from langchain_mq9.worker.records import Origin, WorkerAgent
from mq9 import ConsumerCounters, IdConflict, MailboxNotFound, Mq9Error, note_done


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounters:
    """The counters of a worker.

    Attributes:
        mail: See ``ConsumerCounters``.
        started: Runs that ended without having been cut off.
        continued: Runs that ended after a failure or a death, from a checkpoint.
        repeated: Messages that came again after their run had ended, and were only answered.
        progress: Progress messages that were sent.
        asked: Questions to people.
        answered: Questions whose answers let their runs go on.
        refused: Answers that were refused, and moved to the dead-letter mailbox.
        escalated: Questions that were sent to a second person.
        expired: Questions that nobody answered in time, whose runs were given up.
        parked: Messages moved aside while their conversation waited for a person.
    """

    mail: ConsumerCounters
    started: int = 0
    continued: int = 0
    repeated: int = 0
    progress: int = 0
    asked: int = 0
    answered: int = 0
    refused: int = 0
    escalated: int = 0
    expired: int = 0
    parked: int = 0


logger = logging.getLogger("mq9.worker")
_LONGEST_HEADER = 256


def _ended_node(mode: str, event: Any) -> str | None:
    """Return the node whose end an event of a run reports; None for any other event."""
    if mode != "tasks" or "result" not in event or event.get("error") or event.get("interrupts"):
        return None
    return str(event["name"])


async def note_node(mode: str, event: Any) -> None:
    """Note the node that ended last, for the promise of the message."""
    node = _ended_node(mode, event)
    if node is not None:
        note_done(node)


class RunProgress:
    """Sends the progress of a run to its sender.

    These messages have no ``correlation_id``, so they are not taken for the answer.
    """

    def __init__(self, agent: WorkerAgent, origin: Origin, reply_to: str) -> None:
        self._client = agent.client
        self._agent = agent.name
        self._origin = origin
        self._reply_to = reply_to
        self.sent = 0

    async def listen(self, mode: str, event: Any) -> None:
        """Report a node that has ended, or a value that a node has streamed."""
        await note_node(mode, event)
        node = _ended_node(mode, event)
        if mode == "custom":
            await self._send("custom", {"type": "progress", "value": event}, None)
        elif node is not None:
            await self._send(node, {"type": "progress", "node": node}, str(event["id"]))

    async def tell_failure(self, reference: str) -> None:
        """Report the first failure, with its reference in the log."""
        await self._send("failed", {"type": "progress", "failed": reference}, None)

    async def _send(self, name: str, body: dict[str, Any], task: str | None) -> None:
        try:
            payload = to_json(body)
        except (PydanticSerializationError, ValueError) as error:
            logger.warning("what a node wrote for its listeners is no JSON: %s", error)
            return
        headers = {PROGRESS: _header(name), **self._origin.headers()}
        if self._origin.correlation_id is not None:
            headers[PROGRESS_OF] = self._origin.correlation_id
        # The same for a repeated step: an interrupted run repeats steps that were not stored.
        what = f"{self._origin.message}\0{task or ''}\0".encode() + payload
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
