"""A process that opens its own file again keeps the locks that protect what it has written."""

import os
import signal
import subprocess
import sys

import pytest
from python_programs import run_python

SENDER = """
import asyncio, sys
from mq9 import Mq9Client

url = sys.argv[1]

async def main():
    client = await Mq9Client.connect(url)
    await client.mailbox_create(name="inbox")
    again = await Mq9Client.connect(url + "?durability=full")  # the same file, opened once more
    await again.close()
    print("ready", flush=True)
    sys.stdin.readline()  # another process comes and goes
    for number in range(20):
        await client.send("inbox", str(number))
    print("sent", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
VISITOR = """
import asyncio, sys
from mq9 import Mq9Client

async def main():
    async with Mq9Client(sys.argv[1]) as client:
        print(len(await client.query("inbox", limit=1000)))

asyncio.run(main())
"""


def visit(url):
    return int(run_python("-c", VISITOR, url).stdout)


@pytest.mark.programs
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_what_is_sent_after_another_process_came_and_went_outlives_a_kill(tmp_path):
    url = f"sqlite:///{(tmp_path / 'mq9.db').as_posix()}"
    with subprocess.Popen(
        [sys.executable, "-c", SENDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sender:
        try:
            assert sender.stdout.readline() == "ready\n"
            assert visit(url) == 0
            sender.stdin.write("go on\n")
            sender.stdin.flush()
            assert sender.stdout.readline() == "sent\n"
            assert visit(url) == 20
        finally:
            os.kill(sender.pid, signal.SIGKILL)

    assert visit(url) == 20
