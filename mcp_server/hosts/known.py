"""The hosts that the server can be installed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mcp_server.hosts import toml_text, yaml_text
from mcp_server.hosts.host import Host, Machine, RemoteForm
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


def _in_continue(name: str) -> Callable[[Machine], list[Path]]:
    return lambda machine: [
        (machine.directory("CONTINUE_GLOBAL_DIR") or machine.home / ".continue") / name
    ]


_HTTP = {"type": "http"}
_CLINE = RemoteForm({"type": "streamableHttp"})

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
        remote=RemoteForm(_HTTP, reference="${%s}"),
    ),
    Host(
        name="cursor",
        title="Cursor",
        user_files=lambda machine: [machine.home / ".cursor/mcp.json"],
        project_files=[".cursor/mcp.json"],
        folder="${workspaceFolder}",
        remote=RemoteForm(reference="${env:%s}"),
    ),
    Host(
        name="vscode",
        title="VS Code",
        user_files=lambda machine: [machine.settings / "Code/User/mcp.json"],
        project_files=[".vscode/mcp.json"],
        servers_key="servers",
        members={"type": "stdio"},
        folder="${workspaceFolder}",
        remote=RemoteForm(_HTTP, reference="${env:%s}"),
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
        remote=RemoteForm(variable="bearer_token_env_var"),
    ),
    Host(
        name="gemini",
        title="Gemini CLI",
        user_files=lambda machine: [
            (machine.directory("GEMINI_CLI_HOME") or machine.home) / ".gemini/settings.json"
        ],
        project_files=[".gemini/settings.json"],
        remote=RemoteForm(url="httpUrl", reference="${%s}"),
    ),
    Host(
        name="qwen",
        title="Qwen Code",
        user_files=lambda machine: [machine.home / ".qwen/settings.json"],
        project_files=[".qwen/settings.json"],
        remote=RemoteForm(url="httpUrl", reference="${%s}"),
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
        remote=RemoteForm({"type": "remote"}, reference="{env:%s}"),
    ),
    Host(
        name="copilot",
        title="GitHub Copilot CLI",
        user_files=lambda machine: [
            (machine.directory("COPILOT_HOME") or machine.home / ".copilot") / "mcp-config.json"
        ],
        project_files=[".github/mcp.json"],
        members={"type": "local", "tools": ["*"]},
        remote=RemoteForm({**_HTTP, "tools": ["*"]}, reference="${%s}"),
    ),
    Host(
        name="cline",
        title="Cline in VS Code",
        user_files=lambda machine: [
            machine.settings
            / "Code/User/globalStorage/saoudrizwan.claude-dev/settings"
            / "cline_mcp_settings.json"
        ],
        remote=_CLINE,
    ),
    Host(name="cline-cli", title="Cline CLI", user_files=_cline_cli, remote=_CLINE),
    Host(
        name="continue",
        title="Continue",
        user_files=_in_continue("mcpServers/mq9.json"),
        project_files=[".continue/mcpServers/mq9.json"],
        remote=RemoteForm(_HTTP),
    ),
    # Without a file it takes its settings, with the models, from its maker's service.
    Host(
        name="cn",
        title="Continue CLI (cn)",
        user_files=_in_continue("config.yaml"),
        text=yaml_text,
        needs_file=True,
        remote=RemoteForm(
            {"type": "streamable-http"}, reference="${{ secrets.%s }}", in_options=True
        ),
    ),
)
HOSTS: Mapping[str, Host] = {host.name: host for host in _ALL}


def host_named(name: str) -> Host:
    """Return the host of a name."""
    try:
        return HOSTS[name]
    except KeyError:
        raise InvalidRequest(f"host: {shown(name)} is none of {', '.join(HOSTS)}") from None
