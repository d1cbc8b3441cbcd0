"""The program `mq9-mcp`: what contradicts itself, what it is part of, and how it ends."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
from calling import move_to, mq9_mcp, ok, refused, run
from programs import MQ9_MCP, StdioServer
from users_file import write_users

from mcp_server.cli import app
from mq9.cli.app import app as mq9_app

TOKENS = '[[users]]\nagent = "{}"\ntoken = "a-token"\n'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the test's own."""
    move_to(tmp_path / "home", monkeypatch)
    return tmp_path / "home"


@pytest.fixture
def tokens(tmp_path):
    """A file with a token for one agent."""

    def write(agent="desk"):
        return str(write_users(tmp_path, TOKENS.format(agent), "tokens.toml"))

    return write


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "agent: say who the host is among the agents, with --agent NAME"),
        ("--http", "agent: say who the host is among the agents, with --agent NAME"),
        ("--agent !!!", "mail_address: '!!!' has no letter a-z and no digit to make one of; give"),
        ("--agent a --mail-address Bad", "invalid mail_address: 'Bad'; use 1 to 128"),
        (
            "--agent auto --mail-address desk",
            "mail_address: 'desk' is one mailbox, and agents that",
        ),
        (
            "--http --agent auto",
            "agent: 'auto' names the agent after the one host that starts this",
        ),
        ("--agent a --tokens TOKENS", "tokens: it is for --http, which is not given"),
        ("--agent a --verifier x:y", "verifier: it is for --http"),
        ("--agent a --stateless", "stateless: it is for --http"),
        ("--agent a --allow-host x", "allow_host: it is for --http"),
        ("--agent a --allow-origin x", "allow_origin: it is for --http"),
        ("--http --agent a --host 0.0.0.0", "host: other machines reach 0.0.0.0, and anybody"),
        ("--http --agent a --host ::", "host: other machines reach ::, and anybody could act as"),
        ("--http --agent a --tokens TOKENS", "agent: 'a' is given, but the token says who asks"),
        ("--http --mail-address a --tokens TOKENS", "agent: 'a' is given, but the token says"),
        ("--http --tokens TOKENS --verifier x:y", "verifier: give either --tokens or --verifier"),
        (
            "--http --tokens TOKENS --server nats://operator:of-all@127.0.0.1:1",
            "server: nats://***@127.0.0.1:1 names a user or token, but with --tokens each agent",
        ),
        (
            "--http --verifier tests.mcpserver.over_http:Names --server nats://127.0.0.1:1",
            "verifier: a server knows agents by its own users file",
        ),
        ("--http --tokens nowhere.toml", "users: nowhere.toml cannot be read: No such file"),
        ("--http --tokens TOKENS-OF-!!!", "mail_address: '!!!' has no letter a-z and no digit"),
        ("--http --verifier nowhere:x", "verifier: 'nowhere:x' cannot be loaded: No module named"),
        ("--http --verifier json:nothing", "verifier: 'json:nothing' cannot be loaded: module"),
        ("--http --verifier json:dumps", "verifier: 'json:dumps' has no verify_token"),
        ("--http --verifier json:JSONDecoder", "verifier: 'json:JSONDecoder' has no verify_token"),
        ("--http --verifier typing:Union", "verifier: 'typing:Union' has no verify_token"),
        ("--http --verifier ..", "verifier: '..' cannot be loaded: "),
        ("--agent a --tools whoami,nothing", "tools: 'nothing' is not one of agent_register, "),
        ("--agent a --tools=", "tools: '' is not one of "),
        ("--agent a --prefix a.b", "prefix: 'a.b' is not at most 40 letters, digits, _ and -"),
        (f"--agent a --prefix {'x' * 41}", f"prefix: '{'x' * 41}' is not at most 40"),
        (
            "--agent a --server ftp://host",
            "server: 'ftp://host' is not a URL that this version opens",
        ),
        ("--agent a --server nats://", "server: "),
        ("--agent a --lease 0", "Invalid value for '--lease': "),
        ("--agent a --max-chars 99", "Invalid value for '--max-chars': "),
        ("--agent a --http --port 65536", "Invalid value for '--port' (env var: 'MQ9_MCP_PORT'): "),
        ("--agent a --log-level loud", "log_level: 'loud' is not debug, info, warning or error"),
        ("--agent a --nonsense", "No such option: --nonsense"),
        ("nonsense", "No such command 'nonsense'"),
        ("--agent a install cursor", "agent: 'a' is for serving; what install takes stands behind"),
        ("--server x doctor", "server: 'x' is for serving; what doctor takes stands behind it"),
    ],
)
def test_what_contradicts_itself_is_refused(tokens, arguments, complaint):
    words = arguments.split()
    if words[-1:] == ["TOKENS-OF-!!!"]:
        words[-1] = tokens("!!!")
    said = refused(*(tokens() if one == "TOKENS" else one for one in words))
    assert said.startswith(complaint)
    assert "of-all" not in said  # the password


def test_a_variable_names_the_agent_and_the_broker(tokens):
    assert "'!!!' has no letter" in refused(MQ9_AGENT="!!!")
    assert "ftp://host" in refused("--agent", "a", MQ9_SERVER="ftp://host")
    assert "'b' is given" in refused("--http", "--tokens", tokens(), MQ9_AGENT="b")
    assert json.loads(ok("install", "cursor", "--print", MQ9_AGENT="b"))  # it is not before it


@pytest.mark.programs
def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        url = f"sqlite:///{tmp_path}/mail.db"
        done = run(MQ9_MCP, "--http", "--agent", "a", "--port", str(port), "--server", url)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: 127.0.0.1:{port} cannot be listened on: ")


@pytest.mark.programs
def test_it_is_mq9_mcp_as_well(tmp_path):
    def help_of(*arguments, program=app):
        return re.sub(r"Usage: .*\n", "", ok(*arguments, "--help", program=program))

    assert help_of("mcp", program=mq9_app) == help_of()
    assert help_of("mcp", "install", program=mq9_app) == help_of("install")
    for given in (("--url", "x"), ("--json",), ("--timeout", "1")):
        done = mq9_mcp(*given, "mcp", "--agent", "a", program=mq9_app)
        assert done.code == 2
        assert "--url, --json and --timeout are for the other commands" in done.err + done.out
    url = f"sqlite:///{tmp_path}/mail.db"
    done = run(
        *(sys.executable, "-m", "mq9", "mcp", "--agent", "a"),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "MQ9_SERVER": url},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def without_the_package(tmp_path):
    """The environment of programs that have no mcp."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mcp'] = None\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.programs
@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("mcp_server", "--agent a", "this command needs mcp"),
        ("mcp_server", "install cursor", "this command needs mcp"),
        ("mq9", "mcp --agent a", "mcp: it needs mcp"),
        ("mq9", "serve --mcp --mcp-agent a --port 0", "mcp: it needs mcp"),
    ],
)
def test_without_the_package_it_says_what_to_install(
    without_the_package, tmp_path, module, arguments, said
):
    words = (sys.executable, "-m", module, *arguments.split())
    done = run(*words, cwd=tmp_path, env=without_the_package)
    assert (done.returncode, done.stdout) == (2, "")
    *logged, line = done.stderr.splitlines()
    assert all(" INFO " in one for one in logged), done.stderr
    assert line.startswith(f"error: {said}")
    assert "the extra `mcp` of this package installs" in line
    assert line.endswith("pip install '.[mcp]'")


@pytest.mark.programs
@pytest.mark.parametrize(
    ("module", "commands"), [("mcp_server", ["install"]), ("mq9", ["mcp", "send"])]
)
def test_without_the_package_the_commands_are_there(without_the_package, module, commands):
    done = run(sys.executable, "-m", module, "--help", env=without_the_package)
    assert (done.returncode, done.stderr) == (0, "")
    for name in commands:
        assert f"\n  {name} " in done.stdout


@pytest.mark.programs
def test_its_log_has_the_fields_of_every_program_of_ours(tmp_path):
    options = ("--agent", "desk", "--server", f"sqlite:///{tmp_path}/mail.db")
    how = {"env": {**os.environ, "MQ9_LOG_FORMAT": "json"}, "stderr": subprocess.PIPE}
    with StdioServer(*options, "--log-level", "info", **how) as server:
        server.greet().do("whoami")
        server.end()
        events = [json.loads(line) for line in server.process.stderr]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    assert "mq9.client" in [event["logger"] for event in events]
