"""A server whose disk is full, and then no longer."""

import asyncio
import os
import re
import resource
import shutil
import sqlite3
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import namespaces
import pytest
from serving import Serving
from users_file import write_users
from waiting import until

from mq9 import BrokerFailed, Mq9Client
from tests.cluster.traffic import everything

MIB = 1024 * 1024
BODY = "x" * 20_000
MOST = 2_000  # messages; far more than there is room for


class SmallDisk:
    """A file system of 12 MiB that only the server sees, half of it taken by another file."""

    def __init__(self, directory):
        self._directory = directory / "disk"
        self._directory.mkdir()
        script = 'mount -t tmpfs -o size=12m none "$0" && exec "$@"'
        who = () if os.geteuid() == 0 else ("--map-root-user",)
        self.prefix = ("unshare", *who, "--mount", "sh", "-c", script, str(self._directory))
        self.data = self._directory / "mq9.db"
        self._pid = None

    def why_not(self):
        """Why there can be none here, if so."""
        if shutil.which("unshare") is None:
            return "there is no unshare"
        done = subprocess.run([*self.prefix, "true"], capture_output=True, text=True, check=False)
        return done.stderr.strip() or None

    def begin(self, pid):
        self._pid = pid
        self.there(self._directory / "filler").write_bytes(bytes(6 * MIB))

    def end(self):
        self.there(self._directory / "filler").unlink()

    def there(self, path):
        """Where this process finds a path of the server's."""
        return Path(f"/proc/{self._pid}/root{path}")


class SmallFiles:
    """A limit on how large the files of the server may grow."""

    prefix = ()

    def __init__(self, directory):
        self.data = directory / "mq9.db"
        self._pid = None

    def why_not(self):
        return None if hasattr(resource, "prlimit") else "this system has no prlimit"

    def begin(self, pid):
        self._pid = pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (3 * MIB, resource.RLIM_INFINITY))

    def end(self):
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, infinite)

    def there(self, path):
        return path


@pytest.fixture(params=[SmallDisk, SmallFiles], ids=lambda kind: kind.__name__)
def small(request, tmp_path):
    small = request.param(tmp_path)
    if reason := small.why_not():
        pytest.skip(reason)
    return small


async def send(client, stored, count):
    for number in range(len(stored), len(stored) + count):
        stored += [await client.send("inbox", f"{number} {BODY}")]


async def fill(client, stored):
    """Send until it is refused; with what words."""
    try:
        await send(client, stored, MOST)
    except BrokerFailed as refusal:
        return str(refusal)
    raise AssertionError("there was room for everything")


@pytest.mark.programs
async def test_a_full_disk_refuses_what_it_cannot_store_and_nothing_else(tmp_path, small):
    serving = Serving(tmp_path, "--data", str(small.data), admin=True, prefix=small.prefix)
    async with serving, Mq9Client(serving.url, reconnect_attempts=0) as client:
        small.begin(serving.process.pid)
        await client.mailbox_create(name="inbox")
        stored = []
        refusal = await fill(client, stored)
        assert re.search("storage failed: .*; nothing of this request was stored", refusal)
        assert stored

        for _ in range(3):  # and it stays like that, without anything breaking
            with pytest.raises(BrokerFailed):
                await client.send("inbox", f"too much {BODY}")
            assert len(await client.query("inbox", limit=1_000)) == len(stored)
        assert (await client.mailbox_status("inbox")).stored == len(stored)
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(serving.metrics_url)).text
            ready = await http.get(serving.metrics_url.replace("metrics", "readyz"))
            assert (ready.status_code, ready.json()["reason"]) == (503, "storage")
        assert 'mq9_operations_total{code="broker_failed",verb="MSG.SEND"} 4.0' in metrics
        assert "the storage failed" in serving.told

        small.end()
        await send(client, stored, 50)
        async with httpx.AsyncClient() as http:
            ready = await http.get(serving.metrics_url.replace("metrics", "readyz"))
        assert ready.json() == {"ready": True}
        messages = await everything(client, "check")
        assert [message.msg_id for message in messages] == stored
        assert [message.text for message in messages] == [f"{n} {BODY}" for n in range(len(stored))]
        for part in small.there(small.data).parent.glob("mq9.db*"):
            shutil.copy(part, tmp_path / f"copy.{part.name}")

        serving.kill()
    connection = sqlite3.connect(tmp_path / "copy.mq9.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*) FROM messages").fetchone() == (len(stored),)
    connection.close()


ADA = '[[users]]\nagent = "Ada"\ntoken = "ada-token"\n'


@pytest.fixture
def disk(tmp_path):
    """A file system of 12 MiB, which stays when a server ends."""
    if reason := namespaces.why_not():
        pytest.skip(f"no mount namespaces: {reason}")
    with ExitStack() as stack:
        yield namespaces.SmallDisk(tmp_path / "disk", 12, stack)


def with_token(url, token):
    return url.replace("://", f"://{token}@")


@pytest.mark.programs
@pytest.mark.parametrize(("end", "index_stays"), [("stop", False), ("kill", True), ("kill", False)])
async def test_a_server_starts_on_a_full_disk_and_writes_when_there_is_room(
    tmp_path, disk, end, index_stays
):
    """Also if it was killed, with and without the index of its log."""
    users = write_users(tmp_path, ADA)
    options = ("--data", str(tmp_path / "disk" / "mq9.db"), "--users", str(users))
    async with Serving(tmp_path, *options, admin=True, prefix=disk.prefix) as serving:
        async with Mq9Client(with_token(serving.url, "ada-token")) as client:
            await client.mailbox_create(name="inbox")
            stored = []
            await send(client, stored, 20)
            await client.fetch("inbox", group_name="g", num_msgs=5)
        getattr(serving, end)()
        await serving.ended()
        if not index_stays:
            disk.there("mq9.db-shm").unlink(missing_ok=True)
        disk.fill(0)
        await asyncio.to_thread(serving.start)
        assert ("changes are refused until there is room" in serving.told) is not index_stays
        async with Mq9Client(with_token(serving.url, "ada-token"), reconnect_attempts=0) as client:
            found = await client.query("inbox", limit=100)
            assert [message.msg_id for message in found] == stored
            assert (await client.mailbox_status("inbox", group_name="g")).group.leased
            for change in (
                lambda: client.send("inbox", "no room"),
                lambda: client.mailbox_create(name="another"),
                lambda: client.fetch("inbox", group_name="other"),
            ):
                with pytest.raises(BrokerFailed, match="disk is full"):
                    await change()
            assert len(await client.query("inbox", limit=100)) == len(stored)

            disk.empty()
            await send(client, stored, 50)
            messages = await everything(client, "check")
            assert [message.msg_id for message in messages] == stored
        serving.stop()
        assert await serving.ended() == 0
        await asyncio.to_thread(serving.start)  # from now on others may open it again
        async with Mq9Client(with_token(serving.url, "ada-token")) as client:
            assert (await client.mailbox_status("inbox")).stored == len(stored)
        assert serving.told.count("changes are refused") == (0 if index_stays else 1)


@pytest.mark.programs
async def test_names_that_a_full_disk_keeps_from_their_agents_are_claimed_later(tmp_path, disk):
    file = ("--data", str(tmp_path / "disk" / "mq9.db"))
    async with Serving(tmp_path, *file, prefix=disk.prefix) as serving:
        async with Mq9Client(serving.url) as anonymous:
            await anonymous.mailbox_create(name="ada")
        serving.stop()
        await serving.ended()
    disk.fill(0)
    users = write_users(tmp_path, ADA)
    options = (*file, "--users", str(users))
    async with Serving(tmp_path, *options, prefix=disk.prefix) as serving:
        assert "the names of the agents are claimed later" in serving.told
        disk.empty()
        await until(
            lambda: "mailboxes that now belong to the agents of their names" in serving.told
        )
        async with Mq9Client(with_token(serving.url, "ada-token")) as ada:
            assert (await ada.mailbox_status("ada")).own


@pytest.mark.programs
def test_a_full_disk_without_a_file_is_named(tmp_path, disk):
    disk.fill(0)
    serving = Serving(tmp_path, "--data", str(tmp_path / "disk" / "mq9.db"), prefix=disk.prefix)
    with pytest.raises(AssertionError, match="there is no room on its disk"):
        serving.start()
    serving.__exit__()
