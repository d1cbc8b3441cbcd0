"""Taking stored messages by hundreds and confirming them: mq9, JetStream, Redis Streams."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from typing import Any

from nats.aio.client import Client as NatsClient
from nats.js.api import AckPolicy, ConsumerConfig

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

_MESSAGES = 10_000
TOGETHER = 100
RATE = "messages a second"
_OURS = ("mq9 serve, Mq9Client", "mq9 serve, nats-py")
_JETSTREAM, _REDIS = "JetStream, nats-py", "Redis Streams, redis-py"
# Of ten messages one is critical and two are urgent.
_PRIORITIES = ("critical", "urgent", "urgent", *("normal",) * 7)


def taker(take: load.Call, messages: int) -> Contestant:
    """Measure what takes all messages for a new group."""

    async def measure():
        return {RATE: messages * await load.rate(take, 1)}

    return measure


def by_sdk(client: Mq9Client, messages: int) -> load.Call:
    """Return what fetches and acks all messages of the mailbox for a new group."""
    groups = (f"sdk.{number}" for number in itertools.count())

    async def take() -> None:
        group, left = next(groups), messages
        while left:
            fetched = await client.fetch(
                "inbox", group_name=group, num_msgs=TOGETHER, max_wait_ms=0
            )
            await client.ack("inbox", group, fetched[-1].msg_id)
            left -= len(fetched)

    return take


def by_hand(client: NatsClient, messages: int) -> load.Call:
    """Return what fetches and acks all messages of the mailbox for a new group, with nats-py."""
    groups = (f"hand.{number}" for number in itertools.count())

    async def take() -> None:
        group, left = next(groups), messages
        while left:
            fetched = await raw.fetch(client, "inbox", group, num_msgs=TOGETHER)
            await raw.ack(client, "inbox", group, fetched)
            left -= len(fetched["messages"])

    return take


async def from_jetstream(client: NatsClient, messages: int, replicas: int = 1) -> load.Call:
    """Return what fetches and acks all messages of a stream that it makes and fills."""
    jetstream = client.jetstream()
    await jetstream.add_stream(name="inbox", subjects=["inbox"], num_replicas=replicas)
    await load.repeat(lambda: jetstream.publish("inbox", load.BODY), messages, load.AT_ONCE)
    groups = (f"g{number}" for number in itertools.count())
    # An ack of the last message of a batch confirms those before it.
    config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=messages)

    async def take() -> None:
        pulled = await jetstream.pull_subscribe("inbox", next(groups), config=config)
        left = messages
        while left:
            fetched = await pulled.fetch(min(left, TOGETHER))
            await fetched[-1].ack_sync()
            left -= len(fetched)
        await pulled.unsubscribe()

    return take


async def _from_redis(client: Any, messages: int) -> load.Call:
    await load.repeat(lambda: client.xadd("inbox", {"body": load.BODY}), messages, load.AT_ONCE)
    groups = (f"g{number}" for number in itertools.count())

    async def take() -> None:
        group, left = next(groups), messages
        await client.xgroup_create("inbox", group, id="0")
        while left:
            [[_, fetched]] = await client.xreadgroup(group, "bench", {"inbox": ">"}, TOGETHER)
            await client.xack("inbox", group, *(number for number, _ in fetched))
            left -= len(fetched)

    return take


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    messages = setting.size(_MESSAGES, TOGETHER)
    server = await stack.enter_async_context(mq9_server(setting))
    sdk = await stack.enter_async_context(Mq9Client(server.url))
    bare = await stack.enter_async_context(nats_client(server.url))
    await sdk.mailbox_create(name="inbox")
    priorities = itertools.cycle(_PRIORITIES)
    await load.repeat(
        lambda: sdk.send("inbox", load.BODY, priority=next(priorities)), messages, load.AT_ONCE
    )
    takes: dict[str, load.Call | NotInstalled] = {
        _OURS[0]: by_sdk(sdk, messages),
        _OURS[1]: by_hand(bare, messages),
    }
    url = await enter_peer(stack, jetstream_server(setting))
    if isinstance(url, NotInstalled):
        takes[_JETSTREAM] = url
    else:
        client = await stack.enter_async_context(nats_client(url))
        takes[_JETSTREAM] = await from_jetstream(client, messages)
    redis = await enter_peer(stack, redis_client(setting, appendfsync="everysec"))
    if isinstance(redis, NotInstalled):
        takes[_REDIS] = redis
    else:
        takes[_REDIS] = await _from_redis(redis, messages)
    return {
        name: take if isinstance(take, NotInstalled) else taker(take, messages)
        for name, take in takes.items()
    }


CASE = Case(
    "fetch",
    f"{_MESSAGES} stored messages, fetched {TOGETHER} at a time and acked; mq9 with leases and "
    "three priorities, JetStream with one ack a batch, Redis with one XACK a batch",
    {RATE: "messages/s"},
    [
        comparison
        for ours in _OURS
        for comparison in (
            Comparison(RATE, ours, _JETSTREAM, at_least(2)),
            Comparison(RATE, ours, _REDIS, at_least(0.5)),
        )
    ],
    _open,
)
