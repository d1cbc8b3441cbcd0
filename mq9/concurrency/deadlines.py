"""Deadlines of many waits on one event loop, which share one timer."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Wait:
    """A wait of the running task, which ends with TimeoutError when ``end`` was called inside.

    It does to the task what ``asyncio.timeout`` does.
    """

    __slots__ = ("_cancelling", "_is_over", "_task", "_waits", "deadline")

    def __init__(self, waits: set[Wait], deadline: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine waits
        self._task = task
        self._cancelling = task.cancelling()
        self._waits = waits
        self._is_over = False
        self.deadline = deadline

    def __enter__(self) -> None:
        self._waits.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waits.discard(self)
        if self._is_over:
            is_only_this = self._task.uncancel() <= self._cancelling
            if is_only_this and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def end(self) -> None:
        """Let the wait end; called on its event loop."""
        self._is_over = True
        self._waits.discard(self)
        self._task.cancel()


class Deadlines:
    """The waits of tasks on one event loop.

    A timer for each wait would take longer than most waits that are short. The one timer is left
    alone when a wait is over sooner, and then looks for the next deadline.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waits: set[Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Wait:
        """Return a context in which the running task may wait for so long."""
        deadline = self._loop.time() + seconds
        if self._timer is None or deadline < self._timer.when():
            self._wake_at(deadline)
        return Wait(self._waits, deadline)

    def end_all(self) -> None:
        """End every wait; called on the event loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for wait in list(self._waits):
            wait.end()

    def _wake_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """End the waits whose deadline has come."""
        self._timer = None
        now = self._loop.time()
        for wait in [one for one in self._waits if one.deadline <= now]:
            wait.end()
        if self._waits:
            self._wake_at(min(one.deadline for one in self._waits))
