"""An event loop, clocks and threads that a simulation moves: the same seed, the same order."""

import asyncio
import contextlib
from collections import deque
from concurrent.futures import Executor, Future

from mq9.clock import Work


class Stuck(Exception):
    """Everybody waits, and nothing is ever going to happen."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop on which time goes to the next timer as soon as nothing is left to run."""

    def __init__(self):
        super().__init__()
        self._selector = self
        self._clock_resolution = 1e-6
        self._now = 0.0

    def time(self):
        return self._now

    def select(self, timeout):
        if timeout is None:
            raise Stuck
        self._now += timeout
        return []

    def run_in_executor(self, _executor, function, *args):
        return asyncio.wrap_future(_called(Future(), function, args), loop=self)

    def _process_events(self, events):
        """Nothing comes from outside."""

    def _write_to_self(self):
        """Nobody else is to be woken."""


class SimulatedClock:
    """A clock of a machine, which may be set.

    Args:
        loop: Whose time passes.
        wall_ms: What it shows when that begins.
    """

    longest_poll_ms = 30_000

    def __init__(self, loop, wall_ms):
        self._loop = loop
        self.wall_ms = wall_ms

    def now_ms(self):
        return self.wall_ms + self.monotonic_ms()

    def monotonic_ms(self):
        return int(self._loop.time() * 1000)

    def call_later(self, delay_ms, callback, *, background=False):
        return self._loop.call_later(delay_ms / 1000, callback)

    def busy(self):
        return Work()


class SimulatedThread(Executor):
    """A thread, as an executor: what it is given is done after a while, one after the other.

    Args:
        loop: Whose time passes.
        takes: Gives how many seconds the next thing takes.
    """

    def __init__(self, loop, takes):
        self._loop = loop
        self._takes = takes
        self._waiting = deque()
        self._is_killed = False
        self._is_shut_down = False

    def submit(self, function, /, *args):
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future()
        self._waiting.append((future, function, args))
        if len(self._waiting) == 1:
            self._loop.call_later(self._takes(), self._work)
        return future

    def _work(self):
        if self._waiting and not self._is_killed:
            self._do_next()
            if self._waiting:
                self._loop.call_later(self._takes(), self._work)

    def _do_next(self):
        future, function, args = self._waiting.popleft()
        if future.set_running_or_notify_cancel():
            _called(future, function, args)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._is_shut_down = True
        while self._waiting and not self._is_killed:
            self._do_next()

    def kill(self):
        """Do nothing more."""
        self._is_killed = True


def _called(future, function, args):
    try:
        result = function(*args)
    except Exception as error:  # noqa: BLE001  # whoever waits for it is told
        future.set_exception(error)
    else:
        with contextlib.suppress(asyncio.InvalidStateError):
            future.set_result(result)
    return future
