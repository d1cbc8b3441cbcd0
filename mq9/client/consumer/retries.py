"""How often, and how soon, a message is delivered again.

Tries are counted apart from deaths: a delivery during which the worker died is no try.
"""

from __future__ import annotations

from dataclasses import dataclass

from mq9.client.consumer.outcomes import Retry
from mq9.models import Message

_MOST_DOUBLINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Delays that double with every delivery, and how many deliveries there are.

    Attributes:
        first_delay_ms: Milliseconds before the second try.
        longest_delay_ms: The longest delay after an error, in milliseconds.
        max_deliveries: How often a message is tried before it is given up; None for as long as it
            is stored.
        max_deaths: How often workers may die of a message, after the first time, before it is
            given up.
    """

    first_delay_ms: int
    longest_delay_ms: int
    max_deliveries: int | None
    max_deaths: int

    def is_exhausted(self, message: Message) -> bool:
        """Tell whether this try was the last."""
        return self.max_deliveries is not None and _tries(message) >= self.max_deliveries

    def why_not(self, message: Message) -> str | None:
        """Return why a message is not to be handled any more; None where it is."""
        if message.deaths > self.max_deaths:
            return f"its worker died {message.deaths} times while the message was handled"
        if self.max_deliveries is not None and _tries(message) > self.max_deliveries:
            return f"delivered {_tries(message) - 1} times and never acked"
        return None

    def delay_ms(self, message: Message, error: Exception) -> int:
        """Return in how many milliseconds a message is to be delivered again after an error."""
        if isinstance(error, Retry) and error.after is not None:
            return round(error.after * 1000)
        doublings = min(max(_tries(message) - 1, 0), _MOST_DOUBLINGS)
        return min(self.first_delay_ms << doublings, self.longest_delay_ms)


def _tries(message: Message) -> int:
    """Return how often a message was delivered, this time included, but for deaths."""
    return message.delivery_count - message.deaths
