"""Counters and events of a consumer, for metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from mq9.models import Message

_logger = logging.getLogger("mq9.consumer")


class ConsumerEventKind(StrEnum):
    """The kind of an event.

    Each delivery starts with ``received``. One of these events then reports the outcome of its
    handling:

    - ``processed``.
    - ``unanswered``: the sender no longer waits for the answer.
    - ``failed``: the handler raised, or took too long.
    - ``rejected``: the handler raised ``Reject``, or may not send its answer.
    - ``interrupted``: the consumer stopped before the handler ended.

    After ``failed`` or ``rejected``, another event reports what happens to the message. If the
    handler raises ``Retry``, only this event follows:

    - ``retried``: the group delivers it again. Also follows after ``message.nack`` in the handler.
    - ``dead_lettered``: the message moved to the dead-letter mailbox.
    - ``given_up``: the consumer acked it, because there is no dead-letter mailbox.

    ``lease_lost`` may happen at any time during the handling. Another consumer may then get the
    message also.
    """

    RECEIVED = "received"
    PROCESSED = "processed"
    UNANSWERED = "unanswered"
    FAILED = "failed"
    REJECTED = "rejected"
    RETRIED = "retried"
    DEAD_LETTERED = "dead_lettered"
    GIVEN_UP = "given_up"
    INTERRUPTED = "interrupted"
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerEvent:
    """An event of a consumer's message.

    Attributes:
        kind: The kind of the event.
        message: The message, with its ``mail_address`` and ``group_name``.
        consumer: The consumer's name.
        duration: Seconds that the handler took, if ``kind`` reports the outcome of the handling.
        error: The exception, or None.
    """

    kind: ConsumerEventKind
    message: Message
    consumer: str
    duration: float | None = None
    error: Exception | None = None


EventHandler: TypeAlias = Callable[[ConsumerEvent], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerCounters:
    """Counts of a consumer's events, and its current work; see ``ConsumerEventKind``.

    Attributes:
        received: Deliveries that the consumer received.
        processed: Deliveries handled without an error.
        unanswered: Deliveries acked because no sender waits for the answer.
        failed: Deliveries whose handler raised, or took longer than ``handler_timeout``.
        rejected: Deliveries whose handler raised ``Reject``, or may not send its answer.
        retried: Deliveries after which the group delivers the message again.
        dead_lettered: Messages moved to the dead-letter mailbox.
        given_up: Messages acked unhandled, because there is no dead-letter mailbox.
        interrupted: Deliveries whose handler still ran when the consumer had to stop.
        leases_lost: Leases that ended during the handling of their message.
        in_flight: Messages in handlers now.
        overdue: Handlers that still run after their timeout. Each uses a slot.
    """

    received: int = 0
    processed: int = 0
    unanswered: int = 0
    failed: int = 0
    rejected: int = 0
    retried: int = 0
    dead_lettered: int = 0
    given_up: int = 0
    interrupted: int = 0
    leases_lost: int = 0
    in_flight: int = 0
    overdue: int = 0


class Recorder:
    """Counts events of messages, and passes each to a callback."""

    def __init__(self, consumer: str, on_event: EventHandler | None) -> None:
        self._consumer = consumer
        self._on_event = on_event
        self._counts: Counter[ConsumerEventKind] = Counter()

    def note(
        self,
        kind: ConsumerEventKind,
        message: Message,
        *,
        duration: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Count an event, and call the callback."""
        self._counts[kind] += 1
        if self._on_event is None:
            return
        event = ConsumerEvent(
            kind=kind, message=message, consumer=self._consumer, duration=duration, error=error
        )
        try:
            self._on_event(event)
        except Exception:
            _logger.exception("on_event raised on %s of message %d", kind, message.msg_id)

    def counters(self, *, in_flight: int, overdue: int) -> ConsumerCounters:
        """Return the counts, with the current work."""
        counts = self._counts
        return ConsumerCounters(
            received=counts[ConsumerEventKind.RECEIVED],
            processed=counts[ConsumerEventKind.PROCESSED],
            unanswered=counts[ConsumerEventKind.UNANSWERED],
            failed=counts[ConsumerEventKind.FAILED],
            rejected=counts[ConsumerEventKind.REJECTED],
            retried=counts[ConsumerEventKind.RETRIED],
            dead_lettered=counts[ConsumerEventKind.DEAD_LETTERED],
            given_up=counts[ConsumerEventKind.GIVEN_UP],
            interrupted=counts[ConsumerEventKind.INTERRUPTED],
            leases_lost=counts[ConsumerEventKind.LEASE_LOST],
            in_flight=in_flight,
            overdue=overdue,
        )
