"""Real hosts take what the installer writes."""

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


def program(host):
    """The program of a host."""
    return PROGRAMS / {"claude-code": "claude"}.get(host.name, host.name)


@pytest.fixture
def host(name):
    """A host that is installed."""
    found = HOSTS[name]
    if not program(found).exists():
        pytest.skip(f"make hosts has not installed {program(found)}")
    return found


@pytest.fixture
def here(tmp_path):
    """A user with a home, a project, and nothing but the hosts and our program."""
    ours = tmp_path / "programs/mq9-mcp"
    for folder in (ours.parent, tmp_path / "home", tmp_path / "project"):
        folder.mkdir()
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    subprocess.run(
        [shutil.which("git") or "git", "init", "--quiet", str(tmp_path / "project")],
        check=True,
        timeout=60,
    )
    node = TOOLS / "mcp/node_modules/.bin"
    path = os.pathsep.join(map(str, (ours.parent, PROGRAMS, node, "/usr/bin", "/bin")))
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
    done = subprocess.run(
        [str(program(host)), "mcp", "list"],
        cwd=here.project,
        env=dict(here.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("scope", ["user", "project"])
def test_it_reads_the_file_that_was_edited(host, here, scope):
    trust(host, here)
    assert "mq9" not in listed(host, here)
    server = None if scope == "project" else "sqlite:////mail/mq9.db"
    entry = make_entry(host, here, server=server, scope=scope, python="/none/python")
    plan_install(entry, here).apply()
    assert "mq9" in listed(host, here)
    plan_undo(host, here, scope=scope).apply()
    assert "mq9" not in listed(host, here)
