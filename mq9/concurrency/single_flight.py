"""Single flight: one run of a function for all concurrent callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


class Abandoned(Exception):
    """The shared run was cancelled."""


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[None]
    callers: int = 0
    claimed: bool = False


class SingleFlight:
    """Runner that shares one run of an async function among concurrent callers.

    The run is cancelled with its last caller.

    Args:
        function: The function. It must store its own result, because all callers may be cancelled.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._function = function
        self._flight: _Flight | None = None

    async def __call__(self) -> None:
        """Wait for the run, or start one; raise its error."""
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
                    self._flight = None  # the next caller starts a new run
                flight.task.cancel()
                await asyncio.wait([flight.task])  # for its cleanup
        if flight.task.cancelled():
            raise Abandoned
        flight.task.result()
        flight.claimed = True

    @property
    def is_unclaimed(self) -> bool:
        """Whether a run ended after all of its callers were cancelled."""
        flight = self._flight
        return (
            flight is not None and flight.task.done() and not flight.callers and not flight.claimed
        )

    def abandon(self) -> asyncio.Task[None] | None:
        """Cancel the current run; its callers get ``Abandoned``. Return its task, if any."""
        flight, self._flight = self._flight, None
        if flight is None or flight.task.done():
            return None
        flight.task.cancel()
        return flight.task


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a run, so that asyncio does not log it without callers."""
    if not task.cancelled():
        task.exception()
