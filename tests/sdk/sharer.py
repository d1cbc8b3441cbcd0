"""A program that uses the fake broker of a test, and says on stdout what it sees.

The first argument is what it does, the second the URL.
"""

import asyncio
import sys
import time

from mq9 import Mq9Client, SyncMq9Client
from mq9.clock import sleep


def say(*words):
    print(*words, flush=True)  # noqa: T201  # to the test


async def sleeps(client):
    """Sleep for an hour."""
    begun_ms = client.clock.monotonic_ms()
    await sleep(client.clock, 3_600)
    say(client.clock.now_ms(), client.clock.monotonic_ms() - begun_ms)


async def ticks(client):
    """Send a message every ten seconds, for a minute."""
    for number in range(6):
        await sleep(client.clock, 10)
        await client.send("inbox", str(client.clock.now_ms()), id=str(number))


async def ticks_in_the_background(client):
    """Send a message every ten seconds for which nobody waits."""
    say("begun")
    for number in range(6):
        await sleep(client.clock, 10, background=True)
        await client.send("inbox", str(client.clock.now_ms()), id=str(number))


async def computes(client):
    """Work for a while before it sends."""
    time.sleep(0.3)  # noqa: ASYNC251  # that is work
    await client.send("inbox", str(client.clock.now_ms()))


async def works(client):
    """Handle messages until it is stopped, or its broker has gone."""

    async def handle(message):
        if message.text == "hold":
            say("held")
            await asyncio.Event().wait()
        return f"{message.text}, done"

    consumer = await client.consume("inbox", handle, group_name="workers", concurrency=4)
    say("working")
    await consumer.wait()
    say("over")


def blocks(url):
    """Use a client without an event loop, and work between its calls."""
    with SyncMq9Client(url) as client:
        begun_ms = client.clock.now_ms()
        time.sleep(0.3)
        assert client.clock.now_ms() == begun_ms
        assert client.fetch("inbox", group_name="g", max_wait_ms=60_000) == []
        say(client.clock.now_ms() - begun_ms)


async def with_client(function, url):
    async with Mq9Client(url) as client:
        await function(client)


name, url = sys.argv[1:]
if name == "blocks":
    blocks(url)
else:
    asyncio.run(with_client(globals()[name], url))
