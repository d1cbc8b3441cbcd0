"""What the SDK adds to a request."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks import load, raw
from benchmarks.case import Case, Comparison, Contestants, Setting, at_least
from benchmarks.servers import mq9_server, nats_client
from mq9 import Mq9Client

_SENDS = 2_000
_SDK, _RAW = "Mq9Client", "nats-py request"


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    server = await stack.enter_async_context(mq9_server(setting))
    sdk = await stack.enter_async_context(Mq9Client(server.url))
    bare = await stack.enter_async_context(nats_client(server.url))
    await sdk.mailbox_create(name="inbox")
    count = setting.size(_SENDS, load.AT_ONCE)

    def contestant(call):
        async def measure():
            return {
                "sequential": await load.rate(call, count),
                "64 in flight": await load.rate(call, count, load.AT_ONCE),
            }

        return measure

    return {
        _SDK: contestant(lambda: sdk.send("inbox", load.BODY)),
        _RAW: contestant(lambda: raw.send(bare, "inbox")),
    }


CASE = Case(
    "sdk",
    f"a SEND by the SDK and by hand, same headers and body, {_SENDS} each",
    {"sequential": "sends/s", "64 in flight": "sends/s"},
    [
        Comparison("sequential", _SDK, _RAW, at_least(1.05)),
        Comparison("64 in flight", _SDK, _RAW, at_least(1.05)),
    ],
    _open,
)
