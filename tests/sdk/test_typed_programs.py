"""What mypy says, in strict mode, to programs that use the public API."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path("tests/typed/program.py")
MISTAKES = Path("tests/typed/mistakes.py")

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def errors():
    """The code of each error that mypy finds, by file and line."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--strict"),
            *("--no-pretty", "--no-error-summary", "--hide-error-context"),
            *map(str, (PROGRAM, MISTAKES)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = re.findall(r"^(.*?):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count(": error: ")
    return {(Path(file), int(line)): code for file, line, code in found}


def test_a_typed_program_is_accepted(errors):
    assert [place for place in errors if place[0] == PROGRAM] == []


def test_each_mistake_is_refused_for_what_it_is(errors):
    lines = (ROOT / MISTAKES).read_text("utf-8").splitlines()
    expected = {
        (MISTAKES, number): line.partition("# expected: ")[2]
        for number, line in enumerate(lines, 1)
        if "# expected: " in line
    }
    assert len(expected) > 25
    assert errors == expected
