"""Send, fetch and discover while the server has ever more of one thing, over three decades."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from nats.aio.client import Client as NatsClient

from benchmarks import load, raw, stored
from benchmarks.case import Case, Comparison, Contestants, Setting
from benchmarks.servers import mq9_server, nats_client
from mq9.discovery.embeddings import default_embeddings
from tests.waiting import until

_MESSAGES, _AGENTS = 1_000, 100  # where it is something else that grows
_CALLS = 50
_FETCHED = 100
_EMBEDDING_S = 300
_SEND, _FETCH, _DISCOVER = "SEND", "FETCH of 100", "DISCOVER"
_SIZES = {
    "messages": (1_000, 10_000, 100_000, 1_000_000),
    "mailboxes": (100, 1_000, 10_000, 100_000),
    "groups": (1, 10, 100, 1_000),
    "agents": (100, 1_000, 10_000, 100_000),
}
_LEAST = {"messages": _MESSAGES}  # of which a FETCH takes what nobody has acked


async def _open(grows: str, setting: Setting, stack: AsyncExitStack) -> Contestants:
    least = _LEAST.get(grows, 1)
    contestants = {}
    for size in _SIZES[grows]:
        client = await _served(grows, setting.size(size, least), setting, stack)
        contestants[str(size)] = _contestant(client, setting.size(_CALLS, 3))
    return contestants


def _contestant(client: NatsClient, count: int):
    asked = itertools.cycle(stored.SKILLS)

    async def measure():
        fetches = []
        for _ in range(count):
            fetched, took = await load.timed(
                partial(raw.fetch, client, stored.INBOX, stored.GROUP, _FETCHED)
            )
            await raw.release(client, stored.INBOX, stored.GROUP, fetched)
            fetches.append(took)
        return {
            _FETCH: load.percentile(fetches, 50),
            _SEND: await load.median_ms(partial(raw.send, client, stored.INBOX), count),
            _DISCOVER: await load.median_ms(
                lambda: raw.ask(client, "AGENT.DISCOVER", {"text": next(asked)}), count
            ),
        }

    return measure


async def _served(grows: str, size: int, setting: Setting, stack: AsyncExitStack) -> NatsClient:
    """Serve a file with so many of something, and little of everything else."""
    make = {"mailboxes": stored.mailboxes, "agents": stored.agents}.get(grows)
    data: Path
    if make is None:
        data = await stored.backlog(setting, size if grows == "messages" else _MESSAGES)
    else:
        data = await make(setting, size)
    server = await stack.enter_async_context(mq9_server(setting, data=data))
    client = await stack.enter_async_context(nats_client(server.url))
    if make is not None:
        await raw.ask(client, "MAILBOX.CREATE", {"name": stored.INBOX})
        await load.repeat(partial(raw.send, client, stored.INBOX), _MESSAGES, load.AT_ONCE)
    for number in range(size - 1 if grows == "groups" else 0):  # beside the one that fetches
        group = f"{stored.GROUP}.{number}"
        fetched = await raw.fetch(client, stored.INBOX, group, 1)
        await raw.ack(client, stored.INBOX, group, fetched)
    if grows != "agents":
        numbers = iter(range(_AGENTS))
        await load.repeat(
            lambda: raw.ask(client, "AGENT.REGISTER", stored.agent(next(numbers))), _AGENTS
        )
    await _until_embedded(client)
    return client


async def _until_embedded(client: NatsClient) -> None:
    """Wait until nothing is embedded any more, which takes a processor."""
    if default_embeddings() is None:
        return
    question = {"semantic": stored.SKILLS[0], "limit": 1}

    async def is_embedded() -> bool:
        return (await raw.ask(client, "AGENT.DISCOVER", question))["mode"] == "semantic"

    await until(is_embedded, _EMBEDDING_S)


CASES = tuple(
    Case(
        f"by-{grows}",
        f"SEND, FETCH and DISCOVER of a server with {sizes[0]} to {sizes[-1]} {grows}",
        {_SEND: "ms", _FETCH: "ms", _DISCOVER: "ms"},
        [
            Comparison(measure, str(sizes[-1]), str(sizes[0]))
            for measure in (_SEND, _FETCH, _DISCOVER)
        ],
        partial(_open, grows),
        grows=grows,
    )
    for grows, sizes in _SIZES.items()
)
