"""A program of a user's, which mypy accepts in strict mode; tests/sdk/test_typed_programs.py."""

from __future__ import annotations

import asyncio

from langchain_core.tools import BaseTool

from langchain_mq9 import Mq9Toolkit
from mq9 import (
    ClientOptions,
    Consumer,
    ConsumerEvent,
    Extended,
    FetchResult,
    Mailbox,
    MailboxNotFound,
    Message,
    Mq9Client,
    Priority,
    Receiver,
    StoredMessage,
    SyncConsumer,
    SyncMessage,
    SyncMq9Client,
)
from mq9.testing import FakeBroker

OPTIONS: ClientOptions = {"request_timeout": 1.5, "reconnect_attempts": 0}


async def handle(message: Message) -> str | None:
    if message.delivery_count > 1:
        await message.nack(delay=30)
        return None
    await message.extend(lease=600.5)
    return f"{message.text}, done"


def handle_blocking(message: SyncMessage) -> None:
    confirmed: list[int] = message.ack()
    print(confirmed)


async def tell(message: Message, error: Exception) -> None:
    print(message.msg_id, error)


def size(message: StoredMessage) -> int:
    return len(message.payload)


def note(event: ConsumerEvent) -> None:
    print(event.kind, event.duration, size(event.message))


async def work(server: str) -> None:
    client: Mq9Client = await Mq9Client.connect(server, agent="ada", **OPTIONS)
    await client.open()
    async with Mq9Client(server, **OPTIONS) as other:
        await other.send("inbox", {"task": "x"}, priority=Priority.URGENT, delay=5)
    address: str = await client.mailbox_create(name="inbox", ttl=3600)
    result: FetchResult = await client.fetch(address, group_name="g", max_wait_ms=0)
    part: list[Message] = result[:3]
    for message in part:
        confirmed: list[int] = await message.ack(individual=False)
        copy: int | None = await message.move("dead", reason="broken")
        answered: int | None = await message.reply({"confirmed": confirmed, "copy": copy})
        print(answered, size(message))
    first, *_ = await client.query(address, limit=1)
    by_message: list[int] = await client.ack(first)
    by_ids: list[int] = await client.ack(address, "g", first.msg_id, batch=first.batch)
    await client.nack(first, delay=0.5)
    await client.nack(address, "g", 0, delay_ms=500)
    extended: Extended = await client.extend(first, lease=60)
    extended = await client.extend(address, "g", [0, 1], lease_ms=60_000)
    print(by_message, by_ids, extended.lost)
    consumer: Consumer = await client.consume(
        address, handle, group_name="g", error_handler=tell, on_event=note
    )
    await client.consume(address, lambda message: print(message.text))
    await consumer.stop(timeout=5)
    try:
        answer: Message = await client.request(address, "?", timeout=5)
    except MailboxNotFound as error:
        print(error.code)
    else:
        print(answer.json())
    await client.close()


def block(server: str) -> None:
    with SyncMq9Client.connect(server, request_timeout=2) as client:
        result: FetchResult[SyncMessage] = client.fetch("inbox", group_name="g")
        messages: list[SyncMessage] = [message for message in result if message.key is None]
        for message in messages:
            message.nack(delay=1)
            print(message.reply("no"), client.ack(message), client.ack("inbox", "g", 0))
        consumer: SyncConsumer = client.consume("inbox", handle_blocking)
        client.consume("inbox", handle, error_handler=tell)
        client.consume("inbox", lambda message: print(message.text))
        consumer.stop()
        answer: SyncMessage = client.request("inbox", "?")
        answer.ack()


def use_six_operations(server: str) -> None:
    with Mailbox(server, request_timeout=2) as mb:
        inbox: str = mb.create(ttl=60, public=True, name="inbox")["mail_id"]
        msg_id: int = mb.send(inbox, {"task": "x"}, "high", tags=["a"])
        received: Receiver = mb.receive(inbox, handle_blocking, resume="workers")
        mb.receive(inbox, callback=lambda message: print(message.text))
        for message in mb.receive(inbox):
            print(message.json())
        waiting: list[SyncMessage] = mb.fetch(inbox, num=10)
        listed: list[dict[str, str]] = mb.list()
        mb.delete(inbox, msg_id)
        print(waiting, listed, received.join(timeout=1))


async def give_tools() -> list[BaseTool]:
    async with Mq9Toolkit("memory://x", agent="ada", request_timeout=1.0) as toolkit:
        return toolkit.get_tools()


async def try_it() -> None:
    with FakeBroker() as broker:
        async with broker.client(agent="ada", reconnect_attempts=0) as client:
            print(await client.whoami())


if __name__ == "__main__":
    asyncio.run(work("memory://typed"))
