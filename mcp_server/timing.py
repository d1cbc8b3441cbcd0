"""Work with a time limit, measured by a clock that tests can move."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from mq9.clock import Clock, sleep

T = TypeVar("T")


async def in_time(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work.

    Args:
        clock: Measures the time.
        seconds: How long it may take.
        work: The work.

    Raises:
        TimeoutError: It took longer, and was cancelled.
    """
    working = asyncio.ensure_future(work)
    timing = asyncio.ensure_future(sleep(clock, seconds))
    try:
        await asyncio.wait([working, timing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        timing.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working, timing])
    if working.cancelled():
        raise TimeoutError
    return working.result()
