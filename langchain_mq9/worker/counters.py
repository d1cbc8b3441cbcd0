"""What a worker has done."""

from __future__ import annotations

from dataclasses import dataclass

from mq9 import ConsumerCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounters:
    """What a worker has done so far.

    Attributes:
        mail: What became of the messages; see ``ConsumerCounters``.
        started: Runs that ended without having been cut off.
        continued: Runs that ended after they went on from a checkpoint, since they had failed or
            their process had died.
        repeated: Messages that came again after their run had ended, and were only answered.
        progress: Progress messages that were sent.
        asked: Questions that people were asked.
        answered: Those whose answers let their runs go on.
        refused: Answers that were not accepted, and moved to the dead-letter mailbox.
        escalated: Questions that were sent to a second person.
        expired: Questions that nobody answered in time, whose runs were given up.
        parked: Messages that came while their conversation waited for a person, and were moved
            aside until it went on.
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
