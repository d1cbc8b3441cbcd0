"""Sending by many clients at once, each to a mailbox or subject of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks import load
from benchmarks.case import (
    Case,
    Comparison,
    Contestant,
    Contestants,
    NotInstalled,
    Setting,
    at_least,
    enter_peer,
)
from benchmarks.servers import jetstream_server, mq9_server, nats_client
from mq9 import Mq9Client

_CLIENTS, _SENDS = 64, 2_560
_OURS, _JETSTREAM = "mq9 serve, Mq9Client", "JetStream, nats-py"
_RATE = "each one at a time"


def _contestant(calls: Sequence[load.Call], setting: Setting) -> Contestant:
    each = setting.size(_SENDS, _CLIENTS) // _CLIENTS

    async def together() -> None:
        await asyncio.gather(*(load.repeat(call, each) for call in calls))

    async def measure():
        return {_RATE: each * _CLIENTS * await load.rate(together, 1)}

    return measure


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    server = await stack.enter_async_context(mq9_server(setting))
    boxes = [f"box.{number}" for number in range(_CLIENTS)]
    ours = [await stack.enter_async_context(Mq9Client(server.url)) for _ in boxes]
    for client, box in zip(ours, boxes, strict=True):
        await client.mailbox_create(name=box)

    def send(client: Mq9Client, box: str) -> load.Call:
        return lambda: client.send(box, load.BODY)

    contestants: dict[str, Contestant | NotInstalled] = {
        _OURS: _contestant([*map(send, ours, boxes)], setting)
    }
    url = await enter_peer(stack, jetstream_server(setting))
    if isinstance(url, NotInstalled):
        contestants[_JETSTREAM] = url
        return contestants
    streams = [(await stack.enter_async_context(nats_client(url))).jetstream() for _ in boxes]
    await streams[0].add_stream(name="boxes", subjects=["box.*"])

    def publish(stream, box: str) -> load.Call:
        return lambda: stream.publish(box, load.BODY)

    contestants[_JETSTREAM] = _contestant([*map(publish, streams, boxes)], setting)
    return contestants


CASE = Case(
    "crowd",
    f"SEND by {_CLIENTS} clients to {_CLIENTS} mailboxes, {_SENDS} in all; JetStream with as many "
    "clients and subjects of one stream",
    {_RATE: "sends/s"},
    [Comparison(_RATE, _OURS, _JETSTREAM, at_least(0.8))],
    _open,
)
