"""Has a worker, or tools, handle messages; says what the process takes up meanwhile.

    python flat.py worker|toolkit DIRECTORY MESSAGES

After each tenth of the messages a line goes to stdout: how many were handled, the resident memory
in KiB, and how many descriptors are open.
"""

import asyncio
import gc
import os
import sys
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_mq9 import MailboxWorker, Mq9Toolkit
from mq9 import Mq9Client
from tests.fleet.crew import AGENT, build

_AT_ONCE = 10


def report(handled):
    gc.collect()
    status = Path("/proc/self/status").read_text("utf-8")
    memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    print(handled, memory, len(os.listdir("/proc/self/fd")), flush=True)  # noqa: T201, PTH208


async def in_tenths(messages, handle):
    """Handle messages, some at once, reporting ten times."""
    tenth = messages // 10
    for begun in range(0, messages, tenth):
        for first in range(begun, begun + tenth, _AT_ONCE):
            await asyncio.gather(*map(handle, range(first, first + _AT_ONCE)))
        report(begun + tenth)


async def worker(url, directory, messages):
    """Ask a worker, each question in a conversation of its own."""
    async with (
        AsyncSqliteSaver.from_conn_string(str(directory / "threads.db")) as saver,
        Mq9Client(url) as client,
        MailboxWorker(build(saver), agent=AGENT, server=url),
    ):

        async def ask(number):
            answer = await client.request(AGENT, {"number": number})
            assert answer.json()["square"] == number**2

        await in_tenths(messages, ask)


async def toolkit(url, directory, messages):
    """Fetch, send on and ack, in fifty threads."""
    async with Mq9Toolkit(url, agent="planner") as kit, Mq9Client(url) as client:
        await client.mailbox_create(name="planner")
        await client.mailbox_create(name="others")
        tools = {tool.name: tool for tool in kit.get_tools()}

        async def use(number):
            config = {"configurable": {"thread_id": f"thread {number % 50}"}}

            async def call(name, **arguments):
                return await tools[name].ainvoke(
                    {
                        "type": "tool_call",
                        "id": f"{name} {number}",
                        "name": name,
                        "args": arguments,
                    },
                    config,
                )

            await client.send("planner", f"message {number}")
            fetched = await call("fetch_messages", num_msgs=1)
            [message] = fetched.artifact.messages
            await call("send_message", to="others", content=message.untrusted_content)
            await call("ack_messages", msg_id=message.msg_id)

        await in_tenths(messages, use)


if __name__ == "__main__":
    what, path, count = sys.argv[1:]
    mail = f"sqlite:///{path}/mail.db"
    asyncio.run({"worker": worker, "toolkit": toolkit}[what](mail, Path(path), int(count)))
