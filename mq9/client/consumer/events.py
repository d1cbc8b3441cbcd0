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

    Each delivery begins with ``received``. Then comes how its handling ended: ``processed``,
    ``unanswered`` (nobody waits for the answer), ``failed`` (it raised, or took too long),
    ``rejected`` (it raised ``Reject``, or its answer may not be sent), or ``interrupted`` (the
    consumer was stopped before). After ``failed`` and ``rejected`` comes what follows, which a
    handler that raises ``Retry`` asks for directly:
    ``retried`` (it will be delivered again), ``dead_lettered`` (it was moved away) or ``given_up``
    (it was acked, since there is no dead-letter mailbox). ``retried``
    also follows when the handler gave its message back by ``message.nack``.
    ``lease_lost`` may come at any time while it is handled: another consumer may get it, too.
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
    """Something that happened to a message of a consumer.

    Attributes:
        kind: What happened.
        message: The message, with its ``mail_address`` and ``group_name``.
        consumer: The consumer's name.
        duration: Seconds that the handler has taken, where ``kind`` says how handling ended.
        error: What was raised, if something was.
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
        received: Deliveries taken on.
        processed: Deliveries handled without an error.
        unanswered: Deliveries done with because nobody waits for the answer.
        failed: Deliveries whose handler raised, or took longer than ``handler_timeout``.
        rejected: Deliveries whose handler raised ``Reject``, or whose answer may not be sent.
        retried: Deliveries after which the message will be delivered again.
        dead_lettered: Messages moved to the dead-letter mailbox.
        given_up: Messages acked unhandled, since there is no dead-letter mailbox.
        interrupted: Deliveries whose handler was still running when the consumer had to end.
        leases_lost: Leases that ended while the message was being handled.
        in_flight: Messages being handled now.
        overdue: Handlers that run on although their time is up; each takes a slot.
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
    """Counts what happens to messages, and tells it to a callback."""

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
        """Count an event and tell it."""
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
        """Return what was counted, with what is going on now."""
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
