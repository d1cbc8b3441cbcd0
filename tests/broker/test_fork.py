"""A forked child and its parent on one file: neither loses what the other relies on."""

import os

import pytest
from python_programs import run_python

SCRIPT = """
import asyncio, os, signal, sys
from mq9 import Mq9Client

url = sys.argv[1]
ready, say_ready = os.pipe()
go_on, say_go_on = os.pipe()
loop = asyncio.new_event_loop()
client = loop.run_until_complete(Mq9Client.connect(url))
loop.run_until_complete(client.mailbox_create(name="inbox"))
loop.run_until_complete(client.send("inbox", "parent"))
child = os.fork()
if child == 0:
    async def work():
        own = await Mq9Client.connect(url)
        await own.send("inbox", "child, beside its parent")
        os.write(say_ready, b"x")
        os.read(go_on, 1)
        for number in range(20):
            await own.send("inbox", f"child {number}")
        os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(work())
os.read(ready, 1)
loop.run_until_complete(client.close())
os.write(say_go_on, b"x")
os.waitpid(child, 0)

async def count():
    async with Mq9Client(url) as again:
        return len(await again.query("inbox", limit=1000))
print(asyncio.run(count()))
"""


@pytest.mark.programs
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_what_a_forked_child_sends_outlives_its_parents_close_and_its_own_death(tmp_path):
    url = f"sqlite:///{(tmp_path / 'mq9.db').as_posix()}"

    done = run_python("-c", SCRIPT, url)

    assert done.stdout == "22\n", done.stderr
