"""The file in which each host keeps its list of servers, on each system.

The paths of Windows and macOS are worked out here from values; they were not looked at there.
"""

import pytest

from mcp_server.hosts.host import Machine
from mcp_server.hosts.known import HOSTS
from mq9 import InvalidRequest

CLINE = "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"


def machine(platform, root, **environment):
    return Machine(platform, root / "home", environment, root / "project")


HOME = "home/Library/Application Support"
# Beside the directory of settings: roaming on Windows, HOME on macOS, xdg on Linux.
IN_SETTINGS = {
    "claude-desktop": "Claude/claude_desktop_config.json",
    "vscode": "Code/User/mcp.json",
    "cline": CLINE,
}
ELSEWHERE = {
    "claude-code": "home/.claude.json",
    "cursor": "home/.cursor/mcp.json",
    "codex": "home/.codex/config.toml",
    "gemini": "home/.gemini/settings.json",
    "qwen": "home/.qwen/settings.json",
    "opencode": "xdg/opencode/opencode.jsonc",
    "copilot": "home/.copilot/mcp-config.json",
    "cline-cli": "home/.cline/data/settings/cline_mcp_settings.json",
    "continue": "home/.continue/mcpServers/mq9.json",
    "cn": "home/.continue/config.yaml",
}
IN_PROJECTS = {
    "claude-code": ".mcp.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".vscode/mcp.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/settings.json",
    "qwen": ".qwen/settings.json",
    "opencode": "opencode.json",
    "copilot": ".github/mcp.json",
    "continue": ".continue/mcpServers/mq9.json",
}
VARIABLES = {
    "CLAUDE_CONFIG_DIR": ("claude-code", ".claude.json"),
    "CODEX_HOME": ("codex", "config.toml"),
    "GEMINI_CLI_HOME": ("gemini", ".gemini/settings.json"),
    "COPILOT_HOME": ("copilot", "mcp-config.json"),
    "CLINE_DIR": ("cline-cli", "data/settings/cline_mcp_settings.json"),
    "CLINE_DATA_DIR": ("cline-cli", "settings/cline_mcp_settings.json"),
    "CLINE_MCP_SETTINGS_PATH": ("cline-cli", ""),
    "CONTINUE_GLOBAL_DIR": ("continue", "mcpServers/mq9.json"),
}


@pytest.mark.parametrize(
    ("platform", "settings"), [("win32", "roaming"), ("darwin", HOME), ("linux", "xdg")]
)
def test_the_files_of_a_user_and_of_a_project(tmp_path, platform, settings):
    given = {"APPDATA": str(tmp_path / "roaming"), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    here = machine(platform, tmp_path, **given)
    files = {name: host.file(here) for name, host in HOSTS.items()}
    assert files == {
        **{name: tmp_path / settings / place for name, place in IN_SETTINGS.items()},
        **{name: tmp_path / place for name, place in ELSEWHERE.items()},
    }
    for name, place in IN_PROJECTS.items():
        assert HOSTS[name].file(here, "project") == tmp_path / "project" / place
    for variable, (name, place) in VARIABLES.items():
        told = machine(platform, tmp_path, **given, **{variable: str(tmp_path / "elsewhere")})
        assert HOSTS[name].file(told) == tmp_path / "elsewhere" / place


@pytest.mark.parametrize(
    ("platform", "place"), [("win32", "AppData/Roaming"), ("linux", ".config")]
)
@pytest.mark.parametrize("variable", [None, "", "relative/place"])
def test_settings_lie_at_home_where_no_variable_names_a_directory(
    tmp_path, platform, place, variable
):
    given = {} if variable is None else {"APPDATA": variable, "XDG_CONFIG_HOME": variable}
    here = machine(platform, tmp_path, **given)
    assert HOSTS["vscode"].file(here) == tmp_path / "home" / place / "Code/User/mcp.json"


def test_the_one_of_two_files_that_is_there_counts(tmp_path):
    here = machine("linux", tmp_path)
    folder = here.home / ".config/opencode"
    folder.mkdir(parents=True)
    assert HOSTS["opencode"].file(here).name == "opencode.jsonc"
    (folder / "opencode.json").write_text("{}")
    assert HOSTS["opencode"].file(here).name == "opencode.json"
    assert HOSTS["opencode"].file(here, "project").name == "opencode.json"


# Claude Desktop as a package of Windows


def packages(root, *names):
    local = root / "local"
    for name in names:
        (local / "Packages" / name / "LocalCache").mkdir(parents=True)
    return local


def test_of_a_package_the_file_of_its_own_counts(tmp_path):
    local = packages(tmp_path, "Claude_pzs8sxrjxfjjc", "Claudette_x", "Other_Claude_x")
    given = {"LOCALAPPDATA": str(local), "APPDATA": str(tmp_path / "roaming")}
    here = machine("win32", tmp_path, **given)
    (tmp_path / "roaming/Claude").mkdir(parents=True)  # what an earlier installation left behind
    (tmp_path / "roaming/Claude/claude_desktop_config.json").write_text("{}")
    place = "LocalCache/Roaming/Claude/claude_desktop_config.json"
    assert HOSTS["claude-desktop"].file(here) == local / "Packages/Claude_pzs8sxrjxfjjc" / place
    assert HOSTS["claude-desktop"].private_data(here) == [local, tmp_path / "roaming"]
    assert HOSTS["cursor"].private_data(here) == ()
    # Of several the one that has the file counts.
    mine = packages(tmp_path, "Claude_z") / "Packages/Claude_z" / place
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    assert HOSTS["claude-desktop"].file(here) == mine
    for platform in ("darwin", "linux"):
        here = machine(platform, tmp_path, **given)
        assert "Packages" not in str(HOSTS["claude-desktop"].file(here))
        assert HOSTS["claude-desktop"].private_data(here) == []


def test_the_package_is_looked_for_at_home_where_no_variable_says_more(tmp_path):
    (tmp_path / "home/AppData").mkdir(parents=True)
    packages(tmp_path, "Claude_a").rename(tmp_path / "home/AppData/Local")
    found = HOSTS["claude-desktop"].file(machine("win32", tmp_path))
    assert found.is_relative_to(tmp_path / "home/AppData/Local/Packages/Claude_a/LocalCache")


@pytest.mark.parametrize("name", ["claude-desktop", "cline", "cline-cli", "cn"])
def test_some_hosts_have_no_files_in_projects(tmp_path, name):
    with pytest.raises(InvalidRequest, match=r"project: .* has no configuration in projects"):
        HOSTS[name].file(machine("linux", tmp_path), "project")


def test_this_machine_is_described_by_its_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # the same on Windows
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    here = Machine.here()
    assert here.home == here.project == tmp_path
    assert HOSTS["claude-code"].file(here) == tmp_path / "settings" / ".claude.json"
