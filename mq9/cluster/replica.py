"""A gateway's own copy of the state: a file to which the records of the log are applied.

The log is what keeps it, so nothing here waits for a disk. A process that is killed finds the file
as it left it. After the machine has stopped the file may be damaged, and is not used again.
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

_MOST_DIGESTING = 4  # states at once, each of which is kept until it is digested
_COMMIT_S = 0.02  # of work in one commit, while many records wait
_LONG_COMMIT_S = 0.5  # while it catches up: pages that many records change are written once
_CATCHING_UP = 10  # the records span so many times what their commit takes


class Applied(NamedTuple):
    """A record of the log, and what became of its calls."""

    sequence: int
    now_ms: int
    record: LogRecord
    calls: list[Call[Request[Any]]]
    outcomes: list[Outcome[Any]]


class Snapshot(NamedTuple):
    """A copy of the state."""

    sequence: int
    bytes: int

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.sequence:020}"


class State:
    """The state of a file, which stays as it is here whatever is applied later."""

    def __init__(self, path: Path) -> None:
        self._is_left = False
        self._connection = store.open_reader(path)
        try:
            self._connection.execute("BEGIN")
            state.position(self._connection)  # from now on it is as it was when this was read
        except BaseException:
            self._connection.close()
            raise

    def digest(self) -> str:
        """Digest it, on any thread, and let go of the file."""
        with (
            closing(self._connection) as connection,
            stopped_when(connection, lambda: self._is_left),
        ):
            return state.digest(connection)

    def leave(self) -> None:
        """Have an end of what is done with it."""
        self._is_left = True


class Replica:
    """Applies records to a file; whichever thread asks, the others wait."""

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
        self.sequence = sequence_of(applied)

    @property
    def is_active(self) -> bool:
        """Whether a thread works on the file."""
        return self._active.locked()

    def apply(
        self, records: Sequence[Logged], max_steps: int | None = None, read: Read = LogRecord.read
    ) -> list[Applied]:
        """Apply some of the records that come next, in one transaction; all of it or nothing."""
        for before, logged in enumerate(records, self.sequence):
            if logged.sequence != before + 1:
                raise ValueError(f"record {logged.sequence} does not come after {before}")
        with self._active, stopped_when(self._connection, StepLimit(max_steps)):
            return self._transact(records, read)

    def _transact(self, records: Sequence[Logged], read: Read) -> list[Applied]:
        begun = self._timer()
        # Who waits for one of them has waited as long as came after it.
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
                # Whoever asked for a digest is told of the state after this record.
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
        self.now_ms, self.limits = entries.position.now_ms, entries.limits
        return done

    def leave_out(self, logged: Logged) -> None:
        """Go on behind what comes next and is no record."""
        self.sequence = logged.sequence

    def change(self, change: LocalChange[Any]) -> Any:
        """Change what only this file has."""
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

    def copy_to(self, path: Path) -> Snapshot:
        """Copy the state into a new file; return what is in it."""
        with closing(store.open_reader(self.path)) as source:
            source.execute("BEGIN")
            applied, _ = state.position(source)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # the owner's alone
            with closing(sqlite3.connect(path)) as target:
                target.execute("PRAGMA synchronous=OFF")  # it is soon removed
                source.backup(target)
        return Snapshot(sequence_of(applied), path.stat().st_size)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _apply(entries: machine.Applying, logged: Logged, read: Read) -> Applied:
    record = decode(logged.data)
    now = max(logged.now_ms, record.at_ms)  # the log's clock may have been set back
    index = first_index(logged.sequence)
    calls = read(record)
    outcomes = entries.apply_all(index, now, calls)
    return Applied(logged.sequence, logged.now_ms, record, calls, outcomes)


class Digests:
    """Digests states while the copy goes on."""

    def __init__(self, replica: Replica, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock
        self._digesting: dict[asyncio.Task[None], State] = {}

    def begin(self, applied: Applied, told: Callable[[Applied, str], None]) -> None:
        """Begin to digest the state as it is, and tell of it."""
        if len(self._digesting) >= _MOST_DIGESTING:
            logger.warning("no digest: %d are being made", _MOST_DIGESTING)
            return
        try:
            looked = State(self._replica.path)
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
            return
        task = asyncio.create_task(self._tell(applied, looked, told))
        self._digesting[task] = looked
        task.add_done_callback(self._digesting.pop)

    def leave(self) -> list[asyncio.Task[None]]:
        """Let go of all states; return what is still at work."""
        for one in self._digesting.values():
            one.leave()
        return list(self._digesting)

    async def _tell(
        self, applied: Applied, looked: State, told: Callable[[Applied, str], None]
    ) -> None:
        try:
            with self._clock.busy():
                digested = await asyncio.to_thread(looked.digest)
        except TooLong:
            return  # the gateway is closed
        except sqlite3.Error as error:
            logger.warning("no digest: %s", error)
        else:
            told(applied, digested)
        finally:
            looked.leave()
