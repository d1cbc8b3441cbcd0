"""The whole contract on real servers: two gateways, requests alternating between them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.programs]
CONTRACT = Path(__file__).parents[1] / "contract"
# In every run, who holds what; all of it in the long version.
SHORT = ("test_leases.py",)


@pytest.mark.parametrize("servers", [1, 3])
def test_the_contract_holds_on_a_log_that_servers_keep(servers, scale):
    files = [CONTRACT] if scale > 1 else [CONTRACT / name for name in SHORT]
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *("-k", "cluster", "--timeout", "120", *map(str, files)),
        ],
        env={**environment, "MQ9_TEST_NATS_SERVERS": str(servers)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
