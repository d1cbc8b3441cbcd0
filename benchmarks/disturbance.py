"""What may delay a server, in a process of its own: ``python -m benchmarks.disturbance``.

It is given the URL of the server, the name of the disturbance and its size. It prints ``ready``
when it has begun, and goes on until it is ended, for four minutes at the most.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
import time

from nats.aio.client import Client as NatsClient

from benchmarks import load, raw, stored
from benchmarks.servers import nats_client

_MOST_S = 240.0
_AT_ONCE = 16
_PAGE = 1_000  # as many as a FETCH gives
_LARGE = b"x" * 100_000
_BEFORE_S = 0.5  # of what is measured, when messages expire
_SLACK, _MORE_S = 2.0, 5.0  # to send all messages in, above the time that it seems to take


def _ready() -> None:
    print("ready", flush=True)


async def _for_ever(call: load.Call, at_once: int = 1) -> None:
    async def some() -> None:
        while True:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())


async def checkpoints(client: NatsClient, _size: int) -> None:
    """Fill the log of the database so that it is written into the file again and again."""
    await raw.ask(client, "MAILBOX.CREATE", {"name": "large", "renew": True})
    _ready()
    await _for_ever(lambda: raw.send(client, "large", _LARGE, **{"mq9-key": "k"}))


async def expiry(client: NatsClient, size: int) -> None:
    """Send so many messages that all expire within one second, and send to that mailbox then."""
    await raw.ask(client, "MAILBOX.CREATE", {"name": "expiring", "renew": True})
    tried = max(1, size // 20)
    seconds = tried / await load.rate(
        lambda: raw.send(client, "expiring", **{"mq9-ttl": "1"}), tried, load.AT_ONCE
    )
    over = time.monotonic() + seconds * size / tried * _SLACK + _MORE_S

    async def send() -> None:
        left = math.floor(over - time.monotonic())
        if left < 1:
            raise TimeoutError("the first messages expire before the last are sent")
        await raw.send(client, "expiring", **{"mq9-ttl": str(left)})

    await load.repeat(send, size, load.AT_ONCE)
    status = await raw.ask(client, "MAILBOX.STATUS.expiring")
    if status["stored"] < size:
        raise RuntimeError(f"{status['stored']} messages are there to expire, not {size}")
    # Times to live are whole seconds, so the messages expire in the second before `over`.
    await asyncio.sleep(over - 1 - _BEFORE_S - time.monotonic())
    _ready()
    await _for_ever(lambda: raw.send(client, "expiring", **{"mq9-key": "k"}))


async def discovery(client: NatsClient, size: int) -> None:
    """Register so many agents, and look for them as fast as that is answered."""
    numbers = iter(range(size))
    await load.repeat(
        lambda: raw.ask(client, "AGENT.REGISTER", stored.agent(next(numbers))), size, load.AT_ONCE
    )
    asked = itertools.cycle(stored.SKILLS)
    _ready()
    await _for_ever(lambda: raw.ask(client, "AGENT.DISCOVER", {"text": next(asked)}), _AT_ONCE)


async def reader(client: NatsClient, size: int) -> None:
    """Read a full mailbox from its beginning to its end, over and over."""
    begins = itertools.cycle(range(0, size, _PAGE))

    async def read() -> None:
        body = {
            "deliver": "from_id",
            "from_id": next(begins),
            "config": {"num_msgs": _PAGE, "max_wait_ms": 0},
        }
        await raw.ask(client, f"MSG.FETCH.{stored.INBOX}", body)

    _ready()
    await _for_ever(read)


DISTURBANCES = {one.__name__: one for one in (checkpoints, expiry, discovery, reader)}


async def _main(url: str, name: str, size: str) -> None:
    async with asyncio.timeout(_MOST_S), nats_client(url) as client:
        await DISTURBANCES[name](client, int(size))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
