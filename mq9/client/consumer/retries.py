"""How often, and how soon, a message is delivered again."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.client.consumer.outcomes import Retry
from mq9.models import Message

_MOST_DOUBLINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Delays that double with every delivery, and how many deliveries there are.

    Attributes:
        first_delay_ms: Milliseconds before the second delivery.
        longest_delay_ms: The longest delay after an error, in milliseconds.
        max_deliveries: How often a message is delivered before it is moved away.
    """

    first_delay_ms: int
    longest_delay_ms: int
    max_deliveries: int

    def is_exhausted(self, message: Message) -> bool:
        """Tell whether this delivery was the last."""
        return message.delivery_count >= self.max_deliveries

    def is_exceeded(self, message: Message) -> bool:
        """Tell whether the last delivery is over, as when workers died of the message."""
        return message.delivery_count > self.max_deliveries

    def delay_ms(self, message: Message, error: Exception) -> int:
        """Return in how many milliseconds a message is to be delivered again after an error."""
        if isinstance(error, Retry) and error.after is not None:
            return round(error.after * 1000)
        doublings = min(max(message.delivery_count - 1, 0), _MOST_DOUBLINGS)
        return min(self.first_delay_ms << doublings, self.longest_delay_ms)
