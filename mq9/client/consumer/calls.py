"""Calls of a user's function, on the event loop or on a thread."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mq9.clock import Clock


class HandlerCall:
    """A running call.

    A coroutine function runs as a task. A plain function runs on a daemon thread, so it may block
    and does not keep the process alive. If it returns an awaitable, the call awaits it.
    """

    def __init__(self, clock: Clock, function: Callable[..., Any], *arguments: object) -> None:
        self._clock = clock
        self._returned: asyncio.Future[Any] | None = None  # from the thread
        self.task: asyncio.Task[Any] = asyncio.create_task(self._run(function, arguments))

    @property
    def unfinished(self) -> asyncio.Future[Any] | None:
        """The unfinished task or thread, or None. A thread cannot be cancelled."""
        if not self.task.done():
            return self.task
        if self._returned is not None and not self._returned.done():
            return self._returned
        return None

    def result(self) -> Any:
        """Return the result of the call after its task is done."""
        if self.task.cancelled():
            raise RuntimeError("the handler raised CancelledError()")
        return self.task.result()

    async def _run(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        if is_coroutine_function(function):
            return await function(*arguments)
        self._returned = _start_thread(self._clock, function, arguments)
        result = await asyncio.shield(self._returned)
        return await result if inspect.isawaitable(result) else result


def is_coroutine_function(function: object) -> bool:
    """Return whether a function or callable object must be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async
    )


def _start_thread(
    clock: Clock, function: Callable[..., Any], arguments: tuple[object, ...]
) -> asyncio.Future[Any]:
    """Call a function on a new thread. Return a future of its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    future.add_done_callback(_retrieve)
    context = contextvars.copy_context()
    work = clock.busy()

    def run() -> None:
        result: object = None
        error: BaseException | None = None
        try:
            result = work.run(context.run, function, *arguments)
        except StopIteration as stop:  # a future refuses StopIteration
            error = RuntimeError(f"the handler raised {stop!r}")
        except BaseException as raised:  # noqa: BLE001  # the awaiting code raises it
            error = raised
        with suppress(RuntimeError):  # the loop is closed, so no code waits
            loop.call_soon_threadsafe(_conclude, future, result, error)
        work.end()

    threading.Thread(target=run, name="mq9-handler", daemon=True).start()
    return future


def _conclude(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Retrieve the error of a thread, because its task may be cancelled by now."""
    if not future.cancelled():
        future.exception()
