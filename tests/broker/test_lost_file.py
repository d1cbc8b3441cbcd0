"""A file that is removed, replaced or cut off under a broker: noticed, and never success."""

import contextlib
import os
import shutil
import sqlite3

import httpx
import pytest
from calls import call
from serving import Serving
from waiting import until

from mq9 import Mq9Client, Unavailable
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SteadyClock, SystemClock
from mq9.engine.commands import Limits
from mq9.protocol.requests import CreateMailbox, Query, Send
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability

MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an open file cannot be taken away")


def beside(path, suffix):
    return path.with_name(path.name + suffix)


def remove(path, _copy):
    path.unlink()


def remove_all(path, _copy):
    for suffix in ("", "-wal", "-shm"):
        beside(path, suffix).unlink()


def rename(path, _copy):
    path.rename(path.with_name("elsewhere.db"))


def put_another_in_its_place(path, copy):
    copy.replace(path)


def overwrite(path, copy):
    shutil.copyfile(copy, path)


def overwrite_keeping_size_and_time(path, copy):
    before = path.stat()
    data = copy.read_bytes()[: before.st_size].ljust(before.st_size, b"\0")
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def empty(path, _copy):
    os.truncate(path, 0)


def remove_log(path, _copy):
    beside(path, "-wal").unlink()


def replace_log(path, _copy):
    beside(path, "-wal").rename(path.with_name("elsewhere-wal"))
    beside(path, "-wal").touch(0o600)


def cut_log(path, _copy):
    os.truncate(beside(path, "-wal"), 100)


def empty_log(path, _copy):
    os.truncate(beside(path, "-wal"), 0)


def forbid_log(path, _copy):
    beside(path, "-wal").chmod(0)


def remove_index(path, _copy):
    beside(path, "-shm").unlink()


ATTACKS = [
    *(remove, remove_all, rename, put_another_in_its_place, empty),
    *(overwrite, overwrite_keeping_size_and_time),
    *(remove_log, replace_log, cut_log, empty_log, forbid_log, remove_index),
]


@pytest.fixture(params=ATTACKS, ids=lambda attack: attack.__name__)
def attack(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "mq9.db"


@pytest.fixture
async def copy(tmp_path):
    """The closed database of another broker."""
    other = tmp_path / "other.db"
    async with Mq9Client(f"sqlite:///{other.as_posix()}") as client:
        await client.mailbox_create(name="theirs")
        await client.send("theirs", "x" * 10_000)
    return other


@pytest.fixture
async def backend(path):
    async with opened(path) as one:
        yield one


@contextlib.asynccontextmanager
async def opened(path):
    """A backend with a mailbox and a message that stand in the log."""
    one = FileBackend(path, SteadyClock(SystemClock()), Limits(), Durability.NORMAL, lambda _: None)
    try:
        await one.run(call(CreateMailbox, "inbox", token="first", renew=True))
        await one.run(call(Send, "inbox", payload=b"before"))
        yield one
    finally:
        await one.close()


def stamps(path):
    return {
        one.name: (one.stat().st_ino, one.stat().st_mtime_ns, one.stat().st_size)
        for one in path.parent.iterdir()
        if not one.name.endswith("-shm")
    }


async def test_no_send_succeeds_once_the_file_is_not_what_it_was(
    backend, path, copy, attack, caplog
):
    attack(path, copy)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"lost its file: .*mq9"):
            await backend.run(call(Send, "inbox", payload=b"after"))
    with pytest.raises(Unavailable, match="lost its file"):
        await backend.read(call(Query, "inbox"))
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "requests are refused: put the file back, or a copy of it" in record.getMessage()


@pytest.mark.parametrize(
    "attack",
    [one for one in ATTACKS if one not in {remove_log, forbid_log, remove_index}],
    ids=lambda one: one.__name__,
)
async def test_a_broker_that_nobody_asks_notices_by_itself_and_leaves_what_is_there(
    path, copy, attack, caplog
):
    async with opened(path):
        attack(path, copy)
        after = stamps(path)
        await until(lambda: caplog.records)
    assert stamps(path) == after  # closing it has not written the log into what lies there now


@pytest.mark.parametrize(
    "attack", [remove_log, forbid_log, remove_index], ids=lambda one: one.__name__
)
async def test_what_stands_in_a_log_that_is_gone_is_kept_when_the_broker_is_closed(
    path, copy, attack
):
    async with opened(path) as backend:
        attack(path, copy)
        with pytest.raises(Unavailable):
            await backend.run(call(Send, "inbox", payload=b"after"))
    async with opened(path) as backend:
        found = await backend.read(call(Query, "inbox"))
    assert [one.payload for one in found.messages] == [b"before", b"before"]


async def test_an_older_copy_of_the_same_file_is_noticed(path, tmp_path):
    older = tmp_path / "older.db"
    async with opened(path):
        pass
    shutil.copyfile(path, older)
    async with opened(path):
        pass  # what it wrote is in the file now, and not in the copy
    async with opened(path) as backend:
        shutil.copyfile(older, path)
        with pytest.raises(Unavailable, match="overwritten by another database or an older copy"):
            await backend.run(call(Send, "inbox", payload=b"after"))


async def test_checkpoints_of_any_process_are_no_reason_for_alarm(path):
    with contextlib.ExitStack() as stack:
        async with opened(path) as one, opened(path) as another:
            outsider = stack.enter_context(contextlib.closing(sqlite3.connect(path)))
            for number in range(24):
                backend = (one, another)[number % 2]
                await backend.run(call(Send, "inbox", payload=bytes(MIB)))
                if number % 5 == 4:
                    mode = ("PASSIVE", "RESTART")[number // 5 % 2]
                    outsider.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            assert path.stat().st_size > 10 * MIB
            for backend in (one, another):
                found = await backend.read(call(Query, "inbox", max_bytes=1))
                assert found.messages


async def test_a_log_that_another_program_has_emptied_into_the_file_is_no_reason_for_alarm(path):
    async with opened(path) as backend:
        with contextlib.closing(sqlite3.connect(path)) as outsider:
            outsider.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert beside(path, "-wal").stat().st_size == 0
        await backend.run(call(Send, "inbox", payload=b"after"))


async def test_each_checkpoint_renews_what_tells_the_file_from_its_copies(path):
    async with opened(path) as backend:
        seen = set()
        with contextlib.closing(sqlite3.connect(path)) as outsider:
            for _ in range(3):
                await backend.run(call(Send, "inbox", payload=b""))
                outsider.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                await backend.run(call(Send, "inbox", payload=b""))
                seen.add(outsider.execute("SELECT token FROM checkpoints").fetchone())
    assert len(seen) == 3


async def test_a_file_that_is_put_back_serves_again_after_a_restart(path):
    async with opened(path) as backend:
        for suffix in ("", "-wal", "-shm"):
            beside(path, suffix).rename(path.with_name(f"kept{suffix}"))
        with pytest.raises(Unavailable):
            await backend.run(call(Send, "inbox", payload=b"after"))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"kept{suffix}").rename(beside(path, suffix))
    async with opened(path) as backend:
        found = await backend.read(call(Query, "inbox"))
        assert [one.payload for one in found.messages] == [b"before", b"before"]


async def test_an_embedded_broker_is_not_ready_without_its_file(path):
    broker = EmbeddedBroker.on_file(path, SystemClock())
    await broker.check()
    path.unlink()
    with pytest.raises(Unavailable, match="lost its file"):
        await broker.check()
    await broker.close()


@pytest.mark.programs
@pytest.mark.parametrize("attack", [remove, overwrite, remove_log], ids=lambda one: one.__name__)
async def test_a_server_says_that_it_is_not_ready_and_serves_the_restored_file_when_restarted(
    attack, path, copy, tmp_path
):
    path.parent.mkdir()
    backup = tmp_path / "backup.db"
    serving = Serving(tmp_path, "--data", str(path), admin=True)
    async with serving:
        async with Mq9Client(serving.url, reconnect_attempts=0) as client:
            await client.mailbox_create(name="inbox")
            await client.send("inbox", "kept")
        serving.stop()
        assert await serving.ended() == 0
        shutil.copyfile(path, backup)
        serving.start()
        ready = serving.metrics_url.replace("/metrics", "/readyz")
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(ready)).status_code == 200
            attack(path, copy)
            async with Mq9Client(serving.url, reconnect_attempts=0) as client:
                with pytest.raises(Unavailable, match="lost its file"):
                    await client.send("inbox", "lost")
            answer = await http.get(ready)
        assert (answer.status_code, answer.json()["reason"]) == (503, "storage")
        assert serving.told.count("put the file back") == 1
        serving.stop()
        assert await serving.ended() == 0
        for suffix in ("-wal", "-shm"):
            beside(path, suffix).unlink(missing_ok=True)
        shutil.copyfile(backup, path)
        serving.start()
        async with Mq9Client(serving.url) as client:
            assert [one.text for one in await client.query("inbox")] == ["kept"]
