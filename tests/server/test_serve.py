"""`mq9 serve` as an operator runs it."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys

import httpx
import orjson
import pytest
from raw import RawClient, publish
from serving import Serving, refusal
from typer.testing import CliRunner
from waiting import until

from mq9 import Mq9Client, Unauthorized, Unreachable
from mq9.cli.app import app
from mq9.cli.serve import running
from mq9.server.settings import ServerSettings

pytestmark = pytest.mark.unmeasured

SECRET = "correct-horse"


@pytest.fixture
def serving(tmp_path):
    """Make servers that are ended with the test."""

    def make(*options, **more):
        return Serving(tmp_path, *options, **more)

    return make


async def test_it_says_where_it_listens_and_keeps_its_mail(tmp_path, serving):
    data = tmp_path / "dir" / "mail.db"
    async with serving("--data", str(data)) as server:
        async with Mq9Client(server.url) as client:
            await client.mailbox_create(name="inbox")
            await client.send("inbox", "kept")
        server.stop()
        assert await server.ended() == 0
        await asyncio.to_thread(server.start)
        async with Mq9Client(server.url) as client:
            assert [message.text for message in await client.query("inbox")] == ["kept"]
    assert data.stat().st_mode & 0o777 == 0o600


async def begun(client):
    """Return when the FETCH of the group `g` has been begun, which makes the group."""
    while not (await client.mailbox_status("inbox", group_name="g")).group.exists:
        pass


@pytest.mark.programs
async def test_two_servers_on_one_file_are_one_broker(tmp_path, serving):
    (tmp_path / "second").mkdir()
    data = ("--data", str(tmp_path / "mail.db"))
    async with (
        serving(*data) as one,
        Serving(tmp_path / "second", *data) as two,
        Mq9Client(one.url) as here,
        Mq9Client(two.url) as there,
    ):
        await here.mailbox_create(name="inbox")
        fetch = asyncio.create_task(
            there.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=30_000)
        )
        await begun(here)
        await here.send("inbox", "news")
        assert [message.text for message in await fetch] == ["news"]


@contextlib.contextmanager
def held(data):
    """Keep a file from being written while inside; what a server begins does not end then."""
    other = sqlite3.connect(data, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def tell_in_the_midst_of_a_send(server, client, number):
    """Begin a SEND, whose reply goes to `begun`, and tell the server to stop."""
    begun = publish("$mq9.AI.MSG.SEND.inbox", b"begun", reply="begun")
    client.send(b"SUB begun 8\r\nSUB late 9\r\n" + begun + b"PING\r\n")
    assert await client.frame() == ("PONG",)
    server.stop(number)
    assert (await client.frame())[0] == "INFO"  # it drains


# Gives the program a terminal of its own, which stays open as long as it runs.
WITH_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
for one in (pair := os.openpty()):
    os.set_inheritable(one, True)
fcntl.ioctl(pair[1], termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
async def storing(tmp_path, serving):
    """A server with a file, a mailbox and a terminal, its client, and the file."""
    data = tmp_path / "mail.db"
    terminal = (sys.executable, "-c", WITH_TERMINAL)
    async with (
        serving("--data", str(data), "--drain", "3600", prefix=terminal) as server,
        await RawClient.connect(("127.0.0.1", server.port)) as client,
    ):
        await client.ask("$mq9.AI.MAILBOX.CREATE", b'{"name":"inbox"}')
        yield server, client, data


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
async def test_told_to_stop_it_finishes_what_it_has_begun_and_begins_no_more(storing, number):
    server, client, data = storing
    with held(data):
        await tell_in_the_midst_of_a_send(server, client, number)
        server.stop(signal.SIGHUP)  # a terminal sends more than one
        client.send(publish("$mq9.AI.MSG.SEND.inbox", b"late", reply="late"))
        _, subject, _, reply = await client.frame()
        assert (subject, orjson.loads(reply)["code"]) == ("late", "unavailable")
    _, subject, _, reply = await client.frame()
    assert (subject, orjson.loads(reply)) == ("begun", {"error": "", "msg_id": 0})
    assert await client.ended() == []
    assert await server.ended() == 0
    assert "draining" in server.told
    assert "Traceback" not in server.told


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(storing, number):
    server, client, data = storing
    with held(data):
        await tell_in_the_midst_of_a_send(server, client, number)
        server.stop(number)
        assert await server.ended() == -number


@pytest.mark.programs
async def test_signals_of_log_files_do_no_harm(storing):
    server, client, _ = storing
    server.stop(signal.SIGUSR1)
    reply = await client.ask("$mq9.AI.MAILBOX.CREATE", b'{"name":"another"}')
    assert orjson.loads(reply)["error"] == ""


@pytest.mark.programs
async def test_in_lame_duck_mode_clients_leave_and_are_served_until_then(serving):
    async with serving("--memory") as server, Mq9Client(server.url) as client:
        await client.mailbox_create(name="inbox")
        raw = await RawClient.connect(("127.0.0.1", server.port))
        server.stop(signal.SIGUSR2)
        await until(lambda: "lame duck mode" in server.told)
        with pytest.raises(OSError):  # noqa: PT011  # refused
            await RawClient.open(("127.0.0.1", server.port))
        await raw.frame()  # the INFO
        reply = await raw.ask("$mq9.AI.MAILBOX.CREATE", b'{"name":"late"}')
        assert orjson.loads(reply)["error"] == ""
        assert server.process.poll() is None
        await raw.close()
        await client.close()
        assert await server.ended() == 0
        assert "draining" in server.told


@pytest.mark.programs
async def test_behind_nohup_a_closed_terminal_is_no_reason_to_stop(serving):
    ignoring = ("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    async with serving("--memory", prefix=ignoring) as server, Mq9Client(server.url) as client:
        server.stop(signal.SIGHUP)
        assert await client.mailbox_create(name="inbox") == "inbox"
        assert "draining" not in server.told
        server.stop()
        assert await server.ended() == 0


def test_it_is_not_reached_from_other_machines_without_authentication():
    code, line = refusal("--memory", "--host", "0.0.0.0")  # noqa: S104  # it must refuse
    assert code == 2
    assert "--auth-token" in line
    assert "--insecure" in line
    assert refusal("--memory", "--admin-host", "0.0.0.0")[0] == 2  # noqa: S104  # so must this


@pytest.mark.parametrize("option", [["--url", "sqlite:///x.db"], ["--json"]])
def test_what_is_for_other_commands_is_not_taken_silently(option):
    done = CliRunner().invoke(app, [*option, "serve", "--memory", "--no-admin"])
    assert done.exit_code == 2
    assert "stands behind its name" in done.stderr + done.stdout


@pytest.mark.programs
def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "mq9", "serve", "--memory", "--port", port, "--no-admin"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("error: ")
        assert port in done.stderr
        code, line = refusal("--memory", "--admin-port", port)
        assert (code, port in line) == (3, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--memory", "--data", "x.db"], "memory"),
        (["--memory", "--durability", "full"], "durability"),
        (["--durability", "some"], "durability"),
        (["--memory", "--port", "70000"], "port"),
        (["--memory", "--max-connections", "0"], "max-connections"),
        (["--memory", "--log-level", "loud"], "log_level"),
        (["--memory", "--log-format", "xml"], "log_format"),
        (["--memory", "--tls-cert", "x.pem"], "tls-key"),
        (["--memory", "--tls-cert", "x.pem", "--tls-key", "x.pem"], "tls-cert"),
        (["--memory", "--users", "missing.toml"], "users: missing.toml cannot be read"),
        (["--memory", "--auth-token", ""], "auth-token"),
        (["--memory", "--auth-token", "x", "--users", "x.toml"], "users: give either"),
        (["--memory", "--tls-key", "x.pem"], "tls-key"),
        (["--data", "/dev/null/x.db"], "/dev/null/x.db"),
        (["--data", "sqlite:///x.db"], "data: sqlite:/x.db is a URL"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, told):
    code, line = refusal(*options, "--no-admin")
    assert code in {1, 2}
    assert told in line.replace("'", "")


@pytest.mark.programs
async def test_a_wrong_token_is_logged_without_it(serving):
    environment = {"MQ9_AUTH_TOKEN": SECRET}
    options = ("--memory", "--log-level", "debug", "--log-format", "json")
    async with serving(*options, environment=environment) as server:
        with pytest.raises(Unauthorized):
            await Mq9Client.connect(server.url.replace("//", "//wrong-horse@"))
        async with Mq9Client(server.url.replace("//", f"//{SECRET}@")) as client:
            await client.mailbox_create(name="inbox")
        server.stop()
        assert await server.ended() == 0
    events = [json.loads(line) for line in server.told.splitlines()]
    assert "a client was refused: unknown credentials" in [event["message"] for event in events]
    assert SECRET not in server.told
    assert "wrong-horse" not in server.told


@pytest.mark.programs
async def test_metrics_and_health_are_served_beside_it(serving):
    async with serving("--memory", admin=True) as server, httpx.AsyncClient() as http:
        async with Mq9Client(server.url) as client:
            await client.mailbox_create(name="inbox")
        base = server.metrics_url.removesuffix("/metrics")
        assert (await http.get(f"{base}/healthz")).text == "ok"
        assert (await http.get(f"{base}/readyz")).json() == {"ready": True}
        metrics = (await http.get(f"{base}/metrics")).text
        assert re.search(r"\nmq9_clock_offset_seconds -?0\.0", metrics)
        assert 'mq9_operations_total{code="ok",verb="MAILBOX.CREATE"} 1.0' in metrics
        assert re.search(r"\nmq9_mailboxes\{state=\"\w+\"\} 1\.0", metrics)


async def test_without_a_chosen_port_it_does_without_metrics_where_that_is_taken(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(ServerSettings(port=0, memory=True), default_admin_port=port) as serving:
            async with Mq9Client(serving.server.url) as client:
                await client.mailbox_create(name="inbox")
            assert "no metrics" in caplog.text
        with pytest.raises(Unreachable, match=f"{port} cannot be listened on"):
            async with running(ServerSettings(port=0, memory=True, admin_port=port)):
                """It does not come to this."""
