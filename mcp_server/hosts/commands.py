"""The commands by which hosts themselves add a server to their configuration, and take it out."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class HostCommand:
    """A host's own command, for all that this user does.

    Attributes:
        program: Its name.
        add: Makes the arguments that add a server, of what the host is to call it and to run.
        remove: Makes those that take it out; None where there is no such command.
    """

    program: str
    add: Callable[[str, Launch], list[str]]
    remove: Callable[[str], list[str]] | None = None


def run(machine: Machine, line: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        InvalidRequest: It cannot be run, fails, or does not end within a minute.
    """
    shown = shlex.join(line)
    try:
        done = subprocess.run(  # noqa: S603  # the user's own program, after showing the line
            line,
            cwd=machine.home,
            env=dict(machine.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequest(
            f"`{shown}` did not end within {TIMEOUT_S} s; edit the file, with --edit"
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"`{shown}` cannot be run: {error.strerror or error}; edit the file, with --edit"
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise InvalidRequest(
            f"`{shown}` failed with {done.returncode}: {said[-500:]!r}; edit the file, with --edit"
        )


def _environment(option: str, launch: Launch) -> list[str]:
    return [
        word for name, value in launch.environment.items() for word in (option, f"{name}={value}")
    ]


def _claude(key: str, launch: Launch) -> list[str]:
    return ["mcp", "add-json", "--scope", "user", key, _json(launch)]


def _vscode(key: str, launch: Launch) -> list[str]:
    return ["--add-mcp", _json(launch, name=key)]


def _json(launch: Launch, **more: str) -> str:
    return json.dumps(
        {
            **more,
            "type": "stdio",
            "command": launch.command,
            "args": list(launch.arguments),
            "env": dict(launch.environment),
        }
    )


def _gemini(key: str, launch: Launch) -> list[str]:
    # The list of variables ends where the next option begins.
    variables = _environment("-e", launch)
    return ["mcp", "add", *variables, "--scope", "user", key, launch.command, *launch.arguments]


def _behind_dashes(key: str, launch: Launch) -> list[str]:
    variables = _environment("--env", launch)
    return ["mcp", "add", key, *variables, "--", launch.command, *launch.arguments]


CLAUDE = HostCommand("claude", _claude, lambda key: ["mcp", "remove", "--scope", "user", key])
CODEX = HostCommand("codex", _behind_dashes, lambda key: ["mcp", "remove", key])
COPILOT = HostCommand("copilot", _behind_dashes, lambda key: ["mcp", "remove", key])
GEMINI = HostCommand("gemini", _gemini, lambda key: ["mcp", "remove", "--scope", "user", key])
OPENCODE = HostCommand("opencode", _behind_dashes)
VSCODE = HostCommand("code", _vscode)
