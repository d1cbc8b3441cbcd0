"""The programs that start MCP servers, and where and how each keeps its list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from mcp_server.hosts import commands, json_text, toml_text
from mcp_server.hosts.commands import HostCommand
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest
from mq9.address import shown

Scope = Literal["user", "project"]


class ConfigText(Protocol):
    """A format of configurations, of which one entry can be changed; see ``json_text``."""

    def parse(self, text: str) -> Any:
        """Read a document."""

    def find(self, text: str, path: Sequence[str]) -> str | None:
        """Return an entry's value as JSON."""

    def put(self, text: str, path: Sequence[str], value: Mapping[str, Any] | str) -> str:
        """Return the document with an entry set."""

    def drop(self, text: str, path: Sequence[str]) -> str:
        """Return the document without an entry."""

    def is_empty(self, text: str, path: Sequence[str] = ()) -> bool:
        """Tell whether the object at a path is there and empty."""


@dataclass(frozen=True, slots=True)
class Host:
    """A program that starts MCP servers.

    Attributes:
        name: What it is called on the command line.
        title: What people call it.
        user_files: Finds the files that may hold this user's list. The one that is there counts,
            else the first.
        project_files: The same for one project, from the project's directory; empty where the host
            has none.
        servers_key: The member of its file that holds the servers by name.
        members: What its entries say beside what is to be run.
        has_one_list: Whether its entries have the command and its arguments in one list.
        text: The format of its files.
        command: The command by which it changes this user's file itself; None where it has none.
        folder: What stands for the project's directory in a project's file, where the server may be
            started elsewhere.
        private_data: Finds the directories of which it sees a copy of its own.
    """

    name: str
    title: str
    user_files: Callable[[Machine], Sequence[Path]]
    project_files: Sequence[str] = ()
    servers_key: str = "mcpServers"
    members: Mapping[str, Any] = field(default_factory=dict)
    has_one_list: bool = False
    text: ConfigText = json_text
    command: HostCommand | None = None
    folder: str | None = None
    private_data: Callable[[Machine], Sequence[Path]] = lambda _machine: ()

    def file(self, machine: Machine, scope: Scope = "user") -> Path:
        """Return the file that lists the host's servers.

        Args:
            machine: Where the host runs.
            scope: ``user`` for all that this user does, ``project`` for one project.

        Raises:
            InvalidRequest: The scope is neither, or the host has no files in projects.
        """
        if scope == "user":
            files = self.user_files(machine)
        elif scope == "project":
            files = [machine.project / one for one in self.project_files]
        else:
            raise InvalidRequest(f"scope: {shown(scope)} is neither user nor project")
        if not files:
            raise InvalidRequest(
                f"project: {self.title} has no configuration in projects; leave --project out"
            )
        return next((one for one in files if one.exists()), files[0])

    def value(self, launch: Launch) -> dict[str, Any]:
        """Return what an entry says that is to run something."""
        own = dict(self.members)
        given = dict(launch.environment)
        if self.has_one_list:
            own["command"] = [launch.command, *launch.arguments]
            return own | ({"environment": given} if given else {})
        own |= {"command": launch.command, "args": list(launch.arguments)}
        return own | ({"env": given} if given else {})


def _claude_desktop(machine: Machine) -> list[Path]:
    file = "Claude/claude_desktop_config.json"
    return [machine.package("Claude_*", f"Roaming/{file}") or machine.settings / file]


def _of_the_package(machine: Machine) -> list[Path]:
    if machine.package("Claude_*", "Roaming") is None:
        return []
    return [machine.local_data, machine.settings]


def _claude_code(machine: Machine) -> list[Path]:
    return [(machine.directory("CLAUDE_CONFIG_DIR") or machine.home) / ".claude.json"]


def _codex(machine: Machine) -> list[Path]:
    return [(machine.directory("CODEX_HOME") or machine.home / ".codex") / "config.toml"]


def _gemini(machine: Machine) -> list[Path]:
    home = machine.directory("GEMINI_CLI_HOME") or machine.home
    return [home / ".gemini" / "settings.json"]


def _opencode(machine: Machine) -> list[Path]:
    folder = machine.dot_config / "opencode"
    return [folder / "opencode.jsonc", folder / "opencode.json"]


def _copilot(machine: Machine) -> list[Path]:
    folder = machine.directory("COPILOT_HOME") or machine.home / ".copilot"
    return [folder / "mcp-config.json"]


def _cline(machine: Machine) -> list[Path]:
    storage = machine.settings / "Code/User/globalStorage/saoudrizwan.claude-dev"
    return [storage / "settings/cline_mcp_settings.json"]


def _cline_cli(machine: Machine) -> list[Path]:
    own = machine.directory("CLINE_MCP_SETTINGS_PATH")
    folder = machine.directory("CLINE_DIR") or machine.home / ".cline"
    data = machine.directory("CLINE_DATA_DIR") or folder / "data"
    return [own or data / "settings/cline_mcp_settings.json"]


def _continue(machine: Machine) -> list[Path]:
    folder = machine.directory("CONTINUE_GLOBAL_DIR") or machine.home / ".continue"
    return [folder / "mcpServers/mq9.json"]


_ALL = (
    Host(
        name="claude-desktop",
        title="Claude Desktop",
        user_files=_claude_desktop,
        private_data=_of_the_package,
    ),
    Host(
        name="claude-code",
        title="Claude Code",
        user_files=_claude_code,
        project_files=[".mcp.json"],
        members={"type": "stdio"},
        command=commands.CLAUDE,
    ),
    Host(
        name="cursor",
        title="Cursor",
        user_files=lambda machine: [machine.home / ".cursor/mcp.json"],
        project_files=[".cursor/mcp.json"],
        folder="${workspaceFolder}",
    ),
    Host(
        name="vscode",
        title="VS Code",
        user_files=lambda machine: [machine.settings / "Code/User/mcp.json"],
        project_files=[".vscode/mcp.json"],
        servers_key="servers",
        members={"type": "stdio"},
        command=commands.VSCODE,
        folder="${workspaceFolder}",
    ),
    Host(
        name="codex",
        title="Codex",
        user_files=_codex,
        project_files=[".codex/config.toml"],
        servers_key="mcp_servers",
        text=toml_text,
        command=commands.CODEX,
    ),
    Host(
        name="gemini",
        title="Gemini CLI",
        user_files=_gemini,
        project_files=[".gemini/settings.json"],
        command=commands.GEMINI,
    ),
    Host(
        name="opencode",
        title="opencode",
        user_files=_opencode,
        project_files=["opencode.json", "opencode.jsonc"],
        servers_key="mcp",
        members={"type": "local"},
        has_one_list=True,
        command=commands.OPENCODE,
    ),
    Host(
        name="copilot",
        title="GitHub Copilot CLI",
        user_files=_copilot,
        project_files=[".github/mcp.json"],
        members={"type": "local", "tools": ["*"]},
        command=commands.COPILOT,
    ),
    # Its own command takes no variables.
    Host(name="cline", title="Cline in VS Code", user_files=_cline),
    Host(name="cline-cli", title="Cline CLI", user_files=_cline_cli),
    Host(
        name="continue",
        title="Continue",
        user_files=_continue,
        project_files=[".continue/mcpServers/mq9.json"],
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
