"""What the LangChain tool adds to the request that it makes."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

from langchain_core.tools import BaseTool, StructuredTool

from benchmarks import load, raw
from benchmarks.case import Case, Comparison, Contestants, Setting, at_most
from benchmarks.servers import mq9_server, nats_client, page
from langchain_mq9 import Mq9Toolkit
from mq9 import Mq9Client

_CALLS = 500
_TIME, _REQUESTS = "time of a call", "requests a call"
_TOOL, _BARE = "send_message", "bare StructuredTool"
_AGENT = "bench"


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    server = await stack.enter_async_context(mq9_server(setting, admin=True))
    client = await stack.enter_async_context(Mq9Client(server.url))
    await client.mailbox_create(name="inbox")
    toolkit = await stack.enter_async_context(
        Mq9Toolkit(server.url, agent=_AGENT, tools=["send_message"])
    )
    bare = await stack.enter_async_context(nats_client(server.url))
    # What the tool says beside the message: who sends it, where answers go, which path it takes.
    headers = {"mq9-from": _AGENT, "mq9-reply-to": _AGENT, "mq9-path": _AGENT}

    async def send_message(mail_address: str, content: str) -> str:
        """Send a message."""
        return str(await raw.send(bare, mail_address, content.encode(), **headers))

    count = setting.size(_CALLS, 10)

    def contestant(tool: BaseTool):
        async def call() -> None:
            await tool.ainvoke({"mail_address": "inbox", "content": load.BODY.decode()})

        async def measure():
            before = await _answered(server.metrics_url)
            took = await load.median_ms(call, count)
            made = await _answered(server.metrics_url) - before
            return {_TIME: took, _REQUESTS: made / count}

        return measure

    [tool] = toolkit.get_tools()
    return {
        _TOOL: contestant(tool),
        _BARE: contestant(StructuredTool.from_function(coroutine=send_message)),
    }


async def _answered(url: str) -> float:
    """Return how many requests a server has answered."""
    counts = re.findall(r"^mq9_operations_total{.*} (\S+)$", await page(url), re.MULTILINE)
    return sum(map(float, counts))


CASE = Case(
    "langchain",
    f"{_CALLS} calls by ainvoke of the tool send_message, and of one that only awaits the request",
    {_TIME: "ms", _REQUESTS: "requests"},
    [
        Comparison(_TIME, _TOOL, _BARE, at_most(1.25)),
        Comparison(_REQUESTS, _TOOL, _BARE, at_most(1)),
    ],
    _open,
)
