"""A client that means harm, as a program: ``attackers.py KIND URL HTTP_URL SECONDS``.

It says ``ready`` once it is at it, and ends by itself.
"""

import asyncio
import contextlib
import itertools
import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from raw import RawClient, publish  # it lies one directory up

MIB = 1024 * 1024
TAGS = [f"{number:02d}".ljust(250, "t") for number in range(64)]


class Attack:
    """What one attack needs.

    Args:
        url: Of the server.
        http_url: Of its metrics.
        seconds: How long to go on.
    """

    def __init__(self, url, http_url, seconds):
        parts, http = urlsplit(url), urlsplit(http_url)
        self.address = parts.hostname, parts.port
        self.http_address = http.hostname, http.port
        self.seconds = seconds
        self._ends_at = None

    def begin(self):
        if hasattr(os, "nice"):
            os.nice(10)  # elsewhere it would have processors of its own
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        self._ends_at = time.monotonic() + self.seconds

    @property
    def goes_on(self):
        return time.monotonic() < self._ends_at

    async def connect(self):
        return await RawClient.connect(self.address)

    async def ask(self, client, verb, body=b"", headers=()):
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        return orjson.loads(await client.ask(f"$mq9.AI.{verb}", payload, headers))

    async def mailbox(self, client, name):
        await self.ask(client, "MAILBOX.CREATE", {"name": name, "renew": True})
        return name


async def swallow(client):
    """Read whatever comes, until the connection ends."""
    with contextlib.suppress(EOFError, ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        while True:
            await client.frame(timeout=3600)


async def wildcards(attack):
    """Subscribe to 2 000 long subjects full of wildcards, and publish to all of them."""
    client = await attack.connect()
    reading = asyncio.create_task(swallow(client))
    for number in range(2_000):
        tokens = ["*" if number >> bit & 1 else "a" for bit in range(11)]
        client.send(f"SUB {'.'.join(tokens * 2)}.> {number}\r\n".encode())
    attack.begin()
    subject = ".".join(["a"] * 60)
    while attack.goes_on and not reading.done():
        with contextlib.suppress(ConnectionError):
            await client.send_all(publish(subject, b"x"))
        await asyncio.sleep(0.001)


async def tags(attack):
    """Look for 64 long tags among messages that have all but one of them."""
    client = await attack.connect()
    mailbox = await attack.mailbox(client, "attack.tags")
    headers = [("mq9-tags", ",".join(TAGS[:63]))]
    for _ in range(1_000):
        await attack.ask(client, f"MSG.SEND.{mailbox}", b"x", headers)
    clients = [await attack.connect() for _ in range(16)]
    attack.begin()

    async def query(one):
        while attack.goes_on:
            await attack.ask(one, f"MSG.QUERY.{mailbox}", {"tags": TAGS})

    await asyncio.gather(*map(query, clients))


async def waiters(attack):
    """Let 3 000 FETCHes of one group wait, and send them one message after the other."""
    sender = await attack.connect()
    mailbox = await attack.mailbox(sender, "attack.waiters")
    readers = []
    for _ in range(3):
        client = await attack.connect()
        client.send(b"SUB _INBOX.w.* 1\r\n")
        for number in range(1_000):
            body = {"group_name": "g", "config": {"max_wait_ms": 60_000, "num_msgs": 1}}
            subject = f"$mq9.AI.MSG.FETCH.{mailbox}"
            client.send(publish(subject, orjson.dumps(body), reply=f"_INBOX.w.{number}"))
        client.send(b"PING\r\n")
        assert await client.frame(timeout=60) == ("PONG",)
        readers.append(asyncio.create_task(swallow(client)))
    attack.begin()
    while attack.goes_on:
        await attack.ask(sender, f"MSG.SEND.{mailbox}", b"x")
    for reading in readers:
        reading.cancel()


async def silence(attack):
    """Hold a thousand HTTP connections and say nothing, or half a request."""
    held = []

    async def hold(said):
        with contextlib.suppress(OSError):
            held.append(await asyncio.open_connection(*attack.http_address))
            held[-1][1].write(said)

    for said in (b"", b"GET /metrics HTTP/1.1\r\n") * 500:
        await hold(said)
    attack.begin()
    while attack.goes_on:
        for reader, writer in held:
            if reader.at_eof():
                writer.close()
        held[:] = [one for one in held if not one[0].at_eof()]
        await asyncio.gather(*[hold(b"G") for _ in range(min(50, 1_000 - len(held)))])
        await asyncio.sleep(0.05)


async def ids(attack):
    """Send with ids of 256 characters that are never used again."""
    numbers = itertools.count()

    async def send(client, mailbox):
        while attack.goes_on:
            headers = [("mq9-id", f"{next(numbers)}".rjust(256, "i"))]
            await attack.ask(client, f"MSG.SEND.{mailbox}", b"", headers)

    clients = [await attack.connect() for _ in range(8)]
    mailbox = await attack.mailbox(clients[0], "attack.ids")
    attack.begin()
    await asyncio.gather(*[send(client, mailbox) for client in clients])


async def refetches(attack):
    """Fetch the same thousand messages again and again."""
    client = await attack.connect()
    mailbox = await attack.mailbox(client, "attack.refetches")
    for _ in range(1_000):
        await attack.ask(client, f"MSG.SEND.{mailbox}", b"x")
    clients = [await attack.connect() for _ in range(4)]
    attack.begin()

    async def fetch(one):
        body = {"group_name": "g", "deliver": "earliest"}
        body["config"] = {"num_msgs": 1_000, "consumer": "greedy", "max_wait_ms": 0}
        while attack.goes_on:
            await attack.ask(one, f"MSG.FETCH.{mailbox}", body)

    await asyncio.gather(*map(fetch, clients))


async def fan_out(attack):
    """Publish megabytes to 64 subscribers that read nothing."""
    silent = [await attack.connect() for _ in range(64)]
    for client in silent:
        client.send(b"SUB crowd 1\r\nPING\r\n")
        assert await client.frame() == ("PONG",)
    attack.begin()
    while attack.goes_on:
        sender = await attack.connect()
        with contextlib.suppress(ConnectionError):
            for _ in range(17):
                await sender.send_all(publish("crowd", bytes(MIB)))
        await sender.close()
        await asyncio.sleep(0.05)


ATTACKS = {
    one.__name__: one for one in (wildcards, tags, waiters, silence, ids, refetches, fan_out)
}

if __name__ == "__main__":
    kind, url, http_url, seconds = sys.argv[1:]
    asyncio.run(ATTACKS[kind](Attack(url, http_url, float(seconds))))
