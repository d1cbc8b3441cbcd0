"""The program as such: where the broker is, how it ends, what it needs."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hosted import running, url_for
from typer.main import get_command
from typer.testing import CliRunner

from cli.conftest import SECRET, Program, call
from mq9.cli.app import app
from mq9.server.users import Users
from mq9.version import VERSION

FULL = Path("/dev/full")
PROCESSES = Path("/proc")
COMMANDS = get_command(app).list_commands(None)
LOADED_LATER = {"desk", "exec", "serve", "mcp", "worker"}


def run(*command, **how):
    defaults = {"capture_output": True, "timeout": 60, "encoding": "utf-8"}
    return subprocess.run(command, check=False, **{**defaults, **how})


def start(*arguments, **how):
    """Run the program in a process of its own, as somebody would."""
    return run(sys.executable, "-m", "mq9", *arguments, **how)


def to_stdout(stream):
    return {"capture_output": False, "stdout": stream, "stderr": subprocess.PIPE}


def test_without_a_command_it_says_what_there_is(mq9):
    done = mq9()
    assert done.code == 2
    for name in COMMANDS:
        assert f"\n  {name} " in done.out
    assert "Exit codes:" in done.out


@pytest.mark.parametrize("name", sorted(LOADED_LATER))
def test_what_the_list_says_of_a_command_is_how_its_own_help_begins(mq9, name):
    [line] = re.findall(rf"^  {name} +(.*?)(?:\.\.\.)?$", mq9.ok("--help").out, re.MULTILINE)
    own = " ".join(mq9.ok(name, "--help").out.split())
    assert f" {line}" in own


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(mq9, name):
    shown = mq9.ok(name, "--help").out
    assert shown.startswith(f"Usage: mq9 {name} ") or f" {name} [OPTIONS]" in shown
    if name in {"cluster", "users"}:  # a group of commands
        shown = mq9.ok(name, {"cluster": "status", "users": "list"}[name], "--help").out
    if name not in LOADED_LATER:
        assert "--json" in shown
        needs_broker = name not in {"hash-password", "demo", "users"}
        assert [one in shown for one in ("--url", "--timeout")] == [needs_broker] * 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["send", "inbox", "--nonsense"], "--nonsense"),
        (["--url", "ftp://host", "mailboxes"], "'ftp://host' is not a URL that this version opens"),
        (["mailboxes", "--url", ""], "is not a URL"),
        (["mailboxes", "--timeout", "0"], "timeout: 0.0 s is not more than 0"),
        (["--timeout", "nan", "mailboxes"], "timeout: nan"),
        (["--timeout", "soon", "mailboxes"], "--timeout"),
    ],
)
def test_wrong_arguments_are_2(mq9, arguments, complaint):
    done = mq9(*arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert complaint in done.err
    failed = mq9(*arguments, "--json")
    assert failed.code == 2
    assert failed.err == ""
    assert failed.document.keys() == {"error", "code"}
    assert failed.document["code"] in {"usage", "invalid_request"}


def test_what_stands_behind_two_dashes_is_no_option(mq9):
    done = mq9("send", "Bad", "--", "--nonsense")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: invalid mail_address")
    mq9.ok("create", "inbox")
    mq9.ok("send", "inbox", "--", "-v")
    assert mq9.ok("query", "inbox", "--json").document["messages"][0]["payload"] == "-v"


def test_common_options_stand_before_the_command_or_behind_it(mq9, tmp_path):
    other = f"sqlite:///{tmp_path.as_posix()}/other.db"
    mq9.ok("create", "here", "--public")
    mq9.ok("--url", other, "create", "there", "--public")
    assert "there" in mq9.ok("mailboxes", "--url", other).out
    assert "there" in mq9.ok("--url", mq9.url, "mailboxes", "--url", other).out
    before, behind = mq9.ok("--json", "mailboxes"), mq9.ok("mailboxes", "--json")
    assert before.out == behind.out
    assert behind.document == {"mailboxes": [{"mail_address": "here", "desc": ""}]}


def test_without_any_url_it_is_the_broker_that_the_sdk_uses(tmp_path):
    url = f"sqlite:///{tmp_path.as_posix()}/mail.db"
    variables = {"MQ9_SERVER": url}
    done = CliRunner().invoke(app, ["create", "inbox"], env=variables)
    assert done.exit_code == 0
    assert (tmp_path / "mail.db").exists()


async def test_it_talks_to_a_server():
    async with running() as server:
        url = server.url
        assert (await call(url, "create", "inbox")).out == "inbox\n"
        assert (await call(url, "send", "inbox", "x")).out == "stored as message 0\n"
        fetched = await call(url, "fetch", "inbox", "--group", "g", "--deliver", "earliest")
        assert "\n    x\n" in fetched.out
        assert (await call(url, "ack", "inbox", "g", 0)).out == "acked 0\n"


async def test_wrong_credentials_are_1_and_never_shown():
    async with running(guard=Users.with_token("right")) as server:
        for url, sentence in (
            (url_for(server, SECRET), "refused the user or token"),
            (server.url, "wants a user or token"),
        ):
            done = await call(url, "mailboxes")
            assert done.code == 1
            assert sentence in done.err
            assert SECRET not in done.err + done.out
            failed = await call(url, "mailboxes", "--json")
            assert failed.document["code"] == "unauthorized"
            assert SECRET not in failed.out
        assert (await call(url_for(server, "right"), "mailboxes")).code == 0


def test_a_broker_that_is_not_there_is_3(dead_port):
    program = Program(f"nats://user:{SECRET}@127.0.0.1:{dead_port}")
    done = program("mailboxes")
    assert done.code == 3
    assert f"no mq9 broker answers at nats://127.0.0.1:{dead_port}" in done.err
    assert SECRET not in done.err
    failed = program("mailboxes", "--json")
    assert (failed.code, failed.document["code"]) == (3, "unreachable")


async def test_a_broker_that_says_nothing_is_3():
    held = []
    listener = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        done = await call(f"nats://{SECRET}@127.0.0.1:{port}", "mailboxes", "--timeout", "0.2")
        assert done.code == 3
        assert "within 0.2 s" in done.err
        assert SECRET not in done.err
        for writer in held:
            writer.close()
            await writer.wait_closed()


def test_a_url_or_a_file_that_cannot_be_used_is_told(tmp_path):
    done = Program(f"nats://user:{SECRET}@host:4222/path")("mailboxes")
    assert done.code == 2
    assert SECRET not in done.err
    (tmp_path / "mail.db").write_text("no database at all " * 100)
    done = Program(f"sqlite:///{tmp_path.as_posix()}/mail.db")("mailboxes")
    assert done.code == 1
    assert "is not a database of mq9" in done.err


def test_it_runs_as_a_module():
    done = start("--version")
    assert (done.returncode, done.stdout) == (0, f"mq9 {VERSION}\n")


def test_the_server_fails_in_one_line_as_well(mq9, tmp_path):
    done = mq9("serve", "--memory", "--data", tmp_path / "mail.db")
    assert done.code == 2
    [line] = done.err.splitlines()
    assert line.startswith("error: memory: give either --memory or --data")


@pytest.mark.programs
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_it_loads_no_more_than_it_needs(option):
    script = (
        "import sys, mq9.cli\n"
        f"sys.argv = ['mq9', {option!r}]\n"
        "try: mq9.cli.main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    loaded = run(sys.executable, "-c", script, env=environment).stdout.splitlines()[-1].split()
    assert "typer" in loaded
    assert not {"langchain_core", "mcp", "nats", "numpy", "starlette", "uvicorn"} & set(loaded)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("missing", "command"), [("typer", "--version"), ("rich", "mailboxes"), ("starlette", "serve")]
)
def test_without_the_extra_it_says_what_to_install(tmp_path, missing, command):
    script = (
        f"import sys\nsys.modules[{missing!r}] = None\n"
        f"import mq9.cli\nsys.argv = ['mq9', {command!r}]\nmq9.cli.main()\n"
    )
    url = f"sqlite:///{tmp_path.as_posix()}/mail.db"
    Program(url).ok("create", "inbox", "--public")
    done = run(sys.executable, "-c", script, env={**os.environ, "MQ9_SERVER": url})
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: this command needs {missing}")
    assert line.endswith("pip install '.[server]'")


@pytest.mark.programs
@pytest.mark.parametrize(
    "arguments", [["cluster", "status"], ["serve", "--cluster", "nats://127.0.0.1:1", "--no-admin"]]
)
def test_a_cluster_says_that_it_needs_its_extra_and_a_client_needs_none(
    tmp_path, arguments, dead_port
):
    script = "import sys\nsys.modules['nats'] = None\nimport mq9.cli\nmq9.cli.main()\n"
    url = f"nats://127.0.0.1:{dead_port}"
    environment = {**os.environ, "MQ9_SERVER": url, "MQ9_DATA": str(tmp_path / "one.db")}
    done = run(sys.executable, "-c", script, *arguments, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs nats" in done.stderr
    assert "which the extra `cluster` of this package installs" in done.stderr
    assert done.stderr.endswith("pip install '.[cluster]'\n")
    done = run(sys.executable, "-c", script, "mailboxes", env=environment)
    assert "no mq9 broker answers" in done.stderr


@pytest.mark.programs
def test_another_missing_module_is_not_blamed_on_the_extra():
    script = (
        "import sys\nsys.modules['orjson'] = None\nimport mq9.cli\n"
        "sys.argv = ['mq9', '--url', 'nats://localhost', 'mailboxes']\nmq9.cli.main()\n"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == 1
    assert "[server]" not in done.stderr


@pytest.mark.programs
@pytest.mark.parametrize("arguments", [["query", "inbox"], ["query", "inbox", "--json"], ["demo"]])
def test_a_reader_that_has_gone_is_no_error(mq9, inbox, arguments):
    mq9.ok("send", inbox, "x")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = start("--url", mq9.url, *arguments, **to_stdout(pipe))
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.programs
@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize(
    "arguments", [["query", "inbox"], ["query", "inbox", "--json"], ["--help"]]
)
def test_a_full_disk_is_told(mq9, inbox, arguments):
    mq9.ok("send", inbox, "x")
    with FULL.open("w") as full:
        done = start("--url", mq9.url, *arguments, **to_stdout(full))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line


@pytest.mark.programs
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_in_the_middle_is_told_by_the_exit_code(mq9, inbox, unbuffered):
    mq9.ok("send", inbox, "x" * 500_000)  # more than a pipe holds
    command = [sys.executable, "-m", "mq9", "--url", mq9.url, "query", inbox]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


@pytest.mark.programs
@pytest.mark.skipif(not PROCESSES.exists(), reason="nothing tells what a process has open")
def test_an_interrupt_ends_it_quietly(mq9, inbox):
    command = [sys.executable, "-m", "mq9", "--url", mq9.url, "fetch", inbox, "--wait", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not has_open(process.pid, "mail.db-wal"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def has_open(pid, name):
    for descriptor in (PROCESSES / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            if descriptor.readlink().name == name:
                return True
    return False


@pytest.mark.programs
def test_output_that_is_closed_changes_nothing(mq9, inbox):
    command = f"'{sys.executable}' -m mq9 --url {mq9.url} send {inbox} x >&- 2>&-"
    done = run("/bin/sh", "-c", command)
    assert done.returncode == 0
    assert len(mq9.ok("query", inbox, "--json").document["messages"]) == 1


@pytest.mark.programs
def test_an_encoding_that_has_few_characters_is_no_obstacle(mq9, inbox):
    mq9.ok("send", inbox, "日本語")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "MQ9_SERVER": mq9.url}
    assert "\\u65e5" in start("query", inbox, env=environment).stdout
    document = json.loads(start("query", inbox, "--json", env=environment).stdout)
    assert document["messages"][0]["payload"] == "日本語"


def test_what_only_this_process_would_keep_is_warned_of(mq9):
    assert mq9.ok("create", "a").err == ""  # which is kept
    assert mq9.ok("create", "b", "--json").document == {"mail_address": "b"}
    said = (
        "memory://of-a-command is in the memory of this process: the mail is lost when "
        "the command ends"
    )
    mq9.url = "memory://of-a-command"
    done = mq9.ok("create", "a")
    assert (done.out, done.err) == ("a\n", f"warning: {said}\n")
    done = mq9.ok("create", "b", "--json")
    assert done.document == {"mail_address": "b", "warnings": [said]}


def test_what_a_command_logs_is_as_the_variables_say(mq9):
    done = mq9.ok("create", "a", env={"MQ9_LOG_LEVEL": "info", "MQ9_LOG_FORMAT": "json"})
    assert done.out == "a\n"
    event = json.loads(done.err)
    assert (event["level"], event["logger"]) == ("info", "mq9.client")
    done = mq9("create", "b", env={"MQ9_LOG_LEVEL": "loud"})
    assert done.code == 2
    assert done.err.startswith("error: log_level: 'loud' is not one of debug, info, ")
