"""Which files a broker opens, what it makes of them, and what it leaves as it was."""

import asyncio
import os
import shutil
import sqlite3
import stat

import pytest
from waiting import until

from mq9 import Mq9Client, Unavailable, UnusableFile
from mq9.storage import store

PAGE = 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mail" / "mq9.db"


@pytest.fixture
async def good(path, url):
    """A file with some mail in it that nobody has open."""
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        for number in range(50):
            await client.send("inbox", f"{number} ".ljust(3_000, "x"))
    return path


def contents(path):
    """Everything that lies beside the file, and the file itself."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}


def set_pragma(path, text):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {text}")
    connection.close()


async def assert_refused(path, url, reason):
    before = contents(path)
    for _ in range(2):
        with pytest.raises(UnusableFile, match=reason) as caught:
            await Mq9Client.connect(url)
        assert str(path) in str(caught.value)
    assert contents(path) == before


async def test_a_closed_file_is_alone_and_only_its_owner_may_read_it(good):
    assert list(contents(good)) == ["mq9.db"]
    if os.name == "posix":
        assert stat.S_IMODE(good.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="rights are different elsewhere")
async def test_the_files_beside_an_open_one_are_as_private_as_it_is(path, url):
    old = os.umask(0)
    try:
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="inbox")
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"mq9.db": 0o600, "mq9.db-wal": 0o600, "mq9.db-shm": 0o600}


async def test_an_empty_file_is_filled(path, url):
    path.parent.mkdir()
    path.touch()
    async with Mq9Client(url) as client:
        assert await client.mailbox_create(name="inbox") == "inbox"


async def test_a_database_that_was_made_and_never_filled_is_filled(path, url):
    path.parent.mkdir()
    set_pragma(path, "journal_mode=WAL")
    assert path.stat().st_size
    async with Mq9Client(url) as client:
        assert await client.mailbox_create(name="inbox") == "inbox"


async def test_who_opens_a_file_that_another_is_about_to_fill_waits(path, url, statements):
    path.parent.mkdir()
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute("CREATE TABLE t (x)")
    first.execute("DROP TABLE t")
    first.execute("BEGIN IMMEDIATE")
    opening = asyncio.create_task(asyncio.to_thread(store.open_file, path))
    await until(lambda: "PRAGMA journal_mode=WAL" in statements)
    assert not opening.done()
    first.execute("ROLLBACK")
    first.close()
    (await opening).close()
    async with Mq9Client(url) as client:
        assert await client.mailbox_create(name="inbox") == "inbox"


@pytest.mark.parametrize("length", [1, 50, 99, 100, 511, PAGE - 1, PAGE, PAGE + 1, 20 * PAGE])
async def test_a_truncated_file_is_refused(good, url, length):
    good.write_bytes(good.read_bytes()[:length])
    await assert_refused(good, url, "damaged")


async def test_a_file_with_any_page_overwritten_is_refused(good, url):
    data = good.read_bytes()
    for start in range(PAGE, len(data), PAGE):
        good.write_bytes(data[:start] + b"\xa5" * PAGE + data[start + PAGE :])
        await assert_refused(good, url, "damaged")


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\xff" * 100, b"SQLite format 3\0" + b"x" * 84])
async def test_a_file_with_a_damaged_beginning_is_refused(good, url, garbage):
    good.write_bytes(garbage + good.read_bytes()[len(garbage) :])
    await assert_refused(good, url, "damaged|another program")


async def test_a_text_file_is_refused(path, url):
    path.parent.mkdir()
    path.write_text("Dear diary, " * 100)
    await assert_refused(path, url, "not a database of mq9")


@pytest.mark.parametrize("journal", ["wal", "delete"])
async def test_the_database_of_another_program_is_refused(path, url, journal):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("CREATE TABLE cookies (id)")
    connection.close()
    await assert_refused(path, url, "another program")


async def test_the_file_of_a_newer_version_is_refused(good, url):
    set_pragma(good, f"user_version={store.VERSION + 1}")
    await assert_refused(good, url, f"newer version.*schema {store.VERSION + 1}")


async def test_a_directory_is_refused(path, url):
    path.mkdir(parents=True)
    with pytest.raises(UnusableFile, match="cannot be opened: Is a directory"):
        await Mq9Client.connect(url)


async def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "note").write_text("I am no directory")
    with pytest.raises(UnusableFile, match="cannot be opened"):
        await Mq9Client.connect(f"sqlite:///{(tmp_path / 'note' / 'mq9.db').as_posix()}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write anywhere")
@pytest.mark.parametrize("read_only", ["the file", "its directory"])
async def test_what_may_only_be_read_is_refused(good, url, read_only):
    what = good if read_only == "the file" else good.parent
    mode = what.stat().st_mode
    what.chmod(mode & ~0o222)
    try:
        await assert_refused(good, url, "cannot be opened")
    finally:
        what.chmod(mode)


@pytest.fixture
async def left_behind(good, url, tmp_path):
    """A copy as a killed process leaves it, with news in the log beside the file."""
    directory = tmp_path / "copy"
    async with Mq9Client(url) as client:
        await client.send("inbox", "the latest")
        directory.mkdir()
        for name in ("mq9.db", "mq9.db-wal"):
            shutil.copy(good.with_name(name), directory)
    return directory / good.name


async def test_a_log_left_behind_is_read(left_behind):
    async with Mq9Client(f"sqlite:///{left_behind.as_posix()}") as client:
        messages = await client.query("inbox", limit=1)
    assert [message.text for message in messages] == ["the latest"]
    assert list(contents(left_behind)) == ["mq9.db"]


async def test_a_damaged_file_with_a_log_beside_it_is_refused_and_both_are_left(left_behind):
    data = left_behind.read_bytes()
    left_behind.write_bytes(data[: 9 * PAGE] + b"\xa5" * PAGE + data[10 * PAGE :])
    before = contents(left_behind)
    with pytest.raises(UnusableFile, match="damaged"):
        await Mq9Client.connect(f"sqlite:///{left_behind.as_posix()}")
    assert contents(left_behind).items() >= before.items()


async def test_a_newer_version_that_stands_only_in_the_log_is_noticed(good, tmp_path):
    connection = sqlite3.connect(good)
    connection.execute(f"PRAGMA user_version={store.VERSION + 1}")
    for name in ("mq9.db", "mq9.db-wal"):
        shutil.copy(good.with_name(name), tmp_path)
    connection.close()
    with pytest.raises(UnusableFile, match="newer version"):
        store.open_file(tmp_path / good.name)


async def test_damage_in_a_file_too_large_to_check_shows_when_it_is_read(good, url, monkeypatch):
    monkeypatch.setattr(store, "_CHECKED_BYTES", 0)
    data = good.read_bytes()
    middle = len(data) // PAGE * 2 // 3 * PAGE
    good.write_bytes(data[:middle] + b"\xa5" * (10 * PAGE) + data[middle + 10 * PAGE :])
    async with Mq9Client(url, reconnect_attempts=0) as client:
        with pytest.raises(Unavailable, match="storage failed: database disk image is malformed"):
            await client.query("inbox", max_bytes=64 * 1024 * 1024)
        assert (await client.query("inbox", msg_id=0))[0].text.startswith("0 ")


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_how_durable_it_is_decides_whether_a_commit_waits_for_the_disk(
    tmp_path, durability, synchronous
):
    connection = store.open_file(tmp_path / "mq9.db", store.Durability(durability))
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_who_looks_into_a_file_that_somebody_opens_meanwhile_sees_what_that_one_writes(good):
    opened = []

    def look(connection):
        if not opened:
            opened.append(store.open_file(good))
            opened[0].execute("DELETE FROM messages")
        return connection.execute("SELECT count(*) FROM messages").fetchone()

    try:
        assert store.look_into(good, look) == (0,)
    finally:
        opened[0].close()
