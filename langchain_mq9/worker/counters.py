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
    """

    mail: ConsumerCounters
    started: int = 0
    continued: int = 0
    repeated: int = 0
    progress: int = 0
