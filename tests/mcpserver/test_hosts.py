"""Where each host keeps its list of servers, on each system."""

from pathlib import Path
from typing import Any, cast

import pytest

from mcp_server.hosts import HOSTS, Machine, host_named
from mq9 import InvalidRequest


def machine(platform: str, root: Path, **environment: str) -> Machine:
    return Machine(platform, root / "home", environment, root / "project")


@pytest.mark.parametrize(
    ("name", "platform", "place"),
    [
        ("claude-desktop", "win32", "roaming/Claude/claude_desktop_config.json"),
        (
            "claude-desktop",
            "darwin",
            "home/Library/Application Support/Claude/claude_desktop_config.json",
        ),
        ("claude-desktop", "linux", "xdg/Claude/claude_desktop_config.json"),
        ("claude-code", "win32", "home/.claude.json"),
        ("claude-code", "darwin", "home/.claude.json"),
        ("claude-code", "linux", "home/.claude.json"),
        ("cursor", "win32", "home/.cursor/mcp.json"),
        ("cursor", "darwin", "home/.cursor/mcp.json"),
        ("cursor", "linux", "home/.cursor/mcp.json"),
        ("vscode", "win32", "roaming/Code/User/mcp.json"),
        ("vscode", "darwin", "home/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "linux", "xdg/Code/User/mcp.json"),
    ],
)
def test_the_file_of_a_user(tmp_path: Path, name: str, platform: str, place: str) -> None:
    here = machine(
        platform, tmp_path, APPDATA=str(tmp_path / "roaming"), XDG_CONFIG_HOME=str(tmp_path / "xdg")
    )
    assert HOSTS[name].file(here) == tmp_path / place


@pytest.mark.parametrize(
    ("platform", "place"), [("win32", "AppData/Roaming"), ("linux", ".config")]
)
@pytest.mark.parametrize("variable", [None, "", "relative/place"])
def test_settings_lie_at_home_where_no_variable_names_a_directory(
    tmp_path: Path, platform: str, place: str, variable: str | None
) -> None:
    given = {} if variable is None else {"APPDATA": variable, "XDG_CONFIG_HOME": variable}
    here = machine(platform, tmp_path, **given)
    assert HOSTS["vscode"].file(here) == tmp_path / "home" / place / "Code/User/mcp.json"


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_claude_code_can_be_told_where_its_file_lies(tmp_path: Path, platform: str) -> None:
    here = machine(platform, tmp_path, CLAUDE_CONFIG_DIR=str(tmp_path / "elsewhere"))
    assert HOSTS["claude-code"].file(here) == tmp_path / "elsewhere" / ".claude.json"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
    ],
)
@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_the_file_of_a_project(tmp_path: Path, name: str, platform: str, place: str) -> None:
    assert HOSTS[name].file(machine(platform, tmp_path), "project") == tmp_path / "project" / place


def test_claude_desktop_has_no_files_in_projects(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="scope: Claude Desktop has no configuration in proj"):
        HOSTS["claude-desktop"].file(machine("linux", tmp_path), "project")


def test_a_scope_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="scope: 'global' is neither user nor project"):
        HOSTS["cursor"].file(machine("linux", tmp_path), cast("Any", "global"))


def test_a_host_is_found_by_its_name() -> None:
    assert host_named("vscode").title == "VS Code"
    with pytest.raises(
        InvalidRequest, match="host: 'emacs' is none of claude-desktop, claude-code, cursor, vscode"
    ):
        host_named("emacs")


def test_this_machine_is_described_by_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # the same on Windows
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    here = Machine.here()
    assert here.home == here.project == tmp_path
    assert HOSTS["claude-code"].file(here) == tmp_path / "settings" / ".claude.json"
