"""Bounds on the steps of SQLite's machine that something may take."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mq9.errors import TooExpensive

# That one read may take, unless the broker itself asks; a million are some hundredths of a second.
MAX_STEPS = 50_000_000
_EVERY = 2_000  # steps between two looks at whether it is enough


class TooLong(Exception):  # not a failure of the storage
    """A read was stopped because it took more than it may."""


def no_steps_left(steps: int | None) -> Callable[[], bool]:
    """Make what tells, after every few steps, whether there were more than so many."""
    left = math.inf if steps is None else steps

    def is_enough() -> bool:
        nonlocal left
        left -= _EVERY
        return left < 0

    return is_enough


@contextmanager
def stopped_when(connection: sqlite3.Connection, is_enough: Callable[[], bool]) -> Iterator[None]:
    """Stop what a connection does inside as soon as it is enough.

    Args:
        connection: The connection.
        is_enough: Asked after every few steps.

    Raises:
        TooLong: It was stopped.
    """
    connection.set_progress_handler(is_enough, _EVERY)
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
