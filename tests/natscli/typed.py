"""The `nats` command, as somebody types it at a server."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / ".tools/nats"
_PATIENCE_S = 60


@dataclass(frozen=True)
class Printed:
    """What a command left behind.

    Attributes:
        out: Its standard output.
        told: What it said beside that, to the person who typed it.
        code: Its exit code.
    """

    out: str
    told: str
    code: int


class Typist:
    """Types commands, and ends those that still run.

    Args:
        home: Where the command may keep its settings, so that it finds nobody else's.
    """

    def __init__(self, home):
        self._home = home
        self._running = []

    async def start(
        self, url, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    ):
        """Start a command that goes on until it has what it wants."""
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *words,
            env={
                "HOME": str(self._home),
                "XDG_CONFIG_HOME": str(self._home),
                "PATH": os.environ["PATH"],
                "NATS_URL": url,
            },
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )
        self._running.append(process)
        return process

    async def run(self, url, *words, stdin=None):
        """Run a command to its end; `stdin` is what is piped into it."""
        pipe = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        process = await self.start(url, *words, stdin=pipe)
        return await self.finish(process, stdin)

    async def finish(self, process, stdin=None):
        """Wait for the end of a command."""
        async with asyncio.timeout(_PATIENCE_S):
            out, told = await process.communicate(stdin)
        return Printed(out.decode(), told.decode(), process.returncode)

    async def close(self):
        for process in self._running:
            if process.returncode is None:
                process.kill()
                await process.communicate()
