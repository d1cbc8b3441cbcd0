"""Failed messages: what a handler may raise, and when a message is delivered again."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.models import Message
from mq9.protocol import checks, requests

MAX_DELAY_S = requests.MAX_LEASE_MS // 1000  # a day
_MOST_DOUBLINGS = 40


class Reject(Exception):
    """Raised by a handler: this message will never succeed; do not deliver it again.

    The message moves to the dead-letter mailbox at once. Without one it is acked, and the rejection
    is reported as an error.

    Args:
        reason: The reason, for readers of the dead-letter mailbox.
    """

    def __init__(self, reason: str = "rejected by its handler") -> None:
        super().__init__(reason)


class Retry(Exception):
    """Raised by a handler: deliver this message again later. It is not reported as an error.

    Counts as a delivery: after ``max_deliveries`` the message moves to the dead-letter mailbox.

    Args:
        reason: The reason, for readers of the dead-letter mailbox.
        after: Seconds until the next delivery, 0 to 86 400; as after an error when not given.

    Raises:
        InvalidRequest: ``after`` is not such a number.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else checks.seconds(MAX_DELAY_S)("after", after)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Delays that double with every delivery; a delivery whose worker died does not count."""

    first_delay_ms: int
    longest_delay_ms: int
    max_deliveries: int | None  # None: for as long as the message is stored
    max_deaths: int  # after the first

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
