"""The line of the README that runs a clone by uvx, and the one that says what is missing."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = ROOT / ".tools/uv"
READY = UV / "cache/.ready"
[LINE] = re.findall(r"^uvx .*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)


def is_ready():
    """Whether what uvx needs was got for what the clone asks for now."""
    asked = (ROOT / "pyproject.toml").stat().st_mtime
    return READY.exists() and READY.stat().st_mtime >= asked


pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(not is_ready(), reason="make has not got what uvx needs to run a clone"),
]


def run(line, home):
    """Run a line in the clone, without a network and with a home of its own."""
    program, *words = shlex.split(line)
    return subprocess.run(
        [UV / "bin" / program, *words],
        cwd=ROOT,
        env={
            "HOME": str(home),
            "PATH": os.defpath,
            "UV_CACHE_DIR": str(UV / "cache"),
            "UV_OFFLINE": "1",
            "UV_PYTHON": str(UV / "bin/python"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_line_runs_the_server_of_the_clone(tmp_path):
    done = run(LINE, tmp_path)
    assert done.returncode == 0, done.stderr
    by_module = [sys.executable, "-m", "mcp_server", *shlex.split(LINE)[4:]]
    here = subprocess.run(by_module, capture_output=True, text=True, check=True, timeout=60)
    for option in re.findall(r"--[a-z-]+", here.stdout):
        assert option in done.stdout


def test_without_the_extra_the_program_says_which_one_is_missing(tmp_path):
    done = run(LINE.replace("'.[mcp]'", "."), tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: this command needs ")
    assert last.endswith(
        "which the extra `mcp` of this package installs; in a clone of it: pip install '.[mcp]'"
    )
