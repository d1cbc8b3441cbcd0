"""Workers share a queue: each task goes to one of them, and a crash loses none.

Scenario 3, tasks for workers that compete; and the pattern of the worker queue. All workers are one
consumer group, which is all that they have in common: they may come and go. One takes two tasks and
crashes. When its lease has ended, the others get them.
"""

import asyncio
import sys

from mq9 import Mq9Client

TASKS = [f"chapter {number:02}" for number in range(1, 13)]


async def crash(server, queue):
    """Take two tasks for a second, and never be heard of again."""
    async with Mq9Client(server) as client:
        taken = await client.fetch(queue, group_name="translators", num_msgs=2, lease_ms=1_000)
    return [message.text for message in taken]


async def main(server="memory://fan.out"):
    done = []
    all_done = asyncio.Event()

    def worker(name):
        async def translate(message):
            print(f"{name}: {message.text}, delivery {message.delivery_count}")
            done.append(message.text)
            if len(done) == len(TASKS):
                all_done.set()

        return translate

    async with Mq9Client(server) as client:
        queue = await client.mailbox_create(name="translations", renew=True)
        for task in TASKS:
            await client.send(queue, task)
        lost = await crash(server, queue)
        print("a worker crashes with:", ", ".join(lost))

        async with (
            await client.consume(queue, worker("ada"), group_name="translators"),
            await client.consume(queue, worker("bob"), group_name="translators"),
        ):
            await all_done.wait()
        status = await client.mailbox_status(queue, group_name="translators")
    return {"crashed with": lost, "done": sorted(done), "acked": status.group.acked}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
