"""An event loop on a separate thread, for callers with or without their own loop.

anyio's portal does not fit: it cancels a task again at every ``await`` of its cleanup, its thread
must be ended by hand, and a forked child inherits it as if it ran.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from mq9.concurrency import activity

T = TypeVar("T")


class Stopped(Exception):
    """The portal was stopped, before the call or during it."""


class Portal:
    """Runner of coroutines on one background event loop, for all threads.

    The thread starts with the first call and ends with ``stop``, with this object, or with the
    process. A forked child gets its own thread.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the portal's loop and block until it is done."""
        if self._is_current():
            work.close()
            raise RuntimeError("a portal was called synchronously from its own event loop")
        future = self._begin(work)
        try:
            with activity.blocking(future):
                return future.result()
        except concurrent.futures.CancelledError:
            raise Stopped from None
        except BaseException:
            future.cancel()
            raise

    async def await_(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the portal's loop and await it on the caller's; cancelling cancels it."""
        if self._is_current():
            return await work
        future = asyncio.wrap_future(self._begin(work))
        try:
            await asyncio.wait([future])  # unlike `await future`, only the caller cancels it
        except asyncio.CancelledError:
            future.cancel()
            raise
        if future.cancelled():
            raise Stopped
        return future.result()

    def stop(self) -> None:
        """End the thread: cancel its tasks, close its generators, wait for its executor.

        Idempotent.
        """
        self._forget_parent()
        with self._lock:
            self._stopped = True
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            _stop(loop)
            if thread is not threading.current_thread():
                thread.join()

    def _begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        self._forget_parent()
        # Under the lock, so that a stopping loop gets no work.
        with self._lock:
            if self._stopped:
                work.close()
                raise Stopped
            if self._loop is None:
                self._loop, self._thread = _start(self._name)
                # Only stop the loop: waiting for its thread in garbage collection could deadlock.
                weakref.finalize(self, _stop, self._loop).atexit = False
            activity.announce_work(self._loop)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _forget_parent(self) -> None:
        """Drop the parent's loop and lock in a forked child."""
        if self._process != os.getpid():
            self._lock = threading.Lock()  # the fork may have copied it locked
            self._process = os.getpid()
            self._loop = self._thread = None

    def _is_current(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


# Running loops, with their thread and process.
_running: dict[asyncio.AbstractEventLoop, tuple[threading.Thread, int]] = {}
_stopping: set[asyncio.AbstractEventLoop] = set()  # running loops that are about to end


def _start(name: str) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop,), name=name, daemon=True)
    _running[loop] = thread, os.getpid()
    runs = threading.Event()
    loop.call_soon(runs.set)
    thread.start()
    runs.wait()  # a clock sees the work of a loop only once it runs
    return loop, thread


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel_the_rest())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        del _running[loop]
        _stopping.discard(loop)


async def _cancel_the_rest() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    """Stop a loop of this process, once; ignore a loop of another process.

    The loop runs again for its cleanup, which a second stop would interrupt.
    """
    _, process = _running.get(loop, (None, 0))
    if process == os.getpid() and loop not in _stopping:
        _stopping.add(loop)
        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(loop.stop)


@atexit.register
def _stop_all() -> None:
    for loop, (thread, process) in list(_running.items()):
        if process == os.getpid():
            _stop(loop)
            thread.join()
