"""Checks that a file holds the tables, indexes and triggers of mq9, and no others.

A trigger or a view of somebody else would run with every request. A file that came from elsewhere
is therefore compared with the schema before anything else is done with it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

from mq9 import engine
from mq9.errors import UnusableFile

# Of `mq9.discovery`. All derived tables stand here since a file with any other is refused. Another
# form needs another `store.VERSION`, whose migration drops the former one.
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
# Of `mq9.listings`, by name.
CONVERSATION_TABLES = {
    # One without a name is a message by itself. The tie orders those of one instant.
    "conversations": "CREATE TABLE conversations (id INTEGER PRIMARY KEY, name TEXT UNIQUE,"
    " last_ms INTEGER NOT NULL, tie INTEGER NOT NULL) STRICT",
    # The number is a msg_id, or of a delayed message its id, negative. The sender is one of the
    # places below; 0 for none, and 1 for a message that was moved there.
    "conversation_messages": "CREATE TABLE conversation_messages (conversation INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, mailbox INTEGER NOT NULL, number INTEGER NOT NULL,"
    " sender INTEGER NOT NULL, PRIMARY KEY (conversation, at_ms, mailbox, number))"
    " STRICT, WITHOUT ROWID",
    # Where a conversation is: a mailbox, or at a sender, by its negative id.
    "conversation_places": "CREATE TABLE conversation_places (place INTEGER NOT NULL,"
    " conversation INTEGER NOT NULL, last_ms INTEGER NOT NULL, tie INTEGER NOT NULL,"
    " messages INTEGER NOT NULL, PRIMARY KEY (place, conversation)) STRICT, WITHOUT ROWID",
    "conversation_senders": "CREATE TABLE conversation_senders (id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL, verified INTEGER NOT NULL, UNIQUE (name, verified)) STRICT",
    "conversation_links": "CREATE TABLE conversation_links (sender INTEGER NOT NULL,"
    " mailbox INTEGER NOT NULL, messages INTEGER NOT NULL, last_ms INTEGER NOT NULL,"
    " PRIMARY KEY (sender, mailbox)) STRICT, WITHOUT ROWID",
    # Up to which msg_id a mailbox was taken in.
    "conversation_mailboxes": "CREATE TABLE conversation_mailboxes (mailbox INTEGER PRIMARY KEY,"
    " next_id INTEGER NOT NULL) STRICT",
    # Messages that were moved to where they are, as dead letters are.
    "conversation_dead": "CREATE TABLE conversation_dead (mailbox INTEGER NOT NULL,"
    " msg_id INTEGER NOT NULL, PRIMARY KEY (mailbox, msg_id)) STRICT, WITHOUT ROWID",
    # Questions with an instant by which they want an answer, and none yet.
    "conversation_awaited": "CREATE TABLE conversation_awaited (mailbox INTEGER NOT NULL,"
    " msg_id INTEGER NOT NULL, answer_by_ms INTEGER NOT NULL, correlation_id TEXT NOT NULL,"
    " PRIMARY KEY (mailbox, msg_id)) STRICT, WITHOUT ROWID",
    # The number of its messages, the highest id of a delayed one, and the row that was checked
    # last: whether its message still exists.
    "conversations_index": "CREATE TABLE conversations_index (version TEXT NOT NULL,"
    " messages INTEGER NOT NULL, delayed INTEGER NOT NULL, conversation INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, mailbox INTEGER NOT NULL, number INTEGER NOT NULL) STRICT",
}
CONVERSATION_INDEXES = (
    "CREATE INDEX conversations_last ON conversations (last_ms, tie)",
    "CREATE INDEX conversation_places_last ON conversation_places (place, last_ms, tie)",
    "CREATE INDEX conversation_awaited_due ON conversation_awaited (answer_by_ms, mailbox, msg_id)",
    "CREATE INDEX conversation_awaited_answer ON conversation_awaited (correlation_id)",
    "CREATE INDEX conversation_links_last ON conversation_links (last_ms)",
)
DERIVED = (
    *(AGENTS_INDEX, AGENTS_TEXT, AGENTS_VECTORS),
    *(*CONVERSATION_TABLES.values(), *CONVERSATION_INDEXES),
    # FTS5 makes these for the text.
    "CREATE TABLE 'agents_text_data'(id INTEGER PRIMARY KEY, block BLOB)",
    "CREATE TABLE 'agents_text_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID",
    "CREATE TABLE 'agents_text_content'(id INTEGER PRIMARY KEY, c0, c1, c2, c3)",
    "CREATE TABLE 'agents_text_docsize'(id INTEGER PRIMARY KEY, sz BLOB)",
    "CREATE TABLE 'agents_text_config'(k PRIMARY KEY, v) WITHOUT ROWID",
)
# Names in files of older schemas that a migration removes.
FORMER: frozenset[str] = frozenset()
# SQLite's own.
_INTERNAL = (
    "CREATE TABLE sqlite_sequence(name,seq)",
    "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
)
_MOST_SHOWN = 60  # characters of a name that is not ours
_ADVICE = "restore the file from a copy that you trust, or name another file"
_HEAD = re.compile(
    r"CREATE (?:UNIQUE |VIRTUAL )?(TABLE|INDEX|TRIGGER) (?:IF NOT EXISTS )?['\"]?(\w+)"
)
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|\s+|\"[^\"]*\"|'(?:[^']|'')*'|\w+|.", re.DOTALL)
_SKIPPED = re.compile(r"\s|--|/\*")


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def script() -> str:
    """Return the statements that make a new database."""
    return resources.files(engine).joinpath("schema.sql").read_text("utf-8")


def refuse_foreign(connection: sqlite3.Connection, path: Path | None, *, is_current: bool) -> None:
    """Refuse a database that holds a table, index, trigger or view that mq9 did not make.

    In one of the present schema, no table may be missing or of another form, either. One of an
    older schema is compared by the names of its tables and indexes, and has no triggers or views
    but ours.
    """
    needed = set(of_engine()) if is_current else set()
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema")
    for kind, name, sql in rows:
        needed.discard(name)
        made = expected().get(name)
        if made is not None and sql == made:
            continue
        if sql is None and kind == "index":
            continue  # SQLite's own, of a UNIQUE or PRIMARY KEY
        shown = f"{kind} {str(name)[:_MOST_SHOWN]!r}"
        if made is None and not (name in FORMER and not is_current):
            raise UnusableFile(f"{path} holds the {shown}, which mq9 did not make: {_ADVICE}")
        if not _is_alike(kind, name, sql, made if is_current else None):
            raise UnusableFile(f"{path} holds the {shown} in a form of its own: {_ADVICE}")
    if needed:
        raise UnusableFile(f"{path} lacks the table or index {min(needed)!r}: {_ADVICE}")


def drop_conversations(connection: sqlite3.Connection) -> None:
    """Remove the index of conversations; it is rebuilt at the next use."""
    for name in CONVERSATION_TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {name}")


@cache
def of_engine() -> dict[str, str]:
    """Return the tables and indexes of the engine, by name."""
    return _by_name(*statements(script()))


@cache
def expected() -> dict[str, str]:
    """Return the statement that makes each thing that may be in a file, as SQLite keeps it."""
    return of_engine() | _by_name(*DERIVED, *_INTERNAL)


def _by_name(*made: str) -> dict[str, str]:
    found = {}
    for statement in made:
        head = _HEAD.search(statement)
        if head is not None:
            found[head[2]] = statement[head.start() :].strip().removesuffix(";")
    return found


def _is_alike(kind: object, name: object, sql: object, made: str | None) -> bool:
    """Return whether a statement creates the expected object; None: any plain table or index."""
    head = _HEAD.match(sql) if isinstance(sql, str) else None
    if head is None or (head[1].lower(), head[2]) != (kind, name):
        return False
    if made is None and kind != "trigger" and not head[0].startswith("CREATE VIRTUAL"):
        return True
    return _normalised(head.string) == _normalised(made or expected().get(head[2], ""))


def _normalised(sql: str) -> object:
    """Return the meaning of a statement, independent of its spelling.

    The order of the columns does not count, since later ones come last. NOT NULL does not count
    either: it cannot be changed for an existing column.
    """
    tokens = [one.strip('"') for one in _TOKEN.findall(sql) if not _SKIPPED.match(one)]
    if tokens[:2] != ["CREATE", "TABLE"] or "(" not in tokens:
        return tokens
    begin = tokens.index("(") + 1
    definitions: list[list[str]] = [[]]
    depth, end = 1, begin
    while depth and end < len(tokens):
        word = tokens[end]
        depth += (word == "(") - (word == ")")
        if depth == 1 and word == ",":
            definitions.append([])
        elif depth:
            definitions[-1].append(word)
        end += 1
    texts = sorted(" ".join(one).replace(" NOT NULL", "") for one in definitions)
    return tokens[:begin], texts, tokens[end:]
