"""Many deadlines on one event loop, which share one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class Alarm:
    """One timer for the first of many deadlines.

    A timer for each deadline would take longer than most short waits. This timer keeps running when
    a wait ends early; its owner then sets it for the next deadline.

    Args:
        ring: Called at the first deadline.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set_for(self, deadline: float) -> None:
        """Ring at a time of the event loop, unless it is already set for an earlier one."""
        if self._timer is None or deadline < self._timer.when():
            self.stop()
            self._timer = self._loop.call_at(deadline, self._go_off)

    def stop(self) -> None:
        """Stop the timer until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        self._ring()


class Wait:
    """A wait of the running task; `end` makes it raise TimeoutError.

    It treats cancellation of the task as ``asyncio.timeout`` does.
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
        """End the wait; called on its event loop."""
        self._is_over = True
        self._waits.discard(self)
        self._task.cancel()


class Deadlines:
    """The waits of tasks on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waits: set[Wait] = set()
        self._alarm = Alarm(self._look)

    def within(self, seconds: float) -> Wait:
        """Return a context in which the running task may wait for ``seconds``."""
        deadline = self._loop.time() + seconds
        self._alarm.set_for(deadline)
        return Wait(self._waits, deadline)

    def end_all(self) -> None:
        """End every wait; called on the event loop."""
        self._alarm.stop()
        for wait in list(self._waits):
            wait.end()

    def _look(self) -> None:
        """End the waits whose deadline is over."""
        now = self._loop.time()
        for wait in [one for one in self._waits if one.deadline <= now]:
            wait.end()
        if self._waits:
            self._alarm.set_for(min(one.deadline for one in self._waits))
