"""The background consumer: it fetches, handles, acks, and retries what failed.

``consumer`` is its loop, ``processing`` what happens to one message, ``calls`` how a user's
function is called, ``acks`` what the broker is told, ``retries`` when a message comes again.
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
from mq9.client.consumer.processing import back_at_work, without_slot
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
    "takes",
    "without_slot",
]
