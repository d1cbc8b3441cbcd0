"""What a large mailbox costs: fetching, looking at it, opening its file, and its file on disk."""

from __future__ import annotations

import statistics
import time
from contextlib import AsyncExitStack
from functools import partial

from benchmarks import load, raw, stored
from benchmarks.case import By, Case, Comparison, Contestants, Setting, at_most
from benchmarks.servers import mq9_server, nats_client, page
from mq9 import Mq9Client

_MANY, _FEW = 1_000_000, 1_000
_FETCHED = 100
_FETCHES = 50
_LARGE, _SMALL, _EMPTY = "1 000 000 messages", "1 000 messages", "no messages"
_FETCH, _STATUS, _LIST, _METRICS = "FETCH of 100", "STATUS", "PUBLIC.LIST", "GET /metrics"
_FIRST = "first reply"
_DISK = "bytes of the file / bytes of the bodies"


def _many(setting: Setting) -> int:
    return setting.size(_MANY, 2 * _FEW)


async def _open_served(setting: Setting, stack: AsyncExitStack) -> Contestants:
    count = setting.size(_FETCHES, 3)

    async def contestant(messages: int):
        data = await stored.backlog(setting, messages)
        server = await stack.enter_async_context(mq9_server(setting, data=data, admin=True))
        client = await stack.enter_async_context(nats_client(server.url))
        status = partial(
            raw.ask, client, f"MAILBOX.STATUS.{stored.INBOX}", {"group_name": stored.GROUP}
        )

        async def fetch() -> float:
            fetched, took = await load.timed(
                partial(raw.fetch, client, stored.INBOX, stored.GROUP, _FETCHED)
            )
            if len(fetched["messages"]) != _FETCHED:
                raise RuntimeError(f"{len(fetched['messages'])} messages, not {_FETCHED}")
            await raw.release(client, stored.INBOX, stored.GROUP, fetched)
            return took

        async def measure():
            return {
                _FETCH: statistics.median([await fetch() for _ in range(count)]),
                _STATUS: await load.median_ms(status, count),
                _LIST: await load.median_ms(partial(raw.ask, client, "PUBLIC.LIST"), count),
                _METRICS: await load.median_ms(partial(page, server.metrics_url), count),
            }

        return measure

    return {_LARGE: await contestant(_many(setting)), _SMALL: await contestant(_FEW)}


async def _open_file(setting: Setting, _stack: AsyncExitStack) -> Contestants:
    async def contestant(messages: int):
        data = await stored.backlog(setting, messages)

        async def measure():
            begin = time.perf_counter()
            async with Mq9Client(f"sqlite:///{data.as_posix()}") as client:
                await client.mailbox_status(stored.INBOX)
                return {_FIRST: (time.perf_counter() - begin) * 1000}

        return measure

    return {_LARGE: await contestant(_many(setting)), _EMPTY: await contestant(0)}


async def _open_disk(setting: Setting, _stack: AsyncExitStack) -> Contestants:
    messages = _many(setting)
    data = await stored.backlog(setting, messages)

    async def measure():
        async with stored.opened(data) as client:
            await stored.take(client, messages - stored.acked(messages))
        # Nothing is beside the file when the last who had it open has closed it.
        return {_DISK: data.stat().st_size / (messages * len(load.BODY))}

    return {_LARGE: measure}


FETCH = Case(
    "backlog",
    f"a server with a mailbox of {_MANY} messages, nine tenths of them acked, beside one of {_FEW}",
    {_FETCH: "ms", _STATUS: "ms", _LIST: "ms", _METRICS: "ms"},
    [
        Comparison(measure, _LARGE, _SMALL, at_most(1.3))
        for measure in (_FETCH, _STATUS, _LIST, _METRICS)
    ],
    _open_served,
)
OPENING = Case(
    "opening",
    f"from opening a file to the first reply, with {_MANY} messages and with none",
    {_FIRST: "ms"},
    [Comparison(_FIRST, _LARGE, _EMPTY, at_most(200), By.DIFFERENCE)],
    _open_file,
)
DISK = Case(
    "disk",
    f"the file with {_MANY} messages of {len(load.BODY)} bytes, all acked by one group",
    {_DISK: "times"},
    [Comparison(_DISK, _LARGE, goal=at_most(2), by=By.VALUE)],
    _open_disk,
    has_rounds=False,
)
