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
    return _written(path, 1)


@pytest.fixture
def of_schema_2(path):
    """A file as that of schema 1, where the agent alice has registered."""
    return _written(path, 2)


@pytest.fixture
def of_schema_3(path):
    """A file as that of schema 2, but message 0 is given back, and message 1 leased, by inbox."""
    return _written(path, 3)


def _written(path, version):
    with closing(sqlite3.connect(path)) as connection:
        script = Path(__file__).with_name(f"schema_{version}.sql").read_text("utf-8")
        connection.executescript(script)
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


def test_schema_2_becomes_todays(of_schema_2, tmp_path):
    store.open_file(of_schema_2).close()
    store.open_file(tmp_path / "new.db").close()
    assert schema_of(of_schema_2) == schema_of(tmp_path / "new.db")
    backup = of_schema_2.with_name(f"{of_schema_2.name}.schema-2.backup")
    assert query(backup, "PRAGMA user_version") == [(2,)]


async def test_sessions_are_told_of_the_mail_of_schema_2(of_schema_2, url):
    asked = {"host": "h", "session": "s", "occasion": "start"}
    async with Mq9Client(url, agent="alice") as client:
        left = await client.fetch("inbox", num_msgs=10)
        assert [one.text for one in left] == ["message 0", "message 1", "message 2"]
        notice = await client.notice("inbox", **asked)
        assert (notice.told, notice.unread.total, notice.new.total) == (True, 2, 2)
        assert not (await client.notice("inbox", **asked)).told


def test_schema_3_becomes_todays(of_schema_3, tmp_path):
    store.open_file(of_schema_3).close()
    store.open_file(tmp_path / "new.db").close()
    assert schema_of(of_schema_3) == schema_of(tmp_path / "new.db")
    backup = of_schema_3.with_name(f"{of_schema_3.name}.schema-3.backup")
    assert query(backup, "PRAGMA user_version") == [(3,)]


async def test_what_was_leased_under_schema_3_is_promised_and_given_back(of_schema_3, url):
    async with Mq9Client(url, agent="alice") as client:
        found = await client.query("inbox", group_name="inbox")
        assert [one.standing.state for one in found] == ["given_back", "leased", "pending"]
        assert [(one.answer_by, one.overdue, one.standing.reason) for one in found] == [
            (None, False, None)
        ] * 3
        [left] = await client.fetch("inbox", group_name="inbox", num_msgs=10)
        await left.promise(4_102_448_400, "one line")
        await left.nack(reason="a comma is missing")
        [_, _, back] = await client.query("inbox", group_name="inbox")
        assert (back.standing.reason, back.standing.promise) == ("a comma is missing", None)
