"""Calls carried out on a file, by one writer and several readers."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mq9.clock import SteadyClock
from mq9.engine.commands import Advance, Call, Limits, Outcome, Undo
from mq9.engine.messages import Outdated
from mq9.errors import Mq9Error, NotConnected, UnusableFile
from mq9.protocol.body import Request
from mq9.storage import store
from mq9.storage.backend import (
    MAX_STEPS,
    Derived,
    LocalChange,
    advanced_at,
    read,
    set_limits,
    storage_error,
)
from mq9.storage.checkpoints import Checkpoints
from mq9.storage.database_file import DatabaseFile
from mq9.storage.readers import Readers
from mq9.storage.store import Durability
from mq9.storage.writer import Writer

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

# SQLite's connections do not survive a fork, and until they are closed in the child it believes to
# hold their locks. So a fork waits until none of them is at work, and the child closes its copies.
_open_backends: weakref.WeakSet[FileBackend] = weakref.WeakSet()
_paused: list[FileBackend] = []


def _pause_for_fork() -> None:
    for backend in list(_open_backends):
        backend.writing.acquire()
        backend.checkpoints.active.acquire()
        backend.reading.acquire()
        _paused.append(backend)


def _go_on_after_fork() -> None:
    while _paused:
        backend = _paused.pop()
        backend.reading.release()
        backend.checkpoints.active.release()
        backend.writing.release()


def _let_go_in_child() -> None:
    while _paused:
        _paused.pop().abandon()
    _open_backends.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_pause_for_fork,
        after_in_parent=_go_on_after_fork,
        after_in_child=_let_go_in_child,
    )


class FileBackend:
    """Carries out commands, many in one commit, and answers queries at the same time.

    SENDs that wait for a commit may arrive as a `SendBatch`.

    Args:
        path: The database, which is created if it is missing.
        clock: The time of the commands.
        limits: The limits of the broker. None: those in the file.
        durability: The durability of an answered command.
        on_news: See `Writer`.
        derived: Keeps the derived tables.
        max_read_steps: The most steps of SQLite for one read.
        timer: See `Writer`.
        opens_when_full: Whether to open the file on a full disk, although other processes then
            cannot.
    """

    def __init__(
        self,
        path: Path,
        clock: SteadyClock,
        limits: Limits | None,
        durability: Durability,
        on_news: Callable[[str | None], None],
        derived: Derived | None = None,
        *,
        max_read_steps: int = MAX_STEPS,
        timer: Callable[[], float] = time.thread_time,
        opens_when_full: bool = False,
    ) -> None:
        self._clock = clock
        is_shared = True
        if opens_when_full:
            self._connection, is_shared = store.open_on_full_disk(path, durability)
        else:
            self._connection = store.open_file(path, durability)
        try:
            self._set_limits(limits, is_shared=is_shared)
            if derived is not None:
                derived.open(self._connection)
            self.reading = Readers(path, max_read_steps)  # as a context: no read is in progress
            try:
                self._file = DatabaseFile(path, self._connection, is_shared=is_shared)
                beside = store.open_for_checkpoints(path, is_alone=not is_shared)
            except BaseException:
                self.reading.finish()
                with self.reading:
                    self.reading.close_taken()
                raise
        except (OSError, sqlite3.Error) as error:
            self._connection.close()
            raise UnusableFile(f"{path} cannot be opened: {error}") from error
        except BaseException:
            self._connection.close()
            raise
        self.checkpoints = Checkpoints(beside)
        self._writer = Writer(
            self._connection,
            self._file,
            self.checkpoints,
            clock,
            derived,
            on_news,
            timer,
            uses_loops=durability is Durability.NORMAL,
        )
        self.writing = self._writer.active  # held while commands are carried out
        self._closing = False  # no further commands
        _open_backends.add(self)

    takes_batches = True

    def _set_limits(self, limits: Limits | None, *, is_shared: bool) -> None:
        try:
            set_limits(self._connection, self._clock, limits)
        except sqlite3.OperationalError as error:
            if is_shared or not store.is_full(error):
                raise
            logger.warning("the limits stay as they are in the file, until a restart: %s", error)

    @property
    def failed_ms(self) -> int | None:
        """When the storage refused the last write; None if it succeeded."""
        return self._writer.failed_ms

    async def run(self, call: Call[Request[R]], client: str = "") -> R:
        """Carry out a command."""
        self._refuse_closing()
        return (await self._writer.carry_out(call, client)).result()

    def begin(self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and call a function with its outcome."""
        self._refuse_closing()
        self._writer.begin(call, client, told)

    def _refuse_closing(self) -> None:
        if self._closing:
            raise NotConnected("the broker is closed")

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        if self._writer.is_closed:
            raise NotConnected("the broker is closed")
        at_ms = None
        while True:
            try:
                return await self._read(call, at_ms)
            except Outdated as outdated:
                for address in outdated.addresses:
                    at_ms = advanced_at(await self._writer.carry_out(Call(Advance(), address)))

    async def _read(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        self._file.refuse_lost()

        def look(connection: sqlite3.Connection) -> R:
            return read(connection, call, self._clock, at_ms)

        try:
            with self._clock.busy():
                answer = await self.reading.read(
                    look, is_bounded=call.request.is_bounded, is_brief=call.request.is_brief
                )
        except sqlite3.Error as error:
            raise storage_error(error) from error
        self._file.look()
        self._file.refuse_lost()
        return answer

    def undo_soon(self, undo: Call[Undo], client: str = "") -> None:
        """Take back, soon, the leases of a FETCH whose reply reached no client."""
        self._writer.undo_soon(undo, client)

    def watch(self, watching: bool) -> None:
        """Look for what other processes write, or stop looking."""
        self._writer.watch(watching)

    async def close(self) -> None:
        """Finish the accepted commands, and close the file."""
        if self._writer.is_closed:
            return
        self._closing = True
        try:
            # After this, all accepted commands have outcomes, and lost leases are taken back.
            await self._writer.carry_out(Call(LocalChange(lambda _: None)), last=True)
        except Mq9Error as error:
            logger.warning("the broker was closed while it could not work: %s", error)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        if not self._writer.refuse_more():
            return
        thread = ThreadPoolExecutor(1, "mq9-closer")
        ended = thread.submit(self._end)
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(ended))

    def _end(self) -> None:
        """Let the threads end, then close the connections."""
        self.reading.finish()
        self._writer.end()
        self.checkpoints.end()  # before the readers, so that closing it writes nothing
        with self.writing, self.reading:
            # Only the writer writes the log into the file, and only when it is closed last.
            is_whole = self._file.lost is None or self._file.may_be_completed(self._connection)
            if not is_whole:
                self._connection.close()
            self.reading.close_taken()
            self._connection.close()

    def abandon(self) -> None:
        """In a forked child, close the copies of the parent's connections."""
        self._writer.abandon()
        self.checkpoints.abandon()
        self.reading.close_taken()
        self._connection.close()
