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

# Of `mq9.discovery`. They stand here since a file with any other table is refused. Another form
# needs another `store.VERSION`, whose migration drops the former one.
AGENTS_INDEX = (
    "CREATE TABLE agents_index"
    " (version TEXT NOT NULL, id INTEGER NOT NULL, removal INTEGER NOT NULL) STRICT"
)
AGENTS_TEXT = (
    "CREATE VIRTUAL TABLE agents_text USING fts5"
    " (name, description, skills, rest, tokenize='porter unicode61 remove_diacritics 2')"
)
AGENTS_VECTORS = (
    "CREATE TABLE agents_vectors"
    " (agent INTEGER PRIMARY KEY, model TEXT NOT NULL, vector BLOB NOT NULL) STRICT"
)
TABLES = (
    *(AGENTS_INDEX, AGENTS_TEXT, AGENTS_VECTORS),
    # FTS5 makes these for the text.
    "CREATE TABLE 'agents_text_data'(id INTEGER PRIMARY KEY, block BLOB)",
    "CREATE TABLE 'agents_text_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID",
    "CREATE TABLE 'agents_text_content'(id INTEGER PRIMARY KEY, c0, c1, c2, c3)",
    "CREATE TABLE 'agents_text_docsize'(id INTEGER PRIMARY KEY, sz BLOB)",
    "CREATE TABLE 'agents_text_config'(k PRIMARY KEY, v) WITHOUT ROWID",
)


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
