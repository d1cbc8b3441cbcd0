"""The SDK in one sitting: a mailbox, three priorities, a worker, a question and its answer."""

import asyncio
import sys

from mq9 import Mq9Client, Priority


async def main(server="memory://quickstart"):
    async with Mq9Client(server) as client:
        inbox = await client.mailbox_create(name="agent.inbox", ttl=3600, renew=True)

        await client.send(inbox, {"task": "tidy up"})
        await client.send(inbox, {"task": "answer the phone"}, priority=Priority.URGENT)
        await client.send(inbox, {"task": "put out the fire"}, priority=Priority.CRITICAL)

        # A group leases what it fetches. Acking the last message confirms all of them.
        messages = await client.fetch(inbox, group_name="workers")
        for message in messages:
            print(f"{message.priority}: {message.json()['task']}")
        print("acked:", await client.ack(inbox, "workers", messages[-1].msg_id))

        # A consumer fetches, handles and acks in the background.
        garden = await client.mailbox_create(name="gardener", renew=True)

        async def handle(message):
            await message.reply(f"{message.text}, done")

        async with await client.consume(garden, handle, group_name="helpers"):
            answer = await client.request(garden, "water the plants", timeout=5)
            print("answer:", answer.text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
