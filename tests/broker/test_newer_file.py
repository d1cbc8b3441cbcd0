"""A program on a file that a newer version of mq9 has written, or brings up to date meanwhile."""

import asyncio
import hashlib
import os
import sqlite3
from contextlib import closing

import pytest
from python_programs import run_python
from waiting import until_fetching

from langchain_mq9 import Mq9Toolkit
from mq9 import Mq9Client, Unavailable, UnusableFile
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli.serve import running
from mq9.clock import SystemClock
from mq9.server.settings import ServerSettings
from mq9.storage import store
from mq9.testing import FakeBroker

SAID = (
    f"was written by a newer version of mq9 (schema {store.VERSION + 1}, this one knows "
    f"{store.VERSION}); upgrade langchain-mq9"
)


def migrate(path):
    """Do to a file what a newer version might, in one transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ALTER TABLE messages ADD COLUMN of_the_future TEXT")
        connection.execute("UPDATE mailboxes SET description='in a form of the future'")
        connection.execute(f"PRAGMA user_version={store.VERSION + 1}")
        connection.execute("COMMIT")


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.fixture
async def path(tmp_path):
    path = tmp_path / "mq9.db"
    async with Mq9Client(f"sqlite:///{path}") as client:
        await client.mailbox_create(name="inbox")
        await client.send("inbox", "from before")
    return path


@pytest.fixture
def newer(path):
    migrate(path)
    return path


class TestWhoeverOpensIt:
    """A newer file is refused on every way to open one, and is left as it was."""

    @pytest.fixture(autouse=True)
    def untouched(self, newer):
        before = hashlib.sha256(newer.read_bytes()).digest()
        yield
        assert hashlib.sha256(newer.read_bytes()).digest() == before
        assert sorted(one.name for one in newer.parent.iterdir()) == ["mq9.db"]

    async def test_as_a_client(self, newer):
        with pytest.raises(UnusableFile) as refusal:
            await Mq9Client.connect(f"sqlite:///{newer}")
        assert str(refusal.value) == f"{newer} {SAID}"

    async def test_as_a_server(self, newer):
        with pytest.raises(UnusableFile) as refusal:
            async with running(ServerSettings(data=newer, port=0, admin=False)):
                pass
        assert SAID in str(refusal.value)

    def test_as_a_fake_broker(self, newer):
        with pytest.raises(UnusableFile, match="newer version"), FakeBroker(path=newer):
            pass

    def test_as_a_model_s_tool(self, newer):
        with Mq9Toolkit(f"sqlite:///{newer}", agent="planner") as toolkit:
            tools = {tool.name: tool for tool in toolkit.get_tools()}
            assert SAID in tools["query_messages"].invoke({})

    @pytest.mark.programs
    @pytest.mark.parametrize(
        "arguments",
        [
            ["mailboxes"],
            ["send", "inbox", "x"],
            ["serve", "--port", "0", "--no-admin"],
            ["serve", "--port", "0", "--admin-port", "0", "--mcp", "--mcp-agent", "a"],
            ["doctor", "--port", "1", "--admin-port", "1"],
        ],
        ids=" ".join,
    )
    def test_as_a_command(self, newer, arguments):
        environment = {
            **os.environ,
            "MQ9_SERVER": f"sqlite:///{newer}",
            "MQ9_DATA": str(newer),
        }
        done = run_python("-m", "mq9", *arguments, env=environment, timeout=100)
        assert done.returncode == 1
        assert f"{newer} {SAID}" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


async def test_a_client_that_has_it_open_is_refused_from_the_moment_it_is_migrated(path):
    url = f"sqlite:///{path}"
    async with Mq9Client(url, reconnect_attempts=0) as client:
        await client.send("inbox", "still fine")
        migrate(path)
        before = rows(path)

        for call in (
            client.send("inbox", "x"),
            client.mailbox_create(name="other"),
            client.agent_register({"name": "a"}),
            client.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=0),
            client.fetch("inbox", deliver="earliest", max_wait_ms=0),
            client.query("inbox"),
            client.mailbox_status("inbox"),
            client.mailbox_list(),
        ):
            with pytest.raises(Unavailable) as refusal:
                await call
            assert SAID in str(refusal.value)
        assert rows(path) == before


async def test_who_waits_for_mail_is_told(path):
    url = f"sqlite:///{path}"
    async with Mq9Client(url, reconnect_attempts=0) as client:
        waiting = asyncio.create_task(
            client.fetch("inbox", group_name="g", deliver="new", max_wait_ms=30_000)
        )
        await until_fetching(client, "inbox", "g")
        migrate(path)

        with pytest.raises(Unavailable, match="newer version"):
            async with asyncio.timeout(20):
                await waiting


async def test_a_server_that_has_it_open_is_no_longer_ready(path):
    broker = EmbeddedBroker.on_file(path, SystemClock())
    try:
        await broker.check()
        migrate(path)
        with pytest.raises(Unavailable, match="newer version"):
            await broker.check()
        before = rows(path)
    finally:
        await broker.close()
    assert rows(path) == before


async def test_two_clients_of_it_in_one_process_are_refused_as_one(path):
    url = f"sqlite:///{path}"
    async with Mq9Client(url, reconnect_attempts=0) as first:
        migrate(path)
        async with Mq9Client(url, reconnect_attempts=0) as second:
            for client in (first, second):
                with pytest.raises(Unavailable, match="newer version"):
                    await client.query("inbox")


def test_a_file_that_is_migrated_while_it_is_opened_is_not_taken_back(path, monkeypatch):
    connect = sqlite3.connect

    def connect_late(database, *args, **options):
        if database == str(path):  # to write to it, once it was checked
            migrate(path)
        return connect(database, *args, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_late)
    with pytest.raises(UnusableFile, match="newer version"):
        store.open_file(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (store.VERSION + 1,)
