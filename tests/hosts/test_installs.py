"""Real hosts take what the installer writes, and their own commands do what it means."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mcp_server.hosts.entry import make_entry
from mcp_server.hosts.host import Machine
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import plan_install, plan_undo

TOOLS = Path(__file__).parents[2] / ".tools"
PROGRAMS = TOOLS / "hosts/node_modules/.bin"

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.programs,
    pytest.mark.parametrize("name", ["claude-code", "codex", "copilot", "gemini", "opencode"]),
]


@pytest.fixture
def host(name):
    """A host that is installed."""
    found = HOSTS[name]
    assert found.command is not None
    if not (PROGRAMS / found.command.program).exists():
        pytest.skip(f"make hosts has not installed {found.command.program}")
    return found


@pytest.fixture
def here(tmp_path):
    """A user with a home, a project, and nothing but the hosts and our program."""
    program = tmp_path / "programs/mq9-mcp"
    for folder in (program.parent, tmp_path / "home", tmp_path / "project"):
        folder.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    subprocess.run(
        [shutil.which("git") or "git", "init", "--quiet", str(tmp_path / "project")],
        check=True,
        timeout=60,
    )
    node = TOOLS / "mcp/node_modules/.bin"
    path = os.pathsep.join(map(str, (program.parent, PROGRAMS, node, "/usr/bin", "/bin")))
    home = tmp_path / "home"
    return Machine("linux", home, {"HOME": str(home), "PATH": path}, tmp_path / "project")


def trust(host, here):
    """Let a host heed what the project says, as its user would be asked to."""
    project = str(here.project)
    trusting = {
        "codex": (".codex/config.toml", f'[projects."{project}"]\ntrust_level = "trusted"\n'),
        "copilot": (".copilot/config.json", json.dumps({"trusted_folders": [project]})),
        "gemini": (".gemini/trustedFolders.json", json.dumps({project: "TRUST_FOLDER"})),
    }
    if host.name in trusting:
        file, text = trusting[host.name]
        (here.home / file).parent.mkdir(parents=True, exist_ok=True)
        (here.home / file).write_text(text)


def listed(host, here):
    """Ask a host for its servers, in the project."""
    assert host.command is not None
    done = subprocess.run(
        [str(PROGRAMS / host.command.program), "mcp", "list"],
        cwd=here.project,
        env=dict(here.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout + done.stderr


def test_its_own_command_adds_and_removes_what_is_meant(host, here):
    assert host.command is not None
    url = "sqlite:////a place/mq9.db"
    entry = make_entry(
        host,
        here,
        server=url,
        options=["--read-only", "--allow-send", "a.*"],
        python="/none/python",
    )
    plan = plan_install(entry, here)
    assert plan.line[0] == str(PROGRAMS / host.command.program)
    plan.apply()
    assert not plan_install(entry, here).is_change
    plan_undo(host, here).apply()
    found = host.file(here)
    assert not found.exists() or "mq9-mcp" not in found.read_text()


@pytest.mark.parametrize("scope", ["user", "project"])
def test_it_reads_the_file_that_was_edited(host, here, scope):
    trust(host, here)
    assert "mq9" not in listed(host, here)
    server = None if scope == "project" else "sqlite:////mail/mq9.db"
    entry = make_entry(host, here, server=server, scope=scope, python="/none/python")
    plan_install(entry, here, edit=True).apply()
    assert "mq9" in listed(host, here)
    plan_undo(host, here, scope=scope, edit=True).apply()
    assert "mq9" not in listed(host, here)
