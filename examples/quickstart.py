"""The SDK in one sitting: a mailbox, three priorities, a worker, a question and its answer."""

import asyncio

from mq9 import Mq9Client, Priority


async def main():
    async with Mq9Client("memory://quickstart") as client:
        inbox = await client.mailbox_create(name="agent.inbox", ttl=3600)

        await client.send(inbox, {"task": "tidy up"})
        await client.send(inbox, {"task": "answer the phone"}, priority=Priority.URGENT)
        await client.send(inbox, {"task": "put out the fire"}, priority=Priority.CRITICAL)

        # A group leases what it fetches. Acking the last message confirms all of them.
        messages = await client.fetch(inbox, group_name="workers", deliver="earliest")
        for message in messages:
            print(f"{message.priority}: {message.json()['task']}")
        print("acked:", await client.ack(inbox, "workers", messages[-1].msg_id))

        # A consumer fetches, handles and acks in the background.
        async def handle(message):
            await client.reply(message, f"{message.text}, done")

        async with await client.consume(inbox, handle, group_name="helpers"):
            answer = await client.request(inbox, "water the plants", timeout=5)
            print("answer:", answer.text)


if __name__ == "__main__":
    asyncio.run(main())
