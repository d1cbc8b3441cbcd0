"""A process that handles messages takes up as much memory, and as many descriptors, as before."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("flat.py")
_MOST_KIB = 8 * 1024  # in the second half, for caches that fill up

pytestmark = [
    pytest.mark.programs,
    pytest.mark.soak,
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]


@pytest.mark.parametrize("what", ["worker", "toolkit"])
async def test_what_a_process_takes_up_does_not_grow_with_its_messages(tmp_path, scale, what):
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, PROGRAM, what, tmp_path, str(200 * scale)),
        stdout=asyncio.subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    said, _ = await program.communicate()
    assert program.returncode == 0
    reports = [tuple(map(int, line.split())) for line in said.splitlines()]
    assert [handled for handled, *_ in reports] == [20 * scale * n for n in range(1, 11)]
    _, *settled = reports  # threads and connections are made when they are first needed
    assert len({descriptors for *_, descriptors in settled}) == 1
    half, end = (memory for _, memory, _ in (reports[4], reports[-1]))
    assert end - half < _MOST_KIB
