"""The background consumer: it fetches, handles and acks messages, and retries failed ones.

``consumer`` fetches in a loop. ``processing`` calls the handler, then acks the message or gives
it back. ``handling`` holds the state of one message. ``calls`` runs a user's function. ``acks``
sends ACK, NACK, EXTEND and MOVE. ``outcomes`` computes the delay before a retry. ``giving_up``
sends error answers. ``events`` counts. ``options`` declares the options.
"""

from mq9.client.consumer.consumer import Consumer
from mq9.client.consumer.events import (
    ConsumerCounters,
    ConsumerEvent,
    ConsumerEventKind,
    EventHandler,
)
from mq9.client.consumer.options import (
    ConsumerOptions,
    ErrorHandler,
    GivingUp,
    Handler,
    HandlingOptions,
)
from mq9.client.consumer.outcomes import Reject, Retry
from mq9.client.consumer.processing import back_at_work, note_done, without_slot
from mq9.client.options import Option, checked_as, takes

__all__ = [
    "Consumer",
    "ConsumerCounters",
    "ConsumerEvent",
    "ConsumerEventKind",
    "ConsumerOptions",
    "ErrorHandler",
    "EventHandler",
    "GivingUp",
    "Handler",
    "HandlingOptions",
    "Option",
    "Reject",
    "Retry",
    "back_at_work",
    "checked_as",
    "note_done",
    "takes",
    "without_slot",
]
