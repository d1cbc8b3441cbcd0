"""Failed messages: exceptions for handlers, and delays before the next delivery."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.models import Message
from mq9.protocol import checks, requests

MAX_DELAY_S = requests.MAX_LEASE_MS // 1000  # a day
_MOST_DOUBLINGS = 40


class Reject(Exception):
    """Raise this in a handler if a message can never succeed. The group does not retry it.

    The message moves to the dead-letter mailbox at once. Without such a mailbox the consumer acks
    it and reports the rejection as an error.

    Args:
        reason: The reason, for readers of the dead-letter mailbox. Default: ``rejected by its
            handler``.

    Example:
        ```python
        raise Reject("The order has no address.")
        ```
    """

    def __init__(self, reason: str = "rejected by its handler") -> None:
        super().__init__(reason)


class Retry(Exception):
    """Raise this in a handler to get the message again later, without an error report.

    It counts as a delivery: after ``max_deliveries`` the message moves to the dead-letter mailbox.

    Args:
        reason: The reason, for readers of the dead-letter mailbox. Default: empty.
        after: Seconds until the next delivery, 0 to 86 400. Default: the delay after an error.

    Raises:
        InvalidRequest: ``after`` is not such a number.

    Example:
        ```python
        raise Retry("The printer is busy.", after=60)
        ```
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else checks.seconds(MAX_DELAY_S)("after", after)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Delays that double with each delivery, not counting those whose worker died."""

    first_delay_ms: int
    longest_delay_ms: int
    max_deliveries: int | None  # None: no limit while the message is stored
    max_deaths: int  # after the first

    def is_exhausted(self, message: Message) -> bool:
        """Return whether this attempt was the last."""
        return self.max_deliveries is not None and _tries(message) >= self.max_deliveries

    def why_not(self, message: Message) -> str | None:
        """Return why the consumer must not handle a message any more, or None."""
        if message.deaths > self.max_deaths:
            return f"its worker died {message.deaths} times while the message was handled"
        if self.max_deliveries is not None and _tries(message) > self.max_deliveries:
            return f"delivered {_tries(message) - 1} times and never acked"
        return None

    def delay_ms(self, message: Message, error: Exception) -> int:
        """Return the milliseconds until the next delivery of a message after an error."""
        if isinstance(error, Retry) and error.after is not None:
            return round(error.after * 1000)
        doublings = min(max(_tries(message) - 1, 0), _MOST_DOUBLINGS)
        return min(self.first_delay_ms << doublings, self.longest_delay_ms)


def _tries(message: Message) -> int:
    """Return the number of deliveries, including this one, without those that ended in death."""
    return message.delivery_count - message.deaths
