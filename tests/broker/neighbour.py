"""One of several processes on one file: trades, waits for news, registers, or races to open.

Says what came of it on stdout, one JSON value a line; "ready" comes first, then it waits for a line
on stdin, so that all begin together.
"""

import asyncio
import json
import sys
import time

from mq9 import Mq9Client


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def trade(client, name, count, total):
    """Send ``count`` messages, and work until the group has acked all ``total``."""
    handed_out = []

    async def send_all():
        for number in range(count):
            await client.send("inbox", f"{name}.{number}")

    async def work():
        while (await client.mailbox_status("inbox", group_name="g")).group.acked < total:
            fetched = await client.fetch(
                "inbox",
                group_name="g",
                deliver="earliest",
                num_msgs=7,
                max_wait_ms=200,
                redeliver_own=False,
            )
            handed_out.extend((message.text, message.delivery_count) for message in fetched)
            if fetched:
                await client.ack("inbox", "g", fetched[-1].msg_id)

    await asyncio.gather(send_all(), work(), work())
    say(handed_out)


async def listen(client, count):
    """Wait for one message after another; say how long after its sending each was seen."""
    for _ in range(count):
        [message] = await client.fetch(
            "inbox", group_name="listener", num_msgs=1, max_wait_ms=60_000, redeliver_own=False
        )
        say((time.time_ns() - int(message.text)) / 1e6)


async def register(client, count):
    """Register an agent again and again, as told; with a null, unregister it."""
    for _ in range(count):
        said = json.loads(sys.stdin.readline())
        if said is None:
            await client.agent_unregister(name="agent")
        else:
            await client.agent_register({"name": "agent", "payload": said})
        say("done")


async def race(rounds):
    """Open one new file after another, each at an instant that all were told."""
    say("ready")
    for _ in range(rounds):
        instant, url = json.loads(sys.stdin.readline())
        while time.time() < instant:
            pass
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="inbox", renew=True)
            say(await client.send("inbox", "here"))


async def main():
    url, what, *rest = sys.argv[1:]
    if what == "race":
        await race(int(rest[0]))
        return
    async with Mq9Client(url) as client:
        if what == "listen":  # its group begins here
            await client.fetch("inbox", group_name="listener", max_wait_ms=0)
        say("ready")
        sys.stdin.readline()
        if what == "trade":
            await trade(client, rest[0], int(rest[1]), int(rest[2]))
        elif what == "register":
            await register(client, int(rest[0]))
        else:
            await listen(client, int(rest[0]))


asyncio.run(main())
