"""What a call of an MCP tool takes over stdio."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from benchmarks import load
from benchmarks.case import Case, Comparison, Contestants, Setting, at_most
from mq9 import Mq9Client

_CALLS = 300
_TIME = "time of a call"
_OURS, _CONSTANT = "mq9-mcp, a send to a file", "a tool that returns a constant"


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    url = f"sqlite:///{setting.directory('file').as_posix()}/mail.db"
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
    program = str(Path(sys.executable).with_name("mq9-mcp"))
    count = setting.size(_CALLS, 10)

    async def contestant(tool, command, *arguments):
        transport = StdioServerParameters(command=command, args=list(arguments))
        client = await stack.enter_async_context(Client(transport))

        async def call() -> None:
            # Under one key, so that the mailbox stays as small as what a constant leaves behind.
            sent = {"mail_address": "inbox", "content": load.BODY.decode(), "key": "k"}
            result = await client.call_tool(tool, sent)
            if result.is_error:
                raise RuntimeError(result.content)

        async def measure():
            return {_TIME: await load.median_ms(call, count)}

        return measure

    return {
        _OURS: await contestant("mq9_send_message", program, "--agent", "bench", "--server", url),
        _CONSTANT: await contestant(
            "send_message", sys.executable, "-m", "benchmarks.constant_tool"
        ),
    }


CASE = Case(
    "mcp",
    f"{_CALLS} calls of a tool over stdio, by the client of the MCP SDK",
    {_TIME: "ms"},
    [Comparison(_TIME, _OURS, _CONSTANT, at_most(1.5))],
    _open,
)
