"""The digest is equal for equal states, and different for different ones."""

import sqlite3
import tracemalloc
from contextlib import closing

import pytest
from calls import call, carry_out

from mq9.discovery.index import AGENT_INDEX
from mq9.engine.state import NOT_STATE, STATE, digest
from mq9.protocol import requests

START_MS = 1_700_000_000_000
VALUES = {"INTEGER": (1, 2), "TEXT": ("1", "2"), "BLOB": (b"1", b"2")}


def tables(connection):
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")
    return {name for (name,) in found if not name.startswith("sqlite_")}


def columns(connection, table):
    """Return the name of each column, its type, and whether it may be NULL."""
    found = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [(name, type_, not (needed or key)) for _, name, type_, needed, _, key in found]


def fill(connection, table):
    """Put a row into a table, with a value in every column."""
    values = [VALUES[type_][0] for _, type_, _ in columns(connection, table)]
    marks = ",".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608  # our tables


def send_some(connection):
    """Store mail of several kinds, fetch it and register an agent."""
    carry_out(connection, call(requests.CreateMailbox), START_MS)
    for number in range(20):
        fields = {"key": f"k{number % 7}"} if number % 2 else {"delay": number}
        command = call(requests.Send, payload="ü\0'".encode(), sender="ada", **fields)
        carry_out(connection, command, START_MS + number)
    fetch = call(requests.Fetch, group_name="g", consumer="one", num_msgs=3)
    carry_out(connection, fetch, START_MS + 5_000)
    register = call(requests.Register, "cook", mailbox="cook", name="cook", payload=b"{}")
    carry_out(connection, register, START_MS + 5_000)


def test_every_table_of_the_schema_is_state_or_said_not_to_be(connection):
    assert tables(connection) == {*STATE, *NOT_STATE}
    assert not {*STATE} & {*NOT_STATE}


@pytest.mark.parametrize("table", STATE)
def test_each_row_and_each_value_of_the_state_counts(connection, table):
    empty = digest(connection)
    fill(connection, table)
    filled = digest(connection)
    assert filled != empty
    for name, type_, may_be_null in columns(connection, table):
        for value in (VALUES[type_][1], *([None] if may_be_null else [])):
            connection.execute("SAVEPOINT one")
            connection.execute(f"UPDATE {table} SET {name}=?", (value,))  # noqa: S608  # our tables
            assert digest(connection) not in {empty, filled}, (name, value)
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
    assert digest(connection) == filled


def test_the_ids_that_come_next_count(connection):
    before = digest(connection)
    carry_out(connection, call(requests.CreateMailbox), START_MS)
    carry_out(connection, call(requests.DropMailbox), START_MS)
    assert digest(connection) != before
    assert connection.execute("SELECT count(*) FROM mailboxes").fetchone() == (0,)


def test_rows_that_run_into_each_other_are_told_apart(connection):
    digests = set()
    for ids in [(1, 23), (12, 3), (123,), (1, 2, 3)]:
        connection.execute("DELETE FROM erased")
        connection.executemany("INSERT INTO erased VALUES (?)", [(one,) for one in ids])
        digests.add(digest(connection))
    assert len(digests) == 4


def test_the_file_and_what_is_derived_do_not_count(connection, tmp_path):
    send_some(connection)
    expected = digest(connection)
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as other:
        other.execute("PRAGMA page_size=512")
        connection.backup(other)
        other.execute("PRAGMA page_size=16384")
        other.execute("VACUUM")
        assert other.execute("PRAGMA page_size").fetchone() == (16384,)
        AGENT_INDEX.open(other)
        assert other.execute("SELECT count(*) FROM agents_text").fetchone() == (1,)
        other.execute("UPDATE checkpoints SET token=x'00'")
        assert digest(other) == expected


def test_the_order_of_rows_and_columns_does_not_count(connection):
    """As in a migrated file, whose newer columns come last."""
    send_some(connection)
    expected = digest(connection)
    stored = connection.execute("SELECT * FROM messages ORDER BY msg_id DESC").fetchall()
    names = [name for name, _, _ in columns(connection, "messages")]
    types = {name: type_ for name, type_, _ in columns(connection, "messages")}
    connection.execute("DROP TABLE messages")
    declared = ",".join(f"{name} {types[name]}" for name in reversed(names))
    connection.execute(f"CREATE TABLE messages ({declared}, PRIMARY KEY (mailbox, msg_id))")
    marks = ",".join("?" * len(names))
    insert = f"INSERT INTO messages ({','.join(names)}) VALUES ({marks})"  # noqa: S608  # our columns
    connection.executemany(insert, stored)
    assert digest(connection) == expected


def test_a_large_state_takes_no_more_memory(connection):
    connection.execute("BEGIN")
    for number in range(200):
        fill(connection, "messages")
        connection.execute(
            "UPDATE messages SET mailbox=?, payload=zeroblob(50000) WHERE mailbox=1", (number + 2,)
        )
    tracemalloc.start()
    try:
        digest(connection)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # of 10 MB
