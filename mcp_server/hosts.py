"""The programs that start MCP servers, and where each keeps its list of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mq9 import InvalidRequest
from mq9.address import shown

Scope = Literal["user", "project"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where files lie.

    Attributes:
        platform: As ``sys.platform`` says it: ``win32``, ``darwin``, or Linux and alike.
        home: The user's home directory.
        environment: The environment variables.
        project: The directory of the project, for what is installed in one only.
    """

    platform: str
    home: Path
    environment: Mapping[str, str]
    project: Path

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine, this user and the working directory.

        Raises:
            InvalidRequest: The user has no home directory, or the working directory is gone.
        """
        try:
            return cls(sys.platform, Path.home(), dict(os.environ), Path.cwd())
        except RuntimeError as error:
            raise InvalidRequest(f"home: {error}; set HOME") from None
        except OSError as error:
            raise InvalidRequest(f"project: no working directory: {error.strerror}") from None

    def directory(self, variable: str) -> Path | None:
        """Return the directory that an environment variable names, if it names one.

        A relative path means another place each time, and does not count.
        """
        path = Path(self.environment.get(variable, ""))
        return path if path.is_absolute() else None


def _home(machine: Machine) -> Path:
    return machine.home


def _settings(machine: Machine) -> Path:
    """Return where programs with windows keep this user's settings."""
    if machine.platform == "win32":
        return machine.directory("APPDATA") or machine.home / "AppData" / "Roaming"
    if machine.platform == "darwin":
        return machine.home / "Library" / "Application Support"
    return machine.directory("XDG_CONFIG_HOME") or machine.home / ".config"


def _claude_code(machine: Machine) -> Path:
    return machine.directory("CLAUDE_CONFIG_DIR") or machine.home


@dataclass(frozen=True, slots=True)
class Host:
    """A program that starts MCP servers.

    Attributes:
        name: What it is called on the command line.
        title: What people call it.
        servers_key: The member of its file that holds the servers by name.
        has_type: Whether its entries say that the server speaks over stdio.
        base: Finds the directory below which this user's file lies.
        user_file: That file, from there.
        project_file: The file for one project, from the project's directory; None where the host
            has none.
    """

    name: str
    title: str
    servers_key: str
    has_type: bool
    base: Callable[[Machine], Path]
    user_file: str
    project_file: str | None

    def file(self, machine: Machine, scope: Scope = "user") -> Path:
        """Return the file that lists the host's servers.

        Args:
            machine: Where the host runs.
            scope: ``user`` for all that this user does, ``project`` for one project.

        Raises:
            InvalidRequest: The scope is neither, or the host has no files in projects.
        """
        if scope == "user":
            return self.base(machine) / self.user_file
        if scope != "project":
            raise InvalidRequest(f"scope: {shown(scope)} is neither user nor project")
        if self.project_file is None:
            raise InvalidRequest(f"scope: {self.title} has no configuration in projects; use user")
        return machine.project / self.project_file


_ALL = (
    Host(
        name="claude-desktop",
        title="Claude Desktop",
        servers_key="mcpServers",
        has_type=False,
        base=_settings,
        user_file="Claude/claude_desktop_config.json",
        project_file=None,
    ),
    Host(
        name="claude-code",
        title="Claude Code",
        servers_key="mcpServers",
        has_type=True,
        base=_claude_code,
        user_file=".claude.json",
        project_file=".mcp.json",
    ),
    Host(
        name="cursor",
        title="Cursor",
        servers_key="mcpServers",
        has_type=False,
        base=_home,
        user_file=".cursor/mcp.json",
        project_file=".cursor/mcp.json",
    ),
    Host(
        name="vscode",
        title="VS Code",
        servers_key="servers",
        has_type=True,
        base=_settings,
        user_file="Code/User/mcp.json",
        project_file=".vscode/mcp.json",
    ),
)
HOSTS: Mapping[str, Host] = {host.name: host for host in _ALL}


def host_named(name: str) -> Host:
    """Return the host of a name.

    Raises:
        InvalidRequest: It is none of those above.
    """
    try:
        return HOSTS[name]
    except KeyError:
        raise InvalidRequest(f"host: {shown(name)} is none of {', '.join(HOSTS)}") from None
