"""`mq9 serve` in a process of its own."""

import asyncio
import os
import re
import signal
import sys

_PATIENCE_S = 30


class Serving:
    """A server that keeps its port, and its file, when it is started again.

    Args:
        directory: Where it may write; its log lies there.
        options: Of the command, beside the ports.
        admin: Whether it serves metrics, on a port that the system assigns.
        environment: Variables, beside this process's own.
        prefix: What to run the command with.
    """

    def __init__(self, directory, *options, admin=False, environment=None, prefix=()):
        self.log = directory / "serve.log"
        self.port = 0
        self.url = None
        self.process = None
        self._options = options
        self._prefix = prefix
        self._admin = ("--admin-port", "0") if admin else ("--no-admin",)
        # What coverage writes does not survive a kill.
        inherited = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
        self._environment = {**inherited, **(environment or {})}

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *exception):
        await self.kill()

    async def run(self):
        """Start it, whatever comes of it."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self._prefix, sys.executable, "-m", "mq9", "serve", "--port", str(self.port)),
                *self._admin,
                *self._options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )

    async def start(self):
        """Start it, and see that it listens."""
        await self.run()
        async with asyncio.timeout(_PATIENCE_S):
            line = (await self.process.stdout.readline()).decode()
        said = re.fullmatch(r"mq9 listens on ((?:nats|tls)://127\.0\.0\.1:(\d+))\n", line)
        assert said, (line, self.told)
        self.url, self.port = said[1], int(said[2])

    @property
    def told(self):
        """What it has logged."""
        return self.log.read_text("utf-8")

    @property
    def metrics_url(self):
        return re.findall(r"http://127\.0\.0\.1:\d+/metrics", self.told)[-1]

    async def kill(self):
        """End it at once, wherever it is; harmless when it has ended."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        await self.ended()

    def stop(self, number=signal.SIGTERM):
        """Tell it to stop."""
        self.process.send_signal(number)

    async def ended(self):
        """Wait for its end; its exit code."""
        async with asyncio.timeout(_PATIENCE_S):
            await self.process.communicate()
        return self.process.returncode
