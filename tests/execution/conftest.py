"""`mq9 exec` on a file, called in this process."""

import asyncio
import os
import signal
import sys

import pytest
from cli.conftest import Program

_CHANGED = [one for one in signal.Signals if one.name in {"SIGINT", "SIGTERM", "SIGHUP"}]


@pytest.fixture(autouse=True)
def _signals_as_they_were(monkeypatch):
    for name in ("MQ9_SERVER", "MQ9_LOG_LEVEL", "MQ9_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    before = [signal.getsignal(one) for one in _CHANGED]
    yield
    for one, handler in zip(_CHANGED, before, strict=True):
        signal.signal(one, handler)


@pytest.fixture
def mq9(tmp_path):
    """The program on a file, with a mailbox for answers."""
    program = Program(f"sqlite:///{tmp_path.as_posix()}/mail.db")
    program.ok("create", "answers")
    return program


@pytest.fixture
def execute(mq9, tmp_path):
    """Call `mq9 exec` as the agent `robot`."""
    mq9.ok("create", "robot")

    def run(*command, messages=1, options=(), **how):
        """Run a command for so many messages; the result of the program."""
        chosen = ("--state", tmp_path / "state", "--retry-delay", "0", *options)
        limit = ("--max-messages", messages)
        return mq9("exec", "--agent", "robot", *limit, *chosen, "--", *command, **how)

    return run


@pytest.fixture
def send(mq9):
    """Send a message to the robot."""

    def one(body="x", *options):
        mq9.ok("send", "robot", "--reply-to", "answers", *options, "--", body)

    return one


@pytest.fixture
def answers(mq9):
    """Return the texts of the answers so far."""
    return lambda: [one["payload"] for one in messages_in(mq9, "answers")]


def messages_in(mq9, mailbox):
    done = mq9("query", mailbox, "--limit", "1000", "--json")
    return done.document["messages"]


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out.decode(), err.decode()


async def started(url, directory, *words):
    process = await start(url, directory, *words)
    out, err = await process.communicate()
    return Result(process.returncode, out, err)


async def start(url, directory, *words):
    """Start it as a program."""
    given = ["exec", "--agent", "robot", "--state", directory / "state", *words]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mq9", *map(str, given)),
        env={**os.environ, "MQ9_SERVER": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
