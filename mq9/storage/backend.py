"""What carries out the calls of a broker on one database, and what all that do so share.

A backend runs one call at a time and never waits for news; waiting is the service's.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any, Protocol, TypeVar, cast

from mq9.engine import machine
from mq9.engine.commands import Call, Sweep, Undo
from mq9.engine.limits import Limits
from mq9.errors import Mq9Error, Unavailable
from mq9.protocol.request import Request
from mq9.storage import store
from mq9.storage.derived import Derived, DerivedChange, DerivedQuery

R = TypeVar("R")
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
    return Unavailable(f"the broker's storage failed: {error}; nothing of this request was stored")


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo a transaction, if there still is one."""
    if connection.in_transaction:  # a full disk has rolled back already
        connection.execute("ROLLBACK")


def apply(
    connection: sqlite3.Connection,
    call: Call[Request[R]],
    now: int,
    limits: Limits,
    derived: Derived | None,
) -> R:
    """Change the state and what is derived from it; a sweep shortens the file as well."""
    if isinstance(call.request, DerivedChange):
        return cast("R", call.request.carry_out(connection))
    outcome: Any = machine.apply(connection, call, now, limits)
    if derived is not None:
        derived.follow(connection)
    if isinstance(call.request, Sweep):
        outcome += store.give_back_pages(connection, call.request.most)
    return cast("R", outcome)


def read(connection: sqlite3.Connection, call: Call[Request[R]], now: int) -> R:
    """Look at the state, or at what is derived from it.

    Raises:
        Unavailable: A newer version of this program has changed the schema meanwhile.
    """
    store.refuse_newer(connection)
    if isinstance(call.request, DerivedQuery):
        return cast("R", call.request.look(connection, now))
    return machine.read(connection, call, now)
