"""The unit of systemd and the compose file of the guide: they run the command as it is.

No container engine is needed, nor systemd, which looks at the unit where it is installed: what both
say is read, and compared with the command and the image.
"""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

from langchain_mq9.cli import app

ROOT = Path(__file__).parents[2]
BLOCKS = dict(
    re.findall(
        r"^```(ini|yaml)\n(.*?)^```",
        (ROOT / "docs/langgraph/deploy.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
OURS = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
IMAGE = (ROOT / "Dockerfile").read_text("utf-8")
ANALYZE = shutil.which("systemd-analyze")


def options(words):
    """What the command takes from these words; it refuses what it does not know."""
    with typer.main.get_command(app).make_context("worker", list(words)) as context:
        return context.params


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string(BLOCKS["ini"])
    return parser


@pytest.fixture
def service():
    return yaml.safe_load(BLOCKS["yaml"])["services"]["lawyer"]


def test_systemd_starts_a_worker_and_gives_it_time_to_end(unit):
    program, command, *rest = shlex.split(unit["Service"]["ExecStart"])
    given = options(rest)
    assert (Path(program).name, command, given["agent"]) == ("mq9", "worker", "lawyer")
    assert int(unit["Service"]["TimeoutStopSec"]) >= given["stop_timeout"] + 5
    state = Path("/var/lib") / unit["Service"]["StateDirectory"]
    assert given["checkpoint"].parent == state
    assert unit["Service"]["Restart"] == "always"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.programs
@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd here")
def test_systemd_itself_finds_nothing_wrong(unit, tmp_path):
    program = shlex.split(unit["Service"]["ExecStart"])[0]
    file = tmp_path / "lawyer@.service"
    file.write_text(BLOCKS["ini"].replace(program, sys.executable))
    done = subprocess.run([ANALYZE, "verify", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_compose_starts_a_worker_in_our_image_beside_our_server(service):
    command, *rest = service["command"]
    given = options(rest)
    assert re.search(r'^ENTRYPOINT \["mq9"\]$', IMAGE, re.MULTILINE)
    assert (command, given["agent"]) == ("worker", "lawyer")
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace >= given["stop_timeout"] + 5
    assert set(service["depends_on"]) <= set(OURS["services"])
    assert service["environment"]["MQ9_SERVER"].endswith("@server:4222")
    assert "${MQ9_TOKEN" in OURS["configs"]["users"]["content"]


def test_the_threads_are_in_a_volume_that_the_image_owns_and_the_image_can_keep_them(service):
    mounted = dict(reversed(one.split(":")[:2]) for one in service["volumes"])
    directory = str(options(service["command"][1:])["checkpoint"].parent)
    assert mounted[directory] in yaml.safe_load(BLOCKS["yaml"])["volumes"]
    assert re.search(rf"^VOLUME {directory}$", IMAGE, re.MULTILINE)
    assert mounted[service["working_dir"]] == "./law"
    assert re.search(r"'\.\[[\w,]*\bworker\b[\w,]*\]'", IMAGE)
