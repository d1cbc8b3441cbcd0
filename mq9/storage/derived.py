"""What packages above derive from the engine's tables, and keep in tables of their own beside them.

None of it is part of the engine's state: it can be made anew from that at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mq9.protocol.request import Request

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Derived:
    """Tables that follow the engine's.

    Attributes:
        open: Makes the tables, or brings them up to date, when the database is opened: in
            transactions of its own, since other processes may have the file open.
        follow: Takes in what a command has changed, in the same transaction. It is called after
            every command, and takes little time when there is nothing to take in.
    """

    open: Callable[[sqlite3.Connection], None]
    follow: Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class DerivedQuery(Request[R_co]):
    """Looks at derived tables, beside the engine's.

    Attributes:
        look: Given a connection inside a transaction, and the instant in milliseconds since the
            Unix epoch.
    """

    look: Callable[[sqlite3.Connection, int], R_co]


@dataclass(frozen=True, slots=True)
class LocalChange(Request[R_co]):
    """Changes what only this file has, such as derived tables, and nothing of the engine's state.

    Attributes:
        carry_out: Given a connection inside a transaction, which is undone when it raises.
    """

    carry_out: Callable[[sqlite3.Connection], R_co]
