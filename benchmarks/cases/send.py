"""Sending to a server: mq9, JetStream, Redis Streams; without and with an fsync per reply."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks import load, raw
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
from benchmarks.servers import jetstream_server, mq9_server, nats_client, redis_client
from mq9 import Mq9Client

_SENDS = 2_000
_OURS = ("mq9 serve, Mq9Client", "mq9 serve, nats-py")
_JETSTREAM, _REDIS = "JetStream, nats-py", "Redis Streams, redis-py"
_PIPELINE = "Redis Streams, a pipeline of 64"
_SEQUENTIAL, _TOGETHER = "sequential", "64 in flight"


def _contestant(call: load.Call, setting: Setting, *, sequential: bool) -> Contestant:
    count = setting.size(_SENDS, load.AT_ONCE)

    async def measure():
        figures = {_TOGETHER: await load.rate(call, count, load.AT_ONCE)}
        if sequential:
            figures[_SEQUENTIAL] = await load.rate(call, count)
        return figures

    return measure


def _pipeline(redis: Any, setting: Setting) -> Contestant:
    """Measure what redis-py does with one connection: 64 sends together, and 64 replies."""

    async def together() -> None:
        pipeline = redis.pipeline(transaction=False)
        for _ in range(load.AT_ONCE):
            pipeline.xadd("inbox", {"body": load.BODY})
        await pipeline.execute()

    async def measure():
        count = setting.size(_SENDS // load.AT_ONCE)
        return {_TOGETHER: load.AT_ONCE * await load.rate(together, count)}

    return measure


async def _open(fsync: bool, setting: Setting, stack: AsyncExitStack) -> Contestants:
    durability = ("--durability", "full" if fsync else "normal")
    server = await stack.enter_async_context(mq9_server(setting, *durability))
    sdk = await stack.enter_async_context(Mq9Client(server.url))
    bare = await stack.enter_async_context(nats_client(server.url))
    await sdk.mailbox_create(name="inbox")
    contestant = partial(_contestant, setting=setting, sequential=not fsync)
    contestants: dict[str, Contestant | NotInstalled] = {
        _OURS[0]: contestant(lambda: sdk.send("inbox", load.BODY)),
        _OURS[1]: contestant(lambda: raw.send(bare, "inbox")),
    }
    url = await enter_peer(stack, jetstream_server(setting, sync_always=fsync))
    if isinstance(url, NotInstalled):
        contestants[_JETSTREAM] = url
    else:
        jetstream = (await stack.enter_async_context(nats_client(url))).jetstream()
        await jetstream.add_stream(name="inbox", subjects=["inbox"])
        contestants[_JETSTREAM] = contestant(lambda: jetstream.publish("inbox", load.BODY))
    redis = await enter_peer(
        stack, redis_client(setting, appendfsync="always" if fsync else "everysec")
    )
    if isinstance(redis, NotInstalled):
        contestants[_REDIS] = contestants[_PIPELINE] = redis
    else:
        contestants[_REDIS] = contestant(lambda: redis.xadd("inbox", {"body": load.BODY}))
        contestants[_PIPELINE] = _pipeline(redis, setting)
    return contestants


SEND = Case(
    "send",
    f"SEND to a server that survives being killed, {_SENDS} each",
    {_SEQUENTIAL: "sends/s", _TOGETHER: "sends/s"},
    [
        comparison
        for ours in _OURS
        for comparison in (
            Comparison(_TOGETHER, ours, _JETSTREAM, at_least(1)),
            Comparison(_TOGETHER, ours, _REDIS, at_least(1.4)),
            Comparison(_TOGETHER, ours, _PIPELINE),
            Comparison(_SEQUENTIAL, ours, _JETSTREAM, at_least(0.6)),
            Comparison(_SEQUENTIAL, ours, _REDIS),
        )
    ],
    partial(_open, False),
)

FSYNC = Case(
    "fsync",
    f"SEND to a server that calls fsync before every reply, {_SENDS} each",
    {_TOGETHER: "sends/s"},
    [
        comparison
        for ours in _OURS
        for comparison in (
            Comparison(_TOGETHER, ours, _JETSTREAM, at_least(4)),
            Comparison(_TOGETHER, ours, _REDIS, at_least(1.2)),
            Comparison(_TOGETHER, ours, _PIPELINE),
        )
    ],
    partial(_open, True),
)
