"""The image and the compose file: what they copy is there, and what they run runs.

No container engine is needed: their commands are started as they stand, with their environment,
from a wheel that is installed into an environment of its own; only addresses and paths differ.
"""

import asyncio
import json
import os
import re
import site
import subprocess
import sys
import venv
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest
import yaml

from mq9 import Mq9Client

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
SECRETS = {"MQ9_TOKEN": "people", "MQ9_DESK_TOKEN": "desks", "MQ9_WORKER_TOKEN": "workers"}
PATIENCE_S = 60


def instructions(text):
    """What a Dockerfile says, stage by stage: pairs of an instruction and its text."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages = []
    for line in re.sub(r"\\\n", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, rest.strip()))
    return stages


STAGES = instructions((ROOT / "Dockerfile").read_text("utf-8"))
IMAGE = STAGES[-1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVER, WORKER = COMPOSE["services"]["server"], COMPOSE["services"]["worker"]


def said(name):
    [text] = [rest for one, rest in IMAGE if one == name]
    return text


def image_environment():
    return dict(pair.split("=", 1) for pair in said("ENV").split())


def copied():
    """The paths of the clone that are copied into some stage."""
    for stage in STAGES:
        for name, rest in stage:
            if name == "COPY" and not rest.startswith("--from"):
                yield from rest.split()[:-1]


def is_sent(path):
    """Whether .dockerignore lets a path of the clone through; the last line that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in Path(path).parts)
        else:
            fits = pattern == "*" or Path(path).is_relative_to(pattern)
        if fits and not line.startswith("#"):
            sent = line.startswith("!")
    return sent


def test_the_image_is_built_in_a_stage_of_its_own_and_runs_as_nobody_special():
    assert len(STAGES) == 2
    names = [name for name, _ in IMAGE]
    user = said("USER")
    assert user.isdecimal()
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(rest for name, rest in IMAGE if name == "RUN")
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert said("VOLUME") == "/data"
    assert image_environment()["MQ9_DATA"].startswith("/data/")
    assert set(said("EXPOSE").split()) == {"4222", "9090"}


def test_what_is_installed_is_pinned():
    commands = [
        command
        for stage in STAGES
        for name, rest in stage
        for command in (rest.split("&&") if name == "RUN" else ())
    ]
    installs = [command for command in commands if "pip install" in command]
    assert installs
    assert all("--constraint constraints.txt" in command for command in installs)
    assert "--build-constraint constraints.txt" in installs[-1]


def test_what_is_copied_is_there_and_nothing_else_is_sent():
    paths = list(copied())
    assert {"mq9", "langchain_mq9", "mcp_server", "pyproject.toml"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path
        assert is_sent(path), path
    for path in (".git", ".venv", ".tools", "tests", "mail.db", "mq9/__pycache__", ".git/config"):
        assert not is_sent(path), path


def test_the_worker_is_in_the_image_and_only_this_machine_reaches_the_ports():
    assert WORKER["depends_on"] == {"server": {"condition": "service_healthy"}}
    [place] = [rest.split()[-1] for _, rest in IMAGE if rest.startswith("examples/worker.py ")]
    assert WORKER["entrypoint"] == ["python", place]
    assert all(port.startswith("127.0.0.1:") for port in SERVER["ports"])
    inside = {port.rpartition(":")[2] for port in SERVER["ports"]}
    assert inside == set(said("EXPOSE").split())


def python(*arguments):
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The directory of the programs of an environment in which our wheel is installed.

    What it needs is found in the environment of the tests, where our package is not looked for.
    """
    directory = tmp_path_factory.mktemp("container")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", directory)
    [wheel] = directory.glob("*.whl")
    home = directory / "opt"
    venv.create(home, symlinks=True)
    python("-m", "pip", "--python", home, "install", "--no-deps", "--no-index", "--quiet", wheel)
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return home / "bin"


class Here:
    """What a container has, on this machine: its files in a directory, its programs elsewhere."""

    def __init__(self, directory, programs):
        self._places = {
            "/data": str(directory),
            "/etc/mq9": str(directory),
            "/opt/mq9/bin": str(programs),
            "/opt/mq9/examples": str(ROOT / "examples"),
            "$PATH": os.environ["PATH"],
        }

    def __call__(self, text):
        for place, here in self._places.items():
            text = text.replace(place, here)
        for name, secret in SECRETS.items():
            text = re.sub(rf"\$\{{{name}(:\?[^}}]*)?\}}", secret, text)
        return text

    def environment(self, *several):
        variables = {name: value for some in several for name, value in some.items()}
        return {name: self(value) for name, value in variables.items()}


@pytest.fixture
def here(tmp_path, programs):
    return Here(tmp_path, programs)


def write_users(here):
    """Write the users file as compose makes it, for whoever the image runs as."""
    [users] = SERVER["configs"]
    assert users["uid"] == said("USER")
    path = Path(here(users["target"]))
    path.write_text(here(COMPOSE["configs"][users["source"]]["content"]), "utf-8")
    path.chmod(users["mode"])


@pytest.mark.programs
def test_the_image_refuses_to_let_everybody_in(here):
    done = subprocess.run(
        [*json.loads(said("ENTRYPOINT")), *json.loads(said("CMD"))],
        env=here.environment(image_environment()),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode != 0
    assert "host: 0.0.0.0 can be reached from other machines" in done.stderr


@pytest.mark.programs
async def test_what_compose_starts_works(here, tmp_path, unused_tcp_port_factory):
    port, admin_port = str(unused_tcp_port_factory()), str(unused_tcp_port_factory())
    write_users(here)
    for_server = here.environment(
        image_environment(),
        SERVER["environment"],
        {"MQ9_HOST": "127.0.0.1", "MQ9_PORT": port},
        {"MQ9_ADMIN_HOST": "127.0.0.1", "MQ9_ADMIN_PORT": admin_port},
    )
    health = json.loads(said("HEALTHCHECK").partition(" CMD ")[2])

    async def is_healthy():
        check = await asyncio.create_subprocess_exec(
            *health, env=for_server, stderr=subprocess.DEVNULL
        )
        return await check.wait() == 0

    assert not await is_healthy()
    with running([*json.loads(said("ENTRYPOINT")), *SERVER["command"]], for_server) as server:
        await until(server, is_healthy)
        url = here(WORKER["environment"]["MQ9_SERVER"]).replace("server:4222", f"127.0.0.1:{port}")
        for_worker = here.environment(image_environment(), {"MQ9_SERVER": url})
        command = [here(one) for one in (*WORKER["entrypoint"], *WORKER["command"])]
        with running(command, for_worker) as worker:
            assert worker.stdout.readline() == "ready\n"
            async with Mq9Client(f"nats://{SECRETS['MQ9_TOKEN']}@127.0.0.1:{port}") as client:
                answer = await client.request("jobs", "water the plants", timeout=PATIENCE_S)
            assert (answer.text, answer.sender) == ("water the plants, done", "worker")
        assert worker.returncode == 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}") as web:
            assert "mq9_operations_total" in (await web.get("/metrics")).text
            assert (await web.post("/mcp")).status_code == 401
            bearer = {"Authorization": f"Bearer {SECRETS['MQ9_DESK_TOKEN']}"}
            assert (await web.post("/mcp", headers=bearer)).status_code not in {401, 404}
    assert server.returncode == 0
    assert (tmp_path / "mq9.db").exists()
    assert not await is_healthy()


@contextmanager
def running(command, variables):
    """A program that is told to stop at the end, as an engine does, and then ends in time."""
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        yield process
        process.terminate()
        process.wait(int(SERVER["stop_grace_period"].removesuffix("s")))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def until(process, holds):
    """Wait until something holds, as long as a process runs."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            assert process.poll() is None
            await asyncio.sleep(0.1)
