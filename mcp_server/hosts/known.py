"""The hosts that the server can be installed in, with their own commands for that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mcp_server.hosts import toml_text
from mcp_server.hosts.host import Host, HostCommand, Launch, Machine
from mq9 import InvalidRequest
from mq9.address import shown


def _claude_desktop(machine: Machine) -> list[Path]:
    file = "Claude/claude_desktop_config.json"
    return [machine.package("Claude_*", f"Roaming/{file}") or machine.settings / file]


def _of_the_package(machine: Machine) -> list[Path]:
    if machine.package("Claude_*", "Roaming") is None:
        return []
    return [machine.local_data, machine.settings]


def _cline_cli(machine: Machine) -> list[Path]:
    own = machine.directory("CLINE_MCP_SETTINGS_PATH")
    folder = machine.directory("CLINE_DIR") or machine.home / ".cline"
    data = machine.directory("CLINE_DATA_DIR") or folder / "data"
    return [own or data / "settings/cline_mcp_settings.json"]


def _environment(option: str, launch: Launch) -> list[str]:
    return [
        word for name, value in launch.environment.items() for word in (option, f"{name}={value}")
    ]


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


def _gemini_add(key: str, launch: Launch) -> list[str]:
    # The list of variables ends where the next option begins.
    variables = _environment("-e", launch)
    return ["mcp", "add", *variables, "--scope", "user", key, launch.command, *launch.arguments]


def _behind_dashes(key: str, launch: Launch) -> list[str]:
    variables = _environment("--env", launch)
    return ["mcp", "add", key, *variables, "--", launch.command, *launch.arguments]


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
        user_files=lambda machine: [
            (machine.directory("CLAUDE_CONFIG_DIR") or machine.home) / ".claude.json"
        ],
        project_files=[".mcp.json"],
        members={"type": "stdio"},
        command=HostCommand(
            "claude",
            lambda key, launch: ["mcp", "add-json", "--scope", "user", key, _json(launch)],
            lambda key: ["mcp", "remove", "--scope", "user", key],
        ),
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
        command=HostCommand("code", lambda key, launch: ["--add-mcp", _json(launch, name=key)]),
        folder="${workspaceFolder}",
    ),
    Host(
        name="codex",
        title="Codex",
        user_files=lambda machine: [
            (machine.directory("CODEX_HOME") or machine.home / ".codex") / "config.toml"
        ],
        project_files=[".codex/config.toml"],
        servers_key="mcp_servers",
        text=toml_text,
        command=HostCommand("codex", _behind_dashes, lambda key: ["mcp", "remove", key]),
    ),
    Host(
        name="gemini",
        title="Gemini CLI",
        user_files=lambda machine: [
            (machine.directory("GEMINI_CLI_HOME") or machine.home) / ".gemini/settings.json"
        ],
        project_files=[".gemini/settings.json"],
        command=HostCommand(
            "gemini", _gemini_add, lambda key: ["mcp", "remove", "--scope", "user", key]
        ),
    ),
    Host(
        name="opencode",
        title="opencode",
        user_files=lambda machine: [
            machine.dot_config / "opencode" / name for name in ("opencode.jsonc", "opencode.json")
        ],
        project_files=["opencode.json", "opencode.jsonc"],
        servers_key="mcp",
        members={"type": "local"},
        has_one_list=True,
        command=HostCommand("opencode", _behind_dashes),
    ),
    Host(
        name="copilot",
        title="GitHub Copilot CLI",
        user_files=lambda machine: [
            (machine.directory("COPILOT_HOME") or machine.home / ".copilot") / "mcp-config.json"
        ],
        project_files=[".github/mcp.json"],
        members={"type": "local", "tools": ["*"]},
        command=HostCommand("copilot", _behind_dashes, lambda key: ["mcp", "remove", key]),
    ),
    # Its own command takes no variables.
    Host(
        name="cline",
        title="Cline in VS Code",
        user_files=lambda machine: [
            machine.settings
            / "Code/User/globalStorage/saoudrizwan.claude-dev/settings"
            / "cline_mcp_settings.json"
        ],
    ),
    Host(name="cline-cli", title="Cline CLI", user_files=_cline_cli),
    Host(
        name="continue",
        title="Continue",
        user_files=lambda machine: [
            (machine.directory("CONTINUE_GLOBAL_DIR") or machine.home / ".continue")
            / "mcpServers/mq9.json"
        ],
        project_files=[".continue/mcpServers/mq9.json"],
    ),
)
HOSTS: Mapping[str, Host] = {host.name: host for host in _ALL}


def host_named(name: str) -> Host:
    """Return the host of a name."""
    try:
        return HOSTS[name]
    except KeyError:
        raise InvalidRequest(f"host: {shown(name)} is none of {', '.join(HOSTS)}") from None
