"""The state machine: one call in, its outcome out."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

# Each registers the functions in it.
from mq9.engine import (  # noqa: F401
    access,
    agents,
    erasure,
    fetches,
    leases,
    lifecycle,
    mailboxes,
    messages,
    moves,
    reads,
    retention,
    status,
    totals,
)
from mq9.engine.commands import Call
from mq9.engine.handlers import COMMANDS, QUERIES
from mq9.engine.limits import Limits
from mq9.errors import Mq9Error
from mq9.protocol.request import Request

R = TypeVar("R")


def apply(connection: sqlite3.Connection, call: Call[Request[R]], now: int, limits: Limits) -> R:
    """Change the state.

    Args:
        connection: The database, inside a transaction that is undone when this raises.
        call: What to do.
        now: The instant at which it happens, in milliseconds since the Unix epoch.
        limits: What the broker takes.

    Raises:
        Mq9Error: The call was refused.
    """
    request = call.request
    if request.is_private:
        access.refuse_others(connection, call, now)
        access.adopt(connection, call)
    outcome: R = COMMANDS[type(request)](connection, call, now, limits)
    if request.shows_life and call.agent is not None:
        agents.note_seen(connection, call.agent, now)
    return outcome


def note_refusal(connection: sqlite3.Connection, error: Mq9Error) -> None:
    """Keep what a call that was refused, and undone, has found out all the same."""
    if isinstance(error, messages.Full):
        error.remember(connection)


def read(connection: sqlite3.Connection, call: Call[Request[R]], now: int) -> R:
    """Look at the state.

    Args:
        connection: The database, inside a transaction: one call sees one state.
        call: What to look at.
        now: The instant at which it is seen, in milliseconds since the Unix epoch.

    Raises:
        Mq9Error: The call was refused.
        Outdated: A message has fallen due that no command has made visible yet.
    """
    if call.request.is_private:
        access.refuse_others(connection, call, now)
    outcome: R = QUERIES[type(call.request)](connection, call, now)
    return outcome
