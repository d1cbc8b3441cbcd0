"""Work that may take so long and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from mq9.clock import Clock, sleep

T = TypeVar("T")


async def in_time(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Do some work, unless it takes too long.

    Raises:
        TimeoutError: It did, and was cancelled.
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
