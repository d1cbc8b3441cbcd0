"""Calls carried out at once, on the caller's thread, in memory or on a file."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mq9.clock import SteadyClock
from mq9.engine.commands import Advance, Call, Limits, Outcome, Undo
from mq9.engine.messages import Outdated
from mq9.errors import NotConnected
from mq9.protocol.request import Request
from mq9.storage.backend import Applying, read, roll_back, set_limits, storage_error
from mq9.storage.derived import Derived
from mq9.storage.steps import MAX_STEPS, TooLong, no_steps_left, stopped_when, too_long

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")


class InlineBackend:
    """Carries everything out at once, on the caller's thread.

    Args:
        connection: A database of ours; closed with the backend.
        clock: Tells when things happen.
        limits: What the broker takes.
        derived: What follows the engine's state, if anything does.
        max_read_steps: Steps of SQLite's machine that one read may take.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: SteadyClock,
        limits: Limits,
        derived: Derived | None = None,
        *,
        max_read_steps: int = MAX_STEPS,
    ) -> None:
        set_limits(connection, clock, limits)
        if derived is not None:
            derived.open(connection)
        self._derived = derived
        self._connection = connection
        self._clock = clock
        self._max_read_steps = max_read_steps
        self._lock = threading.Lock()
        self._closed = False
        self.failed_ms: int | None = None

    async def run(self, call: Call[Request[R]], asker: str = "") -> R:
        """Carry out a command."""
        with self._lock:
            self._check_open()
            return self._transact(call).result()

    def begin(self, call: Call[Any], asker: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and tell at once that it is done."""
        with self._lock:
            self._check_open()
            outcome = self._transact(call)
        told(outcome)

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        with self._lock:
            self._check_open()
            try:
                try:
                    return self._look(call)
                except Outdated as outdated:
                    advanced = self._transact(Call(Advance(), outdated.address))
                    advanced.result()
                    return self._look(call, advanced.now_ms)
            except TooLong:
                raise too_long(self._max_read_steps) from None
            except sqlite3.Error as error:
                raise storage_error(error) from error

    def _look(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        steps = self._max_read_steps if call.request.is_bounded else None
        with stopped_when(self._connection, no_steps_left(steps)):
            return read(self._connection, call, self._clock, at_ms)

    def _check_open(self) -> None:
        if self._closed:
            raise NotConnected("the broker is closed")

    def _transact(self, call: Call[Request[R]]) -> Outcome[R]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                applying = Applying(self._connection, self._clock, self._derived)
                outcome = applying.carry_out(call)
                applying.finish()
                self._connection.execute("COMMIT")
            except BaseException:
                roll_back(self._connection)
                raise
        except sqlite3.Error as error:
            self.failed_ms = self._clock.monotonic_ms()
            raise storage_error(error) from error
        self.failed_ms = None
        return outcome

    def make_undone(self, undo: Call[Undo], asker: str = "") -> None:
        """Take back a FETCH reply that reached nobody."""
        with self._lock:
            if not self._closed:
                self._transact(undo)

    def watch(self, watching: bool) -> None:
        """Nobody else writes here, so there is nothing to look for."""

    async def close(self) -> None:
        """Let go of the database."""
        self.close_now()

    def close_now(self) -> None:
        """Let go of the database, without an event loop."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()
