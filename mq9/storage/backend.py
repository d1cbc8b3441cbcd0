"""What carries out the calls of a broker on one database, and what all that do so share.

A backend runs one call at a time and never waits for news; waiting is the service's.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from mq9.clock import SteadyClock
from mq9.engine import machine, state
from mq9.engine.commands import Call, Entry, Limits, Outcome, SetLimits, Undo
from mq9.errors import BrokerFailed, Mq9Error, Unavailable
from mq9.protocol.request import Request
from mq9.storage import store
from mq9.storage.derived import Derived, DerivedQuery, LocalChange

R = TypeVar("R")
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)  # another process has it locked
logger = logging.getLogger("mq9.broker")


class Backend(Protocol):
    """Carries out commands and queries on one engine."""

    async def run(self, call: Call[Request[R]], asker: str = "") -> R:
        """Carry out a command; when this returns it is as durable as was promised.

        A Fetch whose caller is cancelled leases nothing.

        Args:
            call: What to do.
            asker: Whose commands it is to be in order with, and shares its time with.
        """

    def begin(self, call: Call[Any], asker: str, told: Callable[[Outcome[Any]], None]) -> None:
        """Carry out a command, whoever still waits for it, and tell when that is done.

        Args:
            call: What to do; no Fetch, which would lease for nobody.
            asker: Whose commands it is to be in order with, and shares its time with.
            told: Called with the outcome, on the event loop that runs now, when it is as durable as
                was promised; perhaps before this returns.

        Raises:
            Mq9Error: It cannot be carried out; nothing is told.
        """

    async def read(self, call: Call[Request[R]]) -> R:
        """Answer a query."""

    @property
    def failed_ms(self) -> int | None:
        """When the storage refused what was last written; None when it took it."""

    def make_undone(self, undo: Call[Undo], asker: str = "") -> None:
        """Take back, soon, a FETCH reply that reached nobody."""

    def watch(self, watching: bool) -> None:
        """Say whether anybody waits for news."""

    async def close(self) -> None:
        """Finish what was accepted, and let go of the database."""


def storage_error(error: sqlite3.Error) -> Mq9Error:
    """Log what the storage said, and make the error for whoever asked."""
    logger.error("the storage failed: %s", error)
    if machine.is_oversized(error):
        return BrokerFailed(machine.OVERSIZED)
    kind = Unavailable if _primary_code(error) in _PASSING else BrokerFailed
    return kind(f"the broker's storage failed: {error}; nothing of this request was stored")


def _primary_code(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)  # None where Python itself raises
    return None if code is None else code & 0xFF


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo a transaction, if there still is one."""
    if connection.in_transaction:  # a full disk has rolled back already
        connection.execute("ROLLBACK")


class Applying:
    """Carries commands out in one transaction, each as the next entry of the state's log.

    Args:
        connection: The database, inside a transaction, which has to be rolled back where anything
            here raises.
        clock: Tells when commands happen; never behind what has happened.
        derived: What follows the engine's state, if anything does.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: SteadyClock, derived: Derived | None
    ) -> None:
        store.refuse_newer(connection)
        self._connection = connection
        self._clock = clock
        self._derived = derived
        self._entries = machine.Applying(connection, keeps_all=False)
        clock.catch_up(self._entries.position.now_ms)

    @property
    def limits(self) -> Limits:
        """What the broker takes."""
        return self._entries.limits

    def carry_out(self, call: Call[Request[R]]) -> Outcome[R]:
        """Carry out a command, or refuse it."""
        now = self._clock.now_ms()
        if isinstance(call.request, LocalChange):
            return Outcome(cast("R", call.request.carry_out(self._connection)), None, now)
        return self._entries.apply(Entry(self._entries.position.applied + 1, now, call))

    def finish(self) -> None:
        """Bring everything up to date with what was carried out, before it is committed."""
        if self._derived is not None:
            self._derived.follow(self._connection)
        self._entries.finish()


def set_limits(connection: sqlite3.Connection, clock: SteadyClock, limits: Limits | None) -> None:
    """Let a database take what this broker was told that it takes.

    Args:
        connection: The database, outside a transaction.
        clock: Tells when that happens.
        limits: What it takes from now on; None for what it took before.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        applying = Applying(connection, clock, None)
        if limits is not None and limits != applying.limits:
            applying.carry_out(Call(SetLimits(limits=limits)))
        applying.finish()
    except BaseException:
        roll_back(connection)
        raise
    connection.execute("COMMIT")


def read(
    connection: sqlite3.Connection,
    call: Call[Request[R]],
    clock: SteadyClock,
    at_ms: int | None = None,
) -> R:
    """Look at the state, or at what is derived from it.

    Args:
        connection: The database, inside a transaction.
        call: What to look at.
        clock: Tells the instant at which that is seen.
        at_ms: The instant, where it is to be seen as at an earlier one.

    Raises:
        BrokerFailed: A newer version of this program has changed the schema meanwhile.
        Outdated: A message has fallen due that no command has made visible yet.
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
