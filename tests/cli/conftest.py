"""The program, called in this process."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from mq9 import Mq9Client
from mq9.cli.app import app
from mq9.engine.commands import Limits
from mq9.testing import FakeBroker

SECRET = "hush-hush"


class Program:
    """Calls `mq9` on one broker.

    A result has `code`, `out`, `err`, and with `--json` the `document`.
    """

    def __init__(self, url):
        self.url = url

    def __call__(self, *arguments, stdin=None, env=None):
        variables = {"MQ9_SERVER": self.url, **(env or {})}
        done = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, env=variables)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        document = json.loads(done.stdout) if "--json" in arguments else None
        return SimpleNamespace(
            code=done.exit_code, out=done.stdout, err=done.stderr, document=document
        )

    def ok(self, *arguments, **how):
        """Call it, and see that it did what it was asked for."""
        done = self(*arguments, **how)
        assert done.code == 0, done.err
        return done

    def sdk(self, work):
        """Do something with a client of the SDK on the same broker."""

        async def run():
            async with Mq9Client(self.url) as client:
                return await work(client)

        return asyncio.run(run())


async def call(url, *arguments):
    return await asyncio.to_thread(Program(url), *arguments)


@pytest.fixture(autouse=True)
def no_other_broker(monkeypatch):
    for name in ("MQ9_SERVER", "MQ9_PORT", "MQ9_ADMIN_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mq9(tmp_path):
    """The program on a file."""
    return Program(f"sqlite:///{tmp_path.as_posix()}/mail.db")


@pytest.fixture
def inbox(mq9):
    mq9.ok("create", "inbox")
    return "inbox"


@pytest.fixture
def limits():
    return Limits()


@pytest.fixture
def timed(limits):
    """The program on a broker under a clock that the test moves with `pass_time`."""
    with FakeBroker(limits=limits, autojump=True) as broker:
        program = Program(broker.url)
        program.pass_time = lambda seconds: asyncio.run(broker.clock.advance(seconds))
        program.ok("create", "inbox")
        yield program
