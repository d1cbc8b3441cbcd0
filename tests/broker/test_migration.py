"""A file of an older schema is migrated once, and a backup of it lies beside it.

The step that is tried here is made up; those of releases are in test_schemas.py.
"""

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

import made_up_schema
import pytest

from mq9 import Mq9Client, UnusableFile
from mq9.engine.state import digest
from mq9.storage import store

HERE = Path(__file__).parent
NAME = "mq9.db"
OLD, NEW = store.VERSION, store.VERSION + 1
BACKUP = f"{NAME}.schema-{OLD}.backup"
# What the backup of SQLite counts on by itself in the first page: changes, and those of the schema.
COUNTERS = {27, 43, 95}


@pytest.fixture
async def path(tmp_path, monkeypatch):
    """A file of the older schema, which this process and the programs below bring to the next."""
    path = tmp_path / NAME
    async with Mq9Client(f"sqlite:///{path.as_posix()}") as client:
        await client.mailbox_create(name="inbox")
        for number in range(10):
            await client.send("inbox", f"{number} ".ljust(5_000, "x"))
        await client.fetch("inbox", group_name="workers", num_msgs=3)
    made_up_schema.install(monkeypatch.setattr)
    yield path
    monkeypatch.undo()
    made_up_schema.forget()


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


async def test_what_was_stored_is_there_and_goes_on(path):
    async with Mq9Client(f"sqlite:///{path.as_posix()}") as client:
        assert len(await client.query("inbox")) == 10
        left = await client.fetch("inbox", group_name="workers", consumer="other", num_msgs=10)
        assert [one.msg_id for one in left] == list(range(3, 10))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT made_up FROM mailboxes").fetchall() == [("inbox",)]
        assert connection.execute("SELECT messages FROM made_up_too").fetchall() == [(10,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (NEW,)


def test_it_has_the_columns_and_indexes_of_a_new_file(path, tmp_path):
    def schema_of(path):
        with closing(store.open_file(path)) as connection:
            columns = connection.execute(
                "SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t"
                " JOIN pragma_table_info(t.name) c WHERE t.name NOT LIKE 'agents_%'"
                " AND t.name NOT LIKE 'sqlite_%'"
            )
            return set(columns)

    assert schema_of(path) == schema_of(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    before = path.read_bytes()
    with monkeypatch.context() as failing:
        failing.setattr(store, "_MIGRATIONS", {OLD: f"{made_up_schema.STEP}NONSENSE;\n"})
        with pytest.raises(UnusableFile, match=r"cannot be opened: .*NONSENSE"):
            store.open_file(path)
    assert path.read_bytes() == before
    open_and_close(path)


def test_a_file_of_before_the_first_release_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "mail.db"
    with closing(store.open_file(path)) as connection:
        connection.execute("PRAGMA application_id=0x6D713900")
        connection.execute("PRAGMA user_version=10")
    before = path.read_bytes()
    with pytest.raises(UnusableFile) as refused:
        store.open_file(path)
    assert str(refused.value) == (
        f"{path} was written before the first release of mq9, which does not read such files; "
        "move it away, or name another file"
    )
    assert path.read_bytes() == before


def refuse_stranger(path, script, match):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    before = path.read_bytes()
    with pytest.raises(UnusableFile, match=match):
        store.open_file(path)
    assert path.read_bytes() == before
    assert beside(path) == []


@pytest.mark.parametrize("name", ["spy", "mailboxes_removed", "groups_use", "messages_removed"])
def test_a_trigger_of_somebody_else_is_refused_before_the_backup(path, name):
    script = f"DROP TRIGGER IF EXISTS {name}; DROP INDEX IF EXISTS {name}; "
    script += f"CREATE TRIGGER {name} AFTER UPDATE ON mailboxes BEGIN SELECT 1; END"
    refuse_stranger(path, script, f"trigger '{name}'")


def test_a_table_of_somebody_else_is_refused_before_the_backup(path):
    refuse_stranger(path, "CREATE TABLE spy (x)", "table 'spy', which mq9 did not make")


def test_a_table_in_another_form_is_refused_by_the_migration(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE groups ADD COLUMN spy TEXT AS (upper(name))")
    with pytest.raises(UnusableFile, match="table 'groups' in a form of its own"):
        store.open_file(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (OLD,)


class TestTheBackup:
    """A copy of the file, as it was, lies beside it."""

    def test_it_is_the_original_and_only_its_owner_may_read_it(self, path, caplog):
        original = path.read_bytes()
        old = os.umask(0)
        try:
            with caplog.at_level(logging.INFO, "mq9.broker"):
                open_and_close(path)
        finally:
            os.umask(old)
        assert beside(path) == [BACKUP]
        backup = path.with_name(BACKUP)
        assert is_copy(backup, original)
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        assert caplog.messages == [
            f"{path} was brought from schema {OLD} to {NEW}; {backup} has it as it was"
        ]

        caplog.clear()
        open_and_close(path)
        assert caplog.messages == []
        assert len(beside(path)) == 1

    def test_it_can_be_put_back_and_migrated_again(self, path):
        open_and_close(path)
        migrated = state(path)
        path.with_name(BACKUP).rename(path)
        open_and_close(path)
        assert state(path) == migrated

    def test_it_has_what_stands_in_the_log(self, path):
        with closing(sqlite3.connect(path, isolation_level=None)) as running:
            running.execute("DELETE FROM messages WHERE msg_id>3")
            open_and_close(path)
            with closing(sqlite3.connect(path.with_name(BACKUP))) as copy:
                assert copy.execute("SELECT count(*) FROM messages").fetchone() == (4,)

    def test_another_one_of_the_same_schema_is_kept(self, path):
        original = path.read_bytes()
        other = path.with_name(BACKUP)
        other.write_bytes(b"of another file")
        open_and_close(path)
        assert beside(path) == [BACKUP, f"{BACKUP}-2"]
        assert other.read_bytes() == b"of another file"
        assert is_copy(path.with_name(f"{BACKUP}-2"), original)

    def test_it_is_beside_the_file_that_a_link_leads_to(self, path, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "link.db"
        link.symlink_to(path)
        open_and_close(link)
        assert beside(link) == []
        assert BACKUP in beside(path)

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
        said = f"{path} is of schema {OLD} and was left as it was, since no backup of it could be"
        assert str(refusal.value).startswith(said)
        assert path.read_bytes() == before

    def test_since_something_lies_there(self, path):
        path.with_name(f"{BACKUP}.part").mkdir()
        self.refuse(path, "directory|permitted")

    def test_since_there_is_no_room(self, path):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            self.refuse(path, "disk")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert beside(path) == []
        open_and_close(path)
        assert beside(path) == [BACKUP]

    @pytest.mark.skipif(os.geteuid() == 0, reason="may write anywhere")
    def test_since_nothing_may_be_written_there(self, path, tmp_path):
        with closing(sqlite3.connect(path)) as running:
            running.execute("SELECT * FROM messages").fetchone()  # what SQLite needs lies there
            tmp_path.chmod(0o500)
            try:
                self.refuse(path, "Permission")
            finally:
                tmp_path.chmod(0o700)


@pytest.mark.programs
@pytest.mark.timeout(300)
@pytest.mark.parametrize("counted", ["steps", "backup", "commit"])
def test_a_kill_at_any_moment_harms_nothing(path, tmp_path, counted):
    """Kill a migration before each step, or within each write, and open the file again."""
    original = tmp_path / "original.db"
    original.write_bytes(path.read_bytes())
    open_and_close(path)
    migrated = state(path)
    copies = tmp_path / "copies"
    copies.mkdir()
    command = [sys.executable, HERE / "migrator_to_kill.py", original, copies, counted]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    killed = int(done.stdout)
    assert killed > 20
    left = set()
    for number in range(1, killed + 1):
        one = copies / f"{number}" / NAME
        left.update(name.removeprefix(NAME) for name in beside(one))
        backup = one.with_name(BACKUP)
        assert not backup.exists() or is_copy(backup, original.read_bytes())
        open_and_close(one)
        assert beside(one) == [BACKUP]
        assert is_copy(backup, original.read_bytes())
        assert state(one) == migrated
    expected = {"steps": ".backup", "backup": ".backup.part", "commit": "-wal"}[counted]
    assert any(name.endswith(expected) for name in left)


@pytest.mark.quick
@pytest.mark.programs
def test_of_several_that_open_it_at_once_one_migrates_it(path):
    original = path.read_bytes()
    code = (
        "import logging, sys; from pathlib import Path; from mq9.storage import store\n"
        "import made_up_schema; made_up_schema.install()\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store.open_file(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    programs = [
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "PYTHONPATH": str(HERE)}
        )
        for _ in range(4)
    ]
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
    assert said.count(f"was brought from schema {OLD}") == 1
    assert beside(path) == [BACKUP]
    assert is_copy(path.with_name(BACKUP), original)
