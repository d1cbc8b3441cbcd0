"""The examples, the unit of systemd and the compose file of the guide to `mq9 exec`."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

from mq9.cli.exec.command import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/exec.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CELERY = ROOT / ".tools/celery"
ANALYZE = shutil.which("systemd-analyze")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")


def block(language, beginning=""):
    [found] = [text for one, text in BLOCKS if one == language and text.startswith(beginning)]
    return found


def options(words):
    """What the command takes from these words; it refuses what it does not know."""
    with typer.main.get_command(app).make_context("exec", list(words)) as context:
        return context.params


@pytest.mark.programs
def test_the_graph_answers_and_the_page_says_so_by_running_it(execute, send, answers, tmp_path):
    file = tmp_path / "contract.py"
    file.write_text(block("python", "# contract.py"))
    send("The rent may be raised.")
    assert execute(sys.executable, file).code == 0
    assert answers() == ["Sign.\n"]


TASKS = """
import os
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
folder = os.environ["BROKER_FOLDER"]
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder}

@app.task(name="tasks.shout")
def shout(text):
    with open(os.environ["RAN"], "a") as ran:
        ran.write("x")
    return text.upper()
"""


@pytest.mark.programs
def test_a_task_of_celery_is_waited_for(execute, send, answers, tmp_path, monkeypatch):
    if not (CELERY / ".ready").exists():
        pytest.skip("make tools installs Celery")
    python = CELERY / "bin/python"
    for name in ("mail", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)  # where it keeps further directories
    monkeypatch.setenv("BROKER", "filesystem://")
    monkeypatch.setenv("BROKER_FOLDER", str(tmp_path / "mail"))
    monkeypatch.setenv("RESULTS", f"file://{tmp_path}/results")
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    (tmp_path / "tasks.py").write_text(TASKS)
    program = block("python", "# enqueue.py")
    # A broker in a directory is told where that is; others know it by their URLs.
    told = 'app.conf.broker_transport_options = {f"data_folder_{way}": os.environ["BROKER_FOLDER"]'
    told += ' for way in ("in", "out")}\nname = '
    (tmp_path / "enqueue.py").write_text(program.replace("name = ", told, 1))
    worker = subprocess.Popen(
        [python, "-m", "celery", "-A", "tasks", "worker", "--pool", "solo"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    try:
        send("hello")
        done = execute(python, tmp_path / "enqueue.py", options=("--timeout", "60"))
    finally:
        worker.kill()
        worker.wait()
    assert done.code == 0, done.err
    assert answers() == ["HELLO\n"]
    assert (tmp_path / "ran").read_text() == "x"


def test_systemd_starts_it_and_gives_its_commands_time_to_end():
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(block("ini"))
    program, command, *rest = shlex.split(unit["Service"]["ExecStart"])
    given = options(rest)
    assert (Path(program).name, command, given["agent"]) == ("mq9", "exec", "reviewer")
    assert given["words"] == [f"{unit['Service']['WorkingDirectory']}/review.sh"]
    assert int(unit["Service"]["TimeoutStopSec"]) >= given["stop_timeout"] + 10
    assert given["state"] == Path("/var/lib") / unit["Service"]["StateDirectory"]
    assert unit["Service"]["KillMode"] == "mixed"


@pytest.mark.programs
@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd here")
def test_systemd_itself_finds_nothing_wrong(tmp_path):
    file = tmp_path / "reviewer.service"
    program = shlex.split(block("ini").partition("ExecStart=")[2])[0]
    file.write_text(block("ini").replace(program, sys.executable))
    done = subprocess.run([ANALYZE, "verify", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_compose_starts_it_beside_our_server():
    ours = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    service = yaml.safe_load(block("yaml"))["services"]["reviewer"]
    command, *rest = service["command"]
    given = options(rest)
    assert (command, given["senders"]) == ("exec", ["desk"])
    users = ours["configs"]["users"]["content"]
    for name in (given["agent"], *given["senders"]):
        assert f'agent = "{name}"' in users
    assert int(service["stop_grace_period"].removesuffix("s")) >= given["stop_timeout"] + 10
    assert set(service["depends_on"]) <= set(ours["services"])
    token = re.search(r"\$\{(\w+)\}@server:4222$", service["environment"]["MQ9_SERVER"])[1]
    assert f"${{{token}:?" in users
