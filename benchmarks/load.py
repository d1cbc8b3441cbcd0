"""Calls made one after another, or many at once, and the time that they take."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
Call = Callable[[], Awaitable[object]]

AT_ONCE = 64
BODY = b"x" * 300


async def repeat(call: Call, count: int, at_once: int = 1) -> None:
    """Make calls, so many of them at once."""

    async def some(share: int) -> None:
        for _ in range(share):
            await call()

    share, more = divmod(count, at_once)
    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(some(share + (number < more)))


async def rate(call: Call, count: int, at_once: int = 1) -> float:
    """Return how many calls a second are made, so many of them at once."""
    begin = time.perf_counter()
    await repeat(call, count, at_once)
    return count / (time.perf_counter() - begin)


async def timed(call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """Make a call; what it returned, and the milliseconds that it took."""
    begin = time.perf_counter()
    result = await call()
    return result, (time.perf_counter() - begin) * 1000


async def milliseconds(call: Call, count: int) -> list[float]:
    """Return how long each of some calls took, one after another."""
    return [(await timed(call))[1] for _ in range(count)]


async def median_ms(call: Call, count: int) -> float:
    """Return the median of how long a call takes."""
    return statistics.median(await milliseconds(call, count))


def percentile(taken: list[float], rank: int) -> float:
    """Return what so many per cent of the figures do not exceed."""
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, len(ordered) * rank // 100)]
