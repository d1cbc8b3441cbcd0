"""`mq9-mcp`, called in this process or in one of its own."""

import subprocess
from types import SimpleNamespace

from typer.testing import CliRunner

from mcp_server.cli import app

TIMEOUT_S = 60
_SETTINGS = (
    "CLAUDE_CONFIG_DIR",
    "CLINE_DATA_DIR",
    "CLINE_DIR",
    "CLINE_MCP_SETTINGS_PATH",
    "CODEX_HOME",
    "CONTINUE_GLOBAL_DIR",
    "COPILOT_HOME",
    "GEMINI_CLI_HOME",
    "MQ9_AGENT",
    "MQ9_SERVER",
    "XDG_CONFIG_HOME",
)


def move_to(home, monkeypatch):
    """Give the programs another home, with nothing in it, and no settings from elsewhere."""
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)


def stand_in(path, script="#!/bin/sh\n"):
    """Put a program in some place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def mq9_mcp(*arguments, stdin=None, program=app, **environment):
    """Call the program in this process."""
    done = CliRunner().invoke(
        program, [str(one) for one in arguments], input=stdin, env=environment
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


def ok(*arguments, **how):
    """Call it, and see that it did what it was asked for; what it printed."""
    done = mq9_mcp(*arguments, **how)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out


def refused(*arguments, **how):
    """Call it with what cannot be; what it says, in one line."""
    done = mq9_mcp(*arguments, **how)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def run(*command, **how):
    """Run a program to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **how
    )
