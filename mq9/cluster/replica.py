"""A gateway's own copy of the state: a file to which it applies the records of the log.

The log stores everything, so writes to the file do not wait for the disk. The file survives a
killed process. After a stop of the machine it may be damaged, and is not used again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from mq9.clock import Clock
from mq9.cluster.log import Logged
from mq9.cluster.records import LogRecord, NoRecord, decode, first_index, sequence_of
from mq9.engine import machine, state
from mq9.engine.commands import Call, Outcome
from mq9.protocol.body import Request
from mq9.storage import store
from mq9.storage.backend import Derived, LocalChange, StepLimit, TooLong, stopped_when
from mq9.storage.store import roll_back

logger = logging.getLogger("mq9.broker")

Read = Callable[[LogRecord], list[Call[Request[Any]]]]

_MOST_DIGESTING = 4  # states that are digested at once
_COMMIT_S = 0.02  # of work in one commit while many records wait
_LONG_COMMIT_S = 0.5  # while it catches up: pages that many records change are written once
_CATCHING_UP = 10  # the records span so many times the duration of their commit


class Applied(NamedTuple):
    """A record of the log, and the outcomes of its calls. A late one was skipped."""

    sequence: int
    now_ms: int
    record: LogRecord
    calls: list[Call[Request[Any]]]
    outcomes: list[Outcome[Any]]
    is_late: bool = False


class Snapshot(NamedTuple):
    """A copy of the state."""

    sequence: int
    bytes: int

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.sequence:020}"


class State:
    """The state of a file at one record, while later records are applied."""

    def __init__(self, path: Path) -> None:
        self._is_left = False
        self._connection = store.open_reader(path)
        try:
            self._connection.execute("BEGIN")
            state.position(self._connection)  # this read begins the snapshot of SQLite
        except BaseException:
            self._connection.close()
            raise

    def digest(self) -> str:
        """Return the digest, on any thread, and close the file."""
        with (
            closing(self._connection) as connection,
            stopped_when(connection, lambda: self._is_left),
        ):
            return state.digest(connection)

    def leave(self) -> None:
        """Stop its digest."""
        self._is_left = True


class Replica:
    """Applies records to a file, one thread at a time."""

    def __init__(
        self, path: Path, derived: Derived | None, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self.path = path
        self._derived = derived
        self._timer = timer
        self._active = threading.Lock()  # held while a thread works on the file
        self._connection = store.open_file(path)
        try:
            self._connection.execute("PRAGMA synchronous=OFF")
            if derived is not None:
                derived.open(self._connection)
            (applied, self.now_ms), self.limits = state.position_and_limits(self._connection)
        except BaseException:
            self._connection.close()
            raise
        self.sequence = self.changed = sequence_of(applied)

    @property
    def is_active(self) -> bool:
        """Whether a thread works on the file."""
        return self._active.locked()

    def apply(
        self, records: Sequence[Logged], max_steps: int | None = None, read: Read = LogRecord.read
    ) -> list[Applied]:
        """Apply some of the next records in one transaction, completely or not at all."""
        for before, logged in enumerate(records, self.sequence):
            if logged.sequence != before + 1:
                raise ValueError(f"record {logged.sequence} does not come after {before}")
        with self._active, stopped_when(self._connection, StepLimit(max_steps)):
            return self._transact(records, read)

    def _transact(self, records: Sequence[Logged], read: Read) -> list[Applied]:
        begun = self._timer()
        # Clients of the first record have waited for the span of all of them.
        span_s = (records[-1].now_ms - records[0].now_ms) / 1000
        most_s = min(max(span_s / _CATCHING_UP, _COMMIT_S), _LONG_COMMIT_S)
        done: list[Applied] = []
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            entries = machine.Applying(connection)
            for logged in records:
                try:
                    done.append(_apply(entries, logged, read))
                except NoRecord:
                    if not done:
                        raise
                    break
                # A digest is that of the state after this record.
                if done[-1].record.verify is not None or self._timer() - begun > most_s:
                    break
            if self._derived is not None:
                self._derived.follow(connection)
            entries.finish()
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        self.sequence = done[-1].sequence
        self.changed = sequence_of(entries.position.applied)
        self.now_ms, self.limits = entries.position.now_ms, entries.limits
        return done

    def leave_out(self, logged: Logged) -> None:
        """Skip the next entry, which is not a record."""
        self.sequence = logged.sequence

    def change(self, change: LocalChange[Any]) -> Any:
        """Make a change that only this file has."""
        with self._active:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                changed = change.carry_out(connection)
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
        return changed

    def size(self) -> int:
        """Return the bytes of the file, and of what SQLite has not written into it yet."""
        wal = self.path.with_name(self.path.name + "-wal")
        return sum(one.stat().st_size for one in (self.path, wal) if one.exists())

    def copy_to(self, path: Path) -> Snapshot:
        """Copy the state into a new file; return its snapshot."""
        with closing(store.open_reader(self.path)) as source:
            source.execute("BEGIN")
            applied, _ = state.position(source)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # the owner's alone
            with closing(sqlite3.connect(path)) as target:
                target.execute("PRAGMA synchronous=OFF")  # the file is removed soon
                source.backup(target)
        return Snapshot(sequence_of(applied), path.stat().st_size)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _apply(entries: machine.Applying, logged: Logged, read: Read) -> Applied:
    record = decode(logged.data)
    if record.is_late(logged.now_ms, entries.position.now_ms):
        return Applied(logged.sequence, logged.now_ms, record, [], [], is_late=True)
    now = max(logged.now_ms, record.at_ms)  # the clock of the log may have stepped back
    index = first_index(logged.sequence)
    calls = read(record)
    outcomes = entries.apply_all(index, now, calls)
    return Applied(logged.sequence, logged.now_ms, record, calls, outcomes)


class Digests:
    """Computes digests of states while later records are applied."""

    def __init__(self, replica: Replica, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock
        self._digesting: dict[asyncio.Task[None], State] = {}

    def begin(self, applied: Applied, report: Callable[[Applied, str], None]) -> None:
        """Begin to compute the digest of the present state, and report it."""
        if len(self._digesting) >= _MOST_DIGESTING:
            logger.warning("no digest: %d are being made", _MOST_DIGESTING)
            return
        try:
            looked = State(self._replica.path)
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
            return
        task = asyncio.create_task(self._report(applied, looked, report))
        self._digesting[task] = looked
        task.add_done_callback(self._digesting.pop)

    def leave(self) -> list[asyncio.Task[None]]:
        """Stop all digests; return their tasks."""
        for one in self._digesting.values():
            one.leave()
        return list(self._digesting)

    async def _report(
        self, applied: Applied, looked: State, report: Callable[[Applied, str], None]
    ) -> None:
        try:
            with self._clock.busy():
                digested = await asyncio.to_thread(looked.digest)
        except TooLong:
            return  # the gateway is closed
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
        else:
            report(applied, digested)
        finally:
            looked.leave()
