"""One event loop on a thread of its own, for callers with a loop, with another, or with none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Runs coroutines on one background event loop, whoever asks.

    The thread starts with the first call and ends with ``stop``, with this object, or with the
    process. A forked child gets a thread of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: weakref.finalize[..., Portal] | None = None

    @property
    def process(self) -> int:
        """The process in which the loop runs; what it holds is of no use in another."""
        return self._process

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._process != os.getpid():
            self._lock = threading.Lock()  # a fork may have copied it locked
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                if self._finalizer is not None:
                    self._finalizer.detach()
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(loop,), name="mq9-tools", daemon=True)
                thread.start()
                self._loop, self._process = loop, os.getpid()
                self._finalizer = weakref.finalize(self, _stop, loop, thread, os.getpid())
            return self._loop

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the portal's loop and block until it is done."""
        loop = self._running_loop()
        if _is_current(loop):
            work.close()
            raise RuntimeError("a tool was called synchronously from its own event loop")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def await_(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the portal's loop and await it on the caller's; cancelling cancels it."""
        loop = self._running_loop()
        if _is_current(loop):
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    def stop(self) -> None:
        """End the thread, cancelling what still runs on it. Harmless when repeated."""
        with self._lock:
            self._loop = None
            if self._finalizer is not None:
                self._finalizer()


def _is_current(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if process == os.getpid() and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()
