"""How far the state has come, and what it says that the broker takes."""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from typing import NamedTuple

from mq9.engine import handlers
from mq9.engine.commands import Call, SetLimits
from mq9.engine.limits import Limits

# In the order of the columns of the table.
_LIMITS = tuple(field.name for field in fields(Limits))
_LIMIT_COLUMNS = ", ".join(_LIMITS)


class Position(NamedTuple):
    """How far the state has come.

    Attributes:
        applied: The number of the last entry; 0 before the first.
        now_ms: When that happened, in milliseconds since the Unix epoch.
    """

    applied: int
    now_ms: int


def position(connection: sqlite3.Connection) -> Position:
    """Return how far the state has come."""
    return Position(*connection.execute("SELECT applied, now_ms FROM state").fetchone())


def position_and_limits(connection: sqlite3.Connection) -> tuple[Position, Limits]:
    """Return how far the state has come, and what the broker takes, in one step."""
    applied, now_ms, *values = connection.execute(
        f"SELECT applied, now_ms, {_LIMIT_COLUMNS} FROM state"  # noqa: S608  # constant columns
    ).fetchone()
    return Position(applied, now_ms), Limits(*values)


def move(connection: sqlite3.Connection, to: Position) -> None:
    """Note how far the state has come."""
    connection.execute("UPDATE state SET applied=?, now_ms=?", to)


@handlers.command(SetLimits)
def set_limits(
    connection: sqlite3.Connection, call: Call[SetLimits], _now: int, _limits: Limits
) -> None:
    """Set what the broker takes."""
    columns = ", ".join(f"{name}=?" for name in _LIMITS)
    values = [getattr(call.request.limits, name) for name in _LIMITS]
    connection.execute(f"UPDATE state SET {columns}", values)  # noqa: S608  # constant columns
