# a script
"""How idle a process is that waits for mail in a file nobody writes to.

    python benchmarks/scripts/idle_wait.py [seconds]

Counts how often the threads of the process woke (voluntary context switches, from Linux's
``/proc``) and the CPU time it used, in each second.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from mq9 import Mq9Client

SETTLING_S = 5.0  # until it has been idle for a while


def wakes() -> int:
    """Return how often the threads of this process have waited and woken."""
    found = 0
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                found += int(line.split()[1])
    return found


async def measure(seconds: float) -> tuple[float, float]:
    """Wait for mail that does not come; the wakes and CPU seconds of one second."""
    with tempfile.TemporaryDirectory(prefix="mq9-") as directory:
        url = f"sqlite:///{(Path(directory) / 'mq9.db').as_posix()}"
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="inbox")
            fetch = client.fetch("inbox", group_name="g", max_wait_ms=3_600_000)
            waiting = asyncio.create_task(fetch)
            await asyncio.sleep(SETTLING_S)
            begun, cpu, woken = time.perf_counter(), time.process_time(), wakes()
            await asyncio.sleep(seconds)
            took = time.perf_counter() - begun
            rates = (wakes() - woken) / took, (time.process_time() - cpu) / took
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
    return rates


def main() -> None:
    """Measure and print."""
    woken, cpu = asyncio.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0))
    print(f"{woken:.1f} wakes and {cpu * 1000:.2f} ms of CPU time a second")


if __name__ == "__main__":
    main()
