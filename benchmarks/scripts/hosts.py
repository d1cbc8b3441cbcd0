"""What an MCP host waits for: the server's start, and a call over stdio and over HTTP.

Each call sends one message under one key, on a file; beside it the same send by the SDK.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from mq9 import Mq9Client

CALLS = 300
PROGRAM = str(Path(sys.executable).with_name("mq9-mcp"))


async def timed(call):
    """The seconds that each of many calls took."""
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - start)
    return taken


async def over(transport, started):
    """Start, and call; what is printed of it."""
    async with Client(transport) as client:

        async def call():
            arguments = {"mail_address": "host", "content": "x" * 200, "key": "k"}
            result = await client.call_tool("mq9_send_message", arguments)
            assert not result.is_error  # noqa: S101  # else it is no measurement

        await call()
        first = time.perf_counter() - started
        return f"first answer after {first:.2f} s, {shown(await timed(call))}"


def shown(taken):
    return (
        f"{len(taken) / sum(taken):6.0f} calls/s, median {statistics.median(taken) * 1000:.2f} ms, "
        f"p99 {statistics.quantiles(taken, n=100)[98] * 1000:.2f} ms"
    )


async def main():
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/mail.db"
        options = ["--agent", "host", "--server", url]
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="host")
            taken = await timed(lambda: client.send("host", "x" * 200, key="k"))
            print(f"SDK    {shown(taken)}")
        stdio = StdioServerParameters(command=PROGRAM, args=options)
        print("stdio ", await over(stdio, time.perf_counter()))
        command = [PROGRAM, "--http", "--port", "0", *options]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220, S603  # ours
            try:
                line = await asyncio.to_thread(process.stdout.readline)
                print("HTTP  ", await over(line.split()[-1], started))
            finally:
                process.terminate()


if __name__ == "__main__":
    asyncio.run(main())
