"""A file of an earlier schema, as its own code wrote it, is brought to today's with its mail."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mq9 import Mq9Client
from mq9.storage import store


@pytest.fixture
def of_schema_1(path):
    """A file with three messages, one of them leased by the group workers, and a delayed one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("schema_1.sql").read_text("utf-8"))
    return path


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def schema_of(path):
    """The columns of each table, and the statements of all else, but for what is derived."""
    columns = query(
        path,
        "SELECT t.name, c.name, c.type, c.dflt_value, c.pk FROM sqlite_schema t"
        " JOIN pragma_table_info(t.name) c WHERE t.type='table'"
        " AND t.name NOT LIKE 'agents_%' AND t.name NOT LIKE 'sqlite_%'",
    )
    return set(columns), set(
        query(path, "SELECT name, sql FROM sqlite_schema WHERE type<>'table' AND sql IS NOT NULL")
    )


def test_schema_1_becomes_todays(of_schema_1, tmp_path):
    store.open_file(of_schema_1).close()
    store.open_file(tmp_path / "new.db").close()
    assert schema_of(of_schema_1) == schema_of(tmp_path / "new.db")
    assert query(of_schema_1, "SELECT look_policy FROM mailboxes") == [("granted",)] * 2
    backup = of_schema_1.with_name(f"{of_schema_1.name}.schema-1.backup")
    assert query(backup, "PRAGMA user_version") == [(1,)]
    assert query(backup, "SELECT count(*) FROM messages") == [(3,)]


async def test_schema_1_keeps_its_mail(of_schema_1, url):
    async with Mq9Client(url, agent="alice") as client:
        found = await client.query("inbox", correlation_id="c1")
        assert [(one.text, one.key) for one in found] == [("message 1", "k1")]
        status = await client.mailbox_status("inbox", group_name="workers")
        assert (status.stored, status.delayed, status.desc) == (3, 1, "For schema 1")
        left = await client.fetch("inbox", group_name="workers", num_msgs=10)
        assert [one.text for one in left] == ["message 1", "message 2"]
        assert await client.send("inbox", "message 0", id="id0", key="k0") == 0
