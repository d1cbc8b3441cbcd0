"""A file from anywhere: what is in it that mq9 did not make is refused, and nothing of it runs."""

import os
import re
import socket
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from python_programs import run_python

from mq9 import Mq9Client, Unavailable, UnusableFile
from mq9.discovery.index import AGENT_INDEX
from mq9.storage import store

AUTOMATIC = "INSERT INTO messages SELECT * FROM messages WHERE 0"
FOREIGN = {
    "a trigger": f"CREATE TRIGGER spy AFTER INSERT ON messages BEGIN {AUTOMATIC}; END",
    "a trigger with the name of ours": "DROP TRIGGER messages_removed; CREATE TRIGGER "
    f"messages_removed AFTER DELETE ON messages BEGIN {AUTOMATIC}; END",
    "a view": "CREATE VIEW spy AS SELECT * FROM messages",
    "a view in the place of a table": "DROP TABLE erased; "
    "CREATE VIEW erased AS SELECT 1 AS mailbox",
    "a table": "CREATE TABLE spy (x)",
    "a virtual table": "CREATE VIRTUAL TABLE spy USING fts5(x)",
    "a virtual table in the place of ours": "DROP TABLE agents_text; "
    "CREATE VIRTUAL TABLE agents_text USING fts5(name, description, skills, rest, "
    "content='messages')",
    "an index": "CREATE INDEX spy ON messages (abs(msg_id))",
    "an index with the name of ours": "DROP INDEX leases_end; "
    "CREATE INDEX leases_end ON leases (abs(until_ms))",
    "a computed column": "ALTER TABLE messages ADD COLUMN spy TEXT AS (upper(key))",
    "a check": "DROP TABLE erased; CREATE TABLE erased "
    "(mailbox INTEGER PRIMARY KEY CHECK (mailbox < abs(1))) STRICT",
    "another option": "DROP TABLE erased; CREATE TABLE erased (mailbox INTEGER PRIMARY KEY)",
}
HIDDEN = (
    "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) "
    "VALUES ('table', 'sqlite_stat1', 'messages', 0, "
    "'CREATE TRIGGER spy AFTER INSERT ON messages BEGIN SELECT 1; END')"
)
DESCRIPTORS = Path("/proc/self/fd")
HUGE_TOKEN = "UPDATE checkpoints SET token=zeroblob(84934656)"
# Opens a file, for which a test waits no longer than it says.
OPEN = """
import sys
from pathlib import Path
from mq9 import UnusableFile
from mq9.storage import store

try:
    store.open_file(Path(sys.argv[1]))
except UnusableFile as error:
    print(error)
"""
HUGE = "UPDATE messages SET payload=zeroblob(84934656) WHERE mailbox=1"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mq9.db"
    with closing(store.open_file(path)) as connection:
        AGENT_INDEX.open(connection)
    return path


def url(path):
    return f"sqlite:///{path.as_posix()}"


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


async def assert_refused(path, match):
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    for use in (store.open_file, lambda one: store.look_into(one, lambda _: None)):
        with pytest.raises(UnusableFile, match=match) as refused:
            use(path)
        assert str(path) in str(refused.value)
    with pytest.raises(UnusableFile, match=match):
        await Mq9Client.connect(url(path))
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


@pytest.mark.parametrize("script", [*FOREIGN.values(), HIDDEN], ids=[*FOREIGN, "hidden"])
async def test_what_mq9_did_not_make_is_refused(path, script):
    change(path, script)
    await assert_refused(path, "mq9 did not make|in a form of its own|damaged")


async def test_a_file_that_lacks_something_is_refused(path):
    change(path, "DROP INDEX leases_end")
    await assert_refused(path, "lacks the table or index 'leases_end'")


def test_statistics_of_sqlite_and_comments_are_no_strangers(path):
    change(path, "ANALYZE")
    store.open_file(path).close()


async def test_functions_in_what_a_file_says_are_not_trusted(path):
    with closing(store.open_file(path)) as connection:
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


async def test_a_payload_larger_than_any_limit_is_not_loaded_and_the_rest_can_be_used(path):
    async with Mq9Client(url(path)) as client:
        for name in ("inbox", "other"):
            await client.mailbox_create(name=name)
            await client.send(name, "hello")
    change(path, HUGE)
    async with Mq9Client(url(path), reconnect_attempts=0) as client:
        said = "holds a value that is larger than any that mq9 stores.*drop the mailbox"
        with pytest.raises(Unavailable, match=said):
            await client.fetch("inbox", group_name="g", max_wait_ms=0)
        with pytest.raises(Unavailable, match=said):
            await client.query("inbox")
        assert [one.text for one in await client.query("other")] == ["hello"]
        await client.mailbox_drop("inbox")
        assert await client.fetch("other", group_name="g", max_wait_ms=0)


def opened():
    """The files that this process has open, where something tells."""
    return {os.path.realpath(one) for one in DESCRIPTORS.glob("*")}


async def test_nor_is_a_token_of_the_file(path):
    change(path, HUGE_TOKEN)
    with pytest.raises(UnusableFile, match="cannot be opened: string or blob too big"):
        await Mq9Client.connect(url(path))
    assert str(path) not in opened()


@pytest.fixture(params=["fifo", "socket", "device", "directory"])
def special(request, tmp_path):
    path = tmp_path / "special"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.programs
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
@pytest.mark.parametrize(
    "arguments", [["status", "inbox"], ["doctor"], ["doctor", "--digest", "{path}"]]
)
def test_what_is_no_file_is_a_clear_error_and_no_wait(special, arguments):
    arguments = [one.format(path=special) for one in arguments]
    done = run_python("-m", "mq9", "--url", url(special), *arguments)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    refusals = (f"{special.resolve()} cannot be opened: ", f"{special.resolve()} is not a file")
    assert any(one in said for one in refusals)
    assert "Traceback" not in said


@pytest.mark.programs
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_nor_is_there_one_where_something_else_lies_beside_the_file(path, suffix):
    beside = path.with_name(path.name + suffix)
    os.mkfifo(beside)
    link = path.with_name("link")
    link.symlink_to(path)
    for one in (path, link):
        done = run_python("-c", OPEN, one)
        said = f"{suffix} cannot be opened: it is a FIFO.*; remove it"
        assert re.search(said, done.stdout), done.stderr


def test_a_link_to_nothing_is_a_clear_error(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(UnusableFile, match="link cannot be opened: No such file"):
        store.open_file(link)


@pytest.mark.skipif(os.name != "posix", reason="rights are other ones there")
def test_directories_that_are_made_are_their_owners_only(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "a" / "b" / "mq9.db"
    mask = os.umask(0)
    try:
        store.open_file(path).close()
    finally:
        os.umask(mask)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (tmp_path, *path.parents[:2], path)]
    assert modes == [0o755, 0o700, 0o700, 0o600]
