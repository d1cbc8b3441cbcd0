"""Gateways of this commit and of the one before serve one cluster, under clients that go on.

`MQ9_TEST_BEFORE` names another commit than the one before.
"""

import asyncio
import os
import subprocess
import sys
import tarfile
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path

import pytest
from nats_server import NatsCluster

from .clusters import Programs
from .faults import LONG, go_through

pytestmark = [pytest.mark.programs, pytest.mark.soak, pytest.mark.timeout(1_800)]

ROOT = Path(__file__).parents[2]
# The two may differ in the schema of files, or in the fields of records. Then all gateways are
# stopped at once.
SCHEMA = """
import mq9
from mq9.cluster.records import LogRecord
from mq9.storage.store import VERSION
print(VERSION, *LogRecord.__slots__, mq9.__file__)
"""


@pytest.fixture
def before(tmp_path):
    """The commit before, in a directory."""
    commit = os.environ.get("MQ9_TEST_BEFORE", "HEAD~1")
    command = ["git", "-C", str(ROOT), "archive", commit, "mq9"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"there is no commit before: {done.stderr.decode().strip()}")
    directory = tmp_path / "before"
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(directory, filter="data")
    schemas = [schema(one) for one in (ROOT, directory)]
    if len(set(schemas)) > 1:
        pytest.skip(f"the schema has changed: {schemas}")
    return directory


def schema(checkout):
    """The schema of files and the fields of records that the code in a directory has."""
    command = [sys.executable, "-c", SCHEMA]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    *found, file = done.stdout.split()
    assert Path(file).is_relative_to(checkout)
    return tuple(found)


@pytest.fixture
async def cluster(tmp_path):
    async with AsyncExitStack() as stack:
        yield Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 3))


@pytest.mark.parametrize("is_rollback", [False, True] if LONG else [False])
async def test_gateways_are_exchanged_one_after_the_other(
    cluster, before, is_rollback, scale, record_testsuite_property
):
    first, second = (ROOT, before) if is_rollback else (before, ROOT)
    for _ in range(2):
        await cluster.gateway(checkout=first)
    order = [(second, gateway) for gateway in cluster.gateways]
    order += [(first, gateway) for gateway in cluster.gateways]

    async def exchange(_, traffic):
        checkout, gateway = order.pop(0)
        order.append((checkout, gateway))
        gateway.stop()
        assert await gateway.ended() == 0, gateway.told
        gateway.checkout = checkout
        await asyncio.to_thread(gateway.start)
        await traffic.more(100)

    exchange.__name__ = "rollback" if is_rollback else "upgrade"
    # One of each at the end.
    await go_through(cluster, exchange, 2 * scale - 1, record_testsuite_property)
    assert {gateway.checkout for gateway in cluster.gateways} == {ROOT, before}
