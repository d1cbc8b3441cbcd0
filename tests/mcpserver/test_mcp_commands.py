"""`mq9-mcp install` and `mq9-mcp doctor`, as a user calls them."""

import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from calling import move_to, mq9_mcp, ok, refused, stand_in
from programs import MQ9_MCP, McpServing

from mcp_server.hosts.doctor import own_launch
from mcp_server.hosts.host import Launch, Machine
from mcp_server.options import FOR_STDIO, flag, takes_value
from mq9 import InvalidRequest, Mq9Client
from mq9.address import slug
from mq9.operations.catalog import ALL
from mq9.version import VERSION


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the test's own."""
    move_to(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("PATH", str(MQ9_MCP.parent))
    # The servers that a doctor starts are measured elsewhere, which takes as long as to start them.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    return tmp_path / "home"


def cursor(home):
    return home / ".cursor/mcp.json"


def configure(path, entry, before=""):
    """Have a host start a server by an entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before + json.dumps({"mcpServers": {"x": entry}}))


def entry(home):
    return json.loads(cursor(home).read_text())["mcpServers"]["mq9"]


def test_it_shows_what_changes_and_asks(home):
    done = mq9_mcp("install", "cursor", stdin="n\n")
    assert done.code == 130
    assert f'+      "command": "{MQ9_MCP}",' in done.out
    assert f"Change {cursor(home)}? [y/N]" in done.err
    assert not cursor(home).exists()
    assert mq9_mcp("install", "cursor", stdin="").code == 130  # nobody is there to answer
    assert not cursor(home).exists()

    cursor(home).parent.mkdir()
    before = '{"mcpServers": {"other": {"command": "x"}}, "rest": [1,\n2]}\n'
    cursor(home).write_text(before)
    done = mq9_mcp("install", "cursor", stdin="y\n")
    assert done.code == 0
    assert done.out.endswith("done; start Cursor anew\n")
    assert entry(home) == {
        "command": str(MQ9_MCP),
        "args": ["--agent", "cursor"],
        "env": {"MQ9_SERVER": f"sqlite:///{home}/data/mq9/mq9.db"},
    }
    assert ok("install", "cursor") == f"{cursor(home)} is as it should be; nothing to do\n"

    assert mq9_mcp("install", "cursor", "--undo", stdin="n\n").code == 130
    assert entry(home)
    assert "done; start Cursor anew" in ok("install", "cursor", "--undo", "--yes")
    assert cursor(home).read_text() == before
    assert [one.name for one in cursor(home).parent.iterdir()] == ["mcp.json"]
    assert refused("install", "cursor", "--undo").startswith("undo: nothing to undo")


def test_it_has_mail_delivered_and_says_what_is_left_to_do(home):
    settings = home / ".gemini/settings.json"
    shown = ok("install", "gemini", "--deliver", "--approve", "--dry-run")
    assert f'+            "command": "{MQ9_MCP} hook gemini AfterAgent --agent gemini",' in shown
    assert not settings.exists()
    done = mq9_mcp("install", "gemini", "--deliver", "--approve", stdin="y\n")
    assert done.err.count(str(settings)) == 1
    assert "A session is told of mail when it begins" in done.out
    assert done.out.endswith(
        "- An idle chat sleeps: mail that comes then is told at your next prompt.\n"
    )
    assert json.loads(settings.read_text())["mcpServers"]["mq9"]["trust"] is True
    assert "gemini mail" in ok("doctor")

    assert "- An idle" not in ok("install", "gemini", "--undo", "--yes")
    assert list(settings.parent.iterdir()) == []
    assert refused("install", "vscode", "--deliver").startswith("deliver: vscode has no hooks")


def test_a_host_is_made_to_ask_a_person_and_undone(home):
    done = ok("install", "codex", "--approvals", "The Boss", "--approvals-wait", "90", "--yes")
    assert (
        "codex asks The Boss for permissions, for 90 s each. Then it asks itself.\n"
        "To answer: mq9 inbox the.boss, then mq9 reply the.boss ID approve\n"
        '- Start codex in a terminal and choose "Trust all and continue".\n'
    ) in done
    assert "first prompt" not in done  # that is about mail
    assert "'The Boss' --wait 90" in (home / ".codex/hooks.json").read_text()
    assert "codex permissions" in mq9_mcp("doctor").out
    ok("install", "codex", "--undo", "--yes")
    assert not (home / ".codex/hooks.json").exists()

    assert refused("install", "codex", "--approvals-wait", "90").startswith("approvals_wait: 90")
    assert refused("install", "gemini", "--approvals", "boss").startswith("approvals: gemini has")
    assert refused("install", "codex", "--approvals", "!").startswith("approvals: ")
    url = ("--url", "https://mail.example/mcp")
    assert "for a server that the host starts" in refused(
        "install", "codex", "--approvals", "boss", *url
    )


def test_the_hooks_of_a_project_name_no_place_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ok("install", "claude-code", "--project", "--deliver", "--yes")
    assert "- Trust the folder, and let Claude Code start the project's server" in done
    hooks = json.loads((tmp_path / ".claude/settings.json").read_text())["hooks"]
    [group] = hooks["Stop"]
    assert [one["command"] for one in group["hooks"]] == ["mq9-mcp", "mq9-mcp"]
    assert group["hooks"][0]["args"] == ["hook", "claude-code", "Stop", "--agent", "auto"]


def test_hooks_are_undone_where_the_entry_was_written_by_hand(home):
    ok("install", "codex", "--deliver", "--yes")
    (home / ".codex/config.toml.mq9-undo").unlink()
    ok("install", "codex", "--undo", "--yes")
    assert not (home / ".codex/hooks.json").exists()
    assert "nothing to undo" in refused("install", "codex", "--undo")


def test_it_takes_the_options_of_the_server_and_the_broker_of_this_shell(home, tmp_path):
    for url in ("nats://desk:hunter2@127.0.0.1:1", "sqlite:///here.db"):
        printed = json.loads(ok("install", "cursor", "--print", MQ9_SERVER=url))
        absolute = url.replace("///", f"///{Path.cwd()}/")
        assert printed["mcpServers"]["mq9"]["env"] == {"MQ9_SERVER": absolute}
    complaint = refused("install", "cursor", "--yes", MQ9_SERVER="memory://x")
    assert complaint.startswith("server: 'memory://x' ends with its process")
    printed = json.loads(ok("install", "vscode", "--print", "--key", "mail"))
    assert printed["servers"]["mail"]["command"] == str(MQ9_MCP)
    assert list(home.iterdir()) == []

    options = ("--with", "--read-only", "--with=--allow-read", "--with", "team.*")
    url = f"sqlite:///{tmp_path}/mail.db"
    ok("install", "cursor", "--yes", "--agent", "Data Desk", "--server", url, *options)
    assert entry(home) == {
        "command": str(MQ9_MCP),
        "args": ["--agent", "Data Desk", "--read-only", "--allow-read", "team.*"],
        "env": {"MQ9_SERVER": url},
    }


def test_a_dry_run_shows_the_change_and_no_password(home):
    url = "nats://desk:hunter2@127.0.0.1:1"
    shown = ok("install", "cursor", "--dry-run", "--server", url)
    assert '+        "MQ9_SERVER": "nats://***@127.0.0.1:1"' in shown
    assert list(home.iterdir()) == []

    ok("install", "cursor", "--yes")
    before = cursor(home).read_bytes()
    cursor(home).chmod(0o644)
    shown = ok("install", "cursor", "--dry-run", "--server", url)
    assert shown.startswith(f"{cursor(home)} holds a password or token: only you can read it af")
    assert "-" in ok("install", "cursor", "--undo", "--dry-run")
    assert cursor(home).read_bytes() == before


def test_it_installs_in_a_project(home, tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    ok("install", "claude-code", "--project", "--yes")
    assert json.loads((project / ".mcp.json").read_text())["mcpServers"]["mq9"] == {
        "type": "stdio",
        "command": "mq9-mcp",
        "args": ["--agent", "auto"],
    }
    assert list(home.iterdir()) == []
    assert refused("install", "claude-desktop", "--project").startswith(
        "project: Claude Desktop has"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["emacs"], "host: 'emacs' is none of claude-desktop, claude-code, cursor, vscode"),
        ([], "Missing argument 'HOST'"),
        (["cursor", "--agent", "!!!"], "mail_address: '!!!' has no letter"),
        (["cursor", "--agent", "auto", "--mail-address", "a"], "mail_address: 'a' is one mailbox"),
        (["cursor", "--server", "ftp://x"], "server: 'ftp://x' is not a URL"),
        (["cursor", "--key", "a b"], "key: 'a b' is not 1 to 64 of"),
        (["cursor", "--with", "--nonsense"], "No such option: --nonsense"),
        (["cursor", "--with", "--http"], "with: hosts start the server on standard input"),
        (["cursor", "--with", "--stateless"], "stateless: it is for --http"),
        (["cursor", "--with", "--tools=x"], "tools: 'x' is not one of"),
        (["cursor", "--with", "--prefix=a b"], "prefix: 'a b' is not"),
        (["cursor", "--with", "doctor"], "with: 'doctor' is not an option"),
    ],
)
def test_what_no_host_could_start_is_not_installed(home, arguments, complaint):
    assert refused("install", *arguments, "--yes").startswith(complaint)
    assert list(home.iterdir()) == []


@pytest.fixture
def doctor(tmp_path, unused_tcp_port_factory):
    """Call the doctor; what it found, by name, and its exit code."""
    free_port = unused_tcp_port_factory()

    def call(**environment):
        url = f"sqlite:///{tmp_path}/mail.db"
        given = {"MQ9_MCP_PORT": free_port, **environment}
        done = mq9_mcp("doctor", "--json", MQ9_SERVER=url, **{k: str(v) for k, v in given.items()})
        found = json.loads(done.out)
        assert found["ok"] is (done.code == 0)
        return {one["name"]: one for one in found["checks"]}, done.code

    return call


async def wake(agent, path):
    """Have mail begin a turn of a host's session."""
    path.parent.mkdir(parents=True)
    async with Mq9Client(f"sqlite:///{path}") as client:
        address = await client.mailbox_create(name=slug(agent))
        await client.send(address, "Hello")
        told = await client.notice(
            address, host="cursor", session="1", occasion="stop", may_wake="everyone"
        )
        assert told.told


def test_the_doctor_finds_all_well(doctor, home, tmp_path):
    found, code = doctor()
    assert code == 0
    assert {one["state"] for one in found.values()} == {"ok"}
    assert {"mcp", "broker", "round trip", "command", "cursor", "vscode"} <= set(found)
    assert (
        found["cursor"]["text"] == f"has no {cursor(home)}; to use it there: mq9-mcp install cursor"
    )

    ok("install", "cursor", "--yes", "--agent", "Desk")
    found, code = doctor()  # the doctor's own variable names another broker than the entry
    assert (code, found["cursor"]["state"], found["meeting"]["state"]) == (0, "ok", "warning")
    default = f"{home}/data/mq9/mq9.db"
    assert found["cursor"]["text"] == (
        f"starts this server as Desk, with {len(ALL)} tools, on sqlite:///{default}, not there yet"
    )
    assert not Path(default).parent.exists()
    assert found["meeting"]["text"] == (
        "not all meet, so mail of some does not reach the others: "
        f"cursor on {default}; programs started here on {tmp_path}/mail.db"
    )
    asyncio.run(wake("Desk", Path(default)))
    found, _ = doctor()
    assert found["cursor"]["text"].endswith("mail began 1 automatic turn in the last hour")
    cursor(home).write_text("{}")
    found, code = doctor()
    assert (code, found["cursor"]["state"]) == (0, "ok")
    assert found["cursor"]["text"].startswith("does not start this server")


class NotMcp(ThreadingHTTPServer):
    """A program that has the port of ours, and answers nothing of MCP."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.number = self.server_port

    def __enter__(self):
        threading.Thread(target=self.serve_forever).start()
        return self

    def __exit__(self, *_about):
        self.shutdown()
        self.server_close()


SILENT = "#!/bin/sh\nexit 1\n"
NOISY = f"""#!{sys.executable}
import sys
for n in range(100_000): print('line', n, file=sys.stderr)
sys.exit('no broker at nats://desk:hunter2@127.0.0.1:1')
"""


@pytest.mark.programs
@pytest.mark.parametrize(
    ("script", "ends"),
    [
        (None, ")"),
        (SILENT, ")"),
        (NOISY, "line 99998; line 99999; no broker at nats://***@127.0.0.1:1)"),
    ],
    ids=["missing", "silent", "noisy"],
)
def test_a_command_that_is_no_server_is_told_by_its_error(doctor, home, script, ends):
    program = home / "mq9-mcp"
    configure(cursor(home), {"command": str(program)})
    if script is not None:
        stand_in(program, script)
    found, code = doctor()
    assert code == 1
    assert found["cursor"]["state"] == "problem"
    assert found["cursor"]["advice"] == "mq9-mcp install cursor"
    said = found["cursor"]["text"]
    assert said.startswith(f"cannot start the server by `{program}` (")
    assert said.endswith(ends)
    assert "ExceptionGroup" not in said
    assert "TaskGroup" not in said


@pytest.mark.programs
def test_the_doctor_tells_no_password(doctor, home):
    words = ["--agent", "a", "--server", "nats://desk:hunter2@127.0.0.1:1"]
    missing = {"command": str(home / "mq9-mcp"), "args": words}
    ours = {"command": str(MQ9_MCP), "args": words}
    configure(cursor(home), missing)
    configure(home / ".gemini/settings.json", ours)
    found, code = doctor()
    assert (code, found["cursor"]["state"], found["gemini"]["state"]) == (1, "problem", "problem")
    assert "--server nats://***@127.0.0.1:1`" in found["cursor"]["text"]
    assert "on nats://***@127.0.0.1:1" in found["gemini"]["text"]
    assert "gemini on nats://127.0.0.1:1" in found["meeting"]["text"]
    assert "cursor" not in found["meeting"]["text"]
    assert "hunter2" not in str(found)


@pytest.mark.programs
def test_a_host_is_started_as_it_would_be(doctor, home, tmp_path):
    url = f"sqlite:///{tmp_path}/mail.db"
    for host in ("cursor", "vscode"):
        ok("install", host, "--yes", "--agent", "auto", "--server", url)
    assert "agents" not in doctor()[0]
    for host in ("cursor", "vscode"):
        ok("install", host, "--yes", "--agent", "Desk", "--server", url)
    found, code = doctor()
    assert (code, found["cursor"]["state"], found["vscode"]["state"]) == (0, "ok", "ok")
    assert found["cursor"]["text"] == f"starts this server as Desk, with {len(ALL)} tools, on {url}"
    assert found["agents"]["state"] == "warning"
    assert found["agents"]["text"] == "cursor and vscode are all Desk, and share its mailbox"
    assert found["meeting"] == {
        "name": "meeting",
        "state": "ok",
        "text": f"cursor and vscode and programs started here meet on {tmp_path}/mail.db",
        "advice": "",
    }

    cursor(home).write_text(cursor(home).read_text().replace(url, "nats://127.0.0.1:1"))
    found, code = doctor()
    assert (code, found["cursor"]["state"]) == (1, "problem")
    assert "no mq9 broker answers at nats://127.0.0.1:1" in found["cursor"]["text"]

    cursor(home).write_text(cursor(home).read_text().replace('"Desk"', '"Desk", "--bogus"'))
    found, code = doctor()
    said = found["cursor"]["text"]
    assert said.startswith("cannot start the server by `")
    assert "--bogus` (error: No such option: --bogus" in said
    assert "cursor" not in found["meeting"]["text"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", ""),
        (b"\xff", ""),
        (b"[]", "it is a list, not an object"),
        (b"1", "it is a number, not an object"),
        (b'{"mcpServers": []}', "mcpServers: it is a list, not an object"),
        (b'{"mcpServers": null}', "mcpServers: it is null, not an object"),
    ],
)
def test_a_broken_configuration_is_a_warning(doctor, home, content, why):
    cursor(home).parent.mkdir()
    cursor(home).write_bytes(content)
    found, code = doctor()
    said = found["cursor"]
    assert (code, said["state"], said["advice"]) == (0, "warning", "look at it")
    assert said["text"].startswith(f"{cursor(home)} cannot be read: {why}")


@pytest.mark.programs
def test_servers_are_started_side_by_side(doctor, home):
    """Opening a named pipe waits until its other end is opened, so neither program ends alone."""
    os.mkfifo(home / "pipe")
    for config, mode in ((cursor(home), "r"), (home / ".gemini/settings.json", "w")):
        opens = f"open({str(home / 'pipe')!r}, {mode!r})"
        script = f"#!{sys.executable}\nimport sys\n{opens}\nsys.exit('both have run')\n"
        configure(config, {"command": str(stand_in(config.with_name("mq9-mcp"), script))})
    found, _ = doctor()
    assert found["cursor"]["text"].endswith("(both have run)")
    assert found["gemini"]["text"].endswith("(both have run)")


@pytest.mark.programs
@pytest.mark.parametrize(
    ("urls", "state", "meets"),
    [
        (
            ["sqlite:///TMP/mail.db", "sqlite:///TMP/link/mail.db", "sqlite:///TMP/other.db"],
            "ok",
            "cursor and codex and programs started here on TMP/mail.db; opencode on TMP/other.db",
        ),
        (
            [
                *("nats://localhost:1", "nats://127.0.0.1:1", "nats://desk:x@LOCALHOST:1"),
                "nats://[::1]:1",
            ],
            "problem",
            "cursor and codex and gemini and opencode on nats://127.0.0.1:1; ",
        ),
    ],
)
def test_hosts_that_would_not_meet_are_told_apart(doctor, home, tmp_path, urls, state, meets):
    (tmp_path / "link").symlink_to(tmp_path)
    hosts = ("cursor", "codex", "opencode", "gemini")[: len(urls)]
    for host, url in zip(hosts, urls, strict=True):
        ok("install", host, "--yes", "--server", url.replace("TMP", str(tmp_path)))
    found, code = doctor()
    assert code == int(state == "problem")
    told = [one for one in hosts if one in found]
    assert {found[one]["state"] for one in told} == {state}
    if state == "problem":  # it is one, and told once
        assert told == ["cursor"]
        assert found["cursor"]["text"].endswith("; the same for codex and gemini and opencode")
    assert found["meeting"]["state"] == "warning"
    assert found["meeting"]["text"].startswith("not all meet, so mail of some does not reach the ")
    assert meets.replace("TMP", str(tmp_path)) in found["meeting"]["text"]
    assert "agents" not in found


HTTP = ("--yes", "--token-variable", "MQ9_MCP_TOKEN", "--url")


@pytest.mark.programs
def test_the_doctor_names_what_keeps_a_host_from_a_server_over_http(
    doctor, home, tmp_path, dead_port
):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('[[users]]\nagent = "Desk"\ntoken = "right"\n')
    tokens.chmod(0o600)
    dead = f"http://127.0.0.1:{dead_port}/mcp"
    with McpServing(tmp_path, "--tokens", tokens, "--server", f"sqlite:///{tmp_path}/h.db") as one:
        ok("install", "codex", *HTTP, one.url)
        ok("install", "cline-cli", *HTTP, one.url, MQ9_MCP_TOKEN="wrong")
        ok("install", "gemini", "--yes", "--url", one.url)
        ok("install", "qwen", *HTTP, one.url.replace("/mcp", "/other"))
        for host in ("cursor", "copilot"):
            ok("install", host, *HTTP, dead)

        found, code = doctor(MQ9_MCP_TOKEN="right")

        assert (code, found["codex"]["state"]) == (1, "ok")
        assert found["codex"]["text"] == f"reaches the server at {one.url}"
        wrong = {name: check for name, check in found.items() if check["state"] == "problem"}
        assert {name: check["text"].replace(one.url, "URL") for name, check in wrong.items()} == {
            "cline-cli": "the server at URL refuses the token in its file (HTTP 401)",
            "gemini": "the server at URL wants a token, and the entry has none (HTTP 401)",
            "qwen": f"another program answers at {one.url.replace('/mcp', '/other')} (HTTP 404)",
            "cursor": wrong["cursor"]["text"],
        }
        assert wrong["cursor"]["text"].startswith(f"no server answers at {dead} (ConnectError")
        assert wrong["cursor"]["text"].endswith("; the same for copilot")
        assert all(one["advice"] for one in wrong.values())

        unset, _ = doctor()
        assert unset["codex"]["state"] == "warning"
        assert unset["codex"]["text"].endswith("the token of MQ9_MCP_TOKEN, which is not set here")
        refused, _ = doctor(MQ9_MCP_TOKEN="other")
        assert "refuses the token of MQ9_MCP_TOKEN (HTTP 401)" in refused["codex"]["text"]
        port, _ = doctor(MQ9_MCP_PORT=one.url.split(":")[2].split("/")[0])
        assert port["port"]["text"].startswith("a server of MCP listens on 127.0.0.1:")
        assert port["port"]["state"] == "ok"


def test_a_port_that_another_program_has_is_told(doctor):
    assert doctor()[0]["port"]["text"].endswith(" is free")
    with NotMcp() as other:
        said = doctor(MQ9_MCP_PORT=other.number)[0]["port"]
    assert (said["state"], said["text"]) == (
        "warning",
        f"127.0.0.1:{other.number} is in use by another program",
    )
    assert said["advice"] == "mq9-mcp --http --port PORT, or stop it"


OLDER = f"""#!{sys.executable}
import subprocess, sys
server = subprocess.Popen([{str(MQ9_MCP)!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
for line in server.stdout:
    sys.stdout.buffer.write(line.replace(b'"{VERSION}"', b'"0.3.9"'))
    sys.stdout.buffer.flush()
"""


@pytest.mark.programs
def test_a_server_of_another_version_is_told(doctor, home, tmp_path):
    ours = {
        "command": str(stand_in(home / "mq9-mcp", OLDER)),
        "args": ["--agent", "a", "--server", f"sqlite:///{tmp_path}/mail.db"],
    }
    configure(cursor(home), ours)
    said = doctor()[0]["cursor"]
    assert said["state"] == "warning"
    assert said["text"].endswith(f"; it is version 0.3.9, and this is {VERSION}")
    assert said["advice"] == "upgrade the older one, or mq9-mcp install cursor"


@pytest.mark.programs
@pytest.mark.parametrize("by_option", [False, True])
def test_looking_creates_no_broker(doctor, home, tmp_path, monkeypatch, by_option):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    url = f"sqlite:///{project}/mail/x.db"
    words = ["--agent", "a", *(["--server", url] if by_option else [])]
    entry = {"command": "mq9-mcp", "args": words, "env": {} if by_option else {"MQ9_SERVER": url}}
    configure(project / ".mcp.json", entry)
    configure(cursor(home), {**entry, "command": str(MQ9_MCP)})
    found, code = doctor()
    assert (code, found["cursor"]["state"]) == (0, "ok")
    for name in ("cursor", "claude-code (project)"):
        assert found[name]["text"].endswith(f"with {len(ALL)} tools, on {url}, not there yet")
    assert [one.name for one in project.iterdir()] == [".mcp.json"]


@pytest.mark.programs
def test_a_project_is_looked_at_as_well(doctor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ok("install", "vscode", "--project", "--yes", "--server", "sqlite:///project.db")
    found, code = doctor()
    assert (code, found["vscode (project)"]["state"]) == (0, "ok")
    assert found["vscode (project)"]["text"] == (
        f"starts this server as an agent of each project, with {len(ALL)} tools, on "
        f"sqlite:///{tmp_path}/project.db, not there yet"
    )
    assert f"vscode (project) on {tmp_path}/project.db" in found["meeting"]["text"]


def test_in_the_home_directory_a_file_is_looked_at_once(doctor, home, monkeypatch):
    monkeypatch.chdir(cursor(home).parents[1])
    ok("install", "cursor", "--yes")
    found, _ = doctor()
    assert found["cursor"]["state"] == "ok"
    assert "cursor (project)" not in found


@pytest.mark.programs
@pytest.mark.parametrize(
    ("url", "state", "says"),
    [
        ("ftp://x", "problem", "server: 'ftp://x' is not a URL that this version opens"),
        ("sqlite:///mail.db", "warning", "another file wherever it is started"),
        (None, "warning", "its user, or on what MQ9_SERVER says where it is started"),
    ],
)
def test_a_broker_that_is_not_the_same_everywhere_or_none_is_told(doctor, home, url, state, says):
    given = {} if url is None else {"MQ9_SERVER": url}
    ours = {"command": str(MQ9_MCP), "args": ["--agent", "a"], "env": given}
    configure(cursor(home), ours, "// mine\n")
    found, code = doctor()
    assert (code, found["cursor"]["state"]) == (int(state == "problem"), state)
    assert says in found["cursor"]["text"]
    assert ("meeting" in found) == (state == "warning")


@pytest.fixture
def project(home, tmp_path, monkeypatch):
    """The working directory, with programs and modules that leave a trace when they are run."""
    project = tmp_path / "project"
    for name in ("mq9-mcp", "uvx"):
        stand_in(project / "bin" / name, f"#!/bin/sh\ntouch {project}/ran\n")
    for name in ("mcp_server", "sitecustomize"):
        (project / f"{name}.py").write_text(f"open({str(project / 'ran')!r}, 'w').close()\n")
    (project / "bin/python").symlink_to(sys.executable)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", f"{MQ9_MCP.parent}:{project}/bin:/usr/bin:/bin")
    return project


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"command": "./bin/mq9-mcp"}, f"a project names the program, and it is not {MQ9_MCP}"),
        ({"command": "bin/mq9-mcp", "args": ["--agent", "x"]}, "a project names the program"),
        ({"command": "uvx", "args": ["--from", "x", "mq9-mcp"]}, "a project names the program"),
        ({"command": "bin/python", "args": ["-m", "mcp_server"]}, "a project names the program"),
        ({"command": "mq9-mcp", "env": {"PYTHONPATH": "."}}, "a project sets the variable"),
        ({"command": "mq9-mcp", "env": {"MQ9_AGENT_KEY": "ran"}}, "a project sets the variable"),
        ({"command": "mq9-mcp", "args": ["install", "cursor", "-y"]}, "a project gives 'install'"),
        ({"command": "mq9-mcp", "args": ["--http"]}, "a project gives '--http'"),
    ],
)
def test_what_a_project_names_is_read_and_not_started(doctor, project, home, entry, why):
    configure(project / ".mcp.json", entry)
    said = doctor()[0]["claude-code (project)"]
    assert said["state"] == "warning"
    assert f" was not started: {why}" in said["text"]
    assert said["advice"] == "start Claude Code and let it ask"
    assert not (project / "ran").exists()
    assert not cursor(home).exists()


@pytest.mark.programs
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("mq9-mcp", []),
        (str(MQ9_MCP), ["--prefix=mail_", "--lease", "60"]),
        (sys.executable, ["-m", "mcp_server"]),
    ],
)
def test_our_own_program_is_started_for_a_project(doctor, project, command, arguments):
    words = [*arguments, "--agent=Desk"]
    entry = {"command": command, "args": words}
    configure(project / ".mcp.json", entry)
    said = doctor()[0]["claude-code (project)"]
    assert (said["state"], said["text"][:34]) == ("ok", "starts this server as Desk, with 1")
    assert not (project / "ran").exists()


@pytest.mark.parametrize("name", FOR_STDIO)
def test_every_option_for_standard_input_and_output_may_stand_in_a_project(name):
    machine = Machine.here()
    given = ("x",) if takes_value(name) else ()
    launch = Launch(str(MQ9_MCP), (flag(name), *given))
    assert own_launch(launch, machine) == launch
    rest = Launch(str(MQ9_MCP), (flag(name), *given, "install"))
    with pytest.raises(InvalidRequest, match="a project gives 'install'"):
        own_launch(rest, machine)
