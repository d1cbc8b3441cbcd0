# a script
"""How soon a waiter sees what another process sends to the same file.

    python benchmarks/scripts/wake_latency.py [messages]

One process waits in a long poll, another sends at random moments; the time between sending and
seeing is measured by the wall clock that both share. Prints the median and the 99th percentile.
"""

import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mq9 import Mq9Client

MOST_SECONDS = 60.0


async def listen(url: str) -> None:
    """Wait for one message after another, and print how old each is, in milliseconds."""
    async with Mq9Client(url) as client:
        while True:
            for message in await client.fetch("inbox", group_name="g", max_wait_ms=60_000):
                age_ms = (time.time_ns() - int(message.text)) / 1e6
                await client.ack("inbox", "g", message.msg_id)
                print(age_ms, flush=True)  # read by the other process


async def measure(messages: int) -> list[float]:
    """Send from this process, listen in another; the latencies in milliseconds."""
    latencies = []
    with tempfile.TemporaryDirectory(prefix="mq9-") as directory:
        url = f"sqlite:///{(Path(directory) / 'mq9.db').as_posix()}"
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="inbox")
            await client.fetch("inbox", group_name="g", max_wait_ms=0)
            listener = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "--listen", url, stdout=asyncio.subprocess.PIPE
            )
            assert listener.stdout is not None  # noqa: S101  # it is a pipe
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(MOST_SECONDS):
                        for number in range(messages + 1):
                            await client.send("inbox", str(time.time_ns()))
                            age_ms = float(await listener.stdout.readline())
                            if number:  # the first also waited for the process to start
                                latencies.append(age_ms)
                            await asyncio.sleep(random.uniform(0, 0.05))  # noqa: S311  # no secret
            finally:
                listener.kill()
                await listener.communicate()
    return latencies


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--listen"]:
        asyncio.run(listen(sys.argv[2]))
        return
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    latencies = sorted(asyncio.run(measure(messages)))
    if not latencies:
        sys.exit("nothing was measured in time")
    p99 = latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)]
    print(
        f"{len(latencies)} messages: median {statistics.median(latencies):.1f} ms, "
        f"p99 {p99:.1f} ms, slowest {latencies[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
