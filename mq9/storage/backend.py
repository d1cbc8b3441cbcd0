"""The interface of all backends, and the backend that runs each call on the caller's thread.

A backend runs one call at a time, and never waits for mail: the service does.

Higher packages keep derived data in tables of their own. These are not part of the engine's state,
and can be rebuilt from it at any time.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from mq9.clock import SteadyClock
from mq9.engine import machine, state
from mq9.engine.commands import (
    Advance,
    Call,
    Entry,
    Limits,
    Outcome,
    SendBatch,
    SetLimits,
    Undo,
)
from mq9.engine.messages import Outdated
from mq9.errors import (
    BrokerFailed,
    MailboxNotFound,
    Mq9Error,
    NotConnected,
    TooExpensive,
    Unavailable,
)
from mq9.protocol.body import Request
from mq9.storage import store

R = TypeVar("R")
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)  # another process has it locked
logger = logging.getLogger("mq9.broker")
R_co = TypeVar("R_co", covariant=True)
# That one read may take, unless the broker itself asks; a million are some hundredths of a second.
MAX_STEPS = 50_000_000
STEPS_BETWEEN_LOOKS = 2_000  # steps between two looks at whether it is enough


class Backend(Protocol):
    """Carries out commands and queries on one engine."""

    @property
    def takes_batches(self) -> bool:
        """Whether ``begin`` takes a `SendBatch`, which may grow until it is carried out."""

    async def run(self, call: Call[Request[R]], client: str = "") -> R:
        """Carry out a command; when this returns it is as durable as was promised.

        A Fetch whose caller is cancelled leases nothing.

        Args:
            call: What to do.
            client: Whose commands it is to be in order with, and shares its time with.
        """

    def begin(self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and call a function with its outcome.

        Args:
            call: The command. A Fetch is not possible: its client may have left.
            client: The client whose commands stay in order and share its time.
            told: Called with the outcome, on the running event loop, when it is as durable as
                promised; perhaps before this returns.

        Raises:
            Mq9Error: It cannot be carried out; ``told`` is not called.
        """

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""

    @property
    def failed_ms(self) -> int | None:
        """When the storage refused the last write; None if it succeeded."""

    def undo_soon(self, undo: Call[Undo], client: str = "") -> None:
        """Take back, soon, the leases of a FETCH whose reply reached no client."""

    def watch(self, watching: bool) -> None:
        """Say whether anybody waits for news."""

    async def close(self) -> None:
        """Finish the accepted commands, and close the database."""


@dataclass(frozen=True, slots=True)
class Derived:
    """Tables that follow the engine's."""

    # Makes the tables, or brings them up to date, when the database is opened: in transactions of
    # its own, since other processes may have the file open.
    open: Callable[[sqlite3.Connection], None]
    # Takes in what commands have changed, in the same transaction. It is called before a commit,
    # and takes little time when there is nothing to take in.
    follow: Callable[[sqlite3.Connection], None]
    # Requests that do not change its tables: it is not called after these alone.
    unmoved_by: frozenset[type[Request[Any]]] = frozenset()


@dataclass(frozen=True, slots=True)
class DerivedQuery(Request[R_co]):
    """Reads derived tables, in addition to those of the engine."""

    # Given a connection inside a transaction, and the instant in milliseconds since the Unix epoch.
    look: Callable[[sqlite3.Connection, int], R_co]


@dataclass(frozen=True, slots=True)
class LocalChange(Request[R_co]):
    """Changes what only this file has, such as derived tables: nothing of the engine's state."""

    # Given a connection inside a transaction, which is undone when it raises.
    carry_out: Callable[[sqlite3.Connection], R_co]


def storage_error(error: sqlite3.Error) -> Mq9Error:
    """Log an error of the storage, and return the error for the client."""
    logger.error("the storage failed: %s", error)
    if machine.is_oversized(error):
        return BrokerFailed(machine.OVERSIZED)
    code: int = getattr(error, "sqlite_errorcode", 0)  # none where Python itself raises
    kind = Unavailable if code & 0xFF in _PASSING else BrokerFailed
    return kind(f"the broker's storage failed: {error}; nothing of this request was stored")


class CommandTransaction:
    """Carries out commands in a transaction, each as the next entry of the state's log.

    The transaction has begun. If a method raises, it must be rolled back. After `finish` and the
    commit, the instance can be used in the next transaction, which begins with `catch_up`, if no
    other connection has written in between and it carried out no `LocalChange`.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: SteadyClock, derived: Derived | None
    ) -> None:
        store.refuse_newer(connection)
        self._connection = connection
        self._clock = clock
        self._derived = derived
        self._is_behind = True  # derived tables may be behind
        self.may_go_on = True
        self._entries = machine.Applying(connection, keeps_all=False)
        self.catch_up()

    def catch_up(self) -> None:
        """Continue the clock from the last command."""
        self._clock.catch_up(self._entries.position.now_ms)

    @property
    def limits(self) -> Limits:
        """Limits of the broker."""
        return self._entries.limits

    def carry_out(self, call: Call[Request[R]]) -> Outcome[R]:
        """Carry out a command, or refuse it."""
        now = self._clock.now_ms()
        self._note(type(call.request))
        if isinstance(call.request, LocalChange):
            self.may_go_on = False  # it may have moved the position
            return Outcome(cast("R", call.request.carry_out(self._connection)), None, now)
        if isinstance(call.request, SendBatch):
            call.request.close()
            [answers] = self.carry_out_sends([cast("Call[SendBatch]", call)])
            return Outcome(cast("R", answers), None, now)
        return self._entries.apply(Entry(self._entries.position.applied + 1, now, call))

    def carry_out_sends(
        self, calls: Sequence[Call[SendBatch]]
    ) -> Sequence[Sequence[int | Mq9Error]]:
        """Carry out batches of SENDs together; see `machine.Applying.apply_sends`."""
        self._note(SendBatch)
        index = self._entries.position.applied + 1
        return self._entries.apply_sends(index, self._clock.now_ms(), calls)

    def _note(self, kind: type[Request[Any]]) -> None:
        """Note whether the derived tables must follow a request."""
        if self._derived is not None and kind not in self._derived.unmoved_by:
            self._is_behind = True

    def finish(self) -> None:
        """Bring the derived tables up to date before the commit."""
        if self._derived is not None and self._is_behind:
            self._derived.follow(self._connection)
            self._is_behind = False
        self._entries.finish()


def set_limits(connection: sqlite3.Connection, clock: SteadyClock, limits: Limits | None) -> None:
    """Store the limits of this broker in a database; None keeps the stored ones."""
    with store.transaction(connection):
        applying = CommandTransaction(connection, clock, None)
        if limits is not None and limits != applying.limits:
            applying.carry_out(Call(SetLimits(limits=limits)))
        applying.finish()


def read(
    connection: sqlite3.Connection,
    call: Call[Request[R]],
    clock: SteadyClock,
    at_ms: int | None = None,
) -> R:
    """Read the state, or derived tables, inside a transaction.

    The read is as of now, or as of an earlier instant, ``at_ms``.

    Raises:
        BrokerFailed: A newer version of this program has changed the schema in the meantime.
        Outdated: A message is due that no command has made visible yet.
    """
    store.refuse_newer(connection)
    now = at_ms
    if now is None:
        happened_ms = state.position(connection).now_ms
        clock.catch_up(happened_ms)
        now = max(clock.now_ms(), happened_ms)
    if isinstance(call.request, DerivedQuery):
        return cast("R", call.request.look(connection, now))
    return machine.read(connection, call, now)


class InlineBackend:
    """Carries everything out at once, on the caller's thread; closes ``connection`` in the end."""

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
        # No other connection writes here, so it stays valid after a commit.
        self._applying: CommandTransaction | None = None
        self.failed_ms: int | None = None
        self.takes_batches = True  # of one SEND, since nothing waits

    async def run(self, call: Call[Request[R]], client: str = "") -> R:
        """Carry out a command."""
        with self._lock:
            self._check_open()
            return self._transact(call).result()

    def begin(self, call: Call[Any], client: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, and call the function at once."""
        with self._lock:
            self._check_open()
            outcome = self._transact(call)
        told(outcome)

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""
        with self._lock:
            self._check_open()
            at_ms = None
            try:
                while True:
                    try:
                        return self._look(call, at_ms)
                    except Outdated as outdated:
                        for address in outdated.addresses:
                            at_ms = advanced_at(self._transact(Call(Advance(), address)))
            except TooLong:
                raise too_long(self._max_read_steps) from None
            except sqlite3.Error as error:
                raise storage_error(error) from error

    def _look(self, call: Call[Request[R]], at_ms: int | None = None) -> R:
        steps = self._max_read_steps if call.request.is_bounded else None
        with stopped_when(self._connection, StepLimit(steps)):
            return read(self._connection, call, self._clock, at_ms)

    def _check_open(self) -> None:
        if self._closed:
            raise NotConnected("the broker is closed")

    def _transact(self, call: Call[Request[R]]) -> Outcome[R]:
        try:
            with store.transaction(self._connection):
                applying, self._applying = self._applying, None
                if applying is None:
                    applying = CommandTransaction(self._connection, self._clock, self._derived)
                else:
                    applying.catch_up()
                outcome = applying.carry_out(call)
                applying.finish()
            if applying.may_go_on:
                self._applying = applying
        except sqlite3.Error as error:
            self.failed_ms = self._clock.monotonic_ms()
            raise storage_error(error) from error
        self.failed_ms = None
        return outcome

    def undo_soon(self, undo: Call[Undo], client: str = "") -> None:
        """Take back the leases of a FETCH whose reply reached no client."""
        with self._lock:
            if not self._closed:
                self._transact(undo)

    def watch(self, watching: bool) -> None:
        """Do nothing: no other process writes here."""

    async def close(self) -> None:
        """Let go of the database."""
        self.close_now()

    def close_now(self) -> None:
        """Let go of the database, without an event loop."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()


def advanced_at(outcome: Outcome[None]) -> int:
    """Return the instant up to which a mailbox was advanced, unless it is gone meanwhile."""
    with suppress(MailboxNotFound):  # the next look reports it
        outcome.result()
    return outcome.now_ms


class TooLong(Exception):  # not a failure of the storage
    """A read was stopped because it took more than it may."""


class StepLimit:
    """Returns, after every few steps of SQLite, whether there were too many.

    Args:
        steps: The most steps. None: no limit.
    """

    def __init__(self, steps: int | None) -> None:
        self.left = math.inf if steps is None else steps

    def __call__(self) -> bool:
        """Count the steps since the last call; whether it is enough."""
        self.left -= STEPS_BETWEEN_LOOKS
        return self.left < 0


@contextmanager
def stopped_when(connection: sqlite3.Connection, is_enough: Callable[[], bool]) -> Iterator[None]:
    """Stop the statements of a connection inside, and raise TooLong, at the limit."""
    connection.set_progress_handler(is_enough, STEPS_BETWEEN_LOOKS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise TooLong from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


def too_long(steps: int) -> TooExpensive:
    """Make the error for a read that is too long for everybody."""
    return TooExpensive(
        f"the read took more than {steps} steps and was stopped; ask for less, by msg_id, key or "
        "since"
    )
