"""A gateway of a cluster, and JetStream on the same servers."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext

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
from benchmarks.cases.fetch import RATE, TOGETHER, by_hand, by_sdk, from_jetstream, taker
from benchmarks.servers import gateway, nats_client, nats_servers
from mq9 import Mq9Client

_SENDS = 2_000
_MESSAGES = 10_000
_REPLICAS = 3
_SEQUENTIAL, _TOGETHER = "sequential", "64 in flight"
_OURS = ("mq9 serve --cluster, Mq9Client", "mq9 serve --cluster, nats-py")
_JETSTREAM = "JetStream, nats-py"
_NAMES = (*_OURS, _JETSTREAM)


@dataclass(frozen=True, slots=True)
class _Clients:
    """Connections to the servers of one cluster.

    Attributes:
        sdk: An mq9 client, with a mailbox `inbox`.
        bare: A client of NATS.
        jetstream: Of that client, with a stream `inbox` on three servers.
    """

    sdk: Mq9Client
    bare: NatsClient
    jetstream: JetStreamContext


async def _connect(setting: Setting, stack: AsyncExitStack) -> _Clients | NotInstalled:
    urls = await enter_peer(stack, nats_servers(setting, _REPLICAS))
    if isinstance(urls, NotInstalled):
        return urls
    await stack.enter_async_context(gateway(setting, ",".join(urls)))
    sdk = await stack.enter_async_context(Mq9Client(urls[0]))
    bare = await stack.enter_async_context(nats_client(urls[0]))
    await sdk.mailbox_create(name="inbox")
    jetstream = bare.jetstream()
    await jetstream.add_stream(name="inbox", subjects=["inbox"], num_replicas=_REPLICAS)
    return _Clients(sdk, bare, jetstream)


def _sender(call: load.Call, setting: Setting) -> Contestant:
    count = setting.size(_SENDS, load.AT_ONCE)

    async def measure():
        return {
            _TOGETHER: await load.rate(call, count, load.AT_ONCE),
            _SEQUENTIAL: await load.rate(call, setting.size(_SENDS // 4)),
        }

    return measure


async def _open_send(setting: Setting, stack: AsyncExitStack) -> Contestants:
    clients = await _connect(setting, stack)
    if isinstance(clients, NotInstalled):
        return dict.fromkeys(_NAMES, clients)
    calls: tuple[load.Call, ...] = (
        lambda: clients.sdk.send("inbox", load.BODY),
        lambda: raw.send(clients.bare, "inbox"),
        lambda: clients.jetstream.publish("inbox", load.BODY),
    )
    return {name: _sender(call, setting) for name, call in zip(_NAMES, calls, strict=True)}


async def _open_fetch(setting: Setting, stack: AsyncExitStack) -> Contestants:
    clients = await _connect(setting, stack)
    if isinstance(clients, NotInstalled):
        return dict.fromkeys(_NAMES, clients)
    messages = setting.size(_MESSAGES, TOGETHER)
    await load.repeat(lambda: clients.sdk.send("inbox", load.BODY), messages, load.AT_ONCE)
    takes = (
        by_sdk(clients.sdk, messages),
        by_hand(clients.bare, messages),
        await from_jetstream(clients.bare, messages, _REPLICAS),
    )
    return {name: taker(take, messages) for name, take in zip(_NAMES, takes, strict=True)}


SEND = Case(
    "cluster-send",
    f"SEND to a gateway on three NATS servers, {_SENDS} each; JetStream on the same three",
    {_SEQUENTIAL: "sends/s", _TOGETHER: "sends/s"},
    [
        Comparison(measure, ours, _JETSTREAM, at_least(0.6) if measure == _TOGETHER else None)
        for ours in _OURS
        for measure in (_TOGETHER, _SEQUENTIAL)
    ],
    _open_send,
)

FETCH = Case(
    "cluster-fetch",
    f"{_MESSAGES} stored messages, fetched {TOGETHER} at a time and acked, by a gateway on three "
    "NATS servers; JetStream on the same three, with one ack a batch",
    {RATE: "messages/s"},
    [Comparison(RATE, ours, _JETSTREAM, at_least(1.5)) for ours in _OURS],
    _open_fetch,
)
