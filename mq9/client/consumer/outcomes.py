"""What a handler may raise to decide what becomes of its message."""

from __future__ import annotations

from mq9.protocol import checks, requests

MAX_DELAY_S = requests.MAX_LEASE_MS // 1000  # a day


class Reject(Exception):
    """Raised by a handler: this message will never succeed; do not deliver it again.

    The message moves to the dead-letter mailbox at once. Without one it is acked, and the rejection
    is reported as an error.

    Args:
        reason: Why, for whoever reads the dead-letter mailbox.
    """

    def __init__(self, reason: str = "rejected by its handler") -> None:
        super().__init__(reason)


class Retry(Exception):
    """Raised by a handler: deliver this message again later. It is not reported as an error.

    Counts as a delivery: after ``max_deliveries`` the message moves to the dead-letter mailbox.

    Args:
        reason: Why, for whoever reads the dead-letter mailbox.
        after: Seconds until the next delivery, 0 to 86 400; as after an error when not given.

    Raises:
        InvalidRequest: ``after`` is not such a number.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else checks.seconds(MAX_DELAY_S)("after", after)
