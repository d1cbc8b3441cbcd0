"""The pages' shell snippets run as they stand, and print what the page says."""

import itertools
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats_server
import pytest
from users_file import write_users

from mq9 import Forbidden
from mq9.server.users import Users

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"# (\w+\.py)\n")
DRILLS = "docs/how-to/operate.md"  # tests/cluster/test_drills.py runs them
# What make does is what runs these tests; test_uvx has the other.
ELSEWHERE = ("make ", "uvx ")


def steps_on(page):
    """Read the shell snippets that a page has run, and the programs that it saves, in order.

    Yields:
        The language and the source of each, and what it is to print, None where that is not said.
    """
    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    for (language, source), (then, text) in itertools.pairwise([*blocks, ("", "")]):
        runs = language == "sh" and not source.startswith(ELSEWHERE)
        if runs or (language == "python" and PROGRAM.match(source)):
            yield language, source, text if runs and then == "text" else None


def pages():
    """Return the pages with shell snippets, but none all of whose steps are on another, too."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    steps = {str(page.relative_to(ROOT)): {*steps_on(page)} for page in found}
    return sorted(
        name
        for name, own in steps.items()
        if name != DRILLS
        and any(language == "sh" for language, *_ in own)
        and not any(own < others for others in steps.values())
    )


PAGES = pages()
PORTS = ["4222", "9090", "8765"]

pytestmark = [
    pytest.mark.programs,
    pytest.mark.unmeasured,
    pytest.mark.skipif(sys.platform == "win32", reason="the snippets are for a shell"),
]


@contextmanager
def free_ports(count):
    """Ports that nobody listens at, and that on Linux the system assigns to nobody else."""
    with ExitStack() as bound:
        sockets = [bound.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in sockets]
        if sys.platform != "linux":  # which lets a server listen where others have only bound
            bound.close()
        yield ports


class Terminal:
    """Runs one snippet after another, as a reader would, with ports that are free here."""

    def __init__(self, directory, ports):
        (directory / "bin").mkdir()
        for name, module in (("mq9", "-m mq9"), ("mq9-mcp", "-m mcp_server"), ("python", "")):
            program = directory / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            program.chmod(0o755)
        (directory / "bin" / "nats-server").symlink_to(nats_server.binary())
        (directory / "examples").symlink_to(ROOT / "examples")
        self._directory = directory
        self._ports = dict(zip(PORTS, ports, strict=True))
        self._environment = {
            **os.environ,
            "HOME": str(directory),
            "XDG_DATA_HOME": str(directory),
            "XDG_CONFIG_HOME": str(directory),
            "MQ9_PORT": ports[0],
            "MQ9_ADMIN_PORT": ports[1],
            "MQ9_MCP_PORT": ports[2],
            "PATH": os.pathsep.join([str(directory / "bin"), str(TOOLS), os.environ["PATH"]]),
        }
        self._exported = {}
        self._servers = []

    def here(self, text):
        """Return a text with the ports of this test in it."""
        return re.sub("|".join(PORTS), lambda found: self._ports[found[0]], text)

    def save(self, source):
        """Save a program whose first line is a comment with the name of its file."""
        (self._directory / PROGRAM.match(source)[1]).write_text(source)

    def __call__(self, source):
        """Run a snippet; what it prints. One that only serves goes on in the background."""
        source = self.here(source)
        lines = source.splitlines(keepends=True)
        if len(lines) > 1 and all(line.startswith("mq9-mcp install") for line in lines):
            return "".join(map(self, lines))  # each reads an answer of its own
        options = {
            "cwd": self._directory,
            "env": {**self._environment, **self._exported},
            "encoding": "utf-8",
        }
        if source.startswith("nats-server "):
            return self._serve_nats(source, options)
        if re.fullmatch(
            r"mq9 (serve|worker|exec|desk).*\n|mq9-mcp --http.*\n|python worker.py\n", source
        ):
            server = subprocess.Popen(
                ["/bin/sh", "-euc", f"exec {source}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                **options,
            )
            self._servers.append(server)
            return server.stdout.readline()
        for name, value in re.findall(r"^export (\w+)=(\S+)$", source, re.MULTILINE):
            self._exported[name] = value
        done = subprocess.run(
            ["/bin/sh", "-euc", source],
            input="y\n",  # the answer, where one is wanted
            capture_output=True,
            timeout=100,
            check=False,
            **options,
        )
        assert done.returncode == 0, (source, done.stdout, done.stderr)
        return done.stdout

    def _serve_nats(self, source, options):
        """Start a NATS server on the port of ours; it says on standard error when it is ready."""
        del self._environment["MQ9_PORT"]
        server = subprocess.Popen(
            ["/bin/sh", "-euc", f"exec {source}"], stderr=subprocess.PIPE, **options
        )
        self._servers.append(server)
        return next("" for line in server.stderr if "Server is ready" in line)

    def close(self):
        for server in reversed(self._servers):
            server.terminate()
            server.communicate(timeout=30)
            assert server.returncode == 0


@pytest.fixture
def terminal(tmp_path):
    with free_ports(len(PORTS)) as ports:
        terminal = Terminal(tmp_path, ports)
        yield terminal
        terminal.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_shell_snippets_of_a_page_run_in_order(name, terminal):
    ran = 0
    for language, source, told in steps_on(name):
        if language == "python":
            terminal.save(source)
            continue
        if source.startswith("nats ") and not (TOOLS / "nats").exists():
            continue  # built only where there is Go
        printed = terminal(source)
        if told is not None:
            assert printed == terminal.here(told)
        ran += 1
    assert ran


@pytest.mark.quick
def test_the_shell_snippets_of_the_readme_run_twice_on_one_broker(terminal):
    blocks = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    lines = [source for language, source in blocks if language == "sh"]
    terminal(next(source for source in lines if source.startswith("mq9 serve")))
    asking = [source for source in lines if source.startswith(("mq9 --url", "nats "))]
    assert asking
    for source in asking * 2:
        if (TOOLS / "nats").exists() or not source.startswith("nats "):
            assert '"code"' not in terminal(source)


def users_on(page, directory):
    """Read the users file that a page shows."""
    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    [text] = [source for language, source in blocks if language == "toml"]
    return Users.from_file(write_users(directory, text))


async def test_the_allow_list_of_the_users_page_is_enforced(open_hosted, tmp_path):
    hosted = await open_hosted(guard=users_on("docs/how-to/users.md", tmp_path))
    operator = await hosted.client("an-operator-who-may-read-everything@")
    cursor = await hosted.client("cursor:correct%20horse%20battery%20staple@")
    claude = await hosted.client("the%20token%20of%20Claude-Desktop@")
    await claude.mailbox_create(name="claude.desktop")
    for name in ("team.a", "other"):
        await operator.mailbox_create(name=name)

    for address in ("claude.desktop", "team.a"):
        await cursor.send(address, "x")
    with pytest.raises(Forbidden, match="allow_send"):
        await cursor.send("other", "x")
    await claude.send("other", "x")


async def test_the_tokens_on_the_page_are_such_a_file(tmp_path):
    users = users_on("docs/how-to/mcp-http.md", tmp_path)
    assert (await users.admit({"auth_token": "a long random text"})).agent == "Claude-Desktop"
