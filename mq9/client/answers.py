"""Waiting for answers, which are told from other messages by their correlation ids."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, TypeVar

from mq9.client.error_answers import ErrorAnswer
from mq9.client.ordered_reading import OrderedReading
from mq9.clock import Clock
from mq9.models import FetchResult, Message

_LONGEST_WAIT_MS = 60_000
_MOST_ANSWERS = 1_000  # messages of one correlation id that are looked at
_AT_ONCE = 64  # requests, as many of one client as a server works on

T = TypeVar("T")
R = TypeVar("R")


class QueryingClient(Protocol):
    """The part of ``Mq9Client`` that finds answers; see there."""

    async def query(
        self,
        mail_address: str,
        *,
        correlation_id: str | None = None,
        limit: int | None = None,
        max_bytes: int = ...,
    ) -> FetchResult:
        """Look at stored messages."""


async def stored_answers(
    client: QueryingClient, mail_address: str, correlation_ids: Sequence[str]
) -> tuple[dict[str, Message], int]:
    """Return the answer under each correlation id, and the first msg_id not looked at.

    That is the first message, unless it is an error answer and a good answer follows it.

    Args:
        client: The client to look with.
        mail_address: Where the answers are.
        correlation_ids: The correlation ids.

    Raises:
        MailboxNotFound: The mailbox is not there.
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

    Args:
        reading: Reads where they are answered.
        wanted: The correlation ids.
        clock: The clock to go by.
        seconds: How long to wait.
        most_failed: With how many error answers to wait on for the others.

    Raises:
        MailboxNotFound: The mailbox that is read is not there any more.
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
