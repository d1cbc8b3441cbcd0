"""Sends, fetches, acks and deletes until it is killed; says on stdout what it began and finished.

Every line goes out with one write before the next step is taken, so that whatever was acknowledged
here is known to whoever reads, however suddenly this process ends.
"""

import asyncio
import os
import random
import sys

from mq9 import Mq9Client


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def send(client, name, dice):
    for number in range(1_000_000):
        word = f"{name}.{number}"
        body = f"{word} " + "x" * dice.choice([0, 10, 500, 6_000])
        delay = dice.choice([None, None, None, 1])
        priority = dice.choice(["normal", "urgent", "critical"])
        say("sending", word, len(body))
        msg_id = await client.send("inbox", body, id=word, delay=delay, priority=priority)
        say("sent", word, msg_id)
        if delay is None and dice.random() < 0.1:
            say("deleting", msg_id)
            await client.delete("inbox", msg_id)
            say("deleted", msg_id)


async def work(client, dice):
    while True:
        fetched = await client.fetch(
            "inbox",
            group_name="workers",
            deliver="earliest",
            num_msgs=dice.randint(1, 4),
            redeliver_own=False,
        )
        for message in fetched:
            say("fetched", message.msg_id)
        for message in fetched:
            if dice.random() < 0.8:
                say("acking", message.msg_id)
                await client.ack("inbox", "workers", message.msg_id, individual=True)
                say("acked", message.msg_id)


async def main():
    url, name = sys.argv[1:]
    dice = random.Random(name)
    # It may stand still for long, in the middle of a request.
    async with Mq9Client(url, request_timeout=600) as client, asyncio.TaskGroup() as group:
        await client.mailbox_create(name="inbox", renew=True)
        for sender in "abc":
            group.create_task(send(client, f"{name}.{sender}", dice))
        for _ in range(2):
            group.create_task(work(client, dice))


asyncio.run(main())
