"""Programs on clients of others, each in the environment that `make tools` has made for it."""

import os
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_TOOLS = _HERE.parents[1] / ".tools"


def installed(name):
    """Return a mark that skips a test where an environment is not there."""
    return pytest.mark.skipif(
        not (_TOOLS / name / ".ready").exists(), reason=f"make tools installs {name}"
    )


def run(home, environment, program, *arguments):
    """Run a program of an environment with nothing of this one; what it prints."""
    done = subprocess.run(
        [_TOOLS / environment / "bin/python", _HERE / program, *arguments],
        env={"HOME": str(home), "PATH": os.defpath},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,  # what it says of its failure is shown
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
