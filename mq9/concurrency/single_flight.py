"""Doing something once for all who want it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


class Abandoned(Exception):
    """The shared work was given up."""


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[None]
    callers: int = 0
    claimed: bool = False


class SingleFlight:
    """Runs an async function once for all who call meanwhile; cancels it with the last of them.

    Args:
        function: The work. It keeps its own result: callers may have been cancelled by then.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._function = function
        self._flight: _Flight | None = None

    async def __call__(self) -> None:
        """Return when it is done, or raise what it raises."""
        flight = self._flight
        if flight is None or flight.task.done():
            flight = self._flight = _Flight(asyncio.create_task(self._function()))
            flight.task.add_done_callback(_retrieve)
        flight.callers += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                if self._flight is flight:
                    self._flight = None  # the next caller begins anew
                flight.task.cancel()
                await asyncio.wait([flight.task])  # until it has cleaned up
        if flight.task.cancelled():
            raise Abandoned
        flight.task.result()
        flight.claimed = True

    @property
    def is_unclaimed(self) -> bool:
        """Whether it was done for callers of whom none stayed to see it."""
        flight = self._flight
        return (
            flight is not None and flight.task.done() and not flight.callers and not flight.claimed
        )

    def abandon(self) -> asyncio.Task[None] | None:
        """Cancel what is going on; whoever waits for it gets ``Abandoned``."""
        flight, self._flight = self._flight, None
        if flight is None or flight.task.done():
            return None
        flight.task.cancel()
        return flight.task


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of an error that nobody may have stayed to hear."""
    if not task.cancelled():
        task.exception()
