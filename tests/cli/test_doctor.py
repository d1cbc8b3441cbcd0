"""doctor."""

import asyncio
import errno
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from calls import call as engine_call
from calls import carry_out
from hosted import running, url_for

from cli.conftest import SECRET, call
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli import diagnostics
from mq9.clock import SystemClock
from mq9.engine.commands import Limits
from mq9.engine.state import digest
from mq9.protocol import requests
from mq9.server.server import Server
from mq9.server.users import Users
from mq9.storage import store
from mq9.version import VERSION


@pytest.fixture
def ports(unused_tcp_port_factory):
    """Two ports that nobody uses."""
    return (
        *("--port", str(unused_tcp_port_factory())),
        *("--admin-port", str(unused_tcp_port_factory())),
    )


def checks(done, name):
    return [(one["state"], one["text"]) for one in done.document["checks"] if one["name"] == name]


def test_all_is_well(mq9, tmp_path, inbox, ports):
    done = mq9.ok("doctor", *ports)
    with closing(sqlite3.connect(tmp_path / "mail.db")) as database:  # it leaves none behind
        assert database.execute("SELECT address FROM mailboxes").fetchall() == [(inbox,)]
    assert done.out.splitlines()[-1] == "all is well"
    assert f"ok       file: {tmp_path / 'mail.db'}, " in done.out
    assert "ok       rights: 600: its owner only" in done.out
    assert "create, send, fetch, ack and drop took" in done.out

    document = mq9.ok("doctor", *ports, "--json").document
    assert document["ok"] is True
    assert all(one.keys() == {"name", "state", "text", "advice"} for one in document["checks"])
    assert [one["name"] for one in document["checks"]] == [
        *("python", "langchain-mq9", "sqlite", "names", "url", "broker", "round trip"),
        *("file", "rights", "disk", "clock", "port", "admin port"),
    ]
    assert {one["state"] for one in document["checks"]} == {"ok"}
    mq9.url = "memory://doctor"
    assert checks(mq9.ok("doctor", *ports, "--json"), "url")[0][0] == "warning"


def test_no_broker_is_a_problem_with_advice(mq9, ports, dead_port):
    mq9.url = f"nats://{SECRET}@127.0.0.1:{dead_port}"
    done = mq9("doctor", *ports)
    assert done.code == 1
    assert "problem  broker: no mq9 broker answers at" in done.out
    assert "\n         -> start it, or name another with --url\n" in done.out
    assert "1 problem, 0 warnings" in done.out
    assert SECRET not in done.out
    assert mq9("doctor", *ports, "--json").document["ok"] is False


async def test_a_server_is_well_and_its_port_is_its_own_but_for_refused_credentials():
    async with running(guard=Users.with_token("right")) as server:
        port = server.address[1]
        done = await call(url_for(server, "right"), "doctor", "--port", port, "--json")
        assert checks(done, "broker") == [("ok", "answers, and accepts our credentials")]
        assert checks(done, "round trip")[0][0] == "ok"
        assert checks(done, "port") == [("ok", f"an mq9 broker listens on 127.0.0.1:{port}")]
        assert checks(done, "file") == []
        done = await call(url_for(server, SECRET), "doctor", "--json")
        assert done.code == 1
        [(state, text)] = checks(done, "broker")
        assert state == "problem"
        assert "refused the user or token" in text
        assert SECRET not in done.out


async def test_a_port_that_another_program_has_is_a_warning():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        finding = await asyncio.to_thread(diagnostics.check_port, "port", number, "--port")
    assert finding.state == "warning"
    assert "in use by another program" in finding.text
    assert "--port" in finding.advice


def test_a_file_that_others_may_read_is_a_warning(mq9, tmp_path, ports):
    mq9.ok("create", "inbox")
    (tmp_path / "mail.db").chmod(0o644)
    done = mq9.ok("doctor", *ports)
    assert "is open to others on this machine (644)" in done.out
    assert f"chmod 600 {tmp_path / 'mail.db'}" in done.out
    assert "0 problems, 1 warning" in done.out


def test_a_file_of_another_program_is_left_alone(mq9, tmp_path, ports):
    (tmp_path / "mail.db").write_text("not a database " * 100)
    (tmp_path / "mail.db").chmod(0o644)
    done = mq9("doctor", *ports, "--json")
    assert done.code == 1
    assert checks(done, "broker")[0][0] == "problem"
    assert checks(done, "rights") == []
    assert (tmp_path / "mail.db").read_text().startswith("not a database")


def test_a_file_that_is_none(tmp_path):
    [finding] = diagnostics.check_file(tmp_path, usable=True)
    assert (finding.state, finding.text) == ("problem", f"{tmp_path} is not a file")
    [finding] = diagnostics.check_file(tmp_path / "mail.db", usable=True)
    assert finding.state == "ok"
    assert "does not exist yet" in finding.text
    (tmp_path / "x").touch()
    [finding] = diagnostics.check_file(tmp_path / "x" / "mail.db", usable=True)
    assert finding.state == "problem"


def test_a_file_of_another_user_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "mail.db").touch(0o600)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    [_, rights, _] = diagnostics.check_file(tmp_path / "mail.db", usable=True)
    assert rights.state == "warning"
    assert f"belongs to user {owner}, and this is user {owner + 1}" in rights.text


@pytest.mark.parametrize(
    ("free", "state"), [(1000, "problem"), (50_000_000, "warning"), (10**9, "ok")]
)
def test_a_disk_that_fills_up_is_told(tmp_path, monkeypatch, free, state):
    (tmp_path / "mail.db").touch(0o600)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    [*_, disk] = diagnostics.check_file(tmp_path / "mail.db", usable=True)
    assert (disk.name, disk.state) == ("disk", state)


@pytest.mark.parametrize(
    "cause",
    [
        (errno.ENOSPC, "disk", "has no room left: No space left on device", "free disk space"),
        (errno.EDQUOT, "disk", "has no room left: Disk quota exceeded", "free disk space"),
        (errno.EACCES, "folder", "cannot be written: Permission denied", "let this user write"),
        (errno.EROFS, "folder", "cannot be written: Read-only file system", "let this user"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_that_takes_nothing_is_the_cause_and_told_once(
    mq9, tmp_path, monkeypatch, ports, is_there, cause
):
    """The file cannot be opened, and why that is so is no second problem."""
    number, name, says, advice = cause

    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(diagnostics.tempfile, "TemporaryFile", refuse)
    if is_there:
        (tmp_path / "mail.db").write_text("not a database " * 100)
    else:
        mq9.url = f"sqlite:///{tmp_path}/new/mail.db"
        monkeypatch.setattr(diagnostics.Path, "mkdir", refuse)
    done = mq9("doctor", *ports, "--json")
    [problem] = [one for one in done.document["checks"] if one["state"] == "problem"]
    assert (done.code, problem["name"]) == (1, name)
    assert problem["text"] == f"{tmp_path} {says}"
    assert problem["advice"].startswith(advice)


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:41 / /home/my\\040own rw - ext4 /dev/vdb rw
32 22 0:42 / /mnt rw - ext4 /dev/vdc rw
33 32 0:43 / /mnt rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/mail.db", "ext4"),
        ("/home/ann/mail.db", "nfs4"),
        ("/home/my own/mail.db", "ext4"),
        ("/homes/mail.db", "ext4"),
        ("/mnt/mail.db", "cifs"),
    ],
)
def test_a_file_on_a_network_file_system_is_a_warning(tmp_path, monkeypatch, path, kind):
    assert diagnostics.file_system_of(diagnostics.Path(path), MOUNTS) == kind
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 1 0:1 / {tmp_path.resolve()} rw - {kind} x rw\n")
    monkeypatch.setattr(diagnostics, "_MOUNTS", mounts)
    for is_there in (False, True):
        found = diagnostics.check_file(tmp_path / "mail.db", usable=True)
        told = [one for one in found if one.name == "file system"]
        assert [one.state for one in told] == ([] if kind == "ext4" else ["warning"])
        assert all(f"is on a network file system ({kind})" in one.text for one in told)
        if not is_there:
            (tmp_path / "mail.db").touch(0o600)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f'INFO {{"server_name":"mq9","version":"{VERSION}"}}\r\n', []),
        ('INFO {"server_name":"mq9","version":"0.3.9"}\r\n', ["0.3.9"]),
        ('INFO {"server_name":"other","version":"2.12"}\r\n', []),
        ("INFO {\r\n", []),
        ("[]\r\n", []),
    ],
)
async def test_a_broker_of_another_version_is_a_warning(said, expected):
    async def greet(_reader, writer):
        writer.write(said.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(diagnostics.check_server, "127.0.0.1", number)
    assert [one.state for one in found] == ["warning" for _ in expected]
    for one, version in zip(found, expected, strict=True):
        assert one.text.endswith(f"is langchain-mq9 {version}, and this is {VERSION}")
        assert "upgrade the older one" in one.advice


class WrongClock(SystemClock):
    """A clock of another machine."""

    def __init__(self, off_s):
        super().__init__()
        self._off_ms = off_s * 1000

    def now_ms(self):
        return super().now_ms() + self._off_ms


@pytest.mark.parametrize(
    ("off_s", "says"),
    [
        (0, None),
        (3, None),
        (600, r"the broker's clock is (9|10) minutes ahead of this machine's"),
        (-600, r"the broker's clock is (9|10) minutes behind this machine's"),
    ],
)
async def test_clocks_that_differ_are_a_warning(off_s, says):
    broker = EmbeddedBroker.in_memory(WrongClock(off_s))
    server = Server(broker, max_payload=Limits().max_payload)
    await server.start(port=0)
    try:
        done = await call(server.url, "doctor", "--json")
    finally:
        await server.close()
        await broker.close()
    told = checks(done, "clock")
    assert [state for state, _ in told] == ([] if says is None else ["warning"])
    assert all(re.fullmatch(says, text) for _, text in told)


def test_a_module_of_our_name_where_it_is_started_is_a_problem(mq9, tmp_path, monkeypatch, ports):
    (tmp_path / "mq9.py").touch()
    monkeypatch.chdir(tmp_path)
    done = mq9("doctor", *ports)
    assert done.code == 1
    assert f"problem  names: {tmp_path / 'mq9.py'} is imported as mq9 instead of ours" in done.out


def found(path, here):
    return [
        (one.state, one.text) for one in diagnostics.check_names([str(one) for one in path], here)
    ]


@pytest.fixture
def site():
    """Where our own packages are."""
    return diagnostics.Path(diagnostics.mq9.__file__).resolve().parents[1]


@pytest.fixture
def here(tmp_path):
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_names_that_only_we_have(here, site):
    (here / "mq9").mkdir()  # which is no package, and gives way
    assert [state for state, _ in found([site], here)] == ["ok"]
    assert [state for state, _ in found([site, site, ""], site)] == ["ok"]


@pytest.mark.parametrize(
    "file",
    [
        *("mq9.py", "mq9/__init__.py", "langchain_mq9.py", "langchain_mq9/__init__.py"),
        "mcp_server.py",
    ],
)
def test_what_comes_before_ours_is_a_problem_and_behind_it_a_warning(here, site, tmp_path, file):
    other = tmp_path / "other" / file
    other.parent.mkdir(parents=True)
    other.touch()
    for path, expected in (
        ([tmp_path / "other", site], "problem"),
        ([site, tmp_path / "other"], "warning"),
    ):
        [(state, text)] = found(path, here)
        assert state == expected
        assert str(other) in text


def describe(site, name, version, list_name, text):
    """Put what pip leaves of a distribution into a directory."""
    metadata = site / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    )
    (metadata / list_name).write_text(text)


def install(site, version):
    """Put a release of langchain-mq9 into a directory."""
    describe(site, "langchain_mq9", version, "RECORD", "langchain_mq9/__init__.py,,\n")
    (site / "langchain_mq9").mkdir()
    (site / "langchain_mq9" / "__init__.py").touch()


@pytest.mark.parametrize("comes_first", [True, False])
def test_the_older_package_of_our_name_is_a_problem_with_advice(here, site, tmp_path, comes_first):
    older = tmp_path / "older"
    install(older, "0.3.5")
    path = [older, site] if comes_first else [site, older]

    told = {one.text: one for one in diagnostics.check_names([str(one) for one in path], here)}

    text = f"langchain-mq9 0.3.5 in {older} is an older package of that name, without mq9"
    assert told[text].state == "problem"
    assert "pip uninstall langchain-mq9" in told[text].advice
    module = next(one for one in told.values() if str(older / "langchain_mq9") in one.text)
    assert module.state == ("problem" if comes_first else "warning")


def test_another_version_of_ours_is_a_warning_and_the_same_is_none(here, site, tmp_path):
    older, same = tmp_path / "older", tmp_path / "same"
    install(older, "0.1.0")
    install(same, VERSION)
    text = f"langchain-mq9 0.1.0 is installed in {older}, and this is {VERSION}"
    assert ("warning", text) in found([site, older], here)
    assert not [text for _, text in found([site, same], here) if "installed" in text]


@pytest.mark.programs
@pytest.mark.parametrize("program", ["mq9.cli", "mcp_server.program"])
def test_both_doctors_tell_of_the_older_package(tmp_path, program):
    install(tmp_path / "older", "0.3.5")
    done = subprocess.run(
        [sys.executable, "-c", f"from {program} import main; main()", "doctor"],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "MQ9_SERVER": "memory://doctor",
            "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path / 'older'}",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"problem  names: langchain-mq9 0.3.5 in {tmp_path / 'older'} is an older" in done.stdout
    assert "-> pip uninstall langchain-mq9, until none is left; then, in the clone, " in done.stdout


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Put a distribution where Python finds it, with a list of what it installs."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    return lambda name, *listed: describe(tmp_path / "site", name, "1.0", *listed)


@pytest.mark.parametrize("name", ["mq9", "mcp_server"])
@pytest.mark.parametrize(
    ("list_name", "text"),
    [
        ("RECORD", "other/{0}.py,,\n{0}/__init__.py,,\n"),
        ("RECORD", "{0}.py,sha256=x,1\n"),
        ("RECORD", "{0}.cpython-311-x86_64-linux-gnu.so,,\n"),
        ("top_level.txt", "other\n{0}\n"),
    ],
)
def test_a_distribution_that_installs_our_name_is_a_problem(
    here, site, distribution, name, list_name, text
):
    for one in ("other-thing", "langchain_mq9"):
        distribution(one, list_name, text.format(name))
    [(state, told)] = found([site], here)
    assert state == "problem"
    assert f"the package other-thing also installs a module {name}" in told


def test_a_distribution_with_such_a_name_somewhere_is_none(here, site, distribution):
    names = ("other/mq9.py", "mq9.libs/x.so", "mq9_more/__init__.py", "xmq9.py", "mcp_server-1/x")
    distribution("other_thing", "RECORD", "".join(f"{name},,\n" for name in names))
    assert [state for state, _ in found([site], here)] == ["ok"]


def test_files_that_hold_the_same_have_the_same_digest(mq9, tmp_path, inbox):
    file, copy = tmp_path / "mail.db", tmp_path / "copy.db"
    shutil.copy(file, copy)
    before = file.read_bytes()
    said = mq9.ok("doctor", "--digest", copy).out
    assert re.fullmatch("[0-9a-f]{32}\nafter entry [1-9], 20[-: +0-9]+\n", said)
    assert mq9.ok("doctor", "--digest", mq9.url).out == said
    document = mq9.ok("doctor", "--digest", file, "--json").document
    assert document["file"] == str(file)
    assert said.startswith(f"{document['digest']}\nafter entry {document['applied']}, ")
    assert time.time() - 3_600 < document["now_ms"] / 1000 < time.time() + 1
    assert file.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy.db", "mail.db"]

    mq9.ok("send", inbox, "news")
    assert mq9.ok("doctor", "--digest", mq9.url).out != said
    assert mq9.ok("doctor", "--digest", copy).out == said


def test_the_digest_of_a_file_in_use_is_that_of_what_is_stored(mq9, tmp_path):
    with closing(store.open_file(tmp_path / "mail.db")) as connection:
        for command in (requests.CreateMailbox, requests.Send, requests.Send):
            carry_out(connection, engine_call(command), 1_700_000_000_000)
            said = mq9.ok("doctor", "--digest", mq9.url).out
            assert said.startswith(f"{digest(connection)}\n")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM mailboxes")
            assert mq9.ok("doctor", "--digest", mq9.url).out == said
            connection.execute("ROLLBACK")


def test_a_new_file_has_a_digest_of_nothing(mq9, tmp_path):
    store.open_file(tmp_path / "new.db").close()
    assert mq9.ok("doctor", "--digest", tmp_path / "new.db").out.endswith("\nbefore any entry\n")


@pytest.mark.parametrize("named", ["nats://127.0.0.1:4222", "memory://x"])
@pytest.mark.parametrize("option", ["digest", "set-clock"])
def test_what_is_no_file_has_no_digest_and_no_time(mq9, option, named):
    done = mq9("doctor", f"--{option}", named)
    assert (done.code, done.err) == (2, f"error: {option}: {named} is not a file\n")


def test_there_is_no_digest_where_nothing_can_be_read(mq9, tmp_path, inbox):
    (tmp_path / "text.db").write_text("Dear diary, " * 100)
    file = tmp_path / "mail.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version={store.VERSION - 1}")
    before = file.read_bytes()
    for name, why in (
        ("none.db", "is not there"),
        ("text.db", "is not a database of mq9"),
        ("mail.db", f"is of schema {store.VERSION - 1}; any other use of it"),
    ):
        done = mq9("doctor", "--digest", tmp_path / name)
        assert done.code == 1
        assert f"{tmp_path / name} {why}" in done.err
    assert not (tmp_path / "none.db").exists()
    assert file.read_bytes() == before


DAY_MS = 86_400_000


def move_time(path, days):
    """Let the file be of a time so many days from now; when that is, in milliseconds."""
    moved_ms = time.time_ns() // 1_000_000 + days * DAY_MS
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE state SET now_ms=?", (moved_ms,))
    return moved_ms


def now_ms_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT now_ms FROM state").fetchone()[0]


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (11_000, "ahead of this machine's"),
        (-400, "400 days behind this machine's"),
    ],
)
def test_a_file_of_another_time_is_a_problem_and_is_set_right(
    mq9, tmp_path, inbox, ports, days, said
):
    file = tmp_path / "mail.db"
    mq9.ok("send", inbox, "kept", "--ttl", "3600")
    moved_ms = move_time(file, days)
    done = mq9("doctor", *ports, "--json")
    [(state, text)] = checks(done, "clock")
    assert (done.code, state) == (1, "problem")
    assert said in text
    assert f"mq9 doctor --set-clock {file}" in done.out

    plan = mq9.ok("doctor", "--set-clock", file)
    assert said in plan.out
    assert "run this again with --yes" in plan.out
    assert now_ms_of(file) >= moved_ms  # the doctor sends itself a message

    document = mq9.ok("doctor", "--set-clock", mq9.url, "--yes", "--json").document
    assert document["set"] is True
    assert document["state"] == ("ahead" if days > 0 else "held")
    assert now_ms_of(file) == document["machine_ms"]
    assert checks(mq9.ok("doctor", *ports, "--json"), "clock")[0][0] == "ok"
    again = mq9.ok("doctor", "--set-clock", file, "--yes")
    assert again.out == f"{file}: the time is right; nothing was changed\n"
