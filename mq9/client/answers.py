"""Waiting for mailboxes that do not exist yet, and for answers to what was asked."""

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
_MOST_ANSWERS = 1_000  # messages of one correlation id that are looked at
_AT_ONCE = 64  # requests, as many of one client as a server works on

_logger = logging.getLogger("mq9.client")

MOST_S = 10.0  # that a mailbox is waited for
_FIRST_PAUSE_S = 0.05  # doubled after each further look
_MOST_PAUSE_S = 1.0

T = TypeVar("T")
R = TypeVar("R")


async def stored_answers(
    client: MessageMethods, mail_address: str, correlation_ids: Sequence[str]
) -> tuple[dict[str, Message], int]:
    """Return the answer under each correlation id, and the first msg_id not looked at.

    That is the first message, unless it is an error answer and a good answer follows it.
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
    """Wait for an answer under each correlation id, and return those that came.

    The first one counts, unless it is an error answer and a good answer comes during the wait.
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
    """Call a coroutine function with each argument, several at once; return what they return."""
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
    """Do something with a mailbox; wait, 10 s at most, for one that does not exist yet.

    ``on_missing`` is called once, with a sentence, when it does not exist at first.
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
