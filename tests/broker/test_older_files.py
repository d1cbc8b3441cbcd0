"""Files that earlier versions have written are migrated once, with a backup beside them.

The files are in `older_files`, made by the code of those versions. The first edition's is schema 2.
"""

import gzip
import logging
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mq9 import IdConflict, MailboxNotFound, Mq9Client, UnusableFile
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Session
from mq9.engine.digest import NOT_STATE, STATE, digest
from mq9.models import Priority
from mq9.storage import store
from mq9.testing import ManualClock
from mq9.transport.direct import DirectTransport

HERE = Path(__file__).parent
WRITTEN_S = 1_800_000_010  # the last instant at which something was written to them
HOUR_S = 3_600
SCHEMAS = range(2, store.VERSION)
NAME = "mq9.db"
# What the backup of SQLite counts on by itself in the first page: changes, and those of the schema.
COUNTERS = {27, 43, 95}


def written_by(schema):
    return gzip.decompress((HERE / "older_files" / f"schema-{schema}.db.gz").read_bytes())


@pytest.fixture(params=SCHEMAS)
def schema(request):
    return request.param


@pytest.fixture
def path(tmp_path, schema):
    path = tmp_path / NAME
    path.write_bytes(written_by(schema))
    path.chmod(0o600)
    return path


@pytest.fixture
def first_edition(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(written_by(2))
    return path


@pytest.fixture
async def opened(path):
    """A client of a broker on the file, at the instant at which it was written last."""
    broker = EmbeddedBroker.on_file(path, ManualClock(WRITTEN_S))

    async def release():
        """The broker is closed below."""

    transport = DirectTransport(broker, Session("session"), release)
    async with Mq9Client(transport=transport) as client:
        yield client
    await broker.close()


def beside(path):
    return sorted(one.name for one in path.parent.iterdir() if one != path)


def is_copy(backup, original):
    data = backup.read_bytes()
    pairs = zip(data, original, strict=True)
    return all(a == b or at in COUNTERS for at, (a, b) in enumerate(pairs))


def state(path):
    return store.look_into(path, digest)


def open_and_close(path):
    store.open_file(path).close()


class TestWhatWasStored:
    """Everything is there, and goes on as it was."""

    async def test_messages_of_every_kind(self, opened):
        found = {one.msg_id: one for one in await opened.query("inbox")}
        assert {number: one.payload for number, one in found.items()} == {
            0: b"normal",
            1: b"urgent",
            3: b"new state",
            4: "grüße 你好".encode(),
            5: b"\x00\xff\xfe",
            6: b"once",
            7: b"a question",
            8: b"critical",
            11: b"long ".ljust(5_000, b"x"),
            12: b"much later",
        }
        assert (found[1].priority, found[8].priority) == (Priority.URGENT, Priority.CRITICAL)
        assert (found[3].key, found[3].sender, found[4].tags) == ("state", "ada", ("greeting", "u"))
        question = found[7]
        assert (question.reply_to, question.correlation_id) == ("ada", "c1")
        assert question.path == ("ada", "bob")

    async def test_what_is_no_longer_stored(self, opened):
        for msg_id, state in {2: "replaced", 9: "deleted", 10: "expired"}.items():
            status = await opened.mailbox_status("inbox", msg_id=msg_id)
            assert status.message.state == state

    async def test_what_was_delayed_falls_due(self, opened):
        assert (await opened.mailbox_status("inbox")).delayed == 2
        await opened.clock.advance(HOUR_S)
        [news] = await opened.query("inbox", since=WRITTEN_S + 1)
        assert (news.text, news.priority) == ("in an hour", Priority.URGENT)
        await opened.clock.advance(HOUR_S)  # the ttl of that one counts from its sending
        assert news.msg_id not in {one.msg_id for one in await opened.query("inbox")}
        await opened.clock.advance(22 * HOUR_S)
        [state] = await opened.query("inbox", key="state")
        assert (state.text, state.tags) == ("tomorrow", ("later",))

    async def test_leases_and_acks_of_groups(self, opened):
        fetch = {"group_name": "workers", "max_wait_ms": 0}
        held = await opened.fetch("inbox", consumer="one", **fetch)
        assert [(one.msg_id, one.delivery_count) for one in held[:2]] == [(3, 3), (4, 2)]
        held_by_two = await opened.fetch("inbox", consumer="two", num_msgs=2, **fetch)
        assert [one.msg_id for one in held_by_two] == [5, 6]
        assert [one.msg_id for one in held[2:]] == [7, 11, 12]
        await opened.ack("inbox", "workers", 6, consumer="two")
        await opened.clock.advance(HOUR_S)
        left = await opened.fetch("inbox", consumer="three", **fetch)
        assert [one.msg_id for one in left if one.msg_id < 13] == [3, 4, 7, 11, 12]

        readers = await opened.fetch("inbox", group_name="readers", max_wait_ms=0)
        assert [one.msg_id for one in readers if one.msg_id < 13] == [12]
        late = await opened.fetch("inbox", group_name="late", consumer="two", max_wait_ms=0)
        assert late[0].msg_id == 1  # it held 8, which has expired

    async def test_idempotency_ids(self, opened):
        assert await opened.send("inbox", "once", id="once", sender="ada") == 6
        assert await opened.send("inbox", "once", id="once", sender="bob") == 13
        with pytest.raises(IdConflict):
            await opened.send("inbox", "twice", id="once", sender="ada")
        await opened.clock.advance(7 * 24 * HOUR_S)  # the other file's ids are forgotten
        again = await opened.send("inbox", "again", id="once", sender="ada")
        assert again > 13
        assert await opened.send("inbox", "again", id="once", sender="ada") == again

    async def test_mailboxes(self, opened):
        [public] = await opened.mailbox_list()
        assert (public.mail_address, public.desc) == ("inbox", "Everything")
        status = await opened.mailbox_status("ada")
        assert status.expires_at == WRITTEN_S - 10 + 30 * HOUR_S
        for address in ("brief", "dropped"):
            with pytest.raises(MailboxNotFound):
                await opened.mailbox_status(address)

    async def test_agents(self, opened):
        [cook] = await opened.agent_discover(text="soup")
        assert (cook.match.name, cook.match.mailbox) == ("cook", "inbox")
        assert cook.match.status["status"] == "busy"
        await opened.clock.advance(48 * HOUR_S)
        assert await opened.agent_discover() == []


def test_it_has_the_tables_and_columns_of_a_new_file(path, tmp_path):
    def columns(path):
        with closing(store.open_file(path)) as connection:
            found = connection.execute(
                "SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t"
                " JOIN pragma_table_info(t.name) c WHERE t.type='table'"
            )
            return {row for row in found if row[0] in (*STATE, *NOT_STATE)}

    assert columns(path) == columns(tmp_path / "new.db")


def test_it_has_the_triggers_of_a_new_file(path, tmp_path):
    def triggers(path):
        with closing(store.open_file(path)) as connection:
            found = connection.execute("SELECT sql FROM sqlite_schema WHERE type='trigger'")
            return {" ".join(sql.split()) for (sql,) in found}

    assert triggers(path) == triggers(tmp_path / "new.db")
    assert len(triggers(path)) == 1


@pytest.mark.parametrize("schema", [one for one in SCHEMAS if one < 9], indirect=True)
def test_its_messages_are_counted(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        # As if it had given hundreds of msg_ids.
        connection.execute("UPDATE messages SET msg_id=msg_id*100")
        connection.execute("UPDATE mailboxes SET next_msg_id=next_msg_id*100")
    with closing(store.open_file(path)) as connection:
        counted = connection.execute("SELECT * FROM message_counts").fetchall()
        stored = connection.execute(
            "SELECT mailbox, priority, msg_id/512, count(*) FROM messages m"
            " WHERE msg_id/512<(SELECT next_msg_id/512 FROM mailboxes b WHERE b.id=m.mailbox)"
            " GROUP BY 1, 2, 3"
        ).fetchall()
    assert sorted(counted) == sorted(stored)
    assert stored


class TestTheBackup:
    """A copy of the file, as it was, lies beside it."""

    def test_it_is_the_original_and_only_its_owner_may_read_it(self, path, schema, caplog):
        original = path.read_bytes()
        old = os.umask(0)
        try:
            with caplog.at_level(logging.INFO, "mq9.broker"):
                open_and_close(path)
        finally:
            os.umask(old)
        assert beside(path) == [f"{NAME}.schema-{schema}.backup"]
        backup = path.parent / beside(path)[0]
        assert is_copy(backup, original)
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        assert caplog.messages == [
            f"{path} was brought from schema {schema} to {store.VERSION}; {backup} has it as it was"
        ]

        caplog.clear()
        open_and_close(path)
        assert caplog.messages == []
        assert len(beside(path)) == 1

    def test_it_can_be_put_back_and_migrated_again(self, path):
        open_and_close(path)
        migrated = state(path)
        (path.parent / beside(path)[0]).rename(path)
        open_and_close(path)
        assert state(path) == migrated

    def test_it_has_what_stands_in_the_log(self, first_edition, tmp_path):
        with closing(sqlite3.connect(first_edition, isolation_level=None)) as running:
            running.execute("DELETE FROM messages WHERE msg_id>3")
            open_and_close(first_edition)
            backup = tmp_path / f"{NAME}.schema-2.backup"
            with closing(sqlite3.connect(backup)) as copy:
                assert copy.execute("SELECT count(*) FROM messages").fetchone() == (3,)

    def test_another_one_of_the_same_schema_is_kept(self, first_edition, tmp_path):
        original = first_edition.read_bytes()
        other = tmp_path / f"{NAME}.schema-2.backup"
        other.write_bytes(b"of another file")
        open_and_close(first_edition)
        assert beside(first_edition) == [other.name, f"{other.name}-2"]
        assert other.read_bytes() == b"of another file"
        assert is_copy(tmp_path / f"{other.name}-2", original)

    def test_it_is_beside_the_file_that_a_link_leads_to(self, first_edition, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "link.db"
        link.symlink_to(first_edition)
        open_and_close(link)
        assert beside(link) == []
        assert f"{NAME}.schema-2.backup" in beside(first_edition)

    def test_new_files_and_those_in_memory_have_none(self, tmp_path):
        open_and_close(tmp_path / "new.db")
        assert beside(tmp_path / "new.db") == []
        store.open_memory().close()


class TestNoBackup:
    """Where none can be made, the file is refused, and is left as it was."""

    def refuse(self, path, why):
        before = path.read_bytes()
        with pytest.raises(UnusableFile, match=why) as refusal:
            store.open_file(path)
        said = f"{path} is of schema 2 and was left as it was, since no backup of it could be made"
        assert str(refusal.value).startswith(said)
        assert path.read_bytes() == before

    def test_since_something_lies_there(self, first_edition, tmp_path):
        (tmp_path / f"{NAME}.schema-2.backup.part").mkdir()
        self.refuse(first_edition, "directory|permitted")

    def test_since_there_is_no_room(self, first_edition):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            self.refuse(first_edition, "disk")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert beside(first_edition) == []
        open_and_close(first_edition)
        assert beside(first_edition) == [f"{NAME}.schema-2.backup"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="may write anywhere")
    def test_since_nothing_may_be_written_there(self, first_edition, tmp_path):
        with closing(sqlite3.connect(first_edition)) as running:
            running.execute("SELECT * FROM messages").fetchone()  # what SQLite needs lies there
            tmp_path.chmod(0o500)
            try:
                self.refuse(first_edition, "Permission")
            finally:
                tmp_path.chmod(0o700)


@pytest.mark.programs
@pytest.mark.timeout(300)
@pytest.mark.parametrize("counted", ["steps", "backup", "commit"])
def test_whoever_is_killed_has_harmed_nothing(tmp_path, counted):
    """Kill a migration before each step, or within each write, and open the file again."""
    original = written_by(2)
    for name in ("original.db", NAME):
        (tmp_path / name).write_bytes(original)
    open_and_close(tmp_path / NAME)
    migrated = state(tmp_path / NAME)
    copies = tmp_path / "copies"
    copies.mkdir()
    command = [sys.executable, HERE / "migrator_to_kill.py", tmp_path / "original.db", copies]
    done = subprocess.run([*command, counted], capture_output=True, text=True, check=True)

    killed = int(done.stdout)
    assert killed > 20
    left = set()
    for number in range(1, killed + 1):
        path = copies / f"{number}" / NAME
        left.update(one.removeprefix(NAME) for one in beside(path))
        backup = path.with_name(f"{NAME}.schema-2.backup")
        assert not backup.exists() or is_copy(backup, original)
        open_and_close(path)
        assert beside(path) == [backup.name]
        assert is_copy(backup, original)
        assert state(path) == migrated
    expected = {"steps": ".backup", "backup": ".backup.part", "commit": "-wal"}[counted]
    assert any(one.endswith(expected) for one in left)


@pytest.mark.programs
def test_of_several_that_open_it_at_once_one_migrates_it(first_edition):
    original = first_edition.read_bytes()
    code = (
        "import logging, sys; from pathlib import Path; from mq9.storage import store\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store.open_file(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", code, str(first_edition)]
    pipe = subprocess.PIPE
    programs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    try:
        for program in programs:
            assert program.stdout.readline() == "ready\n"
        for program in programs:
            program.stdin.write("go\n")
            program.stdin.flush()
        said = "".join(program.communicate(timeout=60)[0] for program in programs)
    finally:
        for program in programs:
            if program.poll() is None:
                program.send_signal(signal.SIGKILL)
                program.wait()
    assert [program.returncode for program in programs] == [0] * 4
    assert said.count("was brought from schema 2") == 1
    assert beside(first_edition) == [f"{NAME}.schema-2.backup"]
    assert is_copy(first_edition.with_name(f"{NAME}.schema-2.backup"), original)
