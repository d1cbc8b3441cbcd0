"""The rules are what Prometheus takes, and a test fires each of them."""

import re
import subprocess
from pathlib import Path

import pytest

from .history import ALERTS, PROMTOOL, RULES


@pytest.mark.skipif(not PROMTOOL.exists(), reason="make builds promtool only where there is Go")
def test_prometheus_takes_the_rules():
    done = subprocess.run(
        [PROMTOOL, "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_fired():
    tests = Path(__file__).parent.glob("test_*.py")
    text = "".join(file.read_text("utf-8") for file in tests)
    assert set(re.findall(r'firing\("(\w+)"', text)) == set(ALERTS)
