"""The entry of a server that a host reaches by HTTP, and where its token is."""

import json
import stat
import sys
from dataclasses import replace

import pytest
from calling import move_to, ok, refused

from mcp_server.hosts.entry import make_remote_entry, without_credentials
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo
from mq9 import InvalidRequest

URL = "http://127.0.0.1:8765/mcp"
NAME = "MQ9_MCP_TOKEN"
TOKEN = "hunter2"
ENTRIES = {
    "claude-code": {"type": "http", "url": URL, "headers": "${MQ9_MCP_TOKEN}"},
    "cursor": {"url": URL, "headers": "${env:MQ9_MCP_TOKEN}"},
    "vscode": {"type": "http", "url": URL, "headers": "${env:MQ9_MCP_TOKEN}"},
    "codex": {"url": URL, "bearer_token_env_var": NAME},
    "gemini": {"httpUrl": URL, "headers": "${MQ9_MCP_TOKEN}"},
    "qwen": {"httpUrl": URL, "headers": "${MQ9_MCP_TOKEN}"},
    "opencode": {"type": "remote", "url": URL, "headers": "{env:MQ9_MCP_TOKEN}"},
    "copilot": {"type": "http", "tools": ["*"], "url": URL, "headers": "${MQ9_MCP_TOKEN}"},
    "cline": {"type": "streamableHttp", "url": URL, "headers": TOKEN},
    "cline-cli": {"type": "streamableHttp", "url": URL, "headers": TOKEN},
    "continue": {"type": "http", "url": URL, "headers": TOKEN},
    "cn": {"type": "streamable-http", "url": URL, "headers": "${{ secrets.MQ9_MCP_TOKEN }}"},
}


@pytest.fixture
def here(here):
    """A user whose shell has the token."""
    return replace(here, environment={**here.environment, NAME: TOKEN})


def path_of(host, here):
    path = host.file(here)
    if host.needs_file:
        path.parent.mkdir(parents=True)
        path.touch(0o644)
    return path


def said(value):
    """Write an entry's headers as its token alone."""
    headers = value.pop("requestOptions", value).pop("headers", None)
    if headers is not None:
        assert list(headers) == ["Authorization"]
        value["headers"] = headers["Authorization"].removeprefix("Bearer ")
    return value


@pytest.mark.parametrize("name", ENTRIES)
def test_each_host_is_told_in_its_own_way(here, name):
    host = HOSTS[name]
    path = path_of(host, here)
    entry = make_remote_entry(host, here, url=URL, variable=NAME)
    plan = plan_install(entry, here)
    plan.apply()
    assert said(host.text.parse(path.read_text())[host.servers_key]["mq9"]) == ENTRIES[name]
    assert TOKEN not in plan.diff
    assert (TOKEN in path.read_text()) == entry.is_secret == (ENTRIES[name].get("headers") == TOKEN)
    if entry.is_secret and sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not plan_install(entry, here).is_change
    plan_undo(host, here).apply()
    assert [one.name for one in path.parent.iterdir()] == ([path.name] if host.needs_file else [])


@pytest.mark.parametrize("name", ENTRIES)
def test_a_server_without_tokens_is_reached_without_one(here, name):
    value = make_remote_entry(HOSTS[name], here, url=URL).value
    assert value == {key: one for key, one in ENTRIES[name].items() if key not in {
        "headers", "bearer_token_env_var"
    }}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "wrong", "says"),
    [
        ("claude-desktop", {}, "url: Claude Desktop reads no servers over HTTP from its file"),
        ("cursor", {"url": "nats://host"}, r"url: 'nats://host' is not http\(s\)://host/path"),
        ("cursor", {"url": "http://me:hunter2@host"}, r"url: 'http://\*\*\*@host' is not http"),
        ("cursor", {"url": "http:///mcp"}, "url: "),
        ("cursor", {"variable": "A B"}, "token_variable: 'A B' is not the name of a variable"),
        ("cursor", {"key": "a b"}, "key: 'a b'"),
        ("cline", {"variable": "OTHER"}, "token_variable: OTHER is not set, and Cline in VS Code"),
        ("continue", {"scope": "project"}, "token_variable: Continue reads no variables there"),
    ],
)
def test_what_a_host_could_not_use_is_refused(here, host, wrong, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        make_remote_entry(HOSTS[host], here, **{"url": URL, "variable": NAME, **wrong})
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('"Bearer abc.d" x', '"Bearer ***" x'),
        ("Bearer ${A}", "Bearer ${A}"),
        ("Bearer {env:A}", "Bearer {env:A}"),
        ("https://a:b@h/p nats://t@h", "https://***@h/p nats://***@h"),
        ("http://h/p?a=b@c", "http://h/p?a=b@c"),
    ],
)
def test_tokens_are_not_shown_and_the_names_of_variables_are(text, shown):
    assert without_credentials(text) == shown


def test_it_says_where_the_token_is(tmp_path, monkeypatch):
    move_to(tmp_path / "home", monkeypatch)
    words = ("--yes", "--url", URL, "--token-variable", NAME)
    shown = ok("install", "cursor", *words)
    assert shown.endswith(f"start Cursor anew, where {NAME} is set to the token\n")
    shown = ok("install", "cline-cli", *words, **{NAME: TOKEN})
    assert "the token itself, since Cline CLI reads no variables there" in shown
    assert TOKEN not in shown
    done = ok("install", "gemini", "--print", "--url", URL)
    assert json.loads(done) == {"mcpServers": {"mq9": {"httpUrl": URL}}}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--token-variable", NAME], "token_variable: 'MQ9_MCP_TOKEN' is for --url"),
        (["--url", URL, "--agent", "a"], "agent: 'a' is for a server that the host starts"),
        (["--url", URL, "--server", "memory://"], "server: 'memory://' is for a server that"),
        (["--url", URL, "--with", "--read-only"], "with: ['--read-only'] is for a server that"),
    ],
)
def test_what_a_server_over_http_decides_itself_is_refused(tmp_path, monkeypatch, words, says):
    move_to(tmp_path / "home", monkeypatch)
    assert refused("install", "cursor", "--yes", *words).startswith(says)
