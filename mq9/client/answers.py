"""Waiting for answers, which are told from other messages by their correlation ids."""

from __future__ import annotations

from collections.abc import Collection

from mq9.client.ordered_reading import OrderedReading
from mq9.clock import Clock
from mq9.models import Message

_LONGEST_WAIT_MS = 60_000


async def first_answers(
    reading: OrderedReading, wanted: Collection[str], *, clock: Clock, seconds: float
) -> dict[str, Message]:
    """Wait for the first message of each correlation id, and return those that came.

    Args:
        reading: Reads where they are answered.
        wanted: The correlation ids.
        clock: The clock to go by.
        seconds: How long to wait.

    Raises:
        MailboxNotFound: The mailbox that is read is not there any more.
    """
    deadline_ms = clock.monotonic_ms() + round(seconds * 1000)
    found: dict[str, Message] = {}
    while len(found) < len(wanted):
        left_ms = max(0, deadline_ms - clock.monotonic_ms())
        for message in await reading.read(min(left_ms, _LONGEST_WAIT_MS)):
            which = message.correlation_id
            if which is not None and which in wanted:
                found.setdefault(which, message)
        if left_ms == 0 and not reading.is_within_round:
            break
    return found
