"""`mq9 serve`: in a process of its own, or in this one where it is to be refused."""

import asyncio
import os
import re
import signal
import subprocess
import sys

from typer.testing import CliRunner

from mq9.cli.app import app

_PATIENCE_S = 30
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # that it heeds


def refusal(*options):
    """Call it in this process with what cannot be; the exit code, and what it says in one line."""
    handlers = {one: signal.getsignal(one) for one in signal.Signals if one.name in _SIGNALS}
    try:
        done = CliRunner().invoke(app, ["serve", "--port", "0", *options], catch_exceptions=False)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert done.stdout == ""
    *logged, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(" INFO " in one for one in logged), done.stderr
    return done.exit_code, line


class Serving:
    """A server that keeps its port, and its file, when it is started again.

    Args:
        directory: Where it may write; its log lies there.
        options: Of the command, beside the ports.
        admin: Whether it serves metrics, on a port that the system assigns.
        environment: Variables, beside this process's own.
        prefix: What to run the command with.
        checkout: The directory that the code is in; None for the one that the tests are run in.
    """

    def __init__(
        self, directory, *options, admin=False, environment=None, prefix=(), checkout=None
    ):
        self.checkout = checkout
        self.log = directory / "serve.log"
        self.port = 0
        self.url = None
        self.desk = None  # where the desk is, with `--desk` and `admin`
        self.name = None  # of the gateway, where it serves a cluster
        self.process = None
        self._options = options
        self._prefix = prefix
        self._admin = ("--admin-port", "0") if admin else ("--no-admin",)
        # What coverage writes does not survive a kill.
        inherited = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
        self._environment = {**inherited, **(environment or {})}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.kill()
        self.process.stdout.close()

    async def __aenter__(self):
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exception):
        await asyncio.to_thread(self.__exit__, *exception)

    def start(self):
        """Start it, and see that it listens."""
        if self.process is not None:
            self.process.stdout.close()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*self._prefix, sys.executable, "-m", "mq9", "serve"),
                    *("--port", str(self.port), *self._admin, *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=self.checkout,
                text=True,
            )
        if "--desk" in self._options:
            self.desk = self._said(r"the desk: (http://\S+)\n")[1]
        self.url, port, self.name = self._said(
            r"mq9 listens on ((?:nats|tls)://127\.0\.0\.1:(\d+))"
            r"(?: and serves a cluster as (.+))?\n"
        ).groups()
        self.port = int(port)

    def _said(self, pattern):
        line = self.process.stdout.readline()  # at the latest when it has ended
        said = re.fullmatch(pattern, line)
        assert said, (line, self.told)
        return said

    @property
    def pid(self):
        return self.process.pid

    @property
    def told(self):
        """What it has logged."""
        return self.log.read_text("utf-8")

    @property
    def metrics_url(self):
        return re.findall(r"http://127\.0\.0\.1:\d+/metrics", self.told)[-1]

    def kill(self):
        """End it at once, wherever it is; harmless when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGTERM):
        """Tell it to stop."""
        self.process.send_signal(number)

    async def ended(self):
        """Wait for its end; its exit code."""
        return await asyncio.to_thread(self.process.wait, _PATIENCE_S)
