"""Wait for mailboxes that do not exist yet, and for answers to questions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from mq9.client.error_answers import ErrorAnswer
from mq9.client.messages import MessageMethods
from mq9.client.ordered_reading import OrderedReading
from mq9.clock import Clock, sleep
from mq9.errors import MailboxNotFound
from mq9.models import Message

_LONGEST_WAIT_MS = 60_000
_MOST_ANSWERS = 1_000  # messages to look at for one correlation id
_AT_ONCE = 64  # concurrent requests, the number that a server handles for one client

_logger = logging.getLogger("mq9.client")

MOST_S = 10.0  # to wait for a mailbox
_FIRST_PAUSE_S = 0.05  # doubled after each further attempt
_MOST_PAUSE_S = 1.0

T = TypeVar("T")
R = TypeVar("R")


async def stored_answers(
    client: MessageMethods, mail_address: str, correlation_ids: Sequence[str]
) -> tuple[dict[str, Message], int]:
    """Return the answer for each correlation id, and the first msg_id that was not read.

    The answer is the first message, unless that is an error answer and a good answer follows.
    """

    async def find(correlation_id: str) -> Message | None:
        found = await client.query(mail_address, correlation_id=correlation_id, limit=_MOST_ANSWERS)
        good = (one for one in found if ErrorAnswer.read(one) is None)
        return next(good, found[0] if found else None)

    newest = await client.query(mail_address, limit=1, max_bytes=1)
    if not newest:
        return {}, 0
    found = zip(correlation_ids, await at_once(find, correlation_ids), strict=True)
    return {which: one for which, one in found if one is not None}, newest[0].msg_id + 1


async def first_answers(
    reading: OrderedReading,
    wanted: Collection[str],
    *,
    clock: Clock,
    seconds: float,
    most_failed: int = 0,
) -> dict[str, Message]:
    """Wait for an answer to each correlation id, and return those that arrive.

    The first one counts, unless it is an error answer and a good answer arrives during the wait.
    """
    deadline_ms = clock.monotonic_ms() + round(seconds * 1000)
    found: dict[str, Message] = {}
    failed: set[str] = set()
    while len(found) < len(wanted) and len(failed) <= most_failed:
        left_ms = max(0, deadline_ms - clock.monotonic_ms())
        for message in await reading.read(min(left_ms, _LONGEST_WAIT_MS)):
            which = message.correlation_id
            if which is None or which not in wanted:
                continue
            if which not in found and ErrorAnswer.read(message) is not None:
                found[which] = message
                failed.add(which)
            elif which not in found or (which in failed and ErrorAnswer.read(message) is None):
                found[which] = message
                failed.discard(which)
        if left_ms == 0 and not reading.is_within_round:
            break
    return found


async def at_once(call: Callable[[T], Awaitable[R]], arguments: Sequence[T]) -> list[R]:
    """Call a coroutine function with each argument, several at once, and return the results."""
    results: list[R] = []
    for start in range(0, len(arguments), _AT_ONCE):
        several = (call(one) for one in arguments[start : start + _AT_ONCE])
        results += await asyncio.gather(*several)
    return results


async def once_there(
    attempt: Callable[[], Awaitable[T]],
    mail_address: str,
    *,
    clock: Clock,
    seconds: float,
    on_missing: Callable[[str], None] = _logger.info,
) -> T:
    """Call ``attempt``. If its mailbox does not exist yet, wait for it, for at most 10 s.

    If it does not exist at first, call ``on_missing`` once with a sentence for the log.
    """
    patience = max(0.0, min(seconds, MOST_S))
    deadline_ms = clock.monotonic_ms() + round(patience * 1000)
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except MailboxNotFound as error:
            left_s = (deadline_ms - clock.monotonic_ms()) / 1000
            if left_s <= 0:
                if not patience:
                    raise
                raise MailboxNotFound(f"{error}, after {patience:g} s") from error
            if pause == _FIRST_PAUSE_S:
                on_missing(
                    f"mailbox {mail_address} does not exist yet; waiting {patience:g} s for it"
                )
        await sleep(clock, min(pause, left_s))
        pause = min(2 * pause, _MOST_PAUSE_S)
